//! An address goes to another pod, on another node, while a neighbour still knows the earlier one.
//! Needs root.

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use atoll_tests::lab::{Lab, Options, Place, Pod, PodOptions, ScopedLab, run};
use atoll_tests::probe::ping;
use atoll_tests::report::{Report, Target};
use atoll_tests::wait::wait_until;
use uuid::Uuid;

/// In the default subnet, of both families.
const ADDRESSES: [&str; 2] = ["10.16.9.9", "fd00:10:16::999"];

/// How long a neighbour may look for it. Without a word it is 5 s before it asks again, and 3 more.
const SOON: Duration = Duration::from_secs(2);

#[tokio::test]
async fn neighbours_of_an_earlier_owner_of_an_address_find_the_new_one_at_once() {
    let name = format!("a{}", &Uuid::new_v4().simple().to_string()[..8]).parse().unwrap();
    let lab = ScopedLab::up(Options { members: 1, nodes: 3, ..Options::new(name) }).await.unwrap();
    let mut report = Report::new("announced", "cargo test -p atoll-tests --test announced");
    let done = changes_hands(&lab, &mut report).await;
    report.save().unwrap();
    done.unwrap();
    assert!(report.failures().is_empty(), "{:?}", report.failures());
}

async fn changes_hands(lab: &Lab, report: &mut Report) -> Result<()> {
    let peer = lab.run_pod(PodOptions::new("hands/peer".parse()?, 1)).await?;
    let place = Place::Pod(peer.name.clone());
    let earlier = owner(lab, "hands/earlier", 2).await?;
    for address in ADDRESSES {
        ping(&lab.space(&place)?, address, 56).await?;
    }
    lab.delete_pod(&earlier.name).await?;
    let later = owner(lab, "hands/later", 3).await?;
    ensure!(earlier.mac != later.mac, "both have {:?}", later.mac);
    for address in ADDRESSES {
        let begun = Instant::now();
        wait_until(Duration::from_secs(30), "the new owner to answer", async || {
            let mut probe = lab.space(&place)?.command("ping");
            run(probe.args(["-n", "-c", "1", "-W", "0.2", address])).await.map(drop)
        })
        .await?;
        let case = format!("until the new owner of {address} answers a neighbour of the earlier");
        let seconds = begun.elapsed().as_secs_f64();
        report.claim(&case, "s", seconds, Target::AtMost(SOON.as_secs_f64()));
    }
    Ok(())
}

async fn owner(lab: &Lab, name: &str, node: u8) -> Result<Pod> {
    let asked = ("ovn.kubernetes.io/ip_address".to_owned(), ADDRESSES.join(","));
    let annotations = [asked].into();
    let options = PodOptions { annotations, ..PodOptions::new(name.parse()?, node) };
    // The earlier one's node has to say that it is gone.
    wait_until(Duration::from_secs(30), "a pod with the address", async || {
        lab.run_pod(options.clone()).await
    })
    .await
}
