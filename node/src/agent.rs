//! The agent: which loops run, and in which order they start and stop.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use atoll_api::{Client, Credentials};
use atoll_cni_wire::Tombstone;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::applied::{Progress, Words};
use crate::attach::Attacher;
use crate::attached::Attached;
use crate::brake::Brake;
use crate::cni::{Attachments as _, DelRequest, Limits, Server};
use crate::config::Config;
use crate::inventory::Teller;
use crate::keep::Ground;
use crate::metrics::{Meter, Readings};
use crate::neighbours::Neighbours;
use crate::ovs::Ovs;
use crate::pause::Pause;
use crate::queue::Queue;
use crate::view::View;
use crate::{
    cache, connections, follow, inventory, leg, metrics, mirror, over, pause, priority, southbound,
    trace,
};

/// How long a deletion may take that the plugin could not tell.
const TOMBSTONE: Duration = Duration::from_secs(10);

/// How long until deletions are tried again that failed at the start: Open vSwitch may come up
/// after the agent.
const BURY_AGAIN: Duration = Duration::from_secs(10);

/// How long deletions wait for Open vSwitch's database.
const BURY_OVS: Duration = Duration::from_secs(3);

/// How long a call to the store may take; the loops come back by themselves.
const CALL: Duration = Duration::from_secs(5);

/// How long a fresh agent waits for a member before it changes the node by what is on the disk, which
/// may be older than what is in force: a subnet of the last half second would go for a moment.
const FIRST_WORD: Duration = Duration::from_secs(2);

/// Runs the agent until `cancel`. Stopping changes nothing on the node: pods go on talking.
///
/// # Errors
///
/// Whatever keeps it from starting.
pub async fn run(
    config: Config,
    credentials: Credentials,
    cancel: CancellationToken,
) -> anyhow::Result<()> {
    let config = Arc::new(config);
    std::fs::create_dir_all(&config.state_dir)
        .with_context(|| format!("cannot make {}", config.state_dir.display()))?;
    let cached = cache::load(&config.state_dir);
    if let Some(lineage) = cached.lineage() {
        tracing::info!(revision = %lineage.revision, "working from the cache until a member answers");
    }
    let (views, view) = watch::channel(cached);
    let client = Client::new(config.endpoints.clone(), &credentials)?
        .for_node(config.node.clone())
        .with_timeout(CALL);
    let tasks = TaskTracker::new();
    let (southbound, asking) =
        southbound::watch(config.ovn_run_dir.clone(), config.state_dir.clone(), cancel.clone());
    tasks.spawn(asking);
    let (pause, looking) = pause::watch(config.state_dir.clone(), cancel.clone());
    tasks.spawn(looking);
    if let Some(paused) = pause.now() {
        tracing::warn!("{}: nothing on this node is changed", paused.describe());
    }
    let parts = Parts {
        queue: Queue::open(&config.state_dir.join("queue")).context("cannot open the queue")?,
        ovs: Ovs::start(&config.ovs_db, cancel.clone()),
        attached: Attached::open(&config.state_dir.join("attached"))
            .context("cannot open the records of what is plugged in")?,
        view,
        client,
        southbound,
        pause,
        meter: Meter::default(),
        brake: Brake::open(&config.state_dir),
        progress: Progress::default(),
        config: config.clone(),
    };
    let attacher = parts.attacher();
    // Bound before tombstones are read: a plugin either reaches us or has left one by now.
    let server = Server::bind(&config.cni_socket, Limits::default()).await?;
    let server = server.counted(parts.meter.clone());

    let (heard, first_word) = watch::channel(false);
    let following = follow::run(
        parts.client.clone(),
        views,
        heard,
        parts.meter.clone(),
        parts.brake.clone(),
        cancel.clone(),
    );
    tasks.spawn(following);
    tasks.spawn(parts.brake.clone().keep(cancel.clone()));
    parts.tell(&tasks, credentials, &cancel);
    parts.change(&tasks, &attacher, &first_word, &cancel);
    tracing::info!(node = %config.node, "agent started");
    if !bury(&config.tombstones, &attacher).await {
        tasks.spawn(bury_rest(config.clone(), attacher.clone(), cancel.clone()));
    }
    server.serve(attacher, cancel.clone()).await;
    cancel.cancel();
    tasks.close();
    tasks.wait().await;
    Ok(())
}

/// What the loops share.
struct Parts {
    config: Arc<Config>,
    client: Client,
    view: watch::Receiver<View>,
    ovs: Ovs,
    queue: Queue,
    attached: Attached,
    southbound: southbound::Told,
    pause: Pause,
    meter: Meter,
    brake: Brake,
    progress: Progress,
}

impl Parts {
    fn attacher(&self) -> Arc<Attacher> {
        Arc::new(Attacher {
            config: self.config.clone(),
            views: self.view.clone(),
            ovs: self.ovs.clone(),
            queue: self.queue.clone(),
            attached: self.attached.clone(),
            southbound: self.southbound.clone(),
            pause: self.pause.clone(),
        })
    }

