//! One request of HTTP: what is let in, how much of it is read, and what it is answered.
//!
//! Whatever is not answered with a verdict is no refusal: the apiserver goes on without
//! (`failurePolicy: Ignore`), and the store judges later.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes};
use hyper::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::Semaphore;

use super::judge::judge;
use super::review;
use crate::store::Store;

/// Objects are stored in at most 1.5 MiB, as a rule, and an update holds two of them.
const BODY_BYTES_MAX: usize = 4 << 20;

/// Bodies that are read at once: 64 MiB of memory at the most.
const REQUESTS_MAX: usize = 16;

/// How long a body may take to arrive; the apiserver does not wait longer for the answer.
const BODY_DEADLINE: Duration = Duration::from_secs(2);

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Whoever answers.
#[derive(Debug)]
pub(super) struct Desk<S> {
    store: S,
    /// The one path at which something is.
    path: String,
    room: Semaphore,
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
enum NoVerdict {
    #[error("nothing is here")]
    Elsewhere,
    #[error("an AdmissionReview is posted")]
    Method,
    #[error("an AdmissionReview is application/json")]
    ContentType,
    #[error("{REQUESTS_MAX} requests are being read; try again")]
    Busy,
    #[error("this member is not part of its cluster now, or hears no leader; it judges nothing")]
    Stale,
    #[error("an AdmissionReview has at most {BODY_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the request did not arrive within {BODY_DEADLINE:?}")]
    TooSlow,
    #[error("the request broke off: {0}")]
    BrokenOff(String),
    #[error(transparent)]
    Malformed(#[from] review::Malformed),
}

impl NoVerdict {
    fn code(&self) -> StatusCode {
        match self {
            Self::Elsewhere => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Busy | Self::Stale => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::BrokenOff(_) | Self::Malformed(_) => StatusCode::BAD_REQUEST,
        }
    }
}

impl<S: Store> Desk<S> {
    /// Answers at `path` only, which nobody can guess.
    pub(super) fn new(store: S, path: String) -> Self {
        Self { store, path, room: Semaphore::new(REQUESTS_MAX) }
    }

    /// Answers.
    pub(super) async fn answer<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let (code, kind, body) = match self.verdict(request).await {
            Ok(body) => (StatusCode::OK, JSON, body),
            Err(error) => {
                tracing::debug!(%error, "a question to the webhook has no verdict");
                (error.code(), TEXT, format!("{error}\n"))
            }
        };
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = code;
        response.headers_mut().insert(CONTENT_TYPE, kind);
        if code == StatusCode::METHOD_NOT_ALLOWED {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        }
        response
    }

    async fn verdict<B>(&self, request: Request<B>) -> Result<String, NoVerdict>
    where
        B: Body,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        if request.uri().path() != self.path {
            return Err(NoVerdict::Elsewhere);
        }
        if request.method() != Method::POST {
            return Err(NoVerdict::Method);
        }
        check_headers(request.headers())?;
        if !self.store.is_fresh() {
            return Err(NoVerdict::Stale);
        }
        let _room = self.room.try_acquire().map_err(|_| NoVerdict::Busy)?;
        let request = review::read(&read(request.into_body()).await?)?;
        let verdict = judge(&self.store, &request)?;
        if let review::Verdict::Refused(why) = &verdict {
            tracing::debug!(resource = %request.resource.resource, why, "refused early");
        }
        Ok(review::answer(&request.uid, &verdict).to_string())
    }
}

fn check_headers(headers: &HeaderMap) -> Result<(), NoVerdict> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let is_json = text(CONTENT_TYPE).and_then(|it| it.split(';').next()).map(str::trim);
    if is_json != Some("application/json") {
        return Err(NoVerdict::ContentType);
    }
    let length = text(CONTENT_LENGTH).and_then(|it| it.parse::<usize>().ok());
    match length.is_some_and(|length| length > BODY_BYTES_MAX) {
        true => Err(NoVerdict::TooLarge),
        false => Ok(()),
    }
}

async fn read<B>(body: B) -> Result<Bytes, NoVerdict>
where
    B: Body,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let all = Limited::new(body, BODY_BYTES_MAX).collect();
    let all = tokio::time::timeout(BODY_DEADLINE, all).await.map_err(|_| NoVerdict::TooSlow)?;
    all.map(http_body_util::Collected::to_bytes).map_err(|error| {
        match error.is::<LengthLimitError>() {
            true => NoVerdict::TooLarge,
            false => NoVerdict::BrokenOff(error.to_string()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use futures::FutureExt as _;
    use hyper::body::Frame;

    use crate::fake::Fake;

    const PATH: &str = "/secret";

    fn request<B>(body: B) -> Request<B> {
        let request = Request::post(format!("{PATH}?timeout=2s"));
        request.header(CONTENT_TYPE, "application/json; charset=utf-8").body(body).unwrap()
    }

    /// What was said, and under which code.
    async fn asked<B>(request: Request<B>) -> (u16, String)
    where
        B: Body,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let desk = Desk::new(Fake::new(), PATH.to_owned());
        let response = tokio::time::timeout(BODY_DEADLINE * 2, desk.answer(request)).await.unwrap();
        let code = response.status().as_u16();
        let said = response.into_body().collect().await.unwrap().to_bytes();
        (code, String::from_utf8(said.to_vec()).unwrap())
    }

    /// A body of that many mebibytes, of which nobody said how long it is; then it stands still.
    struct Endless(usize);

    impl Body for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if self.0 == 0 {
                return Poll::Pending;
            }
            self.0 -= 1;
            Poll::Ready(Some(Ok(Frame::data(vec![b' '; 1 << 20].into()))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_question_is_turned_away_with_a_reason() {
        let empty = || Full::<Bytes>::from("{}");
        let mut elsewhere = request(empty());
        *elsewhere.uri_mut() = "/secret/more".parse().unwrap();
        let mut get = request(empty());
        *get.method_mut() = Method::GET;
        let mut form = request(empty());
        form.headers_mut().insert(CONTENT_TYPE, TEXT);
        let mut announced = request(empty());
        announced.headers_mut().insert(CONTENT_LENGTH, (BODY_BYTES_MAX + 1).into());
        let cases = [
            (asked(elsewhere).await, 404, "nothing is here"),
            (asked(get).await, 405, "is posted"),
            (asked(form).await, 415, "application/json"),
            (asked(announced).await, 413, "at most 4194304 bytes"),
            (asked(request(Endless(5))).await, 413, "at most 4194304 bytes"),
            (asked(request(Endless(1))).await, 408, "did not arrive within 2s"),
            (asked(request(empty())).await, 400, "no AdmissionReview: "),
        ];
        for ((code, text), expected, rule) in cases {
            assert!(code == expected && text.contains(rule), "{expected} {rule}: {code} {text}");
        }
    }

    #[tokio::test]
    async fn no_more_is_read_than_there_is_room_for() {
        let desk = Desk::new(Fake::new(), PATH.to_owned());
        let mut held = Vec::new();
        for _ in 0..REQUESTS_MAX {
            let mut answer = Box::pin(desk.answer(request(Endless(1))));
            assert!(answer.as_mut().now_or_never().is_none(), "it waits for the rest");
            held.push(answer);
        }
        let code = async || desk.answer(request(Full::<Bytes>::from("{}"))).await.status();
        assert_eq!(code().await, StatusCode::SERVICE_UNAVAILABLE);
        held.pop();
        assert_eq!(code().await, StatusCode::BAD_REQUEST);
    }
}
