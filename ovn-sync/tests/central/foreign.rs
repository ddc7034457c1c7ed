//! What operators keep in the serving northbound.

use atoll_ovn_sync::{Carrier, ForeignSource};
use common::nbctl;

use crate::*;

const SWITCH: &str = "ovn-default";

/// A member's carrier beside it.
fn carrier(member: &Member, source: ForeignSource) -> Carrier {
    let carrier = Carrier::start(member.nb(), None).unwrap();
    carrier.set_source(source);
    carrier
}

/// One that copies from `serving`, when its own database is projected.
async fn follower(store: &Store, serving: &Member) -> (Member, Carrier) {
    let mut member = Member::without_projection();
    member.project(store);
    let carrier = carrier(&member, from(serving));
    (member, carrier)
}

fn from(member: &Member) -> ForeignSource {
    ForeignSource::Member(format!("tcp:{}", member.nb_address()))
}

/// What others can have written, beside what we did; `None` while the database does not answer.
fn contents(member: &Member) -> Option<Vec<String>> {
    let tables = [
        ("ACL", "_uuid,action,direction,match,priority,name,log"),
        ("Load_Balancer", "_uuid,name,vips,protocol"),
        ("DNS", "_uuid,records"),
        ("NAT", "_uuid,type,external_ip,logical_ip"),
        ("Address_Set", "_uuid,name,addresses"),
        ("Logical_Switch_Port", "_uuid,name,type,addresses,options"),
        ("Logical_Switch", "_uuid,name,acls,load_balancer,dns_records,ports"),
        ("Logical_Router", "_uuid,name,nat,load_balancer"),
    ];
    let mut lines = Vec::new();
    for (table, columns) in tables {
        let mut list = Command::new("ovn-nbctl");
        list.arg(format!("--db={}", member.nb())).args(["--format=csv", "--no-headings"]);
        list.args([&format!("--columns={columns}"), "list", table]);
        let listed = list.output().unwrap();
        let rows = String::from_utf8(listed.stdout).unwrap();
        lines.extend(rows.lines().map(|row| format!("{table}: {row}")));
        if !listed.status.success() {
            return None;
        }
    }
    lines.sort();
    Some(lines)
}

fn has(member: &Member, text: &str) -> bool {
    contents(member).unwrap().iter().any(|line| line.contains(text))
}

/// As a person would, by hand: a rule on a switch, a balancer, names, a set, a port of their own on
/// our switch, and an address translation on our router.
fn write_by_hand(nb: &Endpoint) {
    nbctl(nb, &["acl-add", SWITCH, "to-lport", "500", "ip4.src == 192.0.2.1", "drop"]);
    nbctl(nb, &["lb-add", "theirs", "192.0.2.10:80", "10.16.0.9:80"]);
    nbctl(nb, &["ls-lb-add", SWITCH, "theirs"]);
    nbctl(nb, &["create", "Address_Set", "name=theirs", "addresses=192.0.2.1"]);
    nbctl(
        nb,
        &["lsp-add", SWITCH, "theirs-port", "--", "lsp-set-type", "theirs-port", "localport"],
    );
    nbctl(nb, &["lr-nat-add", "ovn-cluster", "dnat_and_snat", "192.0.2.20", "10.16.0.20"]);
    nbctl(
        nb,
        &[
            "--id=@names",
            "create",
            "DNS",
            "records:a=192.0.2.1",
            "--",
            "add",
            "Logical_Switch",
            SWITCH,
            "dns_records",
            "@names",
        ],
    );
}

async fn equal(one: &Member, other: &Member) {
    let both = || Some((contents(one)?, contents(other)?));
    let same = async || both().is_some_and(|(one, other)| one == other).then_some(());
    eventually("the same rows of others", same).await;
}

async fn is_equal(carrier: &Carrier) {
    let mut status = carrier.status();
    let waited = tokio::time::timeout(DEADLINE, status.wait_for(|status| status.equal)).await;
    let is_equal = waited.is_ok();
    assert!(is_equal, "{:?}", carrier.status().borrow());
}

