//! An apiserver that gives one answer after another, whatever it is asked.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use http::{Request, Response};
use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame};
use kube::Client;
use kube::client::Body;
use serde_json::Value;

/// What an apiserver was asked: method and path, with the query.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked(Arc<Mutex<Vec<String>>>);

impl Asked {
    /// Everything until now.
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn push(&self, request: &Request<Body>) {
        let text = format!("{} {}", request.method(), request.uri());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }
}

/// Answers of these codes, each of some lines, of which a number means that so many seconds pass;
/// when they are used up it says nothing more.
pub(crate) fn apiserver(answers: Vec<(u16, Vec<Value>)>) -> (Client, Asked) {
    let asked = Asked::default();
    let (log, mut answers) = (asked.clone(), answers.into_iter());
    let service = tower::service_fn(move |request: Request<Body>| {
        log.push(&request);
        let answer = answers.next();
        async move {
            let Some((code, lines)) = answer else { return std::future::pending().await };
            let frames = futures::stream::iter(lines).then(frame);
            let mut response = Response::new(StreamBody::new(frames));
            *response.status_mut() = code.try_into().unwrap();
            Ok::<_, Infallible>(response)
        }
    });
    (Client::new(service, "default"), asked)
}

async fn frame(line: Value) -> Result<Frame<Bytes>, Infallible> {
    let text = match line.as_u64() {
        Some(seconds) => {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            String::new()
        }
        None => format!("{line}\n"),
    };
    Ok(Frame::data(Bytes::from(text)))
}
