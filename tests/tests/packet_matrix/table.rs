//! The matrix as a table: a line for each kind of pair, a sign for each cell.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::Result;
use atoll_tests::report::{Report, Target};

use crate::cells::{Cell, Column, Observed, Where};
use crate::expected::{Expected, Way};

const LEGEND: &str = "\
+ answered as it should be, · rightly not; X not answered, L leaked, S seen under another address\n\
dir: tcp, udp and icmp to its own address; IP: tcp and udp to its Service's ClusterIP
np: to the Service's port of one's own node, from outside of the pod's; on: of another node
lo: from outside to the port of a Service with externalTrafficPolicy Local, of the pod's node\n";

/// The rows in the order in which they were first met.
fn rows(cells: &[Cell]) -> Vec<&str> {
    let mut met = BTreeSet::new();
    cells.iter().map(|it| it.row.as_str()).filter(|row| met.insert(*row)).collect()
}

fn sign(cell: &Cell) -> char {
    match (cell.is_right(), cell.expected, &cell.observed) {
        (true, Expected::Answer(_), _) => '+',
        (true, Expected::Silence, _) => '·',
        (false, Expected::Silence, _) => 'L',
        (false, _, Observed::Answer(_)) => 'S',
        (false, ..) => 'X',
    }
}

/// For people.
pub(crate) fn table(cells: &[Cell]) -> String {
    let mut text = LEGEND.to_owned();
    let places = ["same node", "another node"].map(|place| format!("{place:<46}"));
    let families = "IPv4                   IPv6                   ".repeat(2);
    let ways = "dir  IP  np  on  lo    ".repeat(4);
    for line in [places.concat(), families, ways] {
        let _ = writeln!(text, "{:<17}{}", "", line.trim_end());
    }
    for row in rows(cells) {
        let _ = write!(text, "{row:<17}");
        let mut last = None;
        for column in Column::all() {
            let group = (column.place, column.family);
            if let Some((before, way)) = last {
                text += if before != group {
                    "    "
                } else if way != column.way {
                    "  "
                } else {
                    ""
                };
            }
            last = Some((group, column.way));
            let cell = cells.iter().find(|it| it.row == row && it.column == column);
            text.push(cell.map_or(' ', sign));
        }
        text.push('\n');
    }
    text
}

/// A cell in words.
pub(crate) fn words(cell: &Cell) -> String {
    let Column { place, family, way, protocol } = cell.column;
    let place = if place == Where::Here { "same node" } else { "another node" };
    let way = match way {
        Way::Direct => "directly",
        Way::ClusterIp => "ClusterIP",
        Way::OwnPort => "NodePort",
        Way::OtherPort => "another node's NodePort",
        Way::LocalPort => "NodePort with policy Local",
    };
    let expected = match (cell.expected, &cell.seen_as) {
        (Expected::Answer(_), Some(address)) => format!("an answer to {address}"),
        _ => "silence".to_owned(),
    };
    let observed = match &cell.observed {
        Observed::Silence => "silence".to_owned(),
        Observed::Heard => "that it arrived".to_owned(),
        Observed::Answer(seen) if protocol == "icmp" => seen.clone(),
        Observed::Answer(seen) => format!("an answer to {seen}"),
    };
    let family = ["IPv4", "IPv6"][family];
    format!(
        "{}, {place}, {way}, {family} {protocol}: expected {expected}, observed {observed}",
        cell.row
    )
}

/// A row for each kind of pair: how many cells are as they should be; all of them in its details.
pub(crate) fn report(mode: &str, cells: &[Cell], report: &mut Report) -> Result<()> {
    for row in rows(cells) {
        let of_row: Vec<&Cell> = cells.iter().filter(|it| it.row == row).collect();
        let right = of_row.iter().filter(|it| it.is_right()).count();
        let [right, all] = [right, of_row.len()].map(u32::try_from);
        let target = Target::Exactly(f64::from(all?));
        let case = format!("{mode}: {row}, cells as they should be");
        report.claim(&case, "cells", f64::from(right?), target);
        report.details(of_row.into_iter().map(words).collect());
    }
    Ok(())
}
