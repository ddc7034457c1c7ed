//! What an apiserver may answer, and what is told of it. Time is paused: pauses cost nothing.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};

use super::{FIRST_RELIST_PAUSE, Follower, Guard, LONGEST_RELIST_PAUSE, RESUMES_MAX, Seen};
use crate::fake::{Asked, Fake, apiserver};
use crate::objects::{self, Pod};

fn object(name: &str, version: u64) -> Value {
    let version = version.to_string();
    json!({ "metadata": { "namespace": "shop", "name": name, "resourceVersion": version } })
}

/// A page of a list, and where the next one is.
fn page(names: &[&str], version: u64, next: &str) -> (u16, Vec<Value>) {
    let items: Vec<Value> = names.iter().map(|name| object(name, version)).collect();
    let metadata = json!({ "resourceVersion": version.to_string(), "continue": next });
    (
        200,
        vec![json!({ "apiVersion": "v1", "kind": "PodList", "metadata": metadata,
                       "items": items })],
    )
}

fn event(kind: &str, object: Value) -> Value {
    json!({ "type": kind, "object": object })
}

fn status(code: u16) -> Value {
    json!({ "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
            "message": "no", "reason": "Expired", "code": code })
}

fn failed(code: u16) -> (u16, Vec<Value>) {
    (code, vec![status(code)])
}

/// What was told in one line each, and what the apiserver was asked; the watch that comes next may
/// be asked for already.
struct Told {
    lines: Vec<String>,
    /// When each was told, since the beginning.
    at: Vec<Duration>,
    asked: Vec<String>,
}

/// Follows pods until so many things were told, or this was asked.
async fn follow(answers: Vec<(u16, Vec<Value>)>, count: usize, relist: &Arc<Notify>) -> Told {
    follow_as(answers, count, relist, None).await
}

/// As [`follow`], of an apiserver that has to be this one.
async fn follow_as(
    answers: Vec<(u16, Vec<Value>)>,
    count: usize,
    relist: &Arc<Notify>,
    apiserver_is: Option<&str>,
) -> Told {
    let (client, asked) = apiserver(answers);
    let guard = apiserver_is.map(|uid| Guard::new(client.clone(), uid.parse().unwrap()));
    let (out, mut seen) = mpsc::channel(8);
    let wrap: fn(Seen<Pod>) -> String = line;
    let api = kube::Api::all(client);
    let (store, relist) = (Fake::new(), relist.clone());
    let follower = Follower { api, store, guard, relist, out, wrap };
    let begun = tokio::time::Instant::now();
    let lines = async {
        let mut lines = Vec::new();
        while lines.len() < count {
            lines.push((seen.recv().await.unwrap(), begun.elapsed()));
        }
        lines.into_iter().unzip()
    };
    tokio::select! {
        () = follower.run() => panic!("nobody stopped listening"),
        (lines, at) = lines => Told { lines, at, asked: parts(&asked) },
    }
}

fn line(seen: Seen<Pod>) -> String {
    let name = |pod: &Pod| objects::name(&pod.metadata).to_owned();
    match seen {
        Seen::List(list) => {
            let names: Vec<String> = list.items.iter().map(name).collect();
            let heard = match list.heard {
                heard if heard > list.resource_version => format!(" after {heard}"),
                _ => String::new(),
            };
            format!("list {} at {}{heard}", names.join(" "), list.resource_version)
        }
        Seen::Put(pod) => format!("put {}", name(&pod)),
        Seen::Gone(pod) => format!("gone {}", name(&pod)),
    }
}

/// Of each request what differs.
fn parts(asked: &Asked) -> Vec<String> {
    let of_request = |text: &String| {
        let query = text.split_once('?').map_or("", |(_, query)| query);
        let told = |part: &&str| {
            let (key, value) = part.split_once('=').unwrap_or_default();
            ["watch", "continue", "resourceVersion"].contains(&key) && !value.is_empty()
        };
        query.split('&').filter(told).collect::<Vec<_>>().join("&")
    };
    asked.all().iter().map(of_request).collect()
}

async fn told(answers: Vec<(u16, Vec<Value>)>, count: usize) -> Told {
    follow(answers, count, &Arc::default()).await
}

#[tokio::test(start_paused = true)]
async fn a_list_of_several_pages_is_told_once_and_whole() {
    let told = told(vec![page(&["a", "b"], 5, "more"), page(&["c"], 5, "")], 1).await;
    assert_eq!(told.lines, ["list a b c at 5"]);
    assert_eq!(told.asked[..2], ["", "continue=more"]);
}

