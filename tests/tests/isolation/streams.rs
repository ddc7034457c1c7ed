//! Streams that were opened before they were forbidden.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_tests::lab::{Lab, Pod, PodOptions};
use atoll_tests::people::atollctl;
use atoll_tests::report::{Report, Target};
use atoll_tests::talk::{Talker, now};
use atoll_tests::wait::wait_until;

use crate::{addresses, manifest, subnet, up};

/// No word for this long is the end of a stream that has one every 10 ms.
const SILENCE: Duration = Duration::from_secs(2);

/// From the revocation to the last word.
const ENDED: Duration = Duration::from_secs(5);

const FRIEND: &str = "  private: true\n  allowSubnets: [10.42.0.0/16, \"fd00:42::/64\"]\n";
const ALONE: &str = "  private: true\n";

pub(crate) async fn pod(lab: &Lab, name: &str, node: u8) -> Result<Pod> {
    lab.run_pod(PodOptions::new(name.parse()?, node)).await
}

/// The pod of the private subnet pushes to one who was allowed when the stream was opened: answers,
/// as far as the rules can tell, which pass for as long as the connection is remembered.
#[tokio::test]
async fn a_stream_that_was_opened_before_a_revocation_ends() {
    let lab = up(1).await.unwrap();
    let mut report = Report::new("isolation-streams", "make isolation");
    streams(&lab, &mut report).await.unwrap();
    report.save().unwrap();
    let failures = report.failures();
    assert!(failures.is_empty(), "targets missed: {failures:#?}");
}

async fn streams(lab: &Lab, report: &mut Report) -> Result<()> {
    subnet(lab, "red", 41, FRIEND).await?;
    subnet(lab, "friend", 42, "").await?;
    let red = pod(lab, "red/a", 1).await?;
    let friends = [pod(lab, "friend/near", 1).await?, pod(lab, "friend/far", 2).await?];
    let mut port = 7000;
    let mut pulls = Vec::new();
    let mut pushes = Vec::new();
    for friend in &friends {
        for address in addresses(&red) {
            for protocol in ["udp", "tcp"] {
                port += 1;
                let what = format!("{protocol} {address} → {}", friend.name);
                pushes.push(Talker::start(lab, &red, &["push", protocol, &port.to_string()])?);
                let pull = pull(lab, friend, protocol, address, port).await;
                pulls.push((what.clone(), pull.context(what)?));
            }
        }
    }
    let streams = pulls.len();

    let begun = now()?;
    let asked = ["create", "-f", "-", "--wait", "30"];
    let said = atollctl(lab, &asked, &manifest("red", 41, ALONE)).await?;
    ensure!(said.status == 0, "atollctl create --wait: {}", said.err);
    ensure!(said.out.contains("installed on 2 of 2 nodes"), "{}", said.out);
    let installed = now()?;
    wait_until(ENDED + SILENCE, "silence", || async {
        let quiet = now()?.saturating_sub(SILENCE.as_millis());
        for (what, pull) in &pulls {
            let last = pull.heard()?.last().copied().unwrap_or_default();
            ensure!(last < quiet, "{what}: {} ms ago it was heard", now()?.saturating_sub(last));
        }
        Ok(())
    })
    .await?;
    let mut last_word = 0;
    for (_, pull) in &pulls {
        last_word = last_word.max(pull.heard()?.last().copied().unwrap_or_default());
    }
    let slowest = last_word.saturating_sub(begun);
    let took = f64::from(u32::try_from(installed.saturating_sub(begun))?);
    report.note("from the command to \"installed on all nodes\"", "ms", took);
    let words = pulls.iter().map(|(_, pull)| pull.heard());
    let words = words.collect::<Result<Vec<_>>>()?;
    let late = words.iter().flatten().filter(|at| **at > installed).count();
    let late = f64::from(u32::try_from(late)?);
    report.claim("words that arrived after \"installed\"", "words", late, Target::Exactly(0.0));
    report.note(
        "streams that were opened before the revocation",
        "streams",
        f64::from(u32::try_from(streams)?),
    );
    report.note(
        "from the command to the last word of the slowest",
        "ms",
        f64::from(u32::try_from(slowest)?),
    );

    // Allowed again, a new one runs.
    subnet(lab, "red", 41, FRIEND).await?;
    let _push = Talker::start(lab, &red, &["push", "udp", "7999"])?;
    let address = addresses(&red)[0];
    wait_until(ENDED, "a new stream", || async {
        pull(lab, &friends[1], "udp", address, 7999).await.map(drop)
    })
    .await
}

/// Opens a stream and waits until it runs.
async fn pull(lab: &Lab, from: &Pod, protocol: &str, to: IpAddr, port: u16) -> Result<Talker> {
    let to = SocketAddr::new(to, port).to_string();
    wait_until(ENDED, "a stream", || async {
        let pull = Talker::start(lab, from, &["pull", protocol, &to])?;
        wait_until(Duration::from_secs(1), "its first words", || async {
            ensure!(pull.heard()?.len() > 5, "{} words", pull.heard()?.len());
            Ok(())
        })
        .await?;
        Ok(pull)
    })
    .await
}
