//! The webhook as an apiserver meets it: by its address, with its authority, on a socket.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::serve::{CONNECTIONS_MAX, HANDSHAKE};
use super::*;
use crate::Connect;
use crate::fake::{Fake, listening};

const LONG: Duration = Duration::from_secs(60);

fn member() -> MemberName {
    "m1".parse().unwrap()
}

fn open(host: &str) -> Webhook {
    let listen = "127.0.0.1:0".parse().unwrap();
    Webhook::open(&member(), WebhookOptions { listen, host: host.to_owned(), port: 443 }).unwrap()
}

/// A client of a webhook, before that answers.
struct Client {
    address: SocketAddr,
    path: String,
    registration: Registration,
}

impl Client {
    fn of(webhook: &Webhook) -> Self {
        let address = webhook.listener.local_addr().unwrap();
        Self { address, path: webhook.path.clone(), registration: webhook.registration() }
    }

    /// Connects as to `host`, trusting what the registration says.
    async fn connect(&self, host: &str) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        let authority = self.registration.authority.as_bytes();
        roots.add(CertificateDer::from_pem_slice(authority).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let host = ServerName::try_from(host.to_owned()).unwrap();
        let stream = TcpStream::connect(self.address).await?;
        TlsConnector::from(Arc::new(config)).connect(host, stream).await
    }

    /// One question on a connection: code and body.
    async fn ask(&self, stream: &mut TlsStream<TcpStream>, body: &str) -> (u16, String) {
        let (path, length) = (&self.path, body.len());
        let head = format!(
            "POST {path}?timeout=2s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n"
        );
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        loop {
            stream.read_buf(&mut answer).await.unwrap();
            let text = String::from_utf8(answer.clone()).unwrap();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let head = head.to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() == length.unwrap().parse::<usize>().unwrap() {
                return (head[9..12].parse().unwrap(), body.to_owned());
            }
        }
    }
}

/// Does `work` while a webhook answers.
async fn beside<T>(webhook: Webhook, store: Fake, work: impl Future<Output = T>) -> T {
    tokio::select! {
        never = serve(webhook, store) => match never {},
        done = tokio::time::timeout(LONG, work) => done.unwrap(),
    }
}

fn review(spec: &Value) -> String {
    let metadata = json!({ "name": "blue" });
    let object = json!({ "apiVersion": "kubeovn.io/v1", "kind": "Subnet", "metadata": metadata,
                         "spec": spec });
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "8b7e", "operation": "CREATE", "object": object, "oldObject": null,
            "resource": { "group": "kubeovn.io", "version": "v1", "resource": "subnets" },
        },
    })
    .to_string()
}

fn verdict(answered: &(u16, String)) -> Value {
    assert_eq!(answered.0, 200, "{}", answered.1);
    serde_json::from_str::<Value>(&answered.1).unwrap()["response"].clone()
}

#[tokio::test]
async fn whoever_was_told_of_it_gets_verdicts() {
    let webhook = open("127.0.0.1");
    let client = Client::of(&webhook);
    beside(webhook, Fake::new(), async {
        let mut stream = client.connect("127.0.0.1").await.unwrap();
        // One connection for many questions.
        let good = client.ask(&mut stream, &review(&json!({ "cidrBlock": "10.60.0.0/16" }))).await;
        assert_eq!(verdict(&good), json!({ "uid": "8b7e", "allowed": true, "warnings": [] }));
        // As long as objects may be: more than one read of the socket.
        let long = format!("{}{}", review(&json!({})), " ".repeat(3 << 20));
        let bad = client.ask(&mut stream, &long).await;
        let bad = verdict(&bad);
        assert_eq!(bad["allowed"], false);
        let why = bad["status"]["message"].as_str().unwrap();
        assert!(why.starts_with("Subnet blue: spec.cidrBlock: must be set"), "{why}");
    })
    .await;
}

/// What a leader tells is all that an apiserver needs to ask it.
#[tokio::test]
async fn an_apiserver_asks_where_the_leader_told_it_to() {
    let (apiserver, mut told) = listening().await;
    let dir = tempfile::tempdir().unwrap();
    let kubeconfig = dir.path().join("kubeconfig");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
        "clusters": [{ "name": "c", "cluster": { "server": format!("http://{apiserver}") } }],
        "users": [{ "name": "u", "user": {} }],
    });
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    let webhook = open("127.0.0.1");
    let (mut client, store) = (Client::of(&webhook), Fake::new());
    let asked = async {
        let told = told.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        let told: ValidatingWebhookConfiguration = serde_json::from_value(told).unwrap();
        let told = told.webhooks.unwrap().remove(0).client_config;
        client.registration.authority = String::from_utf8(told.ca_bundle.unwrap().0).unwrap();
        let url = told.url.unwrap();
        client.path = url.strip_prefix("https://127.0.0.1:443").unwrap().to_owned();
        let mut stream = client.connect("127.0.0.1").await.unwrap();
        let bad = client.ask(&mut stream, &review(&json!({ "cidrBlock": "10.16.0.0/24" }))).await;
        let why = verdict(&bad)["status"]["message"].clone();
        assert!(why.as_str().unwrap().contains("of subnet ovn-default"), "{why}");
    };
    tokio::select! {
        gone = crate::run(store, Connect::Kubeconfig(kubeconfig), Some(webhook)) => panic!("{gone}"),
        asked = tokio::time::timeout(LONG, asked) => asked.unwrap(),
    }
}

