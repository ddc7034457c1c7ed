//! Transactions, one by one or many on a stream: the same checks, the same answers.

use atoll_api::answer;
use atoll_api::identity::Caller;
use atoll_api::proto::session_response::Answer;
use atoll_api::proto::{SessionRequest, SessionResponse, TxnRequest, TxnResponse};
use atoll_model::{Operation, Txn};
use atoll_raft::{ProposeError, Store};
use futures::stream::{BoxStream, Stream, StreamExt};
use tonic::Status;

use super::authority::may_write_as;
use super::store::undecodable;

/// Transactions of one stream that are under way at once: as many as a connection has calls.
const IN_FLIGHT: usize = crate::member::CONCURRENCY;

/// The transaction of a request, checked for who asks; times are stamped by the proposer.
pub(super) fn transaction(caller: &Caller, request: &TxnRequest) -> Result<Txn, Status> {
    let operations = request.operations.iter().map(TryInto::try_into);
    let operations = operations.collect::<Result<Vec<Operation>, _>>().map_err(undecodable)?;
    let actor = may_write_as(caller, &operations)?;
    let preconditions = request.preconditions.iter().map(TryInto::try_into);
    let request_id = request.request.as_ref().map(TryInto::try_into).transpose();
    Ok(Txn {
        request: request_id.map_err(undecodable)?,
        actor,
        preconditions: preconditions.collect::<Result<_, _>>().map_err(undecodable)?,
        operations,
        clock_ms: 0,
        wall_ms: 0,
    })
}

/// Carries one out and waits for what became of it.
pub(super) async fn carry_out(
    store: &Store,
    caller: &Caller,
    request: &TxnRequest,
) -> Result<TxnResponse, Status> {
    match store.propose(transaction(caller, request)?).await {
        Ok(outcome) => Ok(TxnResponse { outcome: Some((&outcome).into()) }),
        Err(ProposeError::NotLeader { leader }) => {
            Err(answer::not_leader(leader.as_ref().map(|leader| leader.address.as_str())))
        }
        Err(ProposeError::Unknown(why)) => Err(answer::unknown(why)),
        Err(error @ ProposeError::TooLarge { .. }) => Err(answer::invalid(error.to_string())),
        Err(error) => Err(answer::unavailable(error.to_string())),
    }
}

/// Carries out what comes on a stream, and answers each as it is done.
///
/// Nothing runs by itself: requests are read while the caller takes its answers and fewer than
/// [`IN_FLIGHT`] are under way, so neither end can make this one hold more.
pub(super) fn session(
    store: Store,
    caller: Caller,
    requests: impl Stream<Item = Result<SessionRequest, Status>> + Send + 'static,
) -> BoxStream<'static, Result<SessionResponse, Status>> {
    // One that cannot be read ends the stream: it has no sequence to answer to.
    let requests = requests.scan((), |(), request| std::future::ready(request.ok()));
    let answers = requests.map(move |SessionRequest { sequence, txn }| {
        let (store, caller) = (store.clone(), caller.clone());
        async move {
            let answer = match carry_out(&store, &caller, &txn.unwrap_or_default()).await {
                Ok(done) => Answer::Done(done),
                Err(status) => Answer::Failed((&status).into()),
            };
            Ok(SessionResponse { sequence, answer: Some(answer) })
        }
    });
    answers.buffer_unordered(IN_FLIGHT).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use atoll_api::answer::{Verdict, verdict};
    use atoll_api::proto::Failed;
    use atoll_model::Outcome;
    use futures::stream;

    use crate::services::testing::{alone, put_node};

    fn request(sequence: u64, operation: &Operation) -> Result<SessionRequest, Status> {
        let txn = TxnRequest { operations: vec![operation.into()], ..TxnRequest::default() };
        Ok(SessionRequest { sequence, txn: Some(txn) })
    }

    fn outcome(response: SessionResponse) -> Result<Outcome, Failed> {
        match response.answer.unwrap() {
            Answer::Done(done) => Ok(done.outcome.unwrap().try_into().unwrap()),
            Answer::Failed(failed) => Err(failed),
        }
    }

    /// One request that may not be made must not take the others with it.
    #[tokio::test]
    async fn each_is_answered_for_itself() {
        let directory = tempfile::tempdir().unwrap();
        let store = alone(directory.path()).await;
        let forbidden = Operation::Reconcile;
        let empty = Ok(SessionRequest { sequence: 4, txn: None });
        let requests = [request(7, &put_node("n1")), request(5, &forbidden), empty];
        let requests = requests.into_iter().chain([request(9, &put_node("n2"))]);
        let answers = session(store.clone(), Caller::Unverified, stream::iter(requests));
        let mut answers: Vec<_> = answers.map(Result::unwrap).collect().await;
        answers.sort_by_key(|answer| answer.sequence);
        let sequences: Vec<u64> = answers.iter().map(|answer| answer.sequence).collect();
        assert_eq!(sequences, [4, 5, 7, 9]);
        let mut answers = answers.into_iter().map(outcome);
        let mut next = || answers.next().unwrap();
        // Nothing asked for is a transaction too, and refused or not as a call's would be.
        assert!(next().is_ok());
        let denied = verdict(&next().unwrap_err().into());
        assert!(matches!(&denied, Verdict::Invalid(why) if why.contains("only the store's")));
        assert!(matches!(next(), Ok(Outcome::Applied { .. })));
        assert!(matches!(next(), Ok(Outcome::Applied { .. })));
        store.shutdown().await;
        let late = session(store, Caller::Unverified, stream::iter([request(1, &put_node("n3"))]));
        let late = late.map(Result::unwrap).map(outcome).collect::<Vec<_>>().await;
        let verdict = verdict(&late[0].clone().unwrap_err().into());
        assert!(matches!(&verdict, Verdict::NothingDone(why) if why.contains("shutting down")));
    }

    /// A caller that sends and never takes an answer cannot make the member hold more and more.
    #[tokio::test]
    async fn no_more_is_read_than_may_be_under_way() {
        let directory = tempfile::tempdir().unwrap();
        let store = alone(directory.path()).await;
        let read = Arc::new(AtomicUsize::new(0));
        let counted = read.clone();
        let requests = stream::iter(0_u64..10_000).map(move |sequence| {
            counted.fetch_add(1, Ordering::Relaxed);
            request(sequence, &put_node("n1"))
        });
        let mut answers = session(store.clone(), Caller::Unverified, requests);
        assert!(answers.next().await.is_some());
        // The one that was answered made room for one more.
        let most = IN_FLIGHT + 1;
        assert!((1..=most).contains(&read.load(Ordering::Relaxed)), "{read:?}");
        tokio::task::yield_now().await;
        assert!(read.load(Ordering::Relaxed) <= most, "{read:?}");
        store.shutdown().await;
    }
}
