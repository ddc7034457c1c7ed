//! An apiserver on a socket, for who finds it by a kubeconfig: it says who it is and as whom it
//! knows who asks, remembers what it is told, and knows nothing else.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Where it listens, and the last object that was applied. Lives as long as the runtime.
pub(crate) async fn listening() -> (SocketAddr, watch::Receiver<Option<Value>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (told, last) = watch::channel(None);
    let told = Arc::new(told);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let told = told.clone();
            let answer = service_fn(move |request| answer(request, told.clone()));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
            tokio::spawn(connection);
        }
    });
    (address, last)
}

async fn answer(
    request: Request<Incoming>,
    told: Arc<watch::Sender<Option<Value>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let said = match (head.method, head.uri.path()) {
        (Method::GET, "/api/v1/namespaces/kube-system") => Some(json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
            "metadata": { "name": "kube-system", "uid": "5e1f" },
        })),
        (Method::POST, "/apis/authentication.k8s.io/v1/selfsubjectreviews") => Some(json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview",
            "metadata": {}, "status": { "userInfo": { "username": "atolld" } },
        })),
        (Method::PATCH, _) => {
            let object: Value = serde_json::from_slice(&body).unwrap();
            told.send_replace(Some(object.clone()));
            Some(object)
        }
        _ => None,
    };
    let code = if said.is_some() { 200 } else { 503 };
    let unknown = json!({ "kind": "Status", "status": "Failure", "code": code });
    let mut response = Response::new(Full::from(said.unwrap_or(unknown).to_string()));
    *response.status_mut() = code.try_into().unwrap();
    Ok(response)
}
