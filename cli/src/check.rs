//! `atollctl check`.

use std::io::Write as _;

use atoll_api::Client;
use serde_json::json;

use crate::Failure;
use crate::arguments::Format;
use crate::output::document;

/// A broken invariant is a failure (exit status 1), and is named.
pub(crate) async fn run(client: &Client, format: Format) -> Result<(), Failure> {
    let checked = client.check().await?;
    let digest = format!("{:032x}", checked.digest);
    match format {
        Format::Json | Format::Yaml => document(
            &json!({
                "ok": checked.broken.is_none(),
                "revision": checked.applied.0,
                "digest": digest,
                "objects": checked.objects,
                "broken": checked.broken,
            }),
            format,
        )?,
        _ if checked.broken.is_none() => writeln!(
            std::io::stdout(),
            "ok: all invariants hold at revision {} ({} objects), digest {digest}",
            checked.applied,
            checked.objects,
        )?,
        _ => {}
    }
    match checked.broken {
        None => Ok(()),
        Some(broken) => Err(Failure::Failed(anyhow::anyhow!(
            "the state at revision {} is broken: {broken}; take a backup of it, and report this",
            checked.applied
        ))),
    }
}
