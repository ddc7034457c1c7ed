//! A backup into a file.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use atoll_api::{Backup, Client};

use crate::Failure;

/// Writes a backup of the cluster to a file that is not there yet; it gets its name when it is whole
/// and on the disk.
pub(crate) async fn run(client: &Client, file: &Path) -> Result<(), Failure> {
    if file.exists() {
        return Err(there_already(file));
    }
    let mut backup = client.backup().await?;
    let part = file.with_extension("part");
    let written = write(&part, &mut backup).await;
    let done = written.and_then(|()| match std::fs::hard_link(&part, file) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(there_already(file)),
        other => Ok(other.with_context(|| format!("cannot make {}", file.display()))?),
    });
    // What is left of one that failed is of no use.
    let _ = std::fs::remove_file(&part);
    done?;
    sync_directory(file).with_context(|| format!("cannot sync {}", file.display()))?;
    let start = &backup.start;
    let (cluster, revision, bytes) = (&start.cluster, start.revision, start.bytes);
    writeln!(std::io::stdout(), "cluster {cluster}, revision {revision}, {bytes} bytes")?;
    Ok(())
}

fn there_already(file: &Path) -> Failure {
    Failure::Refused(format!("{} is there already; name another file", file.display()))
}

async fn write(path: &Path, backup: &mut Backup) -> Result<(), Failure> {
    let name = || format!("cannot write {}", path.display());
    // It holds the names of everything in the cluster: nobody else's business.
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    let file: &mut File = file.as_mut().map_err(|error| anyhow::anyhow!("{}: {error}", name()))?;
    let broken = |why: String| anyhow::anyhow!("the backup broke off: {why}; try again");
    while let Some(part) = backup.next().await.map_err(broken)? {
        file.write_all(&part).with_context(name)?;
    }
    file.sync_all().with_context(name)?;
    Ok(())
}

fn sync_directory(file: &Path) -> std::io::Result<()> {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}
