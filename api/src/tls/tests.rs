//! Real handshakes over loopback, and every way in which one is refused.

use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::*;
use crate::client::{Client, ClientError};
use crate::identity::Caller;
use crate::pki::{Authority, Pair, leaf, write_pair};
use crate::proto::cluster_server::{Cluster, ClusterServer};
use crate::proto::{
    BackupRequest, BackupResponse, StatusRequest, StatusResponse, TransferRequest, TransferResponse,
};

/// An authority, and directories for what it issues.
struct Pki {
    dir: TempDir,
    authority: Authority,
}

impl Pki {
    fn new() -> Self {
        let authority = Authority::open(&Authority::create("test").unwrap()).unwrap();
        Self { dir: tempfile::tempdir().unwrap(), authority }
    }

    /// Files of a certificate for `identity`, in a directory of their own.
    fn files(&self, identity: &str) -> CertificateFiles {
        self.write(&self.authority.issue(&identity.parse().unwrap(), &[], 30).unwrap())
    }

    /// Issued 40 days ago for 30 days.
    fn expired(&self, identity: &str) -> CertificateFiles {
        let then = SystemTime::now() - Duration::from_secs(40 * 24 * 3600);
        self.write(&self.authority.issue_at(then, &identity.parse().unwrap(), &[], 30).unwrap())
    }

    fn write(&self, pair: &Pair) -> CertificateFiles {
        let dir = tempfile::tempdir_in(&self.dir).unwrap().keep();
        write_pair(&dir, self.authority.cert(), pair).unwrap()
    }

    fn credentials(&self, identity: &str) -> Credentials {
        Credentials::load(&self.files(identity)).unwrap()
    }
}

/// A process of this identity and these files, without the checks that it makes of its own.
fn process(identity: &str, files: &CertificateFiles) -> Tls {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = Arc::new(authorities(&files.ca).unwrap());
    let chain = certificates(&files.cert).unwrap();
    let callers = verify::AnybodyNamed::new(roots.clone(), provider.clone()).unwrap();
    let members = verify::OfAuthority::members(roots.clone(), &provider);
    Tls {
        identity: identity.parse().unwrap(),
        files: files.clone(),
        northbound: northbound_config(files, &chain, &provider, roots).unwrap(),
        client: client_config(files, &chain, &provider, members).unwrap(),
        server: server_config(files, &chain, provider, callers).unwrap(),
    }
}

impl From<Tls> for Credentials {
    fn from(tls: Tls) -> Self {
        Self { tls: Some(Arc::new(tls)) }
    }
}

/// Tells callers who they are.
struct Mirror;

