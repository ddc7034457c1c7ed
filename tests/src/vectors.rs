//! Behaviour vectors: recorded sequences of allocator operations and their answers, carried out
//! with ours.
//!
//! A file is `{ format, conventions, cases: { GROUP: [ { id, ops: [ { op, on, args, expect } ] } ] } }`.
//! Every subnet of a case is a whole [`State`](atoll_store::State) with that subnet, no cooldown and
//! a clock that stands still; operations on bare range lists go to `atoll-ipam`. A case is
//!
//! * *passed* if every operation was carried out and every answer is the recorded one,
//! * *different* if one is not; each of those in this repository is listed in `known` with its
//!   reason,
//! * *unsupported* if it needs something that is not there, by name. Nothing that was skipped counts
//!   as passed.
//!
//! # What is adapted
//!
//! Three things that the recorded allocator leaves to its callers, or does not mind, are rules here;
//! the runner sees to them, or hardly any case could run:
//!
//! * A subnet has a gateway, which no pod gets. If the case names none, an excluded address of which
//!   the case does not speak stands in, else the last address of which it does not. The gateway is
//!   left out where available ranges are compared.
//! * The last address of an IPv6 range is an address like any other; the recorded allocator keeps
//!   it, so here it is excluded.
//! * An excluded range outside the subnet is refused, as a mistake; the runner leaves it out.
//!
//! Compared: addresses, MACs and errors of each answer, owners, and the ranges in use and available
//! after it. Not compared: the recorded allocator's inner tables (free, released, reserved).

mod compare;
mod known;
mod lists;
mod network;
mod subject;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

use network::Network;

pub use known::KNOWN;

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As recorded.
    Passed,
    /// Carried out, with another answer; the first one.
    Different(String),
    /// Not carried out: what is missing.
    Unsupported(String),
}

/// A case and how it ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its name.
    pub id: String,
    /// How.
    pub verdict: Verdict,
}

/// Why an operation did not end as recorded.
#[derive(Debug)]
enum Other {
    Different(String),
    Unsupported(String),
}

type Checked = Result<(), Other>;

fn unsupported<T>(what: &str) -> Result<T, Other> {
    Err(Other::Unsupported(what.to_owned()))
}

/// The vectors of this repository.
#[must_use]
pub fn own_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

/// Carries out every case of every file in `dir`, in the order of their names.
///
/// # Errors
///
/// A file cannot be read, or is none of vectors.
pub fn run_dir(dir: &Path) -> anyhow::Result<Vec<Ended>> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("{}", dir.display()))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|it| Some(it.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|it| it == "json"));
    paths.sort();
    let mut ended = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path)?;
        let file: Value =
            serde_json::from_str(&text).with_context(|| format!("{}", path.display()))?;
        let groups = file.get("cases").and_then(Value::as_object);
        let groups = groups.with_context(|| format!("{} has no cases", path.display()))?;
        for case in groups.values().filter_map(Value::as_array).flatten() {
            ended.push(Ended { id: text_of(case, "id").to_owned(), verdict: run_case(case) });
        }
    }
    Ok(ended)
}

/// Carries out one case.
#[must_use]
pub fn run_case(case: &Value) -> Verdict {
    let run = || {
        let mut network = Network::new(case);
        if case.get("put").is_some() {
            network.put_as_resource(case)?;
        }
        let operations = case.get("ops").and_then(Value::as_array);
        for (position, operation) in operations.into_iter().flatten().enumerate() {
            let done = match lists::operate(operation) {
                Some(done) => done,
                None => network.operate(operation),
            };
            done.map_err(|other| match other {
                Other::Different(what) => {
                    let name = text_of(operation, "op");
                    Other::Different(format!("operation {position}, {name}: {what}"))
                }
                unsupported @ Other::Unsupported(_) => unsupported,
            })?;
        }
        if operations.is_none() && case.get("put").is_none() {
            return unsupported("a case without operations");
        }
        Ok(())
    };
    match run() {
        Ok(()) => Verdict::Passed,
        Err(Other::Different(what)) => Verdict::Different(what),
        Err(Other::Unsupported(what)) => Verdict::Unsupported(what),
    }
}

/// What is listed as different and is not, and what is different and not listed.
#[must_use]
pub fn surprises(ended: &[Ended]) -> Vec<String> {
    let known: BTreeMap<&str, &str> = KNOWN.iter().copied().collect();
    let mut surprises = Vec::new();
    for Ended { id, verdict } in ended {
        match (verdict, known.contains_key(id.as_str())) {
            (Verdict::Different(what), false) => {
                surprises.push(format!("{id} differs and is not listed: {what}"));
            }
            (Verdict::Passed | Verdict::Unsupported(_), true) => {
                surprises.push(format!("{id} is listed and does not differ: {verdict:?}"));
            }
            _ => {}
        }
    }
    let missing = KNOWN.iter().filter(|(id, _)| !ended.iter().any(|it| it.id == *id));
    surprises.extend(missing.map(|(id, _)| format!("{id} is listed and not there")));
    surprises
}

/// A field that is a text; anything else counts as empty.
fn text_of<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// A field that is a list of texts; anything else counts as empty.
fn texts_of<'a>(value: &'a Value, field: &str) -> Vec<&'a str> {
    let list = value.get(field).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

fn expect<T: PartialEq + std::fmt::Display>(what: &str, found: T, expected: T) -> Checked {
    if found == expected {
        return Ok(());
    }
    Err(Other::Different(format!("{what} is {found:.200}, not {expected:.200}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn case(v4: &str, op: &str) -> Value {
        json!({ "id": "x", "ops": [
            { "op": "put_subnet", "on": "ipam-1", "args": {
                "name": "s", "cidr": "10.0.0.0/30", "gateway": "10.0.0.1", "exclude": ["10.0.0.1"] },
                "expect": { "error": "", "state": { "s/v4_available": "10.0.0.2" } } },
            { "op": op, "on": "ipam-1", "args": { "pod": "p", "nic": "p", "subnet": "s" },
                "expect": { "v4": v4, "error": "", "state": { "s/v4_using": v4 } } },
        ] })
    }

    #[test]
    fn another_answer_is_a_difference_and_an_unknown_operation_is_unsupported() {
        assert_eq!(run_case(&case("10.0.0.2", "allocate")), Verdict::Passed);
        let Verdict::Different(what) = run_case(&case("10.0.0.3", "allocate")) else { panic!() };
        assert!(what.contains("10.0.0.2, not 10.0.0.3"), "{what}");
        let unknown = Verdict::Unsupported("the operation swap".into());
        assert_eq!(run_case(&case("10.0.0.2", "swap")), unknown);
        assert!(matches!(run_case(&json!({ "id": "x" })), Verdict::Unsupported(_)));
    }

    #[test]
    fn what_is_listed_must_differ_and_what_differs_must_be_listed() {
        let mut ended: Vec<Ended> = KNOWN
            .iter()
            .map(|(id, _)| Ended { id: (*id).into(), verdict: Verdict::Different("so".into()) })
            .collect();
        assert_eq!(surprises(&ended), Vec::<String>::new());
        ended[0].verdict = Verdict::Passed;
        ended[1].id = "other".into();
        assert_eq!(surprises(&ended).len(), 3);
    }
}