/// Half a list would be the end of whatever is in the other half.
#[tokio::test(start_paused = true)]
async fn a_list_that_breaks_off_is_not_told() {
    for code in [410, 500, 503] {
        let answers = vec![page(&["a"], 5, "more"), failed(code), page(&["a", "b"], 6, "")];
        let told = told(answers, 1).await;
        assert_eq!(told.lines, ["list a b at 6"], "{code}");
        assert_eq!(told.asked[..3], ["", "continue=more", ""], "from the beginning again");
    }
}

/// A token that never ends, from an apiserver or a cache before it that is broken.
#[tokio::test(start_paused = true)]
async fn a_list_that_goes_round_is_not_told_and_ends() {
    let rounds = [
        vec![page(&["a"], 5, "x"), page(&["b"], 5, "y"), page(&["a"], 5, "z")],
        vec![page(&[], 5, "w"), page(&[], 5, "x"), page(&[], 5, "x")],
    ];
    for round in rounds {
        let answers = round.into_iter().chain([page(&["a", "b"], 6, "")]).collect();
        let told = told(answers, 1).await;
        assert_eq!(told.lines, ["list a b at 6"]);
        assert_eq!(told.asked[3], "", "from the beginning again");
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_goes_on_where_it_was() {
    let bookmark = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": {
        "resourceVersion": "9", "annotations": {} } });
    let answers = vec![
        page(&["a"], 5, ""),
        (200, vec![event("ADDED", object("b", 6)), event("MODIFIED", object("a", 7))]),
        (200, vec![event("DELETED", object("b", 8)), event("BOOKMARK", bookmark)]),
        (200, vec![event("ADDED", object("c", 10))]),
    ];
    let told = told(answers, 5).await;
    assert_eq!(told.lines, ["list a at 5", "put b", "put a", "gone b", "put c"]);
    let watch = |version: u64| format!("watch=true&resourceVersion={version}");
    assert_eq!(told.asked[..4], [String::new(), watch(5), watch(7), watch(9)]);
}

#[tokio::test(start_paused = true)]
async fn a_place_that_is_not_known_any_more_is_made_good_by_a_list() {
    for expired in [failed(410), (200, vec![event("ERROR", status(410))])] {
        let told = told(vec![page(&["a"], 5, ""), expired, page(&["b"], 90, "")], 2).await;
        assert_eq!(told.lines, ["list a at 5", "list b at 90"]);
    }
}

