//! Two hundred pods come and go while leaders die.

use crate::*;

const PODS: usize = 200;
/// ADDs at a time; kubelet starts about this many pods at once.
const TOGETHER: usize = 8;

pub(super) async fn run(lab: &Lab, report: &mut Report) -> Result<()> {
    create_subnets(lab, &[("busy", "10.20.0.0/22,fd00:20::/64", "busy")]).await?;
    let witness = run_pod(lab, "default/witness", 1).await?;
    let mut held_before: BTreeSet<IpAddr> = BTreeSet::new();
    let mut killed = 0;
    for round in 0..2_u32 {
        let killing = tokio::spawn(kill_leaders(lab.clone(), 3));
        let pods = add_all(lab, round).await?;
        let mut held = BTreeSet::new();
        for address in pods.iter().flat_map(addresses) {
            ensure!(held.insert(address), "{address} was given twice");
        }
        report.claim(
            &format!("round {}: addresses of 200 dual-stack pods, all different", round + 1),
            "addresses",
            f64::from(u32::try_from(held.len())?),
            Target::Exactly(400.0),
        );
        killed += killing.await??;
        let answered = ping_all(lab, &witness, &pods).await?;
        report.claim(
            &format!("round {}: pods that answer", round + 1),
            "pods",
            f64::from(u32::try_from(answered)?),
            Target::Exactly(200.0),
        );
        held_before.extend(held);
        let killing = tokio::spawn(kill_leaders(lab.clone(), 2));
        delete_all(lab, pods).await?;
        killed += killing.await??;
    }
    report.note("leaders killed meanwhile", "kills", f64::from(killed));
    let leaked = left_over(lab).await?;
    report.claim("addresses leaked", "addresses", to_f64(leaked), Target::Exactly(0.0));
    let audited = atoll_tests::audit::members(lab).await?;
    report.note(
        "log entries replayed from each member's disk",
        "entries",
        f64::from(audited.entries),
    );
    report.claim(
        "addresses with two owners in any member's log",
        "addresses",
        f64::from(audited.doubles),
        Target::Exactly(0.0),
    );
    report.claim(
        "members whose logs differ",
        "members",
        f64::from(audited.differing),
        Target::Exactly(0.0),
    );
    Ok(())
}

/// A shuffled order that is another in each round, and the same in each run.
fn order(round: u32) -> Vec<usize> {
    let mut numbers: Vec<usize> = (0..PODS).collect();
    let mut seed = u64::from(round) + 0x9E37_79B9_7F4A_7C15;
    for at in (1..PODS).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let other = usize::try_from(seed >> 33).unwrap() % (at + 1);
        numbers.swap(at, other);
    }
    numbers
}

async fn add_all(lab: &Lab, round: u32) -> Result<Vec<Pod>> {
    let mut pods = Vec::new();
    for batch in order(round).chunks(TOGETHER) {
        let adds = batch.iter().map(|number| {
            let node = u8::try_from(number % 3).unwrap() + 1;
            add_until_it_works(lab, format!("busy/p{number}"), node)
        });
        pods.extend(try_join_all(adds).await?);
    }
    Ok(pods)
}

/// As kubelet: a failed sandbox is tried again.
async fn add_until_it_works(lab: &Lab, name: String, node: u8) -> Result<Pod> {
    wait_until(Duration::from_secs(60), &format!("pod {name}"), || async {
        match run_pod(lab, &name, node).await {
            Ok(pod) => Ok(pod),
            Err(error) => {
                let _ = lab.delete_pod(&name.parse()?).await;
                Err(error)
            }
        }
    })
    .await
}

async fn delete_all(lab: &Lab, pods: Vec<Pod>) -> Result<()> {
    for batch in order(7).chunks(TOGETHER) {
        let deletes = batch.iter().map(|number| {
            let pod = &pods[*number];
            wait_until(Duration::from_secs(60), "a deletion", || async {
                lab.delete_pod(&pod.name).await
            })
        });
        try_join_all(deletes).await?;
    }
    Ok(())
}

async fn ping_all(lab: &Lab, from: &Pod, pods: &[Pod]) -> Result<usize> {
    let from = space(lab, from)?;
    let mut answered = 0;
    for batch in pods.chunks(16) {
        let pings = batch.iter().flat_map(|pod| {
            addresses(pod).into_iter().map(|target| {
                let from = from.clone();
                async move { ping(&from, &target.to_string(), 56).await }
            })
        });
        try_join_all(pings).await?;
        answered += batch.len();
    }
    Ok(answered)
}

async fn kill_leaders(lab: Lab, times: u32) -> Result<u32> {
    for _ in 0..times {
        // A moment that no step of the loop above knows.
        let jitter = 300 + u64::from(Uuid::new_v4().as_bytes()[0]) * 5;
        tokio::time::sleep(Duration::from_millis(jitter)).await;
        kill_the_leader(&lab).await?;
    }
    Ok(times)
}

/// Addresses of the subnet in use, or never confirmed to be unplugged and so never handed out
/// again, once every deletion has settled.
async fn left_over(lab: &Lab) -> Result<u64> {
    let using = || async {
        let subnets = get(lab, "subnets").await?;
        let busy = subnets.iter().find(|it| it["metadata"]["name"] == "busy");
        let status = &busy.context("the subnet is gone")?["status"];
        let count = |field: &str| status[field].as_u64().context("no count");
        let draining = lab.store()?.drainings().await?;
        anyhow::Ok(count("v4usingIPs")? + count("v6usingIPs")? + draining)
    };
    let settled = wait_until(Duration::from_secs(30), "nothing in use", || async {
        let count = using().await?;
        ensure!(count == 0, "{count} in use");
        Ok(count)
    });
    match settled.await {
        Ok(count) => Ok(count),
        Err(_) => using().await,
    }
}
