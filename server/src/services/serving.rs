//! Whose ovn-central serves, for agents that do not trust the member they watch.

use atoll_api::proto::ServingResponse;
use atoll_raft::{Published, Store};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tonic::Status;

/// The latest choice, looked up once for all streams of it.
#[derive(Debug, Clone)]
pub(super) struct Serving {
    latest: watch::Receiver<Option<ServingResponse>>,
}

impl Serving {
    pub(super) fn new(store: &Store) -> Self {
        let mut published = store.published();
        let (sender, latest) = watch::channel(None);
        tokio::spawn(async move {
            loop {
                let now = choice(&published.borrow_and_update());
                sender.send_if_modified(|known| {
                    *known != now && {
                        *known = now;
                        true
                    }
                });
                tokio::select! {
                    changed = published.changed() => if changed.is_err() { return },
                    () = sender.closed() => return,
                }
            }
        });
        Self { latest }
    }

    pub(super) fn stream(&self) -> BoxStream<'static, Result<ServingResponse, Status>> {
        let choices = WatchStream::new(self.latest.clone());
        choices.filter_map(async |choice| choice.map(Ok)).boxed()
    }
}

fn choice(now: &Published) -> Option<ServingResponse> {
    let central = now.state.central().filter(|_| now.is_formed())?;
    Some(ServingResponse {
        cluster: now.lineage.cluster.to_string(),
        central: Some(central.as_ref().into()),
    })
}
