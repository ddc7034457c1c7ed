//! A private subnet under a flood, while everything that draws its border changes or dies.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use atoll_tests::lab::{FaultTarget, FaultVerb, Lab, Pod, run};
use atoll_tests::report::Report;
use atoll_tests::talk::Talker;
use atoll_tests::wait::wait_until;

use crate::streams::pod;
use crate::{addresses, subnet, up};

/// Packets a second, from each of two pods, directly and to a Service's address.
const RATE: u32 = 2_500;

/// A Service that the pod of the private subnet is behind.
const SERVICE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10));

/// How often the rules change.
const CHANGES: u32 = 100;

/// Longer than the changes and faults take.
const FLOOD: Duration = Duration::from_secs(60);

const PORT: u16 = 9_000;

#[tokio::test]
async fn no_packet_of_a_flood_crosses_the_border_of_a_private_subnet() {
    let lab = up(3).await.unwrap();
    let mut report = Report::new("isolation-flood", "make isolation");
    flood(&lab, &mut report).await.unwrap();
    report.save().unwrap();
}

async fn flood(lab: &Lab, report: &mut Report) -> Result<()> {
    subnet(lab, "red", 41, "").await?;
    subnet(lab, "green", 43, "").await?;
    let red = pod(lab, "red/a", 1).await?;
    let strangers = [pod(lab, "green/near", 1).await?, pod(lab, "green/far", 2).await?];
    let ears = Talker::start(lab, &red, &["hear", &PORT.to_string()])?;
    let ways = [addresses(&red)[0], SERVICE];
    serve(lab, ways[0]).await?;
    // The flood would be heard if it were let through.
    for stranger in &strangers {
        for to in ways {
            let before = ears.heard()?.len();
            begin(lab, stranger, to, 100, Duration::from_secs(1))?.end().await?;
            let heard = ears.heard()?.len() - before;
            ensure!(heard > 50, "{} → {to}: {heard} of 100 heard without rules", stranger.name);
        }
    }
    private(lab, 0).await?;
    wait_until(Duration::from_secs(5), "the border", || async {
        let before = ears.heard()?.len();
        for to in ways {
            begin(lab, &strangers[0], to, 50, Duration::from_secs(1))?.end().await?;
            ensure!(ears.heard()?.len() == before, "a packet came through to {to}");
        }
        Ok(())
    })
    .await?;

    let before = ears.heard()?.len();
    let (begun, mut floods) = (Instant::now(), Vec::new());
    for stranger in &strangers {
        for to in ways {
            floods.push(begin(lab, stranger, to, RATE, FLOOD)?);
        }
    }
    for change in 1..=CHANGES {
        private(lab, change).await.with_context(|| format!("change {change}"))?;
        match change {
            25 => lab.fault(FaultVerb::Kill, FaultTarget::Central(serving(lab).await?)).await?,
            50 => {
                let member = serving(lab).await?;
                lab.fault(FaultVerb::Kill, FaultTarget::Member(member)).await?;
                lab.fault(FaultVerb::Restart, FaultTarget::Member(member)).await?;
            }
            75 => lab.fault(FaultVerb::Wipe, FaultTarget::Central(serving(lab).await?)).await?,
            _ => (),
        }
    }
    let took = begun.elapsed();
    ensure!(took < FLOOD, "the changes took {took:?}, longer than the flood");
    let mut sent = 0;
    for flood in floods {
        sent += flood.end().await?.parse::<u32>()?;
    }
    let leaked = ears.heard()?.len() - before;
    report.note("packets against the border", "packets", f64::from(sent));
    report.note("changes of its rules meanwhile", "changes", f64::from(CHANGES));
    report.note("packets that crossed", "packets", f64::from(u32::try_from(leaked)?));
    ensure!(leaked == 0, "{leaked} of {sent} packets crossed");
    Ok(())
}

/// The border, drawn anew each time: other ranges are allowed, other rules stand beside it.
async fn private(lab: &Lab, change: u32) -> Result<()> {
    let range = change % 200;
    let mut more = format!("  private: true\n  allowSubnets: [10.42.{range}.0/24]\n");
    if change % 2 == 1 {
        more.push_str(&format!(
            "  acls:\n  - {{ direction: to-lport, priority: {}, match: \"ip4.src == 192.0.2.{range}\", \
             action: drop }}\n",
            100 + range
        ));
    }
    subnet(lab, "red", 41, &more).await
}

/// Each node translates the Service's address, as kube-proxy has it do.
async fn serve(lab: &Lab, by: IpAddr) -> Result<()> {
    for node in lab.nodes() {
        let mut iptables = node.space()?.command("iptables");
        let (from, to) = (SERVICE.to_string(), by.to_string());
        iptables.args(["-t", "nat", "-A", "PREROUTING", "-d", &from]);
        iptables.args(["-j", "DNAT", "--to-destination", &to]);
        run(&mut iptables).await?;
    }
    Ok(())
}

fn begin(lab: &Lab, from: &Pod, to: IpAddr, rate: u32, time: Duration) -> Result<Talker> {
    let to = SocketAddr::new(to, PORT).to_string();
    let (rate, time) = (rate.to_string(), time.as_secs().to_string());
    Talker::start(lab, from, &["flood", &to, &rate, &time, "16"])
}

async fn serving(lab: &Lab) -> Result<u8> {
    wait_until(Duration::from_secs(20), "a serving member", || async {
        let status = lab.store()?.status().await?;
        let serving = status.central.context("nobody serves")?;
        Ok(serving.member.trim_start_matches('m').parse()?)
    })
    .await
}
