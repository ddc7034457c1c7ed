//! A private subnet under a flood, while everything that draws its border changes or dies.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use atoll_tests::lab::{FaultTarget, FaultVerb, Lab, Pod};
use atoll_tests::report::Report;
use atoll_tests::talk::Talker;
use atoll_tests::wait::wait_until;

use crate::streams::pod;
use crate::{addresses, subnet, up};

/// Packets a second, from each of two pods.
const RATE: u32 = 5_000;

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
    // The flood would be heard if it were let through.
    for stranger in &strangers {
        let before = ears.heard()?.len();
        begin(lab, stranger, &red, 100, Duration::from_secs(1))?.end().await?;
        let heard = ears.heard()?.len() - before;
        ensure!(heard > 50, "{}: {heard} of 100 heard without rules", stranger.name);
    }
    private(lab, 0).await?;
    wait_until(Duration::from_secs(5), "the border", || async {
        let before = ears.heard()?.len();
        begin(lab, &strangers[0], &red, 50, Duration::from_secs(1))?.end().await?;
        ensure!(ears.heard()?.len() == before, "a packet came through");
        Ok(())
    })
    .await?;

    let before = ears.heard()?.len();
    let (begun, mut floods) = (Instant::now(), Vec::new());
    for stranger in &strangers {
        floods.push(begin(lab, stranger, &red, RATE, FLOOD)?);
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

fn begin(lab: &Lab, from: &Pod, to: &Pod, rate: u32, time: Duration) -> Result<Talker> {
    let to = SocketAddr::new(addresses(to)[0], PORT).to_string();
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
