//! An apiserver that is slow, cuts, forgets, refuses and lies: whatever it does, nothing that is in use
//! is freed and nothing is given twice, and when it is over everything comes about.

use std::time::Duration;

use anyhow::{Result, ensure};
use atoll_tests::apiserver_faults::{Faults, ListFault};
use atoll_tests::report::Target;
use atoll_tests::wait::{pass, wait_until};

use super::scene::{Scene, janitor};
use super::{SOON, stored};

/// From the first order to the last look; the lab's start is not counted.
const BOUND: Duration = Duration::from_secs(90);

/// Two lists a minute apart, and what follows.
const DOUBLE_PROOF: Duration = Duration::from_secs(150);

/// Every answer two seconds late: pods come all the same, and a new reign begins.
#[tokio::test]
async fn a_slow_apiserver_delays_and_does_nothing_else() {
    let mut it = Scene::up("slow").await.unwrap();
    it.order(Faults { delay_ms: 2_000, ..Faults::default() }).await.unwrap();
    it.comes("a1").await.unwrap();
    it.restart().await.unwrap();
    it.comes("a2").await.unwrap();
    it.unharmed().await.unwrap();
    it.over(BOUND).await.unwrap();
}

/// Every watch lives for 300 ms and ends in the middle of a line.
#[tokio::test]
async fn watches_that_are_cut_lose_nothing() {
    let mut it = Scene::up("cut watches").await.unwrap();
    let cut = Faults { cut_watches_ms: Some(300), ..Faults::default() };
    it.hurt(cut, 10).await.unwrap();
    for name in ["a1", "a2", "a3"] {
        it.comes(name).await.unwrap();
    }
    let lists = it.orders.give(cut).await.unwrap().lists;
    it.hurt(cut, 20).await.unwrap();
    let more = it.orders.give(cut).await.unwrap().lists - lists;
    it.note("lists during the last cuts", "lists", f64::from(u32::try_from(more).unwrap()));
    it.unharmed().await.unwrap();
    it.over(BOUND).await.unwrap();
}

/// Every watch is refused as too old, for ever: it is lived with by lists, and not by a storm of them.
#[tokio::test]
async fn an_apiserver_that_forgets_every_place_is_listed_and_not_stormed() {
    let mut it = Scene::up("410").await.unwrap();
    let gone = Faults { watches_gone: true, ..Faults::default() };
    it.hurt(gone, 10).await.unwrap();
    it.comes("a1").await.unwrap();
    let before = it.orders.give(gone).await.unwrap().lists;
    pass(Duration::from_secs(10)).await;
    let lists = it.orders.give(gone).await.unwrap().lists - before;
    // Each after a longer pause than the one before.
    let lists = f64::from(u32::try_from(lists).unwrap());
    it.claim("lists in 10 s, of seven kinds", "lists", lists, Target::AtMost(60.0));
    it.comes("a2").await.unwrap();
    it.unharmed().await.unwrap();
    it.over(BOUND).await.unwrap();
}

/// 429, 500 and 503 to everything, also as a reign begins.
#[tokio::test]
async fn an_apiserver_that_refuses_everything_is_asked_again() {
    let mut it = Scene::up("429, 500, 503").await.unwrap();
    for (index, status) in [429, 500, 503].into_iter().enumerate() {
        let refused = Faults { status: Some(status), ..Faults::default() };
        it.hurt(refused, 10).await.unwrap();
        it.restart().await.unwrap();
        let name = format!("a{index}");
        it.make(&name).await.unwrap();
        it.hurt(refused, 2).await.unwrap();
        it.unharmed().await.unwrap();
        it.order(Faults::default()).await.unwrap();
        it.has_come(&name).await.unwrap();
    }
    it.over(BOUND).await.unwrap();
}

/// A list that breaks off, one that never ends, and one that is refused half way tell nothing, and
/// above all not that something is absent.
#[tokio::test]
async fn a_list_that_is_not_whole_tells_nothing() {
    let mut it = Scene::up("lists that are not whole").await.unwrap();
    let kinds = [ListFault::Cut, ListFault::Endless, ListFault::RefusedHalfWay];
    for (index, fault) in kinds.into_iter().enumerate() {
        let broken = Faults { lists: Some(fault), ..Faults::default() };
        it.order(broken).await.unwrap();
        it.restart().await.unwrap();
        let name = format!("a{index}");
        it.make(&name).await.unwrap();
        it.hurt(broken, 12).await.unwrap();
        it.unharmed().await.unwrap();
        let said = janitor(&it.lab).await.unwrap();
        assert_eq!(said["sightings"], serde_json::json!([]), "{fault:?}: a doubt from half a list");
        if fault == ListFault::Endless {
            endless(&mut it, broken).await.unwrap();
        }
        it.order(Faults::default()).await.unwrap();
        it.has_come(&name).await.unwrap();
    }
    it.over(BOUND).await.unwrap();
}

/// What goes round for ever is noticed, and asked for with pauses.
async fn endless(it: &mut Scene, broken: Faults) -> Result<()> {
    let before = it.orders.give(broken).await?.lists;
    pass(Duration::from_secs(5)).await;
    let pages = it.orders.give(broken).await?.lists - before;
    let pages = f64::from(u32::try_from(pages)?);
    it.claim("pages in 5 s of lists without an end", "pages", pages, Target::AtMost(150.0));
    Ok(())
}

/// Whole lists, as far as anybody can see, without every other object: twice, a minute apart, as the
/// double proof wants it. Node 2 is not in them, and neither is any of its pods; but its agent lives,
/// and `web` is plugged in there.
#[tokio::test]
async fn lists_that_lie_twice_free_nothing_that_is_plugged_in() {
    let mut it = Scene::up("lists that lie").await.unwrap();
    it.order(Faults { lists: Some(ListFault::Half), ..Faults::default() }).await.unwrap();
    it.restart().await.unwrap();
    wait_until(SOON, "the first list's doubts", async || {
        let said = janitor(&it.lab).await?;
        let doubts = said["sightings"].as_array().map_or(0, Vec::len);
        ensure!(doubts >= 3, "{said}");
        Ok(())
    })
    .await
    .unwrap();
    it.unharmed().await.unwrap();
    // A pod that was announced and is not plugged in may end by two such lists and its node's word.
    wait_until(DOUBLE_PROOF, "the second list", async || {
        let stored = stored(&it.lab).await?;
        ensure!(!stored.contains_key("shop/p0"), "{stored:?}");
        Ok(())
    })
    .await
    .unwrap();
    let plugged: Vec<String> = it.plugged.iter().map(|pod| pod.name.to_string()).collect();
    it.given.retain(|pod, _| plugged.contains(pod));
    // Node 2 has to be missed twice as well, and its status may have been written in between.
    wait_until(DOUBLE_PROOF, "node 2 to be asked for by its name", async || {
        it.unharmed().await?;
        let log = std::fs::read_to_string(it.lab.member(1)?.dir().join("atolld.log"))?;
        let said = |line: &str| line.contains("lists lie") && line.contains("node n2");
        ensure!(log.lines().any(said), "it was not");
        Ok(())
    })
    .await
    .unwrap();
    it.unharmed().await.unwrap();
    // The truth, and whoever it was kept from comes again.
    it.order(Faults::default()).await.unwrap();
    it.restart().await.unwrap();
    for index in 0..4 {
        it.has_come(&format!("p{index}")).await.unwrap();
    }
    it.over(2 * DOUBLE_PROOF + BOUND).await.unwrap();
}
