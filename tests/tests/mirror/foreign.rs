//! The link `mirror0` itself: silent if it is ours, and left alone if it is not.

use anyhow::{Result, ensure};
use atoll_tests::lab::{FaultTarget, FaultVerb, Lab, Space, run};
use atoll_tests::wait::wait_until;

use crate::{SETTLED, vsctl};

/// Nobody talks to the node through it: it has no address, not even the kernel's own, and no ARP.
pub(super) async fn is_silent(node: &Space) -> Result<()> {
    wait_until(SETTLED, "mirror0 to be up and silent", || async {
        let shown = show(node).await?;
        ensure!(shown.contains("UP") && shown.contains("NOARP"), "{shown}");
        ensure!(!shown.contains("inet"), "it has an address: {shown}");
        Ok(())
    })
    .await
}

/// A link of that name that somebody made by hand: the agent says so, and touches nothing of it;
/// once it is gone, ours takes the place.
pub(super) async fn stays_as_it_is(lab: &Lab, index: u8) -> Result<()> {
    let (node, agent) = (lab.node(index)?, FaultTarget::Agent(index));
    let space = node.space()?;
    is_silent(&space).await?;
    lab.fault(FaultVerb::Kill, agent).await?;
    vsctl(&node, &["del-port", "br-int", "mirror0"]).await?;
    wait_until(SETTLED, "ours to be gone", || async {
        let left = run(space.command("ip").args(["-o", "link"])).await?;
        ensure!(!left.contains("mirror0"), "{left}");
        Ok(())
    })
    .await?;
    run(space.command("ip").args("link add mirror0 type veth peer name theirs".split(' '))).await?;
    run(space.command("ip").args("addr add 192.0.2.1/24 dev mirror0".split(' '))).await?;
    let before = show(&space).await?;

    lab.fault(FaultVerb::Restart, agent).await?;
    wait_until(SETTLED, "the agent to say why there is no copy", || async {
        let log = std::fs::read_to_string(node.dir().join("log/atoll-node.log"))?;
        ensure!(log.contains("a link mirror0 that Open vSwitch did not make"), "it does not");
        Ok(())
    })
    .await?;
    let ports = vsctl(&node, &["list-ports", "br-int"]).await?;
    ensure!(!ports.contains("mirror0"), "Open vSwitch was asked for it: {ports}");
    let after = show(&space).await?;
    ensure!(after == before, "before: {before}\nafter: {after}");

    run(space.command("ip").args(["link", "del", "mirror0"])).await?;
    is_silent(&space).await
}

async fn show(node: &Space) -> Result<String> {
    run(node.command("ip").args(["-d", "addr", "show", "mirror0"])).await
}