#[tonic::async_trait]
impl Cluster for Mirror {
    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        let caller = request.extensions().get::<Caller>().expect("every connection has one");
        Ok(Response::new(StatusResponse { name: caller.to_string(), ..Default::default() }))
    }

    async fn transfer(
        &self,
        _: Request<TransferRequest>,
    ) -> Result<Response<TransferResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    type BackupStream = futures::stream::Empty<Result<BackupResponse, Status>>;

    async fn backup(
        &self,
        _: Request<BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

/// Serves a [`Mirror`] on a free port of loopback.
fn serve(credentials: &Credentials) -> Endpoint {
    let listener = Listener::tcp("127.0.0.1:0".parse().unwrap()).unwrap();
    let endpoint = listener.endpoint().unwrap();
    let incoming = credentials.listen(listener).unwrap();
    let server = Server::builder().add_service(ClusterServer::new(Mirror));
    tokio::spawn(server.serve_with_incoming(incoming));
    endpoint
}

/// Who the server says we are, or what the client says went wrong.
async fn ask(credentials: &Credentials, endpoint: &Endpoint) -> Result<String, String> {
    let client = Client::new(vec![endpoint.clone()], credentials).unwrap();
    let (_, status) = client.statuses().await.remove(0);
    status.map(|status| status.name)
}

/// A refused connection, with what the caller is told.
async fn refusal(client: &Credentials, server: &Credentials) -> String {
    ask(client, &serve(server)).await.unwrap_err()
}

#[tokio::test]
async fn a_server_knows_its_caller_by_the_certificate() {
    let pki = Pki::new();
    let endpoint = serve(&pki.credentials("member/m1"));
    for identity in ["node/n1", "operator/alice", "viewer/v", "member/m2"] {
        let said = ask(&pki.credentials(identity), &endpoint).await;
        assert_eq!(said, Ok(identity.to_owned()));
    }
}

#[tokio::test]
async fn a_unix_socket_asks_for_a_certificate_too() {
    let pki = Pki::new();
    let path = pki.dir.path().join("api.sock");
    let incoming = pki.credentials("member/m1").listen(Listener::unix(&path).unwrap()).unwrap();
    let server = Server::builder().add_service(ClusterServer::new(Mirror));
    tokio::spawn(server.serve_with_incoming(incoming));
    let endpoint = Endpoint::Unix(path);
    let said = ask(&pki.credentials("operator/alice"), &endpoint).await;
    assert_eq!(said.as_deref(), Ok("operator/alice"));
    assert!(ask(&Credentials::insecure_dev(), &endpoint).await.is_err());
}

#[tokio::test]
async fn each_end_refuses_a_certificate_of_another_authority() {
    let (ours, theirs) = (Pki::new(), Pki::new());
    // The client looks first.
    let said = refusal(&ours.credentials("node/n1"), &theirs.credentials("member/m1")).await;
    assert!(said.contains("its certificate is not taken: it was not signed by"), "{said}");
    assert!(said.contains("ca.crt"), "{said}");
    // A client that trusts both is refused by a server that trusts one.
    let mut both = ours.files("node/n1");
    both.ca = theirs.files("viewer/v").ca;
    let said = refusal(&process("node/n1", &both).into(), &theirs.credentials("member/m1")).await;
    assert!(said.contains("it does not take the certificate in"), "{said}");
    assert!(said.contains("another authority signed it"), "{said}");
}

/// An agent that can be reached must not be taken for a member.
#[tokio::test]
async fn only_a_members_certificate_serves() {
    let pki = Pki::new();
    let alice = pki.credentials("operator/alice");
    // What `issue` makes has not even the purpose.
    let said = refusal(&alice, &process("node/n1", &pki.files("node/n1")).into()).await;
    assert!(said.contains("it cannot be used: InvalidPurpose"), "{said}");
    // One that some other tool made has it, and the role counts.
    let mut params = leaf(SystemTime::now(), &"node/n1".parse().unwrap(), &[], 1).unwrap();
    params.extended_key_usages.push(rcgen::ExtendedKeyUsagePurpose::ServerAuth);
    let pair = pki.authority.sign(&params).unwrap();
    let said = refusal(&alice, &process("node/n1", &pki.write(&pair)).into()).await;
    assert!(said.contains("it is node/n1's, and a member's is needed"), "{said}");
}

/// Nobody could say which rights it has.
#[tokio::test]
async fn a_certificate_with_no_role_or_several_is_refused() {
    let pki = Pki::new();
    let uri = |text: &str| rcgen::SanType::URI(text.try_into().unwrap());
    let mut params = leaf(SystemTime::now(), &"node/n1".parse().unwrap(), &[], 1).unwrap();
    params.subject_alt_names.push(uri("atoll:operator/alice"));
    let several = pki.write(&pki.authority.sign(&params).unwrap());
    assert!(load_error(&several).contains("it names more than one role"));
    params.subject_alt_names = vec![uri("https://example.org/node/n1"), uri("atoll:root/x")];
    let unknown = pki.write(&pki.authority.sign(&params).unwrap());
    assert!(load_error(&unknown).contains("\"root/x\" is no identity"));
    params.subject_alt_names.clear();
    let nobody = pki.write(&pki.authority.sign(&params).unwrap());
    assert!(load_error(&nobody).contains("it names no role"));
    // The server says so as well, whatever the client thinks of its own certificate.
    let said = refusal(&process("node/n1", &several).into(), &pki.credentials("member/m1")).await;
    assert!(said.contains("it does not take the certificate in"), "{said}");
    assert!(said.contains("it names no role"), "{said}");
}

#[tokio::test]
async fn an_expired_certificate_is_refused_by_either_end() {
    let pki = Pki::new();
    let member = pki.credentials("member/m1");
    let said = refusal(&process("node/n1", &pki.expired("node/n1")).into(), &member).await;
    assert!(said.contains("tls.crt: it has expired; issue a new one"), "{said}");
    let node = pki.credentials("node/n1");
    let said = refusal(&node, &process("member/m1", &pki.expired("member/m1")).into()).await;
    assert!(said.contains("it expired 10 days ago; issue a new one"), "{said}");
}

#[tokio::test]
async fn no_certificate_is_refused() {
    let pki = Pki::new();
    let files = pki.files("operator/alice");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = Arc::new(authorities(&files.ca).unwrap());
    let mut nameless = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verify::OfAuthority::members(roots, &provider)))
        .with_no_client_auth();
    nameless.alpn_protocols = vec![ALPN.to_vec()];
    let nameless = Tls { client: Arc::new(nameless), ..process("operator/alice", &files) };
    let said = refusal(&nameless.into(), &pki.credentials("member/m1")).await;
    assert!(said.contains("CertificateRequired"), "{said}");
}

