//! An apiserver that gives one answer after another, whatever it is asked.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use http::{Request, Response};
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

/// Answers of these codes, each of some lines; when they are used up it says nothing more.
pub(crate) fn apiserver(answers: Vec<(u16, Vec<Value>)>) -> (Client, Asked) {
    let asked = Asked::default();
    let (log, mut answers) = (asked.clone(), answers.into_iter());
    let service = tower::service_fn(move |request: Request<Body>| {
        log.push(&request);
        let answer = answers.next();
        async move {
            let Some((code, lines)) = answer else { return std::future::pending().await };
            let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
            let mut response = Response::new(Body::from(body.into_bytes()));
            *response.status_mut() = code.try_into().unwrap();
            Ok::<_, Infallible>(response)
        }
    });
    (Client::new(service, "default"), asked)
}
