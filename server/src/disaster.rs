//! What is done to a member's data directory while no member runs on it: a cluster is made of a
//! backup, or of what is left of one.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use atoll_raft::{OpenError, RestoreError, RestoreTarget, inspect_backup, remains, restore};
use clap::{Args, Subcommand};

use crate::config::Config;

/// What may be asked of a member that does not run.
#[derive(Debug, Subcommand)]
pub enum Disaster {
    /// Makes this member's data directory, which must be empty, from a backup: the first member of a
    /// new cluster. Start it, then the others with empty data directories.
    ///
    /// The restored cluster is another one: what belongs to the old one (databases, agents) accepts
    /// it once and never goes back. Nobody gets an address until every node has told what is plugged
    /// in there, or is waived or fenced; running pods keep what they have.
    #[command(after_help = "Example:\n  atolld restore --config /etc/atoll/atolld.toml \\\n    \
        --from backup.atoll")]
    Restore(Restore),
    /// Writes what this member still has as a backup, when there is no quorum and no other one. Of
    /// two members take the one that has come further; stop both first.
    #[command(after_help = "Example:\n  atolld remains --config /etc/atoll/atolld.toml \\\n    \
        --to remains.atoll\n  atolld backup-info remains.atoll")]
    Remains(Remains),
    /// Checks a backup as a restore would, and says what it is of.
    #[command(after_help = "Example:\n  atolld backup-info backup.atoll")]
    BackupInfo {
        /// The backup.
        file: PathBuf,
    },
}

/// `restore`
#[derive(Debug, Args)]
pub struct Restore {
    /// The member's configuration file: its name, address and data directory.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The backup.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// The configuration is one for `--insecure-dev`.
    #[arg(long)]
    insecure_dev: bool,
}

/// `remains`
#[derive(Debug, Args)]
pub struct Remains {
    /// The member's configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The backup to write; it must not be there.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// The configuration is one for `--insecure-dev`.
    #[arg(long)]
    insecure_dev: bool,
}

/// How a command ended, other than well.
#[derive(Debug)]
pub enum DisasterError {
    /// It could not be done.
    Failed(anyhow::Error),
    /// What was named is not what it should be; nothing was changed.
    Refused(anyhow::Error),
}

impl From<anyhow::Error> for DisasterError {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<RestoreError> for DisasterError {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::Backup(_) | RestoreError::NotEmpty(_) => Self::Refused(error.into()),
            other => Self::Failed(other.into()),
        }
    }
}

impl From<OpenError> for DisasterError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::InUse(_) => {
                Self::Refused(anyhow::Error::new(error).context("stop the member first"))
            }
            other => Self::Failed(other.into()),
        }
    }
}

impl Disaster {
    /// Carries the command out; results go to `out`.
    ///
    /// # Errors
    ///
    /// [`DisasterError`].
    pub async fn run(&self, out: &mut impl Write) -> Result<(), DisasterError> {
        match self {
            Self::Restore(arguments) => arguments.run(out).await,
            Self::Remains(arguments) => arguments.run(out).await,
            Self::BackupInfo { file } => print_info(out, read(file)?),
        }
    }
}

impl Restore {
    async fn run(&self, out: &mut impl Write) -> Result<(), DisasterError> {
        let config = load(&self.config, self.insecure_dev)?;
        let Config { data_dir, name, advertise, .. } = config;
        let target = RestoreTarget { data_dir, name, advertise };
        let restored = restore(&target, read(&self.from)?).await?;
        let told = writeln!(
            out,
            "cluster {} begins at revision {} with member {} ({}) in {}\n\
             {} nodes have to tell what is plugged in before anybody gets an address\n\
             next: start this member, then the others with empty data directories",
            restored.cluster,
            restored.revision,
            target.name,
            restored.member,
            target.data_dir.display(),
            restored.unreported,
        );
        Ok(told.context("cannot print")?)
    }
}

impl Remains {
    async fn run(&self, out: &mut impl Write) -> Result<(), DisasterError> {
        let config = load(&self.config, self.insecure_dev)?;
        if !config.data_dir.join("identity").exists() {
            let why = format!("{} is no member's data directory", config.data_dir.display());
            return Err(DisasterError::Refused(anyhow::Error::msg(why)));
        }
        let bytes = remains(&config.data_dir, &config.name)?;
        atoll_api::pki::write_new(&self.to, &bytes)
            .map_err(|error| DisasterError::Refused(error.into()))?;
        print_info(out, bytes)
    }
}

fn load(path: &Path, insecure_dev: bool) -> anyhow::Result<Config> {
    Config::load(path, insecure_dev).with_context(|| path.display().to_string())
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

fn print_info(out: &mut impl Write, bytes: Vec<u8>) -> Result<(), DisasterError> {
    let length = bytes.len();
    let info = inspect_backup(bytes)?;
    let [nodes, pods, subnets] = info.counts;
    let told = writeln!(
        out,
        "cluster {}, revision {} (entry {}), digest {:032x}\n\
         {nodes} nodes, {pods} pods, {subnets} subnets, {length} bytes",
        info.cluster, info.revision, info.applied, info.digest,
    );
    Ok(told.context("cannot print")?)
}