#[tokio::test]
async fn what_others_wrote_comes_along_and_goes_again() {
    let store = Store::with_pods();
    let first = Member::serving(&store).await;
    let serving = carrier(&first, ForeignSource::Own);
    let (second, following) = follower(&store, &first).await;
    is_equal(&following).await;
    equal(&first, &second).await;
    let nothing = contents(&second);

    write_by_hand(&first.nb());
    equal(&first, &second).await;
    let more = contents(&second).unwrap().len() - nothing.unwrap().len();
    assert_eq!(more, 6, "a rule, a balancer, names, a set, a port and a translation");
    become_rows_of_ours(&second, &store).await;

    nbctl(
        &first.nb(),
        &["set", "Load_Balancer", "theirs", "vips={\"192.0.2.11:80\"=\"10.16.0.8:80\"}"],
    );
    nbctl(&first.nb(), &["acl-del", SWITCH]);
    nbctl(&first.nb(), &["lsp-del", "theirs-port"]);
    equal(&first, &second).await;
    assert!(!has(&second, "theirs-port") && !has(&second, "192.0.2.10:80"));
    assert!(has(&second, "192.0.2.11:80"));
    // What is only here is nobody's: the serving one decides.
    nbctl(&second.nb(), &["create", "Address_Set", "name=stray"]);
    equal(&first, &second).await;
    assert!(!has(&first, "stray"));

    serving.shutdown().await;
    following.shutdown().await;
    first.end().await;
    second.end().await;
}

/// Our own rows are as they should be, whatever others added.
async fn become_rows_of_ours(member: &Member, store: &Store) {
    let wanted = store.rows();
    eventually("our rows", async || {
        let there = rows_at(&member.nb()).await;
        wanted.keys().all(|key| there.contains_key(key)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_next_that_serves_has_it_and_a_database_made_anew_gets_it_back() {
    let store = Store::with_pods();
    let first = Member::serving(&store).await;
    let at_first = carrier(&first, ForeignSource::Own);
    let (second, at_second) = follower(&store, &first).await;
    is_equal(&at_second).await;
    write_by_hand(&first.nb());
    equal(&first, &second).await;
    let all = contents(&first);
    assert!(has(&first, "theirs-port"));

    // The serving member's databases are made anew: nobody deleted anything.
    first.central.orders().rebuild().await.unwrap();
    eventually("what others wrote", async || (contents(&first) == all).then_some(())).await;
    assert_eq!(contents(&second), all);
    is_equal(&at_second).await;

    // The other one serves; the first comes back with nothing.
    first.reaches("serving again", |status| status.serving && status.healthy).await;
    second.central.set_role(CentralRole::Active);
    at_second.set_source(ForeignSource::Own);
    second.reaches("serving", |status| status.serving && status.healthy).await;
    first.central.set_role(CentralRole::Idle);
    at_first.set_source(from(&second));
    first.central.orders().rebuild().await.unwrap();
    eventually("what others wrote", async || (contents(&first) == all).then_some(())).await;
    assert_eq!(contents(&second), all);

    at_first.shutdown().await;
    at_second.shutdown().await;
    first.end().await;
    second.end().await;
}

#[tokio::test]
async fn a_name_that_is_taken_stays_with_who_has_it() {
    let store = Store::with_pods();
    let first = Member::serving(&store).await;
    let (second, at_second) = follower(&store, &first).await;
    let at_first = carrier(&first, ForeignSource::Own);
    is_equal(&at_second).await;
    nbctl(&first.nb(), &["create", "Address_Set", "name=theirs", "addresses=192.0.2.1"]);
    equal(&first, &second).await;
    // Anew, and filled by hand under the same name before anybody could give it back.
    drop(at_second);
    first.central.orders().rebuild().await.unwrap();
    first.reaches("serving again", |status| status.serving && status.healthy).await;
    nbctl(&first.nb(), &["create", "Address_Set", "name=theirs", "addresses=192.0.2.2"]);
    let at_second = carrier(&second, from(&first));
    equal(&first, &second).await;
    assert!(has(&second, "192.0.2.2"));
    at_second.shutdown().await;
    at_first.shutdown().await;
    first.end().await;
    second.end().await;
}
