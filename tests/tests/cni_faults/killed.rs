//! The agent killed at each step of an ADD and a DEL. Its successor, or the runtime's next call,
//! finishes what was begun, and nothing is left that belongs to nobody.

use anyhow::{Context as _, Result, ensure};
use atoll_node::step::Step;
use atoll_tests::kubelet::{
    Held, add, announce, del, dies, end_pod, end_sandbox, make_sandbox, pings, run_pod, settled,
    take_in, until_bound, until_held,
};
use atoll_tests::lab::{Lab, Pod};
use atoll_tests::wait::wait_until;

use super::{SOON, healthy, up};

#[tokio::test]
async fn whatever_step_an_agent_dies_at_the_next_one_finishes_it() {
    let lab = up(1, 1).await;
    let beside = run_pod(&lab, "dual/beside", 1).await.unwrap();
    let before = settled(&lab, 1).await.unwrap();
    for step in Step::ADD {
        add_again(&lab, &beside, step).await.with_context(|| step.name()).unwrap();
        until_gone(&lab, &before).await.with_context(|| step.name()).unwrap();
        del_instead(&lab, step).await.with_context(|| step.name()).unwrap();
        until_gone(&lab, &before).await.with_context(|| step.name()).unwrap();
    }
    for step in Step::DEL {
        del_again(&lab, step).await.with_context(|| step.name()).unwrap();
        until_gone(&lab, &before).await.with_context(|| step.name()).unwrap();
    }
    healthy(&lab, &beside).await.unwrap();
}

async fn until_gone(lab: &Lab, before: &Held) -> Result<()> {
    until_held(lab, 1, before).await?;
    let drainings = lab.store()?.drainings().await?;
    ensure!(drainings == 0, "the store waits for {drainings} unpluggings");
    Ok(())
}

/// The runtime asks for the same once more.
async fn add_again(lab: &Lab, beside: &Pod, step: Step) -> Result<()> {
    let mut pod = announce(lab, "dual/again", 1).await?;
    make_sandbox(lab, &pod).await?;
    dies(lab, &pod, "ADD", step).await?;
    lab.node(1)?.start_agent().await?;
    let printed = add(lab, &pod).await?.done()?;
    take_in(&mut pod, &printed);
    wait_until(SOON, "the pod to talk", || pings(lab, &pod, beside)).await?;
    until_bound(lab, &pod, true).await?;
    end_pod(lab, &pod).await
}

/// The runtime gives the sandbox up while nobody is there; later it makes another one.
async fn del_instead(lab: &Lab, step: Step) -> Result<()> {
    let pod = announce(lab, "dual/instead", 1).await?;
    make_sandbox(lab, &pod).await?;
    dies(lab, &pod, "ADD", step).await?;
    del(lab, &pod).await?.done()?;
    end_sandbox(lab, &pod).await?;
    lab.node(1)?.start_agent().await?;
    let container_id: String = pod.container_id.chars().rev().collect();
    let pod = Pod { container_id, ..pod };
    make_sandbox(lab, &pod).await?;
    add(lab, &pod).await?.done()?;
    until_bound(lab, &pod, true).await?;
    end_pod(lab, &pod).await
}

async fn del_again(lab: &Lab, step: Step) -> Result<()> {
    let pod = run_pod(lab, "dual/goes", 1).await?;
    dies(lab, &pod, "DEL", step).await?;
    lab.node(1)?.start_agent().await?;
    del(lab, &pod).await?.done()?;
    until_bound(lab, &pod, false).await?;
    end_pod(lab, &pod).await
}
