//! Sessions with TLS, and every way in which one does not come about.

use std::net::SocketAddr;
use std::time::Instant;

use atoll_api::CertificateFiles;
use atoll_ovsdb::{Client, ConnectError, Datum, Endpoint, Options, SessionError, Tls};
use tokio::io::AsyncWriteExt as _;
use uuid::Uuid;

use crate::pki::{Pki, client};
use crate::{NB, PATIENCE, Server, insert_port, ports, row};

impl Pki {
    /// The options of somebody who has a certificate for `identity`.
    fn options(&self, identity: &str) -> Options {
        options(&self.files(identity))
    }
}

fn options(files: &CertificateFiles) -> Options {
    Options { tls: Some(client(files)), connect_timeout: PATIENCE, ..Options::default() }
}

/// Why no session came about, in the words that a person reads.
async fn refusal(endpoint: &Endpoint, options: &Options) -> String {
    let error = Client::connect_with(endpoint, options).await.unwrap_err();
    let ConnectError::Session { source, .. } = &error else { panic!("{error:?}") };
    source.to_string()
}

#[tokio::test]
async fn a_session_with_tls_carries_what_a_plain_one_does() {
    let pki = Pki::new();
    let server = Server::secured(&pki.files("member/m1"));
    let endpoint = server.ssl().await;
    for identity in ["member/m2", "node/n1", "operator/alice"] {
        let client = Client::connect_with(&endpoint, &pki.options(identity)).await.unwrap();
        assert!(client.list_dbs().await.unwrap().contains(&NB.to_owned()), "{identity}");
        // More than one record of TLS.
        let schema = client.get_schema(NB).await.unwrap();
        assert!(schema.tables.contains_key("Logical_Switch"));
    }
}

#[tokio::test]
async fn another_authority_is_refused_on_both_sides() {
    let (ours, theirs) = (Pki::new(), Pki::new());
    let server = Server::secured(&theirs.files("member/m1"));
    let said = refusal(&server.ssl().await, &ours.options("member/m1")).await;
    assert_eq!(said, "its certificate is not taken: another authority signed it");
    // Who trusts the server, and was signed by somebody whom the server does not trust.
    let files = ours.files("member/m1");
    let stranger = Pki::new();
    let callers = stranger.files("member/m1");
    let server = Server::secured(&files);
    let mut trusted = std::fs::read_to_string(&callers.ca).unwrap();
    trusted += &std::fs::read_to_string(&files.ca).unwrap();
    std::fs::write(&callers.ca, trusted).unwrap();
    let said = refusal(&server.ssl().await, &options(&callers)).await;
    assert_eq!(said, "it does not take our certificate: another authority signed it");
    Client::connect_with(&server.ssl().await, &ours.options("node/n1")).await.unwrap();
}

/// An authority that Open vSwitch's own tool makes, which knows of nobody's roles.
struct Theirs(tempfile::TempDir);

impl Theirs {
    fn new() -> Self {
        let theirs = Self(tempfile::tempdir().unwrap());
        theirs.tool(&["init"]);
        theirs
    }

    fn tool(&self, words: &[&str]) {
        let mut tool = std::process::Command::new("ovs-pki");
        tool.arg("--dir=pki").arg("--log=log").arg("--unique").args(words);
        let output = tool.current_dir(&self.0).output().expect("ovs-pki is installed");
        assert!(output.status.success(), "{output:?}");
    }

    fn files(&self, name: &str) -> CertificateFiles {
        self.tool(&["req+sign", name, "switch"]);
        let file = |name: &str| self.0.path().join(name);
        CertificateFiles {
            ca: file("pki/switchca/cacert.pem"),
            cert: file(&format!("{name}-cert.pem")),
            key: file(&format!("{name}-privkey.pem")),
        }
    }
}

/// As with an ovn-central that somebody else runs.
#[tokio::test]
async fn a_server_of_others_is_known_by_their_authority_alone() {
    let (theirs, strangers, ours) = (Theirs::new(), Theirs::new(), Pki::new());
    let server = Server::secured(&theirs.files("central"));
    let endpoint = server.ssl().await;
    let options = |files: &CertificateFiles| {
        let tls = Some(Tls::new(files.for_databases_of_others().unwrap()));
        Options { tls, connect_timeout: PATIENCE, ..Options::default() }
    };
    let known = theirs.files("m1");
    let client = Client::connect_with(&endpoint, &options(&known)).await.unwrap();
    assert!(client.list_dbs().await.unwrap().contains(&NB.to_owned()));
    // Their authority, and a certificate that is not of it.
    let own = CertificateFiles { ca: known.ca.clone(), ..ours.files("member/m1") };
    let said = refusal(&endpoint, &options(&own)).await;
    assert_eq!(said, "it does not take our certificate: another authority signed it");
    for stranger in [strangers.files("m1"), ours.files("member/m1")] {
        let said = refusal(&endpoint, &options(&stranger)).await;
        assert_eq!(said, "its certificate is not taken: another authority signed it");
    }
    // Where members are expected, it is none.
    let said = refusal(&endpoint, &ours.options("member/m1")).await;
    assert_eq!(said, "its certificate is not taken: another authority signed it");
}

