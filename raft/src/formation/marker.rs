//! The marker outside the disks: a cluster was formed here once.
//!
//! It is created by compare-and-create before anything else of a cluster exists. When
//! all disks are empty and it is there, a cluster was lost, and no member may begin another.

use std::io;
use std::path::{Path, PathBuf};

use atoll_model::{ClusterId, MemberId};

use crate::files;

/// What the marker says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) cluster: ClusterId,
    /// Who formed it.
    pub(crate) former: MemberId,
    /// When, ms since 1970; for people.
    pub(crate) formed_at_ms: u64,
}

/// Where the marker is.
#[derive(Debug, Clone)]
pub(crate) struct MarkerFile {
    path: PathBuf,
}

impl MarkerFile {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn read(&self) -> io::Result<Option<Marker>> {
        let Some(bytes) = files::read_if_exists(&self.path)? else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes);
        let field =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
        let parsed = || {
            Some(Marker {
                cluster: field("cluster")?.parse().ok()?,
                former: MemberId(u64::from_str_radix(field("former")?, 16).ok()?),
                formed_at_ms: field("formed_at_ms")?.parse().ok()?,
            })
        };
        // Whatever it says, it exists: an unreadable marker must not pass for none.
        parsed().map(Some).ok_or_else(|| {
            let text = format!("{} is not a formation marker", self.path.display());
            io::Error::new(io::ErrorKind::InvalidData, text)
        })
    }

    /// Creates the marker; `AlreadyExists` if somebody was faster.
    pub(crate) fn create(&self, marker: &Marker, members: &[String]) -> io::Result<()> {
        let text = format!(
            "# A cluster was formed. While this file exists no second one is.\n\
             cluster = {}\nformer = {}\nformed_at_ms = {}\nmembers = {}\n",
            marker.cluster,
            marker.former,
            marker.formed_at_ms,
            members.join(", ")
        );
        if let Some(parent) = self.path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        files::create_new(&self.path, &marker.former.to_string(), text.as_bytes())
    }
}
