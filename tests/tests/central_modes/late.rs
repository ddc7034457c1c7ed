//! A transaction that is under way while its leader is frozen and another one takes over.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use atoll_tests::lab::store::PodSpec;
use atoll_tests::lab::{CentralMode, FaultTarget, FaultVerb, Lab, Member, run};
use atoll_tests::people::atollctl;
use atoll_tests::wait::wait_until;
use tokio::process::Command;

use crate::{DEADLINE, becomes_equal, lab, leader, leads_northbound, term_that_writes, whole};

/// For how long the leader is frozen: many elections long.
const FROZEN: Duration = Duration::from_secs(30);

/// A transaction that adds a port is longer, and an answer to a probe of the server's far shorter.
const TRANSACTION_BYTES: u64 = 400;

/// Where northbounds listen.
const NB_PORT: &str = "6641";

/// From one member to the server of another: what is sent may be lost, and is sent again.
struct Wire {
    from: Member,
    to: Member,
}

impl Wire {
    /// Nothing arrives any more; whoever sends does not know.
    async fn hold(&self) -> Result<()> {
        // Else the kernel waits twice as long from try to try, and the server gives the connection up.
        let mut often = self.from.space().command("sysctl");
        run(often.args(["-qw", "net.ipv4.tcp_thin_linear_timeouts=1"])).await?;
        self.filter("-A").await
    }

    /// What was sent meanwhile arrives with one of the next tries.
    async fn release(&self) -> Result<()> {
        self.filter("-D").await
    }

    async fn filter(&self, verb: &str) -> Result<()> {
        let (mut iptables, from) =
            (self.to.space().command("iptables"), self.from.address().to_string());
        iptables.args(["-w", verb, "INPUT", "-s", &from, "-p", "tcp", "--dport", NB_PORT]);
        run(iptables.args(["-j", "DROP"])).await.map(drop)
    }

    /// Bytes of `atolld`'s that have not arrived, of each of its connections.
    async fn under_way(&self) -> Result<Vec<u64>> {
        let owner = format!("pid={},", self.from.atolld().pid().context("it has ended")?);
        let to = format!("{}:{NB_PORT}", self.to.address());
        let mut ss = self.from.space().command("ss");
        let said = run(ss.args(["-tnpH", "state", "established", "dst", &to])).await?;
        let own = said.lines().filter(|line| line.contains(&owner));
        // Received, sent, from, to, whose.
        let sent = |line: &str| line.split_whitespace().nth(1)?.parse().ok();
        own.map(|line| sent(line).with_context(|| line.to_owned())).collect()
    }
}

/// The ports that the server of a member is told of, from now on.
struct Told {
    file: tempfile::NamedTempFile,
    _monitor: tokio::process::Child,
}

impl Told {
    async fn by(member: &Member) -> Result<Self> {
        let file = tempfile::NamedTempFile::new()?;
        let mut monitor = Command::new("ovsdb-client");
        monitor.args(["--format=csv", "monitor", &member.databases().0, "OVN_Northbound"]);
        monitor.args(["Logical_Switch_Port", "name"]).stdin(Stdio::null());
        monitor.stdout(file.reopen()?).kill_on_drop(true);
        let told = Self { _monitor: monitor.spawn()?, file };
        wait_until(DEADLINE, "the ports that there are", async || {
            ensure!(told.read()?.contains("initial"), "nothing");
            Ok(())
        })
        .await?;
        Ok(told)
    }

    fn read(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.file.path())?)
    }

    /// Whatever it was told of the port that only the old transaction adds.
    fn of_late(&self) -> Result<Vec<String>> {
        let told = self.read()?;
        Ok(told.lines().filter(|line| line.contains(PORT)).map(str::to_owned).collect())
    }
}

fn late() -> PodSpec {
    PodSpec {
        namespace: "red".to_owned(),
        name: "late".to_owned(),
        uid: "uid-late".to_owned(),
        node: "n1".to_owned(),
        annotations: [].into(),
        labels: [].into(),
    }
}

/// Its port in the northbound.
const PORT: &str = "late.red";

async fn ports(member: &Member) -> Result<String> {
    let mut command = Command::new("ovn-nbctl");
    command.args(["--no-leader-only", "--timeout=5", "--db", &member.databases().0, "--bare"]);
    run(command.args(["--columns=name", "list", "Logical_Switch_Port"])).await
}

