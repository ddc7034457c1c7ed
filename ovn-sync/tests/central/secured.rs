//! Databases that are open with TLS: whom they let in, and what they let nodes do.

use atoll_ovn_sync::{Carrier, ForeignSource};
use atoll_ovsdb::{Options, SessionError, Tls};
use std::io::Read as _;

use crate::common::pki::Pki;
use crate::common::secured::{allowed, prohibited, refusal, sbctl_as, tool};
use crate::copies::{claim, runtime};
use crate::*;

impl Pki {
    /// The member of that name, whose databases are open with TLS.
    fn member(&self, name: &str) -> Member {
        Member::with("127.0.0.1", Some(self.central(name)))
    }
}

impl Member {
    fn ssl(&self) -> String {
        self.central.status().borrow().sb_endpoint.clone()
    }

    fn tls(&self) -> Option<Tls> {
        self.options.tls.as_ref().map(|tls| tls.client.clone())
    }
}

/// What `ovn-controller` writes, and what another node's must not.
#[tokio::test]
async fn a_node_writes_its_own_rows_and_nobody_elses() {
    let pki = Pki::new();
    let member = pki.member("m1").serves(&Store::with_pods()).await;
    let sb = member.ssl();
    assert_eq!(sb, format!("ssl:127.0.0.1:{}", member.options.sb_port));
    let [n1, n2] = ["node/n1", "node/n2"].map(|identity| pki.files(identity));
    for (name, ip, files) in [("n1", "172.30.0.101", &n1), ("n2", "172.30.0.102", &n2)] {
        allowed(&sbctl_as(files, &sb, &["chassis-add", name, "geneve", ip]));
        let private = ["create", "Chassis_Private", &format!("name={name}"), "nb_cfg=1"];
        allowed(&sbctl_as(files, &sb, &private));
    }
    allowed(&sbctl_as(&n1, &sb, &["lsp-bind", "a.default", "n1"]));
    allowed(&sbctl_as(&n1, &sb, &["set", "Chassis", "n1", "external_ids:a=b"]));

    let port = ["--bare", "--columns=_uuid", "find", "Port_Binding", "logical_port=b.default"];
    let port = sbctl(&member.sb(), &port);
    for theirs in [
        &["chassis-add", "n3", "geneve", "172.30.0.103"][..],
        &["set", "Chassis", "n2", "external_ids:a=b"],
        &["chassis-del", "n2"],
        &["set", "Chassis_Private", "n2", "nb_cfg=7"],
        &["destroy", "Port_Binding", &port],
        &["set", "Port_Binding", &port, "tunnel_key=77"],
        &["--all", "destroy", "Logical_Flow"],
        &["set", "SB_Global", ".", "options:a=b"],
        &["--all", "destroy", "RBAC_Role"],
        &["set", "Connection", ".", "target=\"ptcp:6642\""],
    ] {
        prohibited(&theirs.join(" "), &sbctl_as(&n1, &sb, theirs));
    }
    // Not prevented by OVN 23.03, and said in the README: its rules look at the table here.
    allowed(&sbctl_as(&n1, &sb, &["lsp-bind", "b.default", "n1"]));
    member.end().await;
}

/// `ovn-sbctl` changes where and how the southbound listens with one word.
#[tokio::test]
async fn a_listener_that_a_hand_took_away_comes_back() {
    let pki = Pki::new();
    let member = pki.member("m1").serves(&Store::with_pods()).await;
    let get = ["get", "Connection", ".", "target", "role", "inactivity_probe"];
    let before = sbctl(&member.sb(), &get);
    let theirs = SocketAddr::new(member.options.address, own_port());
    for hand in [&["del-connection"][..], &["set", "Connection", ".", "role=\"\""]] {
        sbctl(&member.sb(), hand);
        eventually("the row is as it was", async || {
            let rows = column(&member.sb(), "Connection", "target").len();
            (rows == 1 && sbctl(&member.sb(), &get) == before).then_some(())
        })
        .await;
        let listens = async || is_listening(member.sb_address()).then_some(());
        eventually("it listens", listens).await;
    }
    // One more is an operator's own business.
    let more = [
        "--id=@c",
        "create",
        "Connection",
        &format!("target=\"ptcp:{}:127.0.0.1\"", theirs.port()),
    ];
    let add = ["--", "add", "SB_Global", ".", "connections", "@c"];
    sbctl(&member.sb(), &[&more[..], &add].concat());
    eventually("theirs listens too", async || is_listening(theirs).then_some(())).await;
    assert!(is_listening(member.sb_address()));
    member.end().await;
}

#[tokio::test]
async fn nobody_comes_in_without_a_certificate_of_this_cluster() {
    let (pki, strangers) = (Pki::new(), Pki::new());
    let member = pki.member("m1").serves(&Store::with_pods()).await;
    let stranger = strangers.member("m1");
    let nb = member.central.status().borrow().nb_endpoint.clone();
    for endpoint in [nb, member.ssl()] {
        assert!(matches!(refusal(&endpoint, stranger.tls()).await, SessionError::Theirs(_)));
        let plain = endpoint.replace("ssl:", "tcp:");
        assert!(matches!(refusal(&plain, None).await, SessionError::NotPlaintext));
        let other = sbctl_as(&strangers.files("node/n1"), &endpoint, &["show"]);
        assert!(!other.status.success(), "{other:?}");
    }
    stranger.end().await;
    member.end().await;
}

