//! Southbounds that are copies of the serving one.

use crate::*;

/// A member that copies the southbound of `active`.
pub(crate) async fn copying(store: &Store, active: &Member) -> Member {
    let mut member = Member::without_projection();
    member.project(store);
    member.central.set_role(CentralRole::Copy(format!("tcp:{}", active.sb_address())));
    member.reaches("a copy", |status| status.copying && status.healthy).await;
    member
}

/// What only a southbound knows: nothing in the store or in the northbound says it.
pub(crate) fn runtime(member: &Member) -> Vec<String> {
    [
        ("Datapath_Binding", "_uuid,tunnel_key"),
        ("Port_Binding", "_uuid,logical_port,tunnel_key,chassis"),
        ("Chassis", "_uuid,name,encaps"),
        ("Encap", "_uuid,ip"),
        ("MAC_Binding", "_uuid,logical_port,ip,mac"),
    ]
    .iter()
    .flat_map(|(table, columns)| column(&member.sb(), table, columns))
    .collect()
}

/// As a node's ovn-controller writes it: a chassis, its claim of a port, and a neighbour it learnt.
pub(crate) fn claim(sb: &Endpoint) {
    sbctl(sb, &["chassis-add", "chassis-1", "geneve", "172.30.0.101"]);
    sbctl(sb, &["lsp-bind", "a.default", "chassis-1"]);
    let datapath = sbctl(
        sb,
        &["--bare", "--columns=_uuid", "find", "Datapath_Binding", "external_ids:name=ovn-cluster"],
    );
    let datapath = format!("datapath={datapath}");
    let row = ["logical_port=ovn-cluster-join", "ip=100.64.0.9", "mac=\"0a:00:00:00:00:01\""];
    sbctl(sb, &[&["create", "MAC_Binding", &datapath][..], &row].concat());
}

#[tokio::test]
async fn a_copy_that_takes_over_has_all_that_the_nodes_have_written() {
    let mut store = Store::with_pods();
    let first = Member::serving(&store).await;
    claim(&first.sb());
    let second = copying(&store, &first).await;
    let before = runtime(&first);
    assert!(before.iter().any(|line| line.contains("172.30.0.101")), "{before:#?}");
    eventually("the same contents", async || (runtime(&second) == before).then_some(())).await;
    assert!(!is_listening(second.sb_address()), "it is nobody's but its member's");
    first.end().await;

    second.central.set_role(CentralRole::Active);
    second.reaches("serving", |status| status.serving && status.healthy && !status.copying).await;
    assert_eq!(runtime(&second), before);
    assert!(is_listening(second.sb_address()));
    // It goes on from there by itself.
    store.apply(vec![delete_pod("default/b")]);
    eventually("one binding less", async || {
        let ports = column(&second.sb(), "Port_Binding", "logical_port");
        (!ports.contains(&"b.default".to_owned())).then_some(())
    })
    .await;
    second.end().await;
}

/// The one that served copies from the next: what it alone had is not true any more.
#[tokio::test]
async fn roles_change_hands_and_back() {
    let store = Store::with_pods();
    let first = Member::serving(&store).await;
    let second = copying(&store, &first).await;
    claim(&first.sb());
    let mut members = [&first, &second];
    for _ in 0..3 {
        let [serves, copies] = members;
        let same = async || (runtime(serves) == runtime(copies)).then_some(());
        eventually("the same contents", same).await;
        let before = runtime(serves);
        copies.central.set_role(CentralRole::Active);
        serves.central.set_role(CentralRole::Copy(format!("tcp:{}", copies.sb_address())));
        copies.reaches("serving", |status| status.serving && status.healthy).await;
        serves.reaches("a copy", |status| status.copying && status.healthy).await;
        assert_eq!(runtime(copies), before);
        members.reverse();
    }
    first.end().await;
    second.end().await;
}

#[tokio::test]
async fn a_copy_without_its_original_keeps_what_it_has() {
    let store = Store::with_pods();
    let first = Member::serving(&store).await;
    claim(&first.sb());
    let second = copying(&store, &first).await;
    let before = runtime(&first);
    eventually("the same contents", async || (runtime(&second) == before).then_some(())).await;
    first.end().await;
    let lost = async || {
        let log = fs::read_to_string(second.file("sb.log")).unwrap();
        (log.matches("connection attempt failed").count() >= 2).then_some(())
    };
    eventually("its server has tried to connect again, twice", lost).await;
    assert_eq!(runtime(&second), before);
    second.reaches("healthy", |status| status.healthy).await;
    second.end().await;
}

#[tokio::test]
async fn a_copy_whose_server_dies_is_a_copy_again() {
    let store = Store::with_pods();
    let first = Member::serving(&store).await;
    let second = copying(&store, &first).await;
    second.kill("sb").await;
    claim(&first.sb());
    second.reaches("a copy", |status| status.copying && status.healthy).await;
    let same = async || (runtime(&second) == runtime(&first)).then_some(());
    eventually("the same contents", same).await;
    first.end().await;
    second.end().await;
}