    /// Loops that keep and tell what is so.
    fn tell(&self, tasks: &TaskTracker, credentials: Credentials, cancel: &CancellationToken) {
        let Self { config, client, view, .. } = self;
        tasks.spawn(cache::keep(config.state_dir.clone(), view.clone(), cancel.clone()));
        let queue = self.queue.clone();
        tasks.spawn(queue.drain(client.clone(), config.node.clone(), cancel.clone()));
        let teller = Teller {
            node: config.node.clone(),
            client: client.clone(),
            ovs: self.ovs.clone(),
            records: self.attached.clone(),
            meter: self.meter.clone(),
        };
        tasks.spawn(inventory::keep(teller, view.clone(), cancel.clone()));
        let readings = Readings {
            node: config.node.clone(),
            views: view.clone(),
            ovs: self.ovs.clone(),
            progress: self.progress.clone(),
            southbound: self.southbound.clone(),
            pause: self.pause.clone(),
            queue: self.queue.clone(),
            tombstones: config.tombstones.clone(),
            meter: self.meter.clone(),
            brake: self.brake.clone(),
        };
        tasks.spawn(metrics::keep(config.metrics_listen, credentials, readings, cancel.clone()));
        let neighbours = Neighbours::default();
        tasks.spawn(neighbours.clone().keep(cancel.clone()));
        let (ovs, southbound) = (self.ovs.clone(), self.southbound.clone());
        let (traces, tracing) = trace::keep(config.clone(), ovs, southbound, cancel.clone());
        tasks.spawn(tracing);
        let words = Words {
            neighbours,
            traces,
            pause: self.pause.clone(),
            views: view.clone(),
            meter: self.meter.clone(),
            brake: self.brake.clone(),
        };
        let (node, progress) = (config.node.clone(), self.progress.clone());
        tasks.spawn(progress.tell(client.clone(), node, words, cancel.clone()));
    }

    /// Loops that change the node.
    fn change(
        &self,
        tasks: &TaskTracker,
        attacher: &Arc<Attacher>,
        first_word: &watch::Receiver<bool>,
        cancel: &CancellationToken,
    ) {
        let Self { config, view, pause, meter, progress, .. } = self;
        let ground = Ground {
            ovs: self.ovs.clone(),
            views: view.clone(),
            pause: pause.clone(),
            meter: meter.clone(),
        };
        let far = progress.clone();
        let ended = connections::keep(config.clone(), ground.clone(), far, cancel.clone());
        tasks.spawn(after(first_word.clone(), ended));
        tasks.spawn(over::keep(
            attacher.clone(),
            view.clone(),
            meter.clone(),
            self.brake.clone(),
            cancel.clone(),
        ));
        let config = config.clone();
        tasks.spawn(priority::keep(config.clone(), pause.clone(), meter.clone(), cancel.clone()));
        let copies = mirror::keep(config.clone(), ground.clone(), cancel.clone());
        tasks.spawn(after(first_word.clone(), copies));
        let (client, far) = (self.client.clone(), progress.clone());
        let kept = leg::keep(config, client, ground, far, cancel.clone());
        tasks.spawn(after(first_word.clone(), kept));
    }
}

/// Changes the node once a member has been heard, or was waited for.
async fn after(mut heard: watch::Receiver<bool>, changes: impl Future<Output = ()>) {
    // Who cannot be heard any more is not waited for either.
    let _ = tokio::time::timeout(FIRST_WORD, heard.wait_for(|is_heard| *is_heard)).await;
    changes.await;
}

/// Carries out what could not be carried out at the start, until all is done or `cancel`.
async fn bury_rest(config: Arc<Config>, attacher: Arc<Attacher>, cancel: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(BURY_AGAIN) => {}
            () = cancel.cancelled() => return,
        }
        if bury(&config.tombstones, &attacher).await {
            return;
        }
    }
}

/// Carries out the deletions that plugins left while no agent listened. False if one of them has
/// to be tried again.
async fn bury(dir: &Path, attacher: &Attacher) -> bool {
    let found = match Tombstone::read_all(dir) {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, "tombstones cannot be read");
            return false;
        }
    };
    // Without Open vSwitch none of them can be, nor under a pause; pods wait for us at the start.
    if found.is_empty()
        || attacher.pause.now().is_some()
        || attacher.ovs.session(BURY_OVS).await.is_err()
    {
        return found.is_empty();
    }
    let mut is_done = true;
    for tombstone in found {
        let (path, tombstone) = match tombstone {
            Ok(tombstone) => tombstone,
            Err(error) => {
                tracing::warn!(%error, "a tombstone cannot be read");
                continue;
            }
        };
        let request = DelRequest::from_tombstone(tombstone, Instant::now() + TOMBSTONE);
        if let Err(error) = attacher.del(request).await {
            tracing::warn!(%error, "a late deletion failed; it is tried again");
            is_done = false;
            continue;
        }
        match Tombstone::remove(&path) {
            Ok(()) => tracing::info!(path = %path.display(), "a late deletion was carried out"),
            Err(error) => tracing::warn!(%error, "a tombstone cannot be removed"),
        }
    }
    is_done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nothing_is_changed_before_a_member_was_heard_or_waited_for() {
        let begun = Instant::now();
        let (tell, heard) = watch::channel(false);
        let speak = async {
            tokio::time::sleep(FIRST_WORD / 2).await;
            tell.send_replace(true);
        };
        tokio::join!(speak, after(heard.clone(), async {}));
        assert_eq!(begun.elapsed(), FIRST_WORD / 2);
        let since = begun.elapsed();
        after(heard, async {}).await;
        assert_eq!(begun.elapsed(), since, "heard before");
        let silent = tell.subscribe();
        tell.send_replace(false);
        after(silent, async {}).await;
        assert_eq!(begun.elapsed(), since + FIRST_WORD);
    }
}
