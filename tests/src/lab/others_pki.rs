//! The authority of somebody who runs an ovn-central: made with `ovs-pki`, which knows nothing of
//! Atoll.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use atoll_api::CertificateFiles;
use tokio::process::Command;

use super::shell::run;
use super::state::State;

/// Where a lab keeps it, below its directory.
const DIR: &str = "others-pki";

/// Whose is the certificate of the databases.
pub(super) const CENTRAL: &str = "central";

/// The files of the certificate for `name`.
pub(super) fn files(lab_dir: &Path, name: &str) -> CertificateFiles {
    let dir = lab_dir.join(DIR);
    CertificateFiles {
        ca: dir.join("pki/switchca/cacert.pem"),
        cert: dir.join(format!("{name}-cert.pem")),
        key: dir.join(format!("{name}-privkey.pem")),
    }
}

/// Makes the authority, and certificates for the databases, members and nodes. OVN's role goes by the
/// common name, so a node's is what the chassis is called.
pub(super) async fn set_up(state: &State) -> Result<()> {
    let dir = state.dir.join(DIR);
    fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    run(&mut tool(&dir, &["init"])).await?;
    let members = (1..=state.members).map(|index| format!("m{index}"));
    let nodes = (1..=state.nodes).map(|index| format!("n{index}"));
    // One after the other: the tool counts in a file.
    for name in [CENTRAL.to_owned()].into_iter().chain(members).chain(nodes) {
        run(&mut tool(&dir, &["req+sign", &name, "switch"])).await?;
    }
    Ok(())
}

fn tool(dir: &Path, words: &[&str]) -> Command {
    let mut command = super::shell::command("ovs-pki");
    command.args(["--dir=pki", "--log=log", "--unique"]).args(words).current_dir(dir);
    command
}
