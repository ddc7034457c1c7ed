//! A client against a member that answers as a script says.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use atoll_model::{Reply, SubnetName};
use futures::StreamExt;
use futures::stream::BoxStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use super::*;
use crate::answer;
use crate::proto::cluster_server::{Cluster, ClusterServer};
use crate::proto::session_response::Answer;
use crate::proto::store_server::{Store, StoreServer};
use crate::proto::{
    AllocationsRequest, AllocationsResponse, CheckRequest, CheckResponse, DigestRequest,
    DigestResponse, HistoryRequest, HistoryResponse, PlanResponse, SessionRequest, SessionResponse,
    TransferResponse, TxnResponse, WatchRequest, WatchResponse,
};
use crate::tls::Listener;

/// A member's answers to transactions, in their order, and what it was asked.
#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<VecDeque<Result<Outcome, Status>>>>,
    asked: Arc<Mutex<Vec<RequestId>>>,
}

#[tonic::async_trait]
impl Store for Script {
    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let id = request.get_ref().request.as_ref().expect("the client names its requests");
        self.asked.lock().unwrap().push(id.try_into().unwrap());
        let next = self.answers.lock().unwrap().pop_front();
        let next = next.unwrap_or_else(|| echo(request.get_ref()));
        next.map(|outcome| Response::new(TxnResponse { outcome: Some((&outcome).into()) }))
    }

    type SessionStream = BoxStream<'static, Result<SessionResponse, Status>>;

    /// Answers in pairs, the second first; `ABORTED` in the script ends the stream instead.
    async fn session(
        &self,
        requests: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let script = self.clone();
        let answers = requests.into_inner().then(move |request| {
            let script = script.clone();
            async move {
                let SessionRequest { sequence, txn } = request?;
                let answer = match script.txn(Request::new(txn.unwrap_or_default())).await {
                    Ok(done) => Answer::Done(done.into_inner()),
                    Err(status) if status.code() == tonic::Code::Aborted => return Err(status),
                    Err(status) => Answer::Failed((&status).into()),
                };
                Ok(SessionResponse { sequence, answer: Some(answer) })
            }
        });
        let pairs = answers.chunks(2).flat_map(|mut pair| {
            pair.reverse();
            futures::stream::iter(pair)
        });
        Ok(Response::new(pairs.boxed()))
    }

    async fn read(&self, _: Request<ReadRequest>) -> Result<Response<ReadResponse>, Status> {
        Err(answer::unavailable("not in this script"))
    }

    type ListStream = BoxStream<'static, Result<ReadResponse, Status>>;

    /// One part of several.
    async fn list(&self, _: Request<ReadRequest>) -> Result<Response<Self::ListStream>, Status> {
        let parts = [Ok(ReadResponse::default()), Err(Status::unknown("the connection broke"))];
        Ok(Response::new(Box::pin(futures::stream::iter(parts))))
    }

    type AllocationsStream = BoxStream<'static, Result<AllocationsResponse, Status>>;

    async fn allocations(
        &self,
        _: Request<AllocationsRequest>,
    ) -> Result<Response<Self::AllocationsStream>, Status> {
        Err(answer::unavailable("not in this script"))
    }

    async fn plan(&self, _: Request<TxnRequest>) -> Result<Response<PlanResponse>, Status> {
        Err(answer::unavailable("not in this script"))
    }

    async fn check(&self, _: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        Err(answer::unavailable("not in this script"))
    }

    async fn digest(&self, _: Request<DigestRequest>) -> Result<Response<DigestResponse>, Status> {
        Err(answer::unavailable("not in this script"))
    }

    type WatchStream = BoxStream<'static, Result<WatchResponse, Status>>;

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(answer::unavailable("not in this script"))
    }

    async fn history(
        &self,
        _: Request<HistoryRequest>,
    ) -> Result<Response<HistoryResponse>, Status> {
        Err(answer::unavailable("not in this script"))
    }
}

#[tonic::async_trait]
impl Cluster for Script {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Ok(Response::new(StatusResponse { revision: 5, ..StatusResponse::default() }))
    }

    async fn transfer(
        &self,
        _: Request<TransferRequest>,
    ) -> Result<Response<TransferResponse>, Status> {
        Err(answer::not_leader(None))
    }

    type BackupStream = BoxStream<'static, Result<BackupResponse, Status>>;

    /// Two bytes are missing.
    async fn backup(
        &self,
        _: Request<BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        let start = BackupStart { cluster: "c".into(), revision: 7, bytes: 5 };
        let kinds =
            [backup_response::Kind::Start(start), backup_response::Kind::Part("abc".into())];
        let messages = kinds.map(|kind| Ok(BackupResponse { kind: Some(kind) }));
        Ok(Response::new(Box::pin(futures::stream::iter(messages))))
    }
}