/// OVN has no roles there, so it would be a way around those of the southbound.
#[tokio::test]
async fn the_northbound_is_for_members_and_operators() {
    let pki = Pki::new();
    let member = pki.member("m1").serves(&Store::with_pods()).await;
    let nb = member.central.status().borrow().nb_endpoint.clone();
    assert_eq!(nb, format!("ssl:127.0.0.1:{}", member.options.nb_port));
    let as_whom = |identity| Some(pki.client(identity));
    for identity in ["node/n1", "viewer/v"] {
        let why = refusal(&nb, as_whom(identity)).await.to_string();
        assert!(why.ends_with("it is nobody's who may come in there"), "{identity}: {why}");
    }
    for identity in ["member/m2", "operator/alice"] {
        let options = Options { tls: as_whom(identity), ..Options::default() };
        let client = atoll_ovsdb::Client::connect_with(&nb.parse().unwrap(), &options).await;
        let schema = client.unwrap().get_schema("OVN_Northbound").await.unwrap();
        assert!(schema.tables.contains_key("Logical_Switch"), "{identity}");
    }
    // OVN's own tool, and who is inside is cut off when the role goes.
    let operator = pki.files("operator/alice");
    let mut watcher = tool(&operator, "ovsdb-client", &["monitor", &nb, "OVN_Northbound"]);
    let mut watcher = watcher.arg("NB_Global").stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0_u8; 1];
    watcher.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    member.central.set_role(CentralRole::Idle);
    member.reaches("retired", |status| !status.active && status.healthy).await;
    assert!(!is_listening(member.nb_address()));
    eventually("cut off", async || watcher.try_wait().unwrap()).await;
    member.end().await;
}

/// The row that says where to listen came from the member before.
#[tokio::test]
async fn a_copy_over_tls_takes_over_at_its_own_address() {
    let pki = Pki::new();
    let store = Store::with_pods();
    let first = pki.member("m1").serves(&store).await;
    claim(&first.sb());
    let mut second = pki.member("m2");
    second.project(&store);
    second.central.set_role(CentralRole::Copy(first.ssl()));
    second.reaches("a copy", |status| status.copying && status.healthy).await;
    let same = async || (runtime(&second) == runtime(&first)).then_some(());
    eventually("the same contents", same).await;
    assert!(!is_listening(second.sb_address()), "it is nobody's but its member's");
    let before = runtime(&first);
    first.end().await;

    second.central.set_role(CentralRole::Active);
    second.reaches("serving", |status| status.serving && status.healthy).await;
    assert_eq!(runtime(&second), before);
    let get = ["get", "Connection", ".", "target", "role", "inactivity_probe"];
    let target = format!("pssl:{}:127.0.0.1", second.options.sb_port);
    assert_eq!(sbctl(&second.sb(), &get), format!("\"{target}\"\novn-controller\n60000"));
    let n1 = pki.files("node/n1");
    allowed(&sbctl_as(&n1, &second.ssl(), &["lsp-bind", "b.default", "chassis-1"]));
    let delete = ["chassis-del", "chassis-1"];
    prohibited("chassis-del", &sbctl_as(&n1, &second.ssl(), &delete));
    second.end().await;
}

/// Members of two clusters, one of which was told the other's address: both keep what they have.
#[tokio::test]
async fn a_member_that_is_turned_away_keeps_what_it_has_and_says_why() {
    let store = Store::with_pods();
    let (theirs, ours) = (Pki::new(), Pki::new());
    let first = theirs.member("m1").serves(&store).await;
    let second = ours.member("m2").serves(&store).await;
    claim(&second.sb());
    let before = runtime(&second);
    second.central.set_role(CentralRole::Copy(first.ssl()));
    let why = "no session: its certificate is not taken: another authority signed it";
    let said = |status: &CentralStatus| {
        let error = status.last_error.as_deref().unwrap_or_default();
        error.starts_with("southbound database: it cannot copy ssl:127.0.0.1")
            && error.ends_with(why)
    };
    let status = second.reaches("refused", said).await;
    assert!(!status.copying && !status.serving, "{status:?}");

    let nb = first.central.status().borrow().nb_endpoint.clone();
    let carrier = Carrier::start(second.nb(), second.tls()).unwrap();
    carrier.set_source(ForeignSource::Member(nb));
    let mut status = carrier.status();
    let refused = status.wait_for(|status| status.error.is_some());
    let refused = tokio::time::timeout(DEADLINE, refused).await.unwrap().unwrap().clone();
    let said = refused.error.unwrap();
    assert!(said.ends_with("its certificate is not taken: another authority signed it"), "{said}");
    assert_eq!(runtime(&second), before);
    carrier.shutdown().await;
    first.end().await;
    second.end().await;
}