/// The leader, and another member's server, which leads the northbound: what goes from the one to the
/// other can be held back.
async fn leader_far_from_its_database(lab: &Lab) -> Result<Wire> {
    let database = leads_northbound(lab).await?;
    if leader(lab).await? == database {
        let other = lab.member(1 + database % 3)?.name();
        let said = atollctl(lab, &["member", "transfer", &other], "").await?;
        ensure!(said.status == 0, "atollctl member transfer: {}", said.err);
    }
    let wire = Wire { from: lab.member(leader(lab).await?)?, to: lab.member(database)? };
    ensure!(wire.from.name() != wire.to.name(), "{} leads both", wire.to.name());
    Ok(wire)
}

/// Sends what adds the port of a pod, and freezes the leader before it has arrived.
async fn freeze_with_a_transaction_under_way(lab: &Lab, wire: &Wire, frozen: u8) -> Result<()> {
    wait_until(DEADLINE, "a leader that is connected", async || {
        let under_way = wire.under_way().await?;
        ensure!(under_way == [0], "{under_way:?}");
        Ok(())
    })
    .await?;
    wire.hold().await?;
    lab.store()?.put_pod(&late()).await?;
    wait_until(DEADLINE, "a transaction under way", async || {
        let under_way = wire.under_way().await?;
        ensure!(under_way.iter().any(|bytes| *bytes > TRANSACTION_BYTES), "{under_way:?}");
        Ok(())
    })
    .await?;
    lab.fault(FaultVerb::Stop, FaultTarget::Member(frozen)).await
}

/// The next leader writes, and takes away what the old transaction adds.
async fn another_writes(lab: &Lab, wire: &Wire, frozen: u8, before: u64) -> Result<()> {
    wait_until(DEADLINE, "another leader to write the pod's port", async || {
        let (term, ports) = (term_that_writes(lab, frozen).await?, ports(&wire.to).await?);
        ensure!(term > before && ports.contains(PORT), "term {term}, {ports}");
        Ok(())
    })
    .await?;
    let PodSpec { namespace, name, uid, .. } = late();
    lab.store()?.delete_pod(&namespace, &name, &uid).await?;
    wait_until(DEADLINE, "the port to go", async || {
        let ports = ports(&wire.to).await?;
        ensure!(!ports.contains(PORT), "{ports}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_a_frozen_leader_had_sent_before_is_refused_as_a_whole() {
    let lab = lab(CentralMode::Cluster).await;
    whole(&lab).await;
    let wire = leader_far_from_its_database(&lab).await.unwrap();
    becomes_equal(&lab).await;
    let frozen = leader(&lab).await.unwrap();
    let before = term_that_writes(&lab, frozen).await.unwrap();

    freeze_with_a_transaction_under_way(&lab, &wire, frozen).await.unwrap();
    let begun = Instant::now();
    another_writes(&lab, &wire, frozen, before).await.unwrap();
    println!("another leader has written after {:.1} s", begun.elapsed().as_secs_f64());
    let told = Told::by(&wire.to).await.unwrap();
    wire.release().await.unwrap();
    let arrives = wait_until(DEADLINE, "the transaction to arrive", async || {
        let under_way = wire.under_way().await?;
        ensure!(under_way == [0], "{under_way:?}");
        Ok(())
    });
    arrives.await.unwrap();
    println!("the transaction arrived after {:.1} s", begun.elapsed().as_secs_f64());
    tokio::time::sleep_until((begun + FROZEN).into()).await;
    assert_eq!(told.of_late().unwrap(), Vec::<String>::new(), "it was taken");
    lab.fault(FaultVerb::Cont, FaultTarget::Member(frozen)).await.unwrap();

    let log = wire.from.dir().join("atolld.log");
    let says_so = wait_until(DEADLINE, "the old leader to say so", async || {
        let log = std::fs::read_to_string(&log)?;
        let refused = log.lines().find(|line| line.contains("the database refused a late write"));
        refused.map(str::to_owned).context("not yet")
    });
    println!("{}", says_so.await.unwrap());
    becomes_equal(&lab).await;
    assert_eq!(told.of_late().unwrap(), Vec::<String>::new(), "it was sent again");
}
