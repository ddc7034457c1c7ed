//! The view on disk: a restarted agent works from it before any member answers.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::view::View;

const FILE: &str = "view";

/// At most one write in this time: a burst of pods is one write, and a crash costs at most this
/// much, which the next watch makes good.
const WRITE_EVERY: Duration = Duration::from_millis(500);

/// Pause after a write that failed.
const WRITE_AGAIN: Duration = Duration::from_secs(10);

/// Reads the cached view; an empty one if there is none, or if it is damaged (said in the log).
#[must_use]
pub fn load(dir: &Path) -> View {
    let path = dir.join(FILE);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return View::default(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the cache cannot be read; going on without");
            return View::default();
        }
    };
    match atoll_api::saved::decode(&bytes) {
        Ok((lineage, objects)) => View::restored(lineage, objects),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the cache is damaged; going on without");
            View::default()
        }
    }
}

/// Writes the view whenever it has changed, until `cancel`.
pub async fn keep(dir: PathBuf, mut views: watch::Receiver<View>, cancel: CancellationToken) {
    let mut is_written = true;
    loop {
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return },
            // A full disk may have room again although nothing changed.
            () = tokio::time::sleep(WRITE_AGAIN), if !is_written => {}
            () = cancel.cancelled() => return,
        }
        let view = views.borrow_and_update().clone();
        let dir = dir.clone();
        let saved = tokio::task::spawn_blocking(move || save(&dir, &view)).await;
        let saved = saved.map_err(std::io::Error::other).flatten();
        is_written = saved.is_ok();
        if let Err(error) = saved {
            tracing::warn!(%error, "the cache cannot be written; it is tried again");
        }
        tokio::select! {
            () = tokio::time::sleep(WRITE_EVERY) => {}
            () = cancel.cancelled() => {}
        }
    }
}

fn save(dir: &Path, view: &View) -> std::io::Result<()> {
    let Some(lineage) = view.lineage() else { return Ok(()) };
    let bytes = atoll_api::saved::encode(lineage, &view.objects());
    write_durably(dir, FILE, &bytes)
}

/// Replaces `dir/name` by `bytes`: also after the machine's end there is the old file or the new
/// one.
///
/// # Errors
///
/// Whatever the filesystem says; the old file is then still there.
pub(crate) fn write_durably(dir: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let aside = write_aside(dir, name, bytes)?;
    aside.sync_all()?;
    std::fs::rename(path_aside(dir, name), dir.join(name))?;
    std::fs::File::open(dir)?.sync_all()
}

/// The same without waiting for the disk, for what means nothing to another boot of the machine:
/// the process may die at any moment, and after the machine's own end there may be anything.
///
/// # Errors
///
/// As [`write_durably`].
pub(crate) fn write_for_this_boot(dir: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    write_aside(dir, name, bytes)?;
    std::fs::rename(path_aside(dir, name), dir.join(name))
}

fn write_aside(dir: &Path, name: &str, bytes: &[u8]) -> std::io::Result<std::fs::File> {
    std::fs::create_dir_all(dir)?;
    let mut file = std::fs::File::create(path_aside(dir, name))?;
    file.write_all(bytes)?;
    Ok(file)
}

fn path_aside(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!(".{name}.new"))
}

/// Removes what writes left behind that a crash cut short. Only while nothing is being written.
///
/// # Errors
///
/// The directory cannot be read, or a file cannot be removed.
pub(crate) fn sweep(dir: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(".new")) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_model::{ClusterId, Lineage, Revision};

    #[test]
    fn a_view_survives_a_restart_and_a_damaged_file_is_no_view() {
        let dir = tempfile::tempdir().unwrap();
        assert!(load(dir.path()).lineage().is_none());
        let lineage = Lineage::new(ClusterId(1), Revision(5));
        save(dir.path(), &View::restored(lineage.clone(), Vec::new())).unwrap();
        assert_eq!(load(dir.path()).lineage(), Some(&lineage));
        std::fs::write(dir.path().join(FILE), b"nonsense").unwrap();
        assert!(load(dir.path()).lineage().is_none());
    }
}
