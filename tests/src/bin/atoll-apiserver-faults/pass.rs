//! One request, passed on or not.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use atoll_tests::apiserver_faults::{ListFault, PAGE};
use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING};
use hyper::{Request, Response, StatusCode, Uri};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use crate::cut;
use crate::orders::Desk;
use crate::tamper::{self, Asked};

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type AnswerBody = UnsyncBoxBody<Bytes, Error>;
pub(crate) type Answer = Response<AnswerBody>;

/// What all connections share.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) client: Client,
    pub(crate) desk: Desk,
}

impl Proxy {
    /// Answers as the apiserver does, or as is ordered.
    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Answer {
        let asked = Asked::of(request.method(), request.uri());
        let counts = self.desk.counts();
        counts.requests.fetch_add(1, Ordering::Relaxed);
        match asked {
            Asked::List => counts.lists.fetch_add(1, Ordering::Relaxed),
            Asked::Watch => counts.watches.fetch_add(1, Ordering::Relaxed),
            Asked::Other => 0,
        };
        let faults = self.desk.faults();
        if faults.delay_ms > 0 {
            self.desk.hurt();
            tokio::time::sleep(Duration::from_millis(faults.delay_ms)).await;
        }
        if let Some(code) = faults.status {
            self.desk.hurt();
            return refusal(code, "InternalError", "ordered");
        }
        match (asked, faults.lists) {
            (Asked::Watch, _) if faults.watches_gone => {
                self.desk.hurt();
                refusal(410, "Expired", "too old resource version: ordered")
            }
            (Asked::Watch, _) => self.watch(request).await,
            (Asked::List, Some(fault)) => {
                self.desk.hurt();
                self.list(request, fault).await
            }
            _ => self.pass(request, None).await.unwrap_or_else(|error| bad_gateway(&error)),
        }
    }

    async fn pass(&self, request: Request<Incoming>, other: Option<Uri>) -> Result<Answer, Error> {
        let (mut head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        for name in [HOST, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
            head.headers.remove(name);
        }
        head.uri = match other {
            Some(uri) => uri,
            None => {
                head.uri.path_and_query().map(ToString::to_string).unwrap_or_default().parse()?
            }
        };
        head.extensions.clear();
        let request = Request::from_parts(head, Body::from(body.to_vec()));
        let (mut head, body) = self.client.send(request).await?.into_parts();
        head.headers.remove(CONNECTION);
        head.headers.remove(TRANSFER_ENCODING);
        Ok(Response::from_parts(head, body.map_err(Error::from).boxed_unsync()))
    }

    /// Passes a watch on until it is to be cut.
    async fn watch(&self, request: Request<Incoming>) -> Answer {
        match self.pass(request, None).await {
            Ok(answer) => {
                let (head, body) = answer.into_parts();
                let body = StreamBody::new(cut::watch(body, self.desk.clone()));
                Response::from_parts(head, body.boxed_unsync())
            }
            Err(error) => bad_gateway(&error),
        }
    }

    async fn list(&self, request: Request<Incoming>, fault: ListFault) -> Answer {
        let continues = tamper::parameter(request.uri(), "continue").is_some();
        if continues && fault == ListFault::RefusedHalfWay {
            return refusal(410, "Expired", "The provided continue parameter is too old: ordered");
        }
        let small = tamper::paged(request.uri(), PAGE, fault == ListFault::Endless);
        let uri = (fault != ListFault::Half).then_some(small);
        let answer = match self.pass(request, uri).await {
            Ok(answer) => answer,
            Err(error) => return bad_gateway(&error),
        };
        let (mut head, body) = answer.into_parts();
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return bad_gateway(&error),
        };
        head.headers.remove(CONTENT_LENGTH);
        if fault == ListFault::Cut {
            let half = body.slice(..body.len() / 2);
            let end = Err(Error::from(io::Error::other("cut, as ordered")));
            let frames = stream::iter([Ok(Frame::data(half)), end]);
            return Response::from_parts(head, StreamBody::new(frames).boxed_unsync());
        }
        let changed = tamper::changed(&body, fault).map_or(body, Bytes::from);
        Response::from_parts(head, whole(changed))
    }
}

fn whole(body: Bytes) -> AnswerBody {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
}

/// A `Status`, as an apiserver says no.
fn refusal(code: u16, reason: &str, message: &str) -> Answer {
    let status: Value = json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "reason": reason, "message": message, "code": code,
    });
    let mut answer = Response::new(whole(Bytes::from(status.to_string())));
    *answer.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    answer
}

/// The apiserver itself is away.
fn bad_gateway(error: &Error) -> Answer {
    refusal(502, "BadGateway", &error.to_string())
}
