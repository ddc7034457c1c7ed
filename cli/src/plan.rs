//! `atollctl plan`: what a change would do; and changes that do only what was planned.

use std::io::Write as _;

use atoll_api::{Client, Plan};
use atoll_model::{Change, Operation, Outcome, Precondition, Refusal, Revision};
use clap::Subcommand;
use serde_json::{Value, json};

use crate::Failure;
use crate::arguments::{Deletion, Files, Format};
use crate::output::document;
use crate::{change, describe, key};

/// The change to plan.
#[derive(Debug, Subcommand)]
pub(crate) enum Planned {
    /// What `atollctl create` would do.
    #[command(after_help = "Example:\n  atollctl plan create -f subnet.yaml")]
    Create(Files),
    /// What `atollctl delete` would do.
    #[command(after_help = "Examples:\n  atollctl plan delete subnet blue\n  \
                            atollctl plan delete -f subnet.yaml")]
    Delete(Deletion),
}

/// Reads an effect as a plan shows it.
pub(crate) fn effect(text: &str) -> Result<u128, String> {
    let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match u128::from_str_radix(text, 16) {
        Ok(effect) if is_hex => Ok(effect),
        _ => Err("is no effect: `atollctl plan` prints one, 32 hex digits".to_owned()),
    }
}

pub(crate) async fn run(client: &Client, planned: &Planned, format: Format) -> Result<(), Failure> {
    let operations = match planned {
        Planned::Create(files) => change::creations(files)?,
        Planned::Delete(deletion) => change::deletions(client, deletion).await?,
    };
    let operations: Vec<Operation> =
        operations.into_iter().map(|(_, _, operation)| operation).collect();
    let plan = client.plan(&[], &operations).await?;
    show(&plan, format)?;
    match plan.outcome {
        Outcome::Applied { .. } => Ok(()),
        Outcome::Refused { refusal, .. } => Err(Failure::Refused(refusal.to_string())),
    }
}

/// Carries out all of `operations` in one transaction if they do what was planned; else shows what
/// they would do now.
pub(crate) async fn apply(
    client: &Client,
    operations: Vec<Operation>,
    effect: u128,
    format: Format,
) -> Result<Revision, Failure> {
    let expected = vec![Precondition::EffectEquals(effect)];
    match client.txn(expected, operations.clone()).await? {
        Outcome::Applied { revision, .. } => Ok(revision),
        Outcome::Refused { refusal, .. } => {
            if matches!(refusal, Refusal::PlanStale { .. }) {
                show(&client.plan(&[], &operations).await?, format)?;
            }
            Err(Failure::Refused(refusal.to_string()))
        }
    }
}

fn show(plan: &Plan, format: Format) -> Result<(), Failure> {
    let changes = &plan.changes.changes;
    let mut out = std::io::stdout().lock();
    match format {
        Format::Json | Format::Yaml => {
            drop(out);
            return document(&as_value(plan), format);
        }
        Format::Name => {
            for change in changes {
                let kind = key::ObjectKind::of(&change.key).word();
                writeln!(out, "{kind}/{}", key::name(&change.key))?;
            }
        }
        Format::Table | Format::Wide => {
            writeln!(out, "plan at revision {}: {}", plan.revision, count(changes))?;
            for change in changes {
                writeln!(out, "  {}", describe::line(change))?;
            }
            let pods: Vec<String> = plan.pods.iter().map(ToString::to_string).collect();
            match pods.is_empty() {
                true => writeln!(out, "pods affected: none")?,
                false => writeln!(out, "pods affected: {} ({})", pods.len(), pods.join(", "))?,
            }
            writeln!(out, "effect: {:032x}", plan.effect)?;
        }
    }
    Ok(())
}

fn count(changes: &[Change]) -> String {
    let made = changes.iter().filter(|change| change.before.is_none()).count();
    let deleted = changes.iter().filter(|change| change.after.is_none()).count();
    let words = [(made, "made"), (changes.len() - made - deleted, "changed"), (deleted, "deleted")];
    let words = words.into_iter().filter(|(count, _)| *count > 0);
    let words: Vec<_> = words.map(|(count, verb)| format!("{count} {verb}")).collect();
    if words.is_empty() { "nothing would change".to_owned() } else { words.join(", ") }
}

fn as_value(plan: &Plan) -> Value {
    let refused = match &plan.outcome {
        Outcome::Applied { .. } => None,
        Outcome::Refused { refusal, .. } => Some(refusal.to_string()),
    };
    json!({
        "revision": plan.revision.0,
        "effect": format!("{:032x}", plan.effect),
        "refused": refused,
        "changes": plan.changes.changes.iter().map(describe::document).collect::<Vec<_>>(),
        "pods": plan.pods.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::effect;

    #[test]
    fn an_effect_is_typed_as_it_is_shown() {
        let shown = format!("{:032x}", 0xab_u128);
        assert_eq!(effect(&shown), Ok(0xab));
        for bad in ["", "ab", &shown[1..], &shown.replace('a', "g"), &format!("+{}", &shown[1..])] {
            assert!(effect(bad).is_err(), "{bad}");
        }
    }
}
