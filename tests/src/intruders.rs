//! Databases as somebody reaches them over the network who has a certificate, another cluster's, or none.

use anyhow::{Result, ensure};
use atoll_api::CertificateFiles;
use uuid::Uuid;

use crate::certificates::Authority;
use crate::lab::{Lab, Place, Space, run};
use crate::people::{Said, say};

/// What a node was told of itself and of the southbound.
///
/// # Errors
///
/// Open vSwitch does not answer, or knows of no such key.
pub async fn told(lab: &Lab, node: u8, key: &str) -> Result<String> {
    let mut command = lab.node(node)?.space()?.command("ovs-vsctl");
    let value = run(command.args(["get", "Open_vSwitch", ".", &format!("external_ids:{key}")]));
    Ok(value.await?.trim().trim_matches('"').to_owned())
}

/// One of OVN's tools, at `space`, as whoever has these files.
///
/// # Errors
///
/// It cannot be run.
pub async fn tool(
    space: &Space,
    program: &str,
    database: &str,
    files: Option<&CertificateFiles>,
    words: &[&str],
) -> Result<Said> {
    let mut command = space.command(program);
    command.args([&format!("--db={database}"), "--no-leader-only", "--timeout=3"]);
    if let Some(CertificateFiles { ca, cert, key }) = files {
        for (option, file) in [("ca-cert", ca), ("certificate", cert), ("private-key", key)] {
            command.arg(format!("--{option}={}", file.display()));
        }
    }
    say(command.args(words), "").await
}

/// Node n1 was taken over: whoever did it has `n1`, the node's key, and the network on its side. It writes
/// its own rows of the southbound, and neither another node's nor those of the port `theirs`.
///
/// # Errors
///
/// It may do less, or more.
pub async fn a_stolen_node_rules_its_own_rows(
    lab: &Lab,
    sb: &str,
    n1: &CertificateFiles,
    theirs: &str,
) -> Result<()> {
    let space = lab.node(1)?.space()?;
    let as_n1 = async |words: &[&str]| tool(&space, "ovn-sbctl", sb, Some(n1), words).await;
    let mine = as_n1(&["set", "Chassis", "n1", "external_ids:seen=yes"]).await?;
    ensure!(mine.status == 0, "{mine:?}");
    let port = ["--bare", "--columns=_uuid", "find", "Port_Binding"];
    let port = as_n1(&[&port[..], &[&format!("logical_port={theirs}")]].concat()).await?;
    for theirs in [
        &["set", "Chassis", "n2", "external_ids:seen=yes"][..],
        &["chassis-del", "n2"],
        &["destroy", "Port_Binding", port.out.trim()],
        &["--all", "destroy", "Logical_Flow"],
        &["--all", "destroy", "RBAC_Role"],
    ] {
        let said = as_n1(theirs).await?;
        ensure!(said.status != 0 && said.err.contains("RBAC rules for client"), "{said:?}");
    }
    Ok(())
}

/// Whoever has `known` comes in; nobody does without a certificate, with another cluster's, or in
/// plaintext.
///
/// # Errors
///
/// It is otherwise.
pub async fn strangers_stay_outside(
    lab: &Lab,
    [nb, sb]: [&str; 2],
    known: &CertificateFiles,
) -> Result<()> {
    let dir = lab.dir().join(format!("strangers-{}", Uuid::new_v4()));
    let stranger = Authority::new(&dir)?.issue("operator/stranger", &[])?;
    let space = lab.space(&Place::Outside)?;
    for (program, database) in [("ovn-nbctl", nb), ("ovn-sbctl", sb)] {
        let inside = tool(&space, program, database, Some(known), &["show"]).await?;
        ensure!(inside.status == 0, "{inside:?}");
        let plain = database.replace("ssl:", "tcp:");
        for (database, files) in [(database, Some(&stranger)), (database, None), (&*plain, None)] {
            let said = tool(&space, program, database, files, &["show"]).await?;
            ensure!(said.status != 0, "{database} lets in {files:?}: {said:?}");
        }
    }
    Ok(())
}
