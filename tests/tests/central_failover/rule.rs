//! A row of somebody else: whatever happens, it has to stay.

use anyhow::{Context as _, Result};
use atoll_tests::lab::Lab;

use crate::whole::whole;

const RULE: &str = "ip4.src == 192.0.2.77";

/// An operator's rule, written by hand into the serving northbound.
pub(crate) async fn operators_rule(lab: &Lab) -> Result<()> {
    let serving = whole(lab).await?.serving;
    nbctl(lab, &serving, &["acl-add", "one", "to-lport", "500", RULE, "drop"]).await?;
    whole(lab).await?;
    Ok(())
}

pub(crate) async fn has_rule(lab: &Lab, member: &str) -> Result<bool> {
    Ok(nbctl(lab, member, &["acl-list", "one"]).await?.contains(RULE))
}

/// In the northbound of `member`, which in a cluster is everybody's.
async fn nbctl(lab: &Lab, member: &str, arguments: &[&str]) -> Result<String> {
    let databases = lab.databases_of(member).context("no such member")?;
    let mut command = tokio::process::Command::new("ovn-nbctl");
    command.args(["--db", &databases.nb, "--timeout=10", "--"]).args(arguments);
    atoll_tests::lab::run(&mut command).await
}