/// An apiserver that was restored does not know the future that it is asked for, and does not say
/// 410 to that.
#[tokio::test(start_paused = true)]
async fn a_place_that_cannot_be_resumed_for_long_is_made_good_by_a_list() {
    let resumes = usize::try_from(RESUMES_MAX).unwrap() + 1;
    let mut answers = vec![page(&["a"], 500, "")];
    answers.extend((0..resumes).map(|_| failed(504)));
    answers.push(page(&["a"], 20, ""));
    let told = told(answers, 2).await;
    assert_eq!(told.lines, ["list a at 500", "list a at 20 after 500"]);
    assert_eq!(
        told.asked.iter().filter(|it| it.starts_with("watch=true&resourceVersion=500")).count(),
        resumes
    );
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_asked_for_is_made_although_the_watch_goes_on() {
    let relist = Arc::new(Notify::new());
    relist.notify_one();
    let answers = vec![page(&["a"], 5, ""), (200, Vec::new()), page(&["a"], 6, "")];
    let told = follow(answers, 2, &relist).await;
    assert_eq!(told.lines, ["list a at 5", "list a at 6"]);
}

/// A page, and a watch from it that is refused.
fn refused(version: u64, watch: (u16, Vec<Value>)) -> [(u16, Vec<Value>); 2] {
    [page(&["a"], version, ""), watch]
}

/// Found with a real apiserver behind a broken proxy: each list is all pods of the cluster, and it
/// was asked for seven times a second, by each kind.
#[tokio::test(start_paused = true)]
async fn lists_are_made_ever_more_seldom_while_every_watch_is_refused() {
    let late = (200, vec![event("ADDED", object("a", 6)), event("ERROR", status(410))]);
    for (refusal, lines) in [(failed(410), 1), (late, 2)] {
        let answers = (0..20).flat_map(|it| refused(5 + it, refusal.clone())).collect();
        let told = told(answers, 12 * lines).await;
        let lists: Vec<Duration> = told.at.iter().step_by(lines).copied().collect();
        assert_eq!(lists[1], lists[0], "a place that was good once is made good at once");
        assert!(told.lines.iter().step_by(lines).all(|it| it.starts_with("list a at ")));
        let pauses: Vec<Duration> = lists.windows(2).map(|it| it[1] - it[0]).collect();
        // 0.5, 1, 2, 4, 8, 16 and 30 seconds, or half of it.
        assert!(pauses[4] >= Duration::from_secs(2), "{pauses:?}");
        assert!(pauses[7..].iter().all(|it| *it >= LONGEST_RELIST_PAUSE / 2), "{pauses:?}");
        assert!(pauses.iter().all(|it| *it <= LONGEST_RELIST_PAUSE), "{pauses:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_before_a_watch_that_lived_do_not_count_any_more() {
    let mut answers: Vec<_> = (0..8).flat_map(|it| refused(5 + it, failed(410))).collect();
    let lived = (200, vec![json!(60), event("ERROR", status(410))]);
    answers.extend(refused(20, lived));
    answers.extend(refused(30, failed(410)));
    answers.extend([page(&["a"], 40, "")]);
    let told = told(answers, 11).await;
    assert_eq!(told.lines.last().unwrap(), "list a at 40");
    assert_eq!(told.at[9] - told.at[8], Duration::from_secs(60), "at once, when it ended");
    assert!(told.at[10] - told.at[9] <= FIRST_RELIST_PAUSE, "as if none had been: {:?}", told.at);
}

/// Somebody in between closes whatever it is asked.
#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_at_once_is_not_asked_for_again_at_once() {
    let mut answers = vec![page(&["a"], 5, "")];
    answers.extend((0..=RESUMES_MAX).map(|_| (200, Vec::new())));
    answers.push(page(&["a"], 6, ""));
    let told = told(answers, 2).await;
    assert_eq!(told.lines, ["list a at 5", "list a at 6"]);
    assert!(told.at[1] >= Duration::from_secs(10), "{:?}", told.at);
}

/// The answer to the question who it is, and how new what it has is.
fn who(uid: &str, version: u64) -> (u16, Vec<Value>) {
    let item = json!({ "metadata": { "name": "kube-system", "uid": uid } });
    let metadata = json!({ "resourceVersion": version.to_string() });
    (200, vec![json!({ "metadata": metadata, "items": [item] })])
}

/// Its etcd was restored, and it does not refuse the place: it would say nothing before it has come
/// there again.
#[tokio::test(start_paused = true)]
async fn a_place_in_the_future_is_made_good_by_a_list() {
    let silent = (200, vec![json!(100)]);
    let answers = vec![
        page(&["a"], 500, ""),
        who("own", 500),
        silent,
        who("own", 20),
        page(&["b"], 20, ""),
        who("own", 20),
    ];
    let told = follow_as(answers, 2, &Arc::default(), Some("own")).await;
    assert_eq!(told.lines, ["list a at 500", "list b at 20 after 500"]);
    assert!(told.at[1] < Duration::from_secs(1), "{:?}", told.at);
}

/// Whoever resumes the janitor after that must not have it stopped by each later list.
#[tokio::test(start_paused = true)]
async fn that_an_apiserver_went_back_is_told_once() {
    let answers = vec![
        page(&["a"], 500, ""),
        failed(410),
        page(&["a"], 20, ""),
        (200, vec![event("ADDED", object("b", 25)), event("ERROR", status(410))]),
        page(&["a", "b"], 30, ""),
    ];
    let told = told(answers, 4).await;
    let lines = ["list a at 500", "list a at 20 after 500", "put b", "list a b at 30"];
    assert_eq!(told.lines, lines);
}

/// An address that leads to another cluster from one moment to the next.
#[tokio::test(start_paused = true)]
async fn nothing_of_another_apiserver_is_told() {
    let foreign = (200, vec![event("ADDED", object("x", 900)), json!(100)]);
    let answers = vec![
        page(&["x"], 800, ""),
        who("other", 800),
        page(&["a"], 5, ""),
        who("own", 5),
        foreign,
        who("other", 900),
        (200, vec![event("ADDED", object("b", 6))]),
        who("own", 6),
    ];
    let told = follow_as(answers, 2, &Arc::default(), Some("own")).await;
    assert_eq!(told.lines, ["list a at 5", "put b"]);
}