/// A node could else play the southbound to another node.
#[tokio::test]
async fn only_a_member_is_believed_to_be_the_server() {
    let pki = Pki::new();
    let server = Server::secured(&pki.files("node/n1"));
    let said = refusal(&server.ssl().await, &pki.options("member/m1")).await;
    assert!(said.starts_with("its certificate is not taken: "), "{said}");
}

#[tokio::test]
async fn plaintext_and_tls_that_meet_say_so() {
    let pki = Pki::new();
    let (plain, secured) = (Server::start(), Server::secured(&pki.files("member/m1")));
    let options = pki.options("member/m2");
    let Endpoint::Tcp { host, port } = plain.tcp().await else { unreachable!() };
    let said = refusal(&Endpoint::Ssl { host, port }, &options).await;
    assert!(said.starts_with("it does not speak TLS: it listens in plaintext (ptcp:)"), "{said}");
    let Endpoint::Ssl { host, port } = secured.ssl().await else { unreachable!() };
    let said = refusal(&Endpoint::Tcp { host, port }, &options).await;
    assert!(said.starts_with("it does not speak OVSDB in plaintext: if it listens"), "{said}");
    let said = refusal(&secured.ssl().await, &Options::default()).await;
    assert_eq!(said, SessionError::NoCertificate.to_string());
}

/// Somebody else's port: it takes connections and says something that is no TLS.
#[tokio::test]
async fn a_stranger_at_the_address_is_no_server() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await;
        }
    });
    let (host, port) = (address.ip().to_string(), address.port());
    let options = Pki::new().options("member/m1");
    let said = refusal(&Endpoint::Ssl { host: host.clone(), port }, &options).await;
    assert!(said.starts_with("it does not speak TLS"), "{said}");
    let said = refusal(&Endpoint::Tcp { host, port }, &options).await;
    assert!(said.starts_with("it does not speak OVSDB"), "{said}");
}

/// The contents are the same with and without TLS. How long a connection and they take is for people:
/// `ATOLL_TLS_PORTS` says of how many ports.
#[tokio::test]
#[allow(clippy::print_stdout, reason = "its figures are for people")]
async fn what_tls_costs() {
    const ROUNDS: usize = 11;
    let ports_told = std::env::var("ATOLL_TLS_PORTS").map_or(2_000, |it| it.parse().unwrap());
    let batches: u128 = ports_told / 400;
    let pki = Pki::new();
    let server = Server::secured(&pki.files("member/m1"));
    let options = pki.options("member/m2");
    let ssl = server.ssl().await;
    // Somebody else may have taken it meanwhile: then this measurement fails, and is done again.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let tcp = server.listen_plainly(free).await;
    let client = Client::connect_with(&ssl, &options).await.unwrap();
    for batch in 0..batches {
        let ports = (0..400).flat_map(|n| {
            let uuid = Uuid::from_u128(batch * 400 + n + 1);
            let addresses = Datum::from(format!("0a:00:00:00:00:01 10.16.{batch}.{n}"));
            insert_port(uuid, row([("name", uuid.to_string().into()), ("addresses", addresses)]))
        });
        client.transact(NB, &ports.collect::<Vec<_>>()).await.unwrap();
    }
    let mut took = [(); 4].map(|()| Vec::new());
    for _ in 0..ROUNDS {
        for (which, endpoint) in [&tcp, &ssl].into_iter().enumerate() {
            let begun = Instant::now();
            let client = Client::connect_with(endpoint, &options).await.unwrap();
            took[which].push(begun.elapsed());
            let monitor = client.monitor(NB, &ports()).await.unwrap();
            took[2 + which].push(begun.elapsed());
            let seen = monitor.replica().rows("Logical_Switch_Port").count();
            assert_eq!(seen as u128, batches * 400);
        }
    }
    let [plain, secured, plain_all, secured_all] = took.map(|mut took| {
        took.sort();
        took[ROUNDS / 2]
    });
    println!("connected: {plain:?} plainly, {secured:?} with TLS (medians of {ROUNDS})");
    println!("{} ports seen: {plain_all:?} plainly, {secured_all:?} with TLS", batches * 400);
}
