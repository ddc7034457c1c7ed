//! Printing: tables for people, the same objects as documents for programs.

use std::io::Write as _;

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use crate::Failure;
use crate::arguments::Format;

/// A column: its title, and where its value is in the object (JSON pointers, first that is set).
pub(crate) struct Column {
    pub(crate) title: &'static str,
    pub(crate) at: &'static [&'static str],
    pub(crate) wide: bool,
}

pub(crate) const fn column(title: &'static str, at: &'static [&'static str]) -> Column {
    Column { title, at, wide: false }
}

pub(crate) const fn wide(title: &'static str, at: &'static [&'static str]) -> Column {
    Column { title, at, wide: true }
}

/// Prints objects in the asked form; `single` prints the object itself instead of a list.
pub(crate) fn objects(
    items: Vec<Value>,
    columns: &[Column],
    format: Format,
    single: bool,
) -> Result<(), Failure> {
    match format {
        Format::Table | Format::Wide => table(&items, columns, format == Format::Wide),
        Format::Name => {
            let mut out = std::io::stdout().lock();
            for item in &items {
                let kind = text(item, &["/kind"]).to_lowercase();
                writeln!(out, "{kind}/{}", text(item, &["/metadata/name"]))?;
            }
            Ok(())
        }
        Format::Json | Format::Yaml => {
            let mut items = items;
            let document = match (single, items.pop()) {
                (true, Some(item)) => item,
                (_, last) => {
                    items.extend(last);
                    atoll_api::manifest::list(items)
                }
            };
            self::document(&document, format)
        }
    }
}

/// Prints one document as JSON or YAML.
pub(crate) fn document(document: &Value, format: Format) -> Result<(), Failure> {
    let text = match format {
        Format::Yaml => serde_yaml_ng::to_string(document).map_err(|it| Failure::Failed(it.into())),
        _ => serde_json::to_string_pretty(document)
            .map(|text| text + "\n")
            .map_err(|it| Failure::Failed(it.into())),
    };
    std::io::stdout().lock().write_all(text?.as_bytes())?;
    Ok(())
}

fn table(items: &[Value], columns: &[Column], all: bool) -> Result<(), Failure> {
    let shown: Vec<&Column> = columns.iter().filter(|column| all || !column.wide).collect();
    let header = shown.iter().map(|column| column.title.to_owned()).collect();
    let row = |item: &Value| shown.iter().map(|column| text(item, column.at)).collect();
    rows(header, items.iter().map(row).collect())
}

/// Prints rows below a header, without borders, so that `awk` can read them too.
pub(crate) fn rows(header: Vec<String>, rows: Vec<Vec<String>>) -> Result<(), Failure> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    table.add_rows(rows);
    let mut out = std::io::stdout().lock();
    for line in table.lines() {
        writeln!(out, "{}", line.trim())?;
    }
    Ok(())
}

fn text(item: &Value, at: &[&str]) -> String {
    let parts: Vec<String> = at
        .iter()
        .filter_map(|pointer| item.pointer(pointer))
        .map(|value| match value {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            Value::Array(items) => {
                let texts = items.iter().map(|it| it.as_str().unwrap_or_default());
                texts.collect::<Vec<_>>().join(",")
            }
            other => other.to_string(),
        })
        .filter(|text| !text.is_empty())
        .collect();
    if parts.is_empty() { "-".to_owned() } else { parts.join(",") }
}
