//! Labs that end with their test, also when it fails.

use std::io::Write as _;
use std::ops::Deref;

use anyhow::{Context, Result};

use super::{Lab, LabName, Options, down};

/// With this variable set, the lab of a failed test stays up for a look at it.
const KEEP: &str = "ATOLL_LAB_KEEP";

/// A lab that is taken down when this is dropped.
#[derive(Debug)]
pub struct ScopedLab {
    lab: Lab,
    _end: DownOnDrop,
}

impl ScopedLab {
    /// As [`Lab::up`].
    ///
    /// # Errors
    ///
    /// As [`Lab::up`].
    pub async fn up(options: Options) -> Result<Self> {
        let name = options.name.clone();
        let lab = Lab::up(options).await?;
        Ok(Self { lab, _end: DownOnDrop::new(name) })
    }
}

impl Deref for ScopedLab {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.lab
    }
}

/// Takes the lab of a name down when dropped, if there is one: for labs that are made by running
/// `atoll-lab`.
#[derive(Debug)]
pub struct DownOnDrop {
    name: LabName,
}

impl DownOnDrop {
    /// Nothing happens before the drop.
    pub fn new(name: LabName) -> Self {
        Self { name }
    }
}

impl Drop for DownOnDrop {
    fn drop(&mut self) {
        if std::thread::panicking() && std::env::var_os(KEEP).is_some() {
            writeln!(std::io::stderr(), "lab '{}' is left up, as {KEEP} is set", self.name).ok();
            return;
        }
        // On a thread of its own, because a runtime may be running on this one.
        let name = self.name.clone();
        let ended = std::thread::spawn(move || -> Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(down(&name)).map(drop)
        });
        let ended = ended.join().ok().context("taking the lab down panicked").flatten();
        if let Err(error) = ended {
            writeln!(std::io::stderr(), "lab '{}' is not gone: {error:#}", self.name).ok();
        }
    }
}
