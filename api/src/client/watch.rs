//! A watch that goes on where it stopped, on whichever member answers.

use std::sync::atomic::Ordering;
use std::time::Duration;

use atoll_codec::DecodeError;
use atoll_model::{ChangeSet, ClusterId, Lineage, Object, Revision};
use tonic::Streaming;

use super::Client;
use crate::event::{self, Event};
use crate::proto::{self, WatchRequest, WatchResponse};

/// Pause between two members that did not answer.
const PAUSE: Duration = Duration::from_millis(100);

/// A server sends at least a bookmark this often; three missed ones end the stream.
pub const BOOKMARK: Duration = Duration::from_secs(5);

/// What a watcher is told.
#[derive(Debug, Clone)]
pub enum WatchEvent {
    /// The whole state: forget what you had.
    Resync(Lineage, Vec<Object>),
    /// One revision's changes, each exactly once, in order.
    Changes(ChangeSet),
    /// Nothing that concerns you happened up to this revision.
    Bookmark(Lineage),
    /// No member answers at the moment, with the last reason; the watch goes on trying.
    Interrupted(String),
}

/// A resumable stream of [`WatchEvent`]s; it never ends by itself.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    after: Option<(String, Revision)>,
    stream: Option<Streaming<WatchResponse>>,
    parts: Vec<Object>,
}

impl Watch {
    pub(super) fn new(client: Client, after: Option<(String, Revision)>) -> Self {
        Self { client, after, stream: None, parts: Vec::new() }
    }

    /// Forgets the position: the next event is the full state.
    pub fn restart(&mut self) {
        self.after = None;
        self.stream = None;
        self.parts.clear();
    }

    /// Leaves the member that answers at present, because what it says cannot be taken (an older
    /// or foreign state), and goes on with the next one after a pause.
    pub async fn turn_away(&mut self) {
        self.leave();
        tokio::time::sleep(PAUSE * 10).await;
    }

    /// Goes on with the next member, because the present one has nothing to say when it should.
    pub fn leave(&mut self) {
        self.stream = None;
        self.parts.clear();
        self.client.shared.watched.fetch_add(1, Ordering::Relaxed);
    }

    /// The next event. Cancel-safe: no event is lost if the future is dropped.
    pub async fn next(&mut self) -> WatchEvent {
        loop {
            let interrupted = match &mut self.stream {
                None => match self.connect().await {
                    Ok(()) => continue,
                    Err(why) => why,
                },
                Some(stream) => match tokio::time::timeout(BOOKMARK * 3, stream.message()).await {
                    Ok(Ok(Some(message))) => match self.take(message) {
                        Ok(Some(event)) => return event,
                        Ok(None) => continue,
                        Err(error) => format!("unreadable event: {error}"),
                    },
                    Ok(Ok(None)) => "the member ended the watch".to_owned(),
                    Ok(Err(status)) => status.message().to_owned(),
                    Err(_) => format!("nothing came for {:?}", BOOKMARK * 3),
                },
            };
            self.leave();
            tokio::time::sleep(PAUSE).await;
            return WatchEvent::Interrupted(interrupted);
        }
    }

    async fn connect(&mut self) -> Result<(), String> {
        let shared = &self.client.shared;
        let at = shared.watched.load(Ordering::Relaxed);
        let member = &shared.members[at % shared.members.len()];
        let request = WatchRequest {
            after: self.after.as_ref().map_or(0, |(_, revision)| revision.0),
            node: shared.node.as_ref().map(ToString::to_string),
            cluster: self.after.as_ref().map(|(cluster, _)| cluster.clone()),
        };
        let mut store = super::store(member.channel.clone());
        let call = store.watch(request);
        let answer = match tokio::time::timeout(super::ATTEMPT, call).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(status)) => return Err(format!("{}: {}", member.endpoint, status.message())),
            Err(_) => return Err(format!("{}: no answer", member.endpoint)),
        };
        self.stream = Some(answer.into_inner());
        Ok(())
    }

    fn take(&mut self, message: WatchResponse) -> Result<Option<WatchEvent>, DecodeError> {
        Ok(match event::decode(message)? {
            Event::Resync { lineage, objects, last } => {
                self.parts.extend(objects);
                last.then(|| {
                    self.stand_at(&lineage);
                    WatchEvent::Resync(lineage, std::mem::take(&mut self.parts))
                })
            }
            Event::Changes(changes) => {
                self.advance(changes.revision);
                Some(WatchEvent::Changes(changes))
            }
            Event::Bookmark(lineage) => {
                self.stand_at(&lineage);
                Some(WatchEvent::Bookmark(lineage))
            }
        })
    }

    /// A reader that nothing concerns for a long time has still seen how far the store came: what
    /// it asks for next would else count as too old to tell.
    fn stand_at(&mut self, lineage: &Lineage) {
        self.client.saw(lineage.revision);
        self.after = Some((lineage.cluster.to_string(), lineage.revision));
    }

    fn advance(&mut self, revision: Revision) {
        self.client.saw(revision);
        if let Some((_, after)) = &mut self.after {
            *after = revision;
        }
    }
}

/// The lineage of a message.
///
/// # Errors
///
/// [`DecodeError`] if it is missing or a cluster id is none.
pub(crate) fn lineage_of(message: Option<proto::Lineage>) -> Result<Lineage, DecodeError> {
    let bad = |why: String| DecodeError::Field { field: "lineage", why };
    let message = message.ok_or_else(|| bad("is missing".to_owned()))?;
    let id = |text: &str| text.parse::<ClusterId>().map_err(|error| bad(error.to_string()));
    Ok(Lineage {
        cluster: id(&message.cluster)?,
        ancestors: message.ancestors.iter().map(|text| id(text)).collect::<Result<_, _>>()?,
        revision: Revision(message.revision),
    })
}

impl From<&Lineage> for proto::Lineage {
    fn from(lineage: &Lineage) -> Self {
        Self {
            cluster: lineage.cluster.to_string(),
            ancestors: lineage.ancestors.iter().map(ToString::to_string).collect(),
            revision: lineage.revision.0,
        }
    }
}