/// Behind the end of the script: the number in the subnet's name comes back as the revision.
fn echo(request: &TxnRequest) -> Result<Outcome, Status> {
    let operation = Operation::try_from(&request.operations[0]).unwrap();
    let Operation::DeleteSubnet(name) = operation else { panic!("{operation:?}") };
    match name.to_string().trim_start_matches("number-").parse() {
        Ok(number) if number % 10 != 3 => {
            Ok(Outcome::Applied { revision: Revision(number), replies: Vec::new() })
        }
        _ => Err(answer::invalid(name.to_string())),
    }
}

impl Script {
    /// A client of one member that gives these answers.
    fn run(answers: impl IntoIterator<Item = Result<Outcome, Status>>) -> (Self, Client) {
        let script = Self::default();
        script.answers.lock().unwrap_or_else(PoisonError::into_inner).extend(answers);
        let client = Client::new(vec![script.serve()], &Credentials::insecure_dev()).unwrap();
        (script, client.with_timeout(Duration::from_millis(500)))
    }

    /// Where it answers.
    fn serve(&self) -> Endpoint {
        let insecure = Credentials::insecure_dev();
        let listener = Listener::tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        let endpoint = listener.endpoint().unwrap();
        let incoming = insecure.listen(listener).unwrap();
        let services = Server::builder()
            .add_service(StoreServer::new(self.clone()))
            .add_service(ClusterServer::new(self.clone()));
        tokio::spawn(services.serve_with_incoming(incoming));
        endpoint
    }

    fn asked(&self) -> Vec<RequestId> {
        self.asked.lock().unwrap().clone()
    }
}

fn operation() -> Vec<Operation> {
    vec![Operation::DeleteSubnet(SubnetName::new("blue").unwrap())]
}

fn applied() -> Outcome {
    Outcome::Applied { revision: Revision(9), replies: vec![Reply::Done] }
}

fn too_old() -> Outcome {
    let refusal = Refusal::TooOldToTell { oldest: Revision(7) };
    Outcome::Refused { operation: None, refusal }
}

#[tokio::test]
async fn a_retry_after_a_lost_answer_has_the_same_id() {
    let (script, client) = Script::run([Err(answer::unknown("lost")), Ok(applied())]);
    assert_eq!(client.txn(Vec::new(), operation()).await.unwrap(), applied());
    let asked = script.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0], asked[1]);
}

/// A node that nothing concerned for 262,144 requests: its next report is no refused one.
#[tokio::test]
async fn an_id_that_was_born_too_early_is_drawn_anew_if_it_cannot_have_been_carried_out() {
    let (script, client) = Script::run([Ok(too_old()), Ok(applied())]);
    assert_eq!(client.txn(Vec::new(), operation()).await.unwrap(), applied());
    let asked = script.asked();
    assert_ne!(asked[0].id, asked[1].id);
    assert_eq!((asked[0].born, asked[1].born), (Revision(5), Revision(7)));
}

#[tokio::test]
async fn too_old_to_tell_after_a_lost_answer_is_unknown() {
    let (script, client) = Script::run([Err(answer::unknown("lost")), Ok(too_old())]);
    let error = client.txn(Vec::new(), operation()).await.unwrap_err();
    assert!(matches!(error, ClientError::Unknown(..)), "{error}");
    assert_eq!(script.asked().len(), 2);
}

/// The second member refuses what the first one may have done: "nothing was done" would be a lie.
#[tokio::test]
async fn an_invalid_request_after_a_lost_answer_is_unknown() {
    let (_script, client) = Script::run([Err(answer::unknown("lost")), Err(answer::invalid("x"))]);
    let error = client.txn(Vec::new(), operation()).await.unwrap_err();
    assert!(matches!(error, ClientError::Unknown(..)), "{error}");
    let (_script, client) = Script::run([Err(answer::invalid("x"))]);
    let error = client.txn(Vec::new(), operation()).await.unwrap_err();
    assert!(matches!(error, ClientError::Invalid(..)), "{error}");
}

