//! Databases that do not answer: who stands still is given up, who is at work is not.

use std::fs;
use std::time::{Duration, Instant};

use atoll_ovn_sync::CentralRole;
use atoll_ovsdb::{Client, Endpoint, Operation, Options, Row, unixctl};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::common::{Store, eventually, is_listening};
use crate::{Member, pid, signal};

/// Rows of a transaction that keeps `ovsdb-server` busy for some seconds.
const WORK: usize = 1_000_000;

/// Processor time for which a server that reads that much was silent: 1.2 s; one that writes it: 4.8 s.
const READS_AT_MOST: Duration = Duration::from_millis(1_500);

/// For whoever gave the work, however little of a processor there is for it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Held by whoever puts a server to work: two at once take each other's processor, and three times
/// as long.
static WORKS: Mutex<()> = Mutex::const_new(());

/// Gives a member's southbound server something to do for some seconds, during which it answers
/// nobody.
async fn put_to_work(member: &Member) -> JoinHandle<()> {
    let remote = Endpoint::Unix(member.file("sb.sock"));
    let patient =
        Options { call_timeout: PATIENCE, inactivity_timeout: PATIENCE, ..Options::default() };
    let client = Client::connect_with(&remote, &patient).await.unwrap();
    let rows = vec![Operation::insert("HA_Chassis", Row::new()); WORK];
    tokio::spawn(async move { drop(client.transact("OVN_Southbound", &rows).await.unwrap()) })
}

async fn is_silent(member: &Member, time: Duration) -> bool {
    let socket = member.file("sb.ctl");
    timeout(time, unixctl::command(&socket, "version", &[])).await.is_err()
}

/// Whether the server computes for so long without an answer, however long others keep it from that.
async fn is_silent_at_work(member: &Member, work: Duration) -> bool {
    let server = pid(&member.file("sb.pid")).unwrap();
    let begun = processor_time(server);
    let worked = eventually("an answer, or work", async || {
        (processor_time(server) - begun >= work).then_some(())
    });
    let socket = member.file("sb.ctl");
    let answered = async { while unixctl::command(&socket, "version", &[]).await.is_err() {} };
    tokio::select! {
        () = answered => false,
        () = worked => true,
    }
}

/// What a process has had of processors, in its own programs and in the kernel.
fn processor_time(pid: i32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks = fields.split_whitespace().skip(11).take(2).map(|it| it.parse::<u64>().unwrap());
    // The kernel's unit here is always a hundredth of a second.
    Duration::from_millis(10 * ticks.sum::<u64>())
}

/// A database that accepts connections and does nothing is no use to anybody.
#[tokio::test]
async fn a_wedged_database_is_found_by_a_write() {
    let store = Store::with_pods();
    let member = Member::serving(&store).await;
    for name in ["nb", "sb"] {
        let stopped = pid(&member.file(&format!("{name}.pid"))).unwrap();
        signal(stopped, "STOP");
        member.reaches("unhealthy", |status| !status.healthy).await;
        signal(stopped, "CONT");
        member.reaches("healthy", |status| status.healthy && status.serving).await;
    }
    member.end().await;
}

/// The command is carried out when the server goes on, and nobody hears of it.
#[tokio::test]
async fn a_database_that_was_closed_without_an_answer_is_opened_again() {
    let store = Store::with_pods();
    let member = Member::serving(&store).await;
    let address = member.sb_address();
    let server = pid(&member.file("sb.pid")).unwrap();
    signal(server, "STOP");
    member.central.set_role(CentralRole::Idle);
    // Also the command to close it was given by then.
    member.reaches("unhealthy", |status| !status.healthy).await;
    signal(server, "CONT");
    eventually("closed", async || (!is_listening(address)).then_some(())).await;
    member.central.set_role(CentralRole::Active);
    member.reaches("serving", |status| status.serving && status.healthy).await;
    assert!(is_listening(address));
    member.end().await;
}

/// What many nodes and northd have to write takes a database longer than any answer may. Nobody
/// else would be done sooner.
#[tokio::test]
async fn a_database_that_is_at_work_is_not_given_up() {
    let _alone = WORKS.lock().await;
    let store = Store::with_pods();
    let member = Member::serving(&store).await;
    let mut status = member.central.status();
    let begun = Instant::now();
    let work = put_to_work(&member).await;
    let fell = async {
        // Said once, whatever comes after.
        status.wait_for(|status| !status.healthy).await.map(|status| status.clone()).unwrap()
    };
    tokio::select! {
        done = work => done.unwrap(),
        status = fell => panic!("{status:?}"),
    }
    // Longer than two questions may take.
    assert!(begun.elapsed() > Duration::from_secs(5), "{:?} of work", begun.elapsed());
    member.end().await;
}

/// All nodes come at the moment when it opens, and it is at work for them: it serves, and is not
/// closed for want of an answer.
#[tokio::test]
async fn a_database_that_opens_while_it_is_at_work_serves() {
    let _alone = WORKS.lock().await;
    let store = Store::with_pods();
    let member = Member::serving(&store).await;
    let address = member.sb_address();
    // What has served before needs nothing from northd before it opens.
    member.kill("sb").await;
    member.reaches("down", |status| !status.sb_running).await;
    member.reaches("serving", |status| status.serving && status.healthy).await;
    member.central.set_role(CentralRole::Idle);
    eventually("closed", async || (!is_listening(address)).then_some(())).await;
    let work = put_to_work(&member).await;
    // It answers now and then while it reads what it has to do.
    while !is_silent_at_work(&member, READS_AT_MOST).await {}
    member.central.set_role(CentralRole::Active);
    member.reaches("serving", |status| status.serving).await;
    assert!(is_silent(&member, Duration::from_millis(200)).await, "served once it was done");
    work.await.unwrap();
    eventually("open", async || is_listening(address).then_some(())).await;
    let status = member.reaches("whole", |status| status.serving && status.healthy).await;
    let error = status.last_error.unwrap_or_default();
    assert!(!error.contains("does not listen"), "closed meanwhile: {error}");
    member.end().await;
}