#[tokio::test]
async fn plaintext_and_tls_do_not_meet_and_each_side_is_told_why() {
    let pki = Pki::new();
    let (plain, member) = (Credentials::insecure_dev(), pki.credentials("member/m1"));
    let said = refusal(&plain, &member).await;
    assert!(said.contains("if it speaks TLS, give --ca, --cert and --key"), "{said}");
    let said = refusal(&pki.credentials("operator/alice"), &plain).await;
    assert!(said.contains("it does not speak TLS: it runs with --insecure-dev"), "{said}");
}

/// A retry of what certainly was not done is safe; of "unknown" it is not.
#[tokio::test]
async fn a_refused_certificate_is_known_to_have_done_nothing() {
    let (ours, theirs) = (Pki::new(), Pki::new());
    let mut files = ours.files("operator/alice");
    files.ca = theirs.files("viewer/v").ca;
    let endpoint = serve(&theirs.credentials("member/m1"));
    let client = Client::new(vec![endpoint], &process("operator/alice", &files).into()).unwrap();
    let client = client.with_timeout(Duration::from_millis(300));
    let subnet = atoll_model::SubnetName::new("blue").unwrap();
    // It knows a revision, so the first thing it sends is the write.
    client.saw(atoll_model::Revision(1));
    let operation = atoll_model::Operation::DeleteSubnet(subnet);
    let error = client.txn(Vec::new(), vec![operation]).await.unwrap_err();
    assert!(matches!(error, ClientError::Unavailable(..)), "{error}");
}

#[tokio::test]
async fn plaintext_never_leaves_the_machine() {
    let plain = Credentials::insecure_dev();
    let far: Endpoint = "10.0.0.1:7400".parse().unwrap();
    let error = Client::new(vec![far.clone()], &plain).unwrap_err().to_string();
    assert!(error.contains("10.0.0.1:7400 is not on loopback"), "{error}");
    let error = plain.connect(&far).await.err().unwrap().to_string();
    assert!(error.contains("is not on loopback"), "{error}");
    let everywhere = Listener::tcp("0.0.0.0:0".parse().unwrap()).unwrap();
    assert!(plain.listen(everywhere).err().unwrap().to_string().contains("is not on loopback"));
}

/// Whoever opens connections and says nothing must not keep others out.
#[tokio::test]
async fn a_silent_connection_holds_nobody_up() {
    let pki = Pki::new();
    let endpoint = serve(&pki.credentials("member/m1"));
    let Endpoint::Tcp(address) = &endpoint else { unreachable!("it is TCP") };
    let _silent = tokio::net::TcpStream::connect(address).await.unwrap();
    let said = ask(&pki.credentials("node/n1"), &endpoint).await;
    assert_eq!(said.as_deref(), Ok("node/n1"));
}

fn load_error(files: &CertificateFiles) -> String {
    let error = Credentials::load(files).unwrap_err();
    let source = std::error::Error::source(&error).map(ToString::to_string);
    format!("{error} {}", source.unwrap_or_default())
}

#[test]
fn bad_files_are_named_with_what_was_found_and_what_to_do() {
    let (pki, other) = (Pki::new(), Pki::new());
    let good = pki.files("node/n1");
    let name = |path: &Path| path.display().to_string();

    let missing = CertificateFiles { key: "/nowhere/tls.key".into(), ..good.clone() };
    assert!(load_error(&missing).starts_with("cannot read /nowhere/tls.key No such file"));
    let swapped = CertificateFiles { cert: good.key.clone(), ..good.clone() };
    let text = load_error(&swapped);
    assert!(text.contains(&format!("{}: no certificate in PEM form", name(&good.key))), "{text}");
    let mixed = CertificateFiles { key: pki.files("node/n2").key, ..good.clone() };
    let text = load_error(&mixed);
    assert!(text.contains("is not the key of"), "{text}");
    assert!(text.contains(&name(&mixed.key)) && text.contains(&name(&good.cert)), "{text}");
    let foreign = CertificateFiles { ca: other.files("node/n1").ca, ..good.clone() };
    let text = load_error(&foreign);
    assert!(text.contains(&format!("not signed by the authority in {}", name(&foreign.ca))));
    assert!(text.contains("give the authority of this cluster"), "{text}");
    let text = load_error(&pki.expired("node/n1"));
    assert!(text.contains("it expired 10 days ago; issue a new one: atolld pki issue"), "{text}");
    let wanted = "member/m1".parse().unwrap();
    let text = Credentials::load_for(&good, &wanted).unwrap_err().to_string();
    assert!(text.contains("the certificate of node/n1, and this process is member/m1"), "{text}");
    assert!(text.contains("--role member --name m1"), "{text}");
    // The authority itself names nobody.
    let authority = Authority::create("x").unwrap();
    let text = load_error(&pki.write(&authority));
    assert!(text.contains("tls.crt: the certificate cannot be used: it names no role"), "{text}");
}
