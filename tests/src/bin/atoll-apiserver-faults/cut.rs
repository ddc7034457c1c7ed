//! A watch that is cut when that is ordered.

use std::io;
use std::time::Duration;

use atoll_tests::apiserver_faults::Faults;
use futures::{Stream, stream};
use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Frame};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::orders::Desk;
use crate::pass::{AnswerBody, Error};

/// What comes by a cable just before it is pulled.
const HALF_A_LINE: &[u8] = br#"{"type":"MODIFIED","object":{"kind":"#;

struct Watch {
    body: AnswerBody,
    desk: Desk,
    orders: watch::Receiver<Faults>,
    began: Instant,
    is_cut: bool,
}

/// What passes of a watch that begins now.
pub(crate) fn watch(
    body: AnswerBody,
    desk: Desk,
) -> impl Stream<Item = Result<Frame<Bytes>, Error>> + Send + 'static {
    let orders = desk.follow();
    let watch = Watch { body, desk, orders, began: Instant::now(), is_cut: false };
    stream::unfold(watch, |mut watch| async move {
        if watch.is_cut {
            let end = Error::from(io::Error::other("cut, as ordered"));
            return Some((Err(end), watch));
        }
        tokio::select! {
            frame = watch.body.frame() => frame.map(|frame| (frame, watch)),
            () = is_to_be_cut(&mut watch.orders, watch.began) => {
                watch.is_cut = true;
                watch.desk.hurt();
                Some((Ok(Frame::data(Bytes::from_static(HALF_A_LINE))), watch))
            }
        }
    })
}

/// Returns when a watch that began then is to be cut.
async fn is_to_be_cut(orders: &mut watch::Receiver<Faults>, began: Instant) {
    loop {
        let Faults { cut_watches_ms, watches_gone, status, .. } = *orders.borrow_and_update();
        if watches_gone || status.is_some() {
            return;
        }
        let time = async {
            match cut_watches_ms {
                Some(ms) => sleep_until(began + Duration::from_millis(ms)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = time => return,
            changed = orders.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}
