//! Who asks, and whom: the cells that each fills.

use anyhow::{Context as _, Result};
use atoll_tests::lab::{Lab, Place, Space};
use atoll_tests::outside::FAR_AWAY;
use futures::future::try_join_all;

use crate::cells::{Cell, Column, Observed, Where};
use crate::expected::{End, Expected, GATEWAY, Way, expected};
use crate::field::{Field, PORT, Resident, ask, node_addresses, socket};
use crate::services;

/// The node of those who ask, and one that they ask.
const NEAR: u8 = 1;
const FAR: u8 = 2;

/// How many ask at a time: who waits for what must not come needs no processor.
const AT_ONCE: usize = 3;

/// Somebody who asks.
struct Asker {
    name: String,
    space: Space,
    cells: Vec<Cell>,
}

/// Asks everything.
pub(crate) async fn observe(lab: &Lab, field: &Field) -> Result<Vec<Cell>> {
    let mut cells = Vec::new();
    let mut askers = askers(lab, field)?.into_iter();
    loop {
        let some: Vec<_> = askers.by_ref().take(AT_ONCE).map(|it| it.ask(field)).collect();
        if some.is_empty() {
            return Ok(cells);
        }
        cells.extend(try_join_all(some).await?.into_iter().flatten());
    }
}

impl Asker {
    /// Knows as whom he should be seen, whose own addresses are these.
    fn seen(mut self, field: &Field, own: [&str; 2]) -> Self {
        for cell in &mut self.cells {
            if let Expected::Answer(seen) = cell.expected {
                cell.seen_as = Some(field.address(seen, own, cell.column.family));
            }
        }
        self
    }

    async fn ask(self, field: &Field) -> Result<Vec<Cell>> {
        let targets: Vec<String> = self.cells.iter().map(|it| it.target.clone()).collect();
        let mut answers = ask(&self.space, &self.name, &targets).await?;
        let heard = field.heard()?;
        let fill = |cell: Cell| {
            let answer = answers.remove(&cell.target).context("nothing was said of a target")?;
            let observed = match answer {
                Some(seen) => Observed::Answer(seen),
                None if heard.contains(&format!("{} {}", self.name, cell.target)) => {
                    Observed::Heard
                }
                None => Observed::Silence,
            };
            Ok(Cell { observed, ..cell })
        };
        self.cells.into_iter().map(fill).collect()
    }
}

fn askers(lab: &Lab, field: &Field) -> Result<Vec<Asker>> {
    let mut askers = Vec::new();
    for client in field.residents.iter().filter(|it| it.asks()) {
        let (name, own) = (client.pod.name.to_string(), client.addresses());
        let space = lab.space(&Place::Pod(client.pod.name.clone()))?;
        askers.push(Asker { name, space, cells: of_pod(client, field) }.seen(field, own));
    }
    let node = Asker {
        name: "node".to_owned(),
        space: lab.node(NEAR)?.space()?,
        cells: of_others(End::Node(NEAR), "node", field),
    };
    let near = node_addresses(NEAR);
    askers.push(node.seen(field, near.each_ref().map(String::as_str)));
    let outside = Asker {
        name: "outside".to_owned(),
        space: lab.outside(),
        cells: of_others(End::Outside, "outside", field),
    };
    askers.push(outside.seen(field, field.outside.each_ref().map(String::as_str)));
    Ok(askers)
}

/// A pod asks all others but those who ask, itself through its Service, nodes and the outside.
fn of_pod(client: &Resident, field: &Field) -> Vec<Cell> {
    let (name, from) = (client.subnet.name, client.end());
    let others = field.residents.iter().filter(|it| !it.asks());
    let mut cells: Vec<Cell> = others
        .flat_map(|it| to_pod(from, NEAR, it, &format!("{name} → {}", it.subnet.name)))
        .collect();
    let itself = to_pod(from, NEAR, client, &format!("{name} → itself"));
    cells.extend(itself.into_iter().filter(|it| it.column.way != Way::Direct));
    for node in [NEAR, FAR] {
        let row = format!("{name} → node");
        cells.extend(directly(from, End::Node(node), &node_addresses(node), &row));
    }
    let outside = FAR_AWAY.map(str::to_owned);
    cells.extend(directly(from, End::Outside, &outside, &format!("{name} → outside")));
    cells
}

/// Who is no pod asks pods.
fn of_others(from: End, name: &str, field: &Field) -> Vec<Cell> {
    let servers = field.residents.iter().filter(|it| !it.asks());
    let cells = servers.flat_map(|server| {
        let own = if from == End::Outside { server.pod.node } else { NEAR };
        to_pod(from, own, server, &format!("{name} → {}", server.subnet.name))
    });
    cells.collect()
}

/// All ways to a pod; `own` is the node of [`Way::OwnPort`].
fn to_pod(from: End, own: u8, server: &Resident, row: &str) -> Vec<Cell> {
    let place = place(from, server.end());
    let is_outside = from == End::Outside;
    let columns = Column::all().into_iter().filter(|it| it.place == place);
    let columns = columns.filter(|it| match it.way {
        // Outside nobody knows a way to the addresses of Services.
        Way::ClusterIp => !is_outside,
        Way::LocalPort => is_outside,
        _ => true,
    });
    let cells = columns.map(|column| {
        let Column { family, way, .. } = column;
        let service = &server.service;
        let (address, port) = match way {
            Way::Direct => (server.addresses()[family].to_owned(), PORT),
            Way::ClusterIp => (service.addresses[family].clone(), services::PORT),
            Way::OwnPort => (node_addresses(own)[family].clone(), service.node_port),
            Way::LocalPort => (node_addresses(own)[family].clone(), service.local_port),
            Way::OtherPort => (node_addresses(GATEWAY)[family].clone(), service.node_port),
        };
        cell((from, server.end()), row, column, (&address, port))
    });
    cells.collect()
}

fn directly(from: End, to: End, addresses: &[String; 2], row: &str) -> Vec<Cell> {
    let place = place(from, to);
    let columns = Column::all().into_iter();
    let columns = columns.filter(|it| it.place == place && it.way == Way::Direct);
    columns.map(|it| cell((from, to), row, it, (&addresses[it.family], PORT))).collect()
}

fn cell((from, to): (End, End), row: &str, column: Column, (address, port): (&str, u16)) -> Cell {
    let target = match column.protocol {
        "icmp" => address.to_owned(),
        _ => socket(address, port),
    };
    Cell {
        row: row.to_owned(),
        column,
        target: format!("{}/{target}", column.protocol),
        expected: expected(from, to, column.way),
        seen_as: None,
        observed: Observed::Silence,
    }
}

/// From outside all nodes are equally far; for the table the first one is near.
fn place(from: End, to: End) -> Where {
    let node = |end| match end {
        End::Pod { node, .. } | End::Node(node) => Some(node),
        End::Outside => None,
    };
    let is_here = node(to) == Some(node(from).unwrap_or(NEAR));
    if is_here { Where::Here } else { Where::Elsewhere }
}
