//! Streams that were opened before they were forbidden.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_tests::lab::{Lab, Pod, PodOptions};
use atoll_tests::people::{Said, atollctl};
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

    let pulls = opened(lab, &red, &friends, 7000).await?;
    let begun = now()?;
    let said = revoke(lab, "30").await?;
    ensure!(said.status == 0, "atollctl create --wait: {}", said.err);
    ensure!(said.out.contains("installed on 2 of 2 nodes"), "{}", said.out);
    silent_since(&pulls, begun, report, "revoked").await?;

    // Allowed again, new ones run. What OVN has not heard of yet is not called installed.
    subnet(lab, "red", 41, FRIEND).await?;
    let pulls = opened(lab, &red, &friends, 7100).await?;
    ovn(lab, &["pause"]).await?;
    let said = revoke(lab, "2").await?;
    ensure!(said.status == 1, "installed while nothing is projected: {}", said.out);
    let behind = "the flows of its switch are as of revision";
    ensure!(said.err.contains("on 0 of 2 nodes") && said.err.contains(behind), "{}", said.err);
    let (heard, _) = words(&pulls, now()?.saturating_sub(1_000))?;
    ensure!(heard > 0, "nothing is heard although nothing is forbidden yet");
    let begun = now()?;
    ovn(lab, &["resume"]).await?;
    ovn(lab, &["rollout", "--wait", "30"]).await?;
    silent_since(&pulls, begun, report, "revoked while the projection was paused").await
}

type Pulls = Vec<(String, Talker, Talker)>;

/// Streams in both families and protocols from the pod to each of the others, that run.
async fn opened(lab: &Lab, red: &Pod, friends: &[Pod], ports: u16) -> Result<Pulls> {
    let (mut port, mut pulls) = (ports, Vec::new());
    for friend in friends {
        for address in addresses(red) {
            for protocol in ["udp", "tcp"] {
                port += 1;
                let what = format!("{protocol} {address} → {}", friend.name);
                let push = Talker::start(lab, red, &["push", protocol, &port.to_string()])?;
                let pull = pull(lab, friend, protocol, address, port).await;
                pulls.push((what.clone(), pull.context(what)?, push));
            }
        }
    }
    Ok(pulls)
}

/// Takes the allowance away, and waits so many seconds until that is in force.
async fn revoke(lab: &Lab, seconds: &str) -> Result<Said> {
    let asked = ["create", "-f", "-", "--wait", seconds];
    atollctl(lab, &asked, &manifest("red", 41, ALONE)).await
}

async fn ovn(lab: &Lab, words: &[&str]) -> Result<()> {
    let said = atollctl(lab, &[&["ovn"], words].concat(), "").await?;
    ensure!(said.status == 0, "atollctl ovn {words:?}: {}", said.err);
    Ok(())
}

/// How many words came after `since`, and when the last of all did.
fn words(pulls: &Pulls, since: u128) -> Result<(usize, u128)> {
    let heard = pulls.iter().map(|(_, pull, _)| pull.heard()).collect::<Result<Vec<_>>>()?;
    let late = heard.iter().flatten().filter(|at| **at > since).count();
    Ok((late, heard.into_iter().flatten().max().unwrap_or_default()))
}

/// It was just said that a revocation is in force, which was begun at `begun`: from now on nobody hears
/// a word.
async fn silent_since(pulls: &Pulls, begun: u128, report: &mut Report, case: &str) -> Result<()> {
    let installed = now()?;
    wait_until(ENDED + SILENCE, "silence", || async {
        let quiet = now()?.saturating_sub(SILENCE.as_millis());
        for (what, pull, _) in pulls {
            let last = pull.heard()?.last().copied().unwrap_or_default();
            ensure!(last < quiet, "{what}: {} ms ago it was heard", now()?.saturating_sub(last));
        }
        Ok(())
    })
    .await?;
    let (late, last_word) = words(pulls, installed)?;
    let ms = |from: u128, to: u128| anyhow::Ok(f64::from(u32::try_from(to.saturating_sub(from))?));
    let count = |many: usize| anyhow::Ok(f64::from(u32::try_from(many)?));
    report.note(&format!("{case}: streams that were open"), "streams", count(pulls.len())?);
    report.note(&format!("{case}: \"installed on all nodes\" after"), "ms", ms(begun, installed)?);
    report.note(&format!("{case}: last word of the slowest after"), "ms", ms(begun, last_word)?);
    let none = Target::Exactly(0.0);
    report.claim(&format!("{case}: words after \"installed\""), "words", count(late)?, none);
    Ok(())
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
