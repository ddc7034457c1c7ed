//! The file of a database.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::process::Command;

/// For one run of `ovsdb-tool`; a large database takes seconds to read.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A database file and the schema that it is made from.
#[derive(Debug)]
pub(super) struct DatabaseFile {
    path: PathBuf,
    schema: PathBuf,
    name: &'static str,
}

/// Why there is no file that can be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum DatabaseError {
    #[error("cannot run ovsdb-tool")]
    Tool(#[source] io::Error),
    #[error("ovsdb-tool {command} did not end within {TIMEOUT:?}")]
    Timeout { command: &'static str },
    #[error("ovsdb-tool {command} failed: {message}")]
    Failed { command: &'static str, message: String },
    #[error("cannot write {}", .path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{} is of a cluster whose servers reach each other otherwise: its own is at {found}, and would \
         be at {wanted}; certificates came or went since it was made. It is left as it is; see \
         \"Databases in a cluster\" in the README", .path.display()
    )]
    Address { path: PathBuf, found: String, wanted: String },
    #[error("cannot move {} aside", .path.display())]
    Move {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl DatabaseFile {
    pub(super) fn new(path: PathBuf, schema: PathBuf, name: &'static str) -> Self {
        Self { path, schema, name }
    }

    /// Makes sure that there is a file with our schema. With `suspicious`, reads all of it first.
    ///
    /// Both databases can be made again from what others hold, so nothing is mended here: what
    /// cannot be read is moved aside. Says whether the file is the one that was there.
    pub(super) async fn prepare(&self, suspicious: bool) -> Result<bool, DatabaseError> {
        if self.path.exists() {
            match self.open(suspicious).await {
                Ok(()) => return Ok(true),
                Err(error @ DatabaseError::Failed { .. }) => self.move_aside(&error)?,
                Err(error) => return Err(error),
            }
        }
        tracing::info!(database = self.name, path = %self.path.display(), "new database");
        tool("create", &[self.path.as_os_str(), self.schema.as_os_str()]).await?;
        Ok(false)
    }

    /// Reads the file as the server would, and brings it to our schema.
    async fn open(&self, all: bool) -> Result<(), DatabaseError> {
        let (path, schema) = (self.path.as_os_str(), self.schema.as_os_str());
        if all {
            let nothing = format!(r#"["{}",{{"op":"comment","comment":"check"}}]"#, self.name);
            tool("query", &[path, nothing.as_ref()]).await?;
        }
        if tool("needs-conversion", &[path, schema]).await?.trim() == "yes" {
            tracing::info!(database = self.name, "converted to another version of its schema");
            tool("convert", &[path, schema]).await?;
        }
        Ok(())
    }

    /// Puts the file aside, over the one that was put aside before: nobody looks after them.
    pub(super) fn discard(&self) -> Result<(), DatabaseError> {
        let mut aside = self.path.clone().into_os_string();
        aside.push(".replaced");
        match std::fs::rename(&self.path, aside) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(DatabaseError::Move { path: self.path.clone(), source })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn move_aside(&self, why: &DatabaseError) -> Result<(), DatabaseError> {
        move_aside(self.name, &self.path, &why)
    }
}

/// Keeps a file that is of no use any more, for people.
pub(super) fn move_aside(
    database: &str,
    path: &Path,
    why: &dyn std::fmt::Display,
) -> Result<(), DatabaseError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut aside = path.to_path_buf().into_os_string();
    aside.push(format!(".damaged-{}", now.as_millis()));
    let aside = Path::new(&aside);
    tracing::error!(
        database,
        error = %why,
        kept_as = %aside.display(),
        "the database cannot be opened; a new one is made"
    );
    std::fs::rename(path, aside)
        .map_err(|source| DatabaseError::Move { path: path.to_path_buf(), source })
}

pub(super) async fn tool(
    command: &'static str,
    arguments: &[&OsStr],
) -> Result<String, DatabaseError> {
    let run = Command::new("ovsdb-tool")
        .arg("-vconsole:err")
        .arg(command)
        .args(arguments)
        .kill_on_drop(true)
        .output();
    let ended = tokio::time::timeout(TIMEOUT, run).await;
    let output = ended
        .map_err(|_elapsed| DatabaseError::Timeout { command })?
        .map_err(DatabaseError::Tool)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(DatabaseError::Failed { command, message })
}