#[tokio::test]
async fn a_member_that_hears_no_leader_says_so_and_judges_nothing() {
    let (webhook, store) = (open("127.0.0.1"), Fake::new());
    let client = Client::of(&webhook);
    store.lead(None);
    beside(webhook, store, async {
        let mut stream = client.connect("127.0.0.1").await.unwrap();
        let (code, text) = client.ask(&mut stream, &review(&json!({}))).await;
        assert_eq!(code, 503);
        assert!(text.contains("hears no leader"), "{text}");
    })
    .await;
}

#[tokio::test]
async fn it_is_nobody_else_and_whoever_is_in_the_way_stands_aside() {
    let webhook = open("m1.example");
    let (client, other) = (Client::of(&webhook), Client::of(&open("m1.example")));
    beside(webhook, Fake::new(), async {
        assert!(client.connect("m2.example").await.is_err(), "another name");
        let stranger = Client { address: client.address, ..other };
        assert!(stranger.connect("m1.example").await.is_err(), "another authority");
        let mut garbage = TcpStream::connect(client.address).await.unwrap();
        garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let _silent = TcpStream::connect(client.address).await.unwrap();
        let mut stream = client.connect("m1.example").await.unwrap();
        let lost = Client { path: "/guess".to_owned(), ..client };
        let (code, text) = lost.ask(&mut stream, &review(&json!({}))).await;
        assert_eq!((code, text.as_str()), (404, "nothing is here\n"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_says_nothing_ends() {
    let webhook = open("127.0.0.1");
    let client = Client::of(&webhook);
    let ended = async {
        let mut silent = TcpStream::connect(client.address).await.unwrap();
        // With what was sent, or with an error: it is over.
        let _ = silent.read_to_end(&mut Vec::new()).await;
        let mut idle = client.connect("127.0.0.1").await.unwrap();
        let _ = idle.read_to_end(&mut Vec::new()).await;
    };
    // Nothing else moves the clock.
    let patience = tokio::time::timeout(LONG * 5, ended);
    tokio::select! {
        never = serve(webhook, Fake::new()) => match never {},
        ended = patience => ended.unwrap(),
    }
}

/// A crowd that says nothing takes no more than its share, and has it until it is turned away.
#[tokio::test]
async fn no_more_connections_are_held_than_there_is_room_for() {
    let webhook = open("127.0.0.1");
    let client = Client::of(&webhook);
    let begun = Instant::now();
    beside(webhook, Fake::new(), async {
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            silent.push(TcpStream::connect(client.address).await.unwrap());
        }
        client.connect("127.0.0.1").await.unwrap();
        assert!(begun.elapsed() >= HANDSHAKE, "{:?}", begun.elapsed());
    })
    .await;
}

#[tokio::test]
async fn an_old_certificate_is_made_anew_under_the_same_authority() {
    let mut webhook = open("127.0.0.1");
    let then = SystemTime::now() - Duration::from_secs(40 * 24 * 3600);
    webhook.certificates = Certificates::new(&member(), "127.0.0.1".to_owned(), then).unwrap();
    let client = Client::of(&webhook);
    beside(webhook, Fake::new(), async {
        assert!(client.connect("127.0.0.1").await.is_ok());
    })
    .await;
}

#[tokio::test]
async fn it_is_registered_by_its_address_and_a_path_of_its_own() {
    let of = |host: &str| open(host).registration().url;
    let (one, two) = (of("10.0.0.1"), of("10.0.0.1"));
    assert!(one.starts_with("https://10.0.0.1:443/") && one != two, "{one} {two}");
    assert_eq!(one.rsplit('/').next().unwrap().len(), 2 * PATH_BYTES);
    assert!(of("fd00::1").starts_with("https://[fd00::1]:443/"));
    assert!(!format!("{:?}", open("10.0.0.1")).contains("path"));
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let first = open("127.0.0.1");
    let listen = first.listener.local_addr().unwrap();
    let options = WebhookOptions { listen, host: "127.0.0.1".to_owned(), port: 1 };
    let error = Webhook::open(&member(), options).unwrap_err().to_string();
    assert_eq!(error, format!("the webhook cannot listen on {listen}"));
}
