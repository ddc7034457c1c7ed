//! A southbound that is lost with all its copies.

use crate::copies::{claim, copying, runtime};
use crate::*;

/// Ends the databases and removes their files, as somebody who clears the directory does. northd goes
/// first: when a database has ended, its supervisor ends it by itself.
fn wipe(member: &Member) {
    let pids: Vec<_> = ["northd", "nb", "sb"]
        .into_iter()
        .filter_map(|name| pid(&member.file(&format!("{name}.pid"))))
        .collect();
    for name in ["nb.db", "sb.db"] {
        fs::remove_file(member.file(name)).unwrap();
    }
    pids.into_iter().for_each(|pid| signal(pid, "KILL"));
}

/// With other identities every node would make its tunnels and flows anew.
#[tokio::test]
async fn a_new_southbound_has_what_the_nodes_had_in_the_lost_one() {
    let store = Store::with_pods();
    let member = Member::serving(&store).await;
    claim(&member.sb());
    let before = runtime(&member);
    wipe(&member);
    member.reaches("away", |status| !status.serving).await;
    member.reaches("serving again", |status| status.serving && status.healthy).await;
    assert_eq!(runtime(&member), before);
    member.end().await;
}

/// The one that serves next has lost its copy too, soon after it had one.
#[tokio::test]
async fn whoever_has_just_become_a_copy_knows_what_the_nodes_had() {
    let store = Store::with_pods();
    let first = Member::serving(&store).await;
    claim(&first.sb());
    let second = copying(&store, &first).await;
    let before = runtime(&first);
    assert_eq!(runtime(&second), before);
    wipe(&first);
    wipe(&second);
    first.end().await;
    second.central.set_role(CentralRole::Active);
    second.reaches("serving", |status| status.serving && status.healthy).await;
    assert_eq!(runtime(&second), before);
    second.end().await;
}

/// All members are started anew on empty directories, but for what they keep themselves.
#[tokio::test]
async fn a_member_that_was_started_anew_still_knows_what_the_nodes_had() {
    let store = Store::with_pods();
    let member = Member::serving(&store).await;
    claim(&member.sb());
    let before = runtime(&member);
    let kept = member.options.runtime_file.clone();
    eventually("the claim on the disk", async || {
        let text = fs::read_to_string(&kept).unwrap_or_default();
        text.contains("172.30.0.101").then_some(())
    })
    .await;
    let (options, dir) = (member.options.clone(), member.dir);
    member.central.shutdown().await;
    member.projector.unwrap().shutdown().await;
    fs::remove_dir_all(&options.run_dir).unwrap();

    let central = Central::start(options.clone()).unwrap();
    let mut member = Member { central, projector: None, options, dir };
    member.project(&store);
    member.central.set_role(CentralRole::Active);
    member.reaches("serving", |status| status.serving && status.healthy).await;
    assert_eq!(runtime(&member), before);
    member.end().await;
}
