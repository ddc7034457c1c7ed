//! The file of a database that is one of several.

use std::path::{Path, PathBuf};

use super::super::database::{DatabaseError, move_aside, tool};
use super::Form;

/// A database file, and what it is made from.
#[derive(Debug)]
pub(super) struct ClusterFile {
    path: PathBuf,
    schema: PathBuf,
    /// `OVN_Northbound`, `OVN_Southbound`.
    name: &'static str,
    /// Where others of the cluster reach its server.
    address: String,
    election_timer_ms: u64,
}

impl ClusterFile {
    pub(super) fn new(
        path: PathBuf,
        schema: PathBuf,
        name: &'static str,
        address: String,
        election_timer_ms: u64,
    ) -> Self {
        Self { path, schema, name, address, election_timer_ms }
    }

    pub(super) fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Puts a file aside that cannot be read. One that can is left; so is none.
    pub(super) async fn check(&self) -> Result<(), DatabaseError> {
        if !self.exists() {
            return Ok(());
        }
        match tool("check-cluster", &[self.path.as_os_str()]).await {
            Ok(_) => Ok(()),
            Err(error @ DatabaseError::Failed { .. }) => self.put_aside(&error.to_string()),
            Err(error) => Err(error),
        }
    }

    /// Makes the file if the form says how; `which` of the two databases it is.
    pub(super) async fn make(&self, form: &Form, which: usize) -> Result<bool, DatabaseError> {
        let path = self.path.as_os_str();
        match form {
            Form::Wait => return Ok(false),
            Form::Create => {
                tracing::info!(database = self.name, at = self.address, "a new cluster");
                let timer = format!("--election-timer={}", self.election_timer_ms);
                let (schema, address) = (self.schema.as_os_str(), self.address.as_ref());
                tool("create-cluster", &[timer.as_ref(), path, schema, address]).await?;
            }
            Form::Join(through) => {
                let through = &through[which];
                if through.is_empty() {
                    return Ok(false);
                }
                tracing::info!(database = self.name, at = self.address, ?through, "joins");
                let mut arguments = vec![path, self.name.as_ref(), self.address.as_ref()];
                arguments.extend(through.iter().map(std::ffi::OsStr::new));
                tool("join-cluster", &arguments).await?;
            }
        }
        Ok(true)
    }

    /// A file says how its server is reached. One that was made without certificates would go on
    /// without, and one made with them would reach nobody.
    pub(super) async fn check_address(&self) -> Result<(), DatabaseError> {
        let found = match tool("db-local-address", &[self.path.as_os_str()]).await {
            // One that cannot be read is the server's to find.
            Err(DatabaseError::Failed { .. }) => return Ok(()),
            found => found?,
        };
        let (found, wanted) = (found.trim(), &self.address);
        let scheme = |address: &str| address.split(':').next().map(ToOwned::to_owned);
        match scheme(found) == scheme(wanted) {
            true => Ok(()),
            false => Err(DatabaseError::Address {
                path: self.path.clone(),
                found: found.to_owned(),
                wanted: wanted.clone(),
            }),
        }
    }

    pub(super) fn put_aside(&self, why: &str) -> Result<(), DatabaseError> {
        move_aside(self.name, Path::new(&self.path), &why)
    }
}