#[tokio::test]
async fn a_read_without_an_answer_did_nothing() {
    let (_script, client) = Script::run([]);
    let error = client.read(&[], None).await.unwrap_err();
    assert!(matches!(error, ClientError::Unavailable(..)), "{error}");
}

#[tokio::test]
async fn where_nobody_listens_nothing_was_done() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let insecure = Credentials::insecure_dev();
    let client = Client::new(vec![nobody.to_string().parse().unwrap()], &insecure).unwrap();
    let client = client.with_timeout(Duration::from_millis(100));
    // As if it had seen a revision: else it fails before it sends the transaction.
    client.saw(Revision(1));
    let error = client.txn(Vec::new(), operation()).await.unwrap_err();
    assert!(matches!(error, ClientError::Unavailable(..)), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}

/// Its machine is frozen or cut off: connections are taken, and nothing is ever said.
#[tokio::test]
async fn a_member_that_says_nothing_is_not_the_first_that_the_next_call_asks() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let first = silent.local_addr().unwrap().to_string();
    let script = Script::default();
    script.answers.lock().unwrap().push_back(Ok(applied()));
    let members = vec![first.parse().unwrap(), script.serve()];
    let client = Client::new(members, &Credentials::insecure_dev()).unwrap();
    client.saw(Revision(1));
    let client = client.with_timeout(Duration::from_millis(500));
    let error = client.txn(Vec::new(), operation()).await.unwrap_err();
    assert!(matches!(error, ClientError::Unknown(..)), "{error}");
    assert_eq!(client.txn(Vec::new(), operation()).await.unwrap(), applied());
}

#[tokio::test]
async fn a_backup_that_ends_early_is_none() {
    let (_script, client) = Script::run([]);
    let mut backup = client.backup().await.unwrap();
    assert_eq!((backup.start.revision, backup.start.bytes), (7, 5));
    assert_eq!(backup.next().await.unwrap().unwrap(), "abc");
    assert!(backup.next().await.unwrap_err().contains("2 bytes too early"));
}

/// Each answer finds its request, whatever their order, refusals too.
#[tokio::test]
async fn on_a_session_each_request_gets_its_own_answer() {
    let (script, client) = Script::run([]);
    let session = client.session();
    let delete = |number: u64| {
        let name = SubnetName::new(&format!("number-{number}")).unwrap();
        session.txn(Vec::new(), vec![Operation::DeleteSubnet(name)])
    };
    let answers = futures::future::join_all((0..40).map(delete)).await;
    assert_eq!(script.asked().len(), 40);
    for (number, answer) in (0..).zip(answers) {
        match answer {
            Ok(Outcome::Applied { revision, .. }) => assert_eq!(revision, Revision(number)),
            Ok(refused) => panic!("{refused:?}"),
            Err(error) => assert_eq!(error.to_string(), format!("number-{number}")),
        }
    }
}

#[tokio::test]
async fn a_session_that_breaks_is_opened_again_and_its_requests_keep_their_ids() {
    let broken = Err(Status::aborted("the stream breaks"));
    let (script, client) = Script::run([Ok(applied()), broken, Ok(applied()), Ok(applied())]);
    let session = client.session();
    let txn = || session.txn(Vec::new(), operation());
    let (one, two) = tokio::join!(txn(), txn());
    assert_eq!((one.unwrap(), two.unwrap()), (applied(), applied()));
    let mut asked: Vec<u128> = script.asked().iter().map(|request| request.id).collect();
    assert_eq!(asked.len(), 4);
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked.len(), 2, "a second try has another id");
}

#[tokio::test]
async fn a_session_without_an_answer_is_unknown_and_one_that_was_never_made_did_nothing() {
    let (_script, client) = Script::run([Ok(applied())]);
    let alone = client.session().txn(Vec::new(), operation()).await.unwrap_err();
    assert!(matches!(alone, ClientError::Unknown(..)), "{alone}");

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let insecure = Credentials::insecure_dev();
    let client = Client::new(vec![nobody.to_string().parse().unwrap()], &insecure).unwrap();
    client.saw(Revision(1));
    let session = client.with_timeout(Duration::from_millis(100)).session();
    let error = session.txn(Vec::new(), operation()).await.unwrap_err();
    assert!(matches!(error, ClientError::Unavailable(..)), "{error}");
}
