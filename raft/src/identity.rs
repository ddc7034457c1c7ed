//! Who this disk is: written and synced before the first word to a peer.
//!
//! The id is random and drawn once per disk. A member that lost its disk therefore comes back as
//! somebody else, and cannot vote twice in a term or lose entries that it had acknowledged.

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use atoll_model::{ClusterId, MemberId, MemberName};

use crate::files;

const FIRST_LINE: &str = "atoll member identity 1";

/// What the identity file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) id: MemberId,
    pub(crate) name: MemberName,
    /// The cluster that this disk belongs to.
    pub(crate) cluster: Option<ClusterId>,
    /// The cluster that this member is in the middle of forming: lets it finish after a crash.
    pub(crate) forming: Option<ClusterId>,
}

/// Why the identity of a disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read or written.
    #[error("cannot read or write {0}")]
    Io(PathBuf, #[source] std::io::Error),
    /// The file is not what this release writes.
    #[error(
        "{path}: {what}; if the disk is damaged, move the whole data directory away and start: the \
         member comes back under a new id and fetches everything from the others"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Another release wrote the file.
    #[error(
        "{path} was written by another release of Atoll: {what}; start the release that wrote it, \
         or a later one"
    )]
    OtherRelease {
        /// The file.
        path: PathBuf,
        /// What this release does not know.
        what: String,
    },
    /// The data directory is another member's.
    #[error(
        "{path} belongs to member {found}, but this is {asked}; give each member its own data \
         directory"
    )]
    OtherName {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: MemberName,
        /// Who asked.
        asked: MemberName,
    },
    /// The data directory is not the one that the member began with.
    #[error(
        "{0} is another directory than when this member started: was its volume mounted late? \
         Nothing is written there; restart this member"
    )]
    Exchanged(PathBuf),
    /// No randomness.
    #[error("cannot draw a random id: {0}")]
    Random(String),
}

/// The identity file and its content.
#[derive(Debug)]
pub(crate) struct IdentityFile {
    path: PathBuf,
    /// Device and inode of the data directory.
    place: (u64, u64),
    current: RwLock<Identity>,
}

impl IdentityFile {
    /// Reads the identity in `directory`, or draws one and makes it durable.
    pub(crate) fn open(directory: &Path, name: &MemberName) -> Result<Self, IdentityError> {
        let path = directory.join("identity");
        let place = place(directory)?;
        let read = files::read_if_exists(&path).map_err(|e| IdentityError::Io(path.clone(), e))?;
        let Some(bytes) = read else {
            let id = MemberId(random_u64()?);
            let identity = Identity { id, name: name.clone(), cluster: None, forming: None };
            write(&path, &identity)?;
            return Ok(Self { path, place, current: RwLock::new(identity) });
        };
        let identity = parse(&bytes).map_err(|error| match error {
            Unreadable::Damaged(what) => IdentityError::Damaged { path: path.clone(), what },
            Unreadable::OtherRelease(what) => {
                IdentityError::OtherRelease { path: path.clone(), what }
            }
        })?;
        if identity.name != *name {
            let (found, asked) = (identity.name, name.clone());
            return Err(IdentityError::OtherName { path, found, asked });
        }
        Ok(Self { path, place, current: RwLock::new(identity) })
    }

    /// Has the disk in `directory` an identity?
    pub(crate) fn exists(directory: &Path) -> bool {
        directory.join("identity").exists()
    }

    /// Is the data directory still the one that the member began with?
    ///
    /// A disk that appears there later is somebody's, and nothing may be done in its stead.
    pub(crate) fn check_place(&self) -> Result<(), IdentityError> {
        match self.path.parent() {
            Some(directory) if place(directory)? != self.place => {
                Err(IdentityError::Exchanged(directory.to_owned()))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn get(&self) -> Identity {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn cluster(&self) -> Option<ClusterId> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).cluster
    }

    /// Changes the identity; it is on the disk when this returns.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Identity)) -> Result<(), IdentityError> {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = current.clone();
        change(&mut next);
        if next != *current {
            self.check_place()?;
            write(&self.path, &next)?;
            *current = next;
        }
        Ok(())
    }
}

fn place(directory: &Path) -> Result<(u64, u64), IdentityError> {
    let found = std::fs::metadata(directory);
    let found = found.map_err(|error| IdentityError::Io(directory.to_owned(), error))?;
    Ok((found.dev(), found.ino()))
}

pub(crate) fn random_u64() -> Result<u64, IdentityError> {
    getrandom::u64().map_err(|error| IdentityError::Random(error.to_string()))
}

pub(crate) fn random_cluster() -> Result<ClusterId, IdentityError> {
    Ok(ClusterId(u128::from(random_u64()?) << 64 | u128::from(random_u64()?)))
}

fn write(path: &Path, identity: &Identity) -> Result<(), IdentityError> {
    let mut text = format!("{FIRST_LINE}\nid {}\nname {}\n", identity.id, identity.name);
    let mut line = |key: &str, value: Option<ClusterId>| {
        if let Some(value) = value {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{key} {value}");
        }
    };
    line("cluster", identity.cluster);
    line("forming", identity.forming);
    let crc = crc32fast::hash(text.as_bytes());
    let _ = writeln!(text, "crc32 {crc:08x}");
    files::replace(path, text.as_bytes()).map_err(|e| IdentityError::Io(path.to_owned(), e))
}

enum Unreadable {
    Damaged(String),
    /// Its checksum is right.
    OtherRelease(String),
}

impl From<String> for Unreadable {
    fn from(what: String) -> Self {
        Self::Damaged(what)
    }
}

impl From<&str> for Unreadable {
    fn from(what: &str) -> Self {
        Self::Damaged(what.to_owned())
    }
}

fn parse(bytes: &[u8]) -> Result<Identity, Unreadable> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not text".to_owned())?;
    let (body, crc) =
        text.rsplit_once("crc32 ").ok_or("its last line, the checksum, is missing")?;
    if u32::from_str_radix(crc.trim_end(), 16) != Ok(crc32fast::hash(body.as_bytes())) {
        return Err("its checksum does not match".into());
    }
    let mut lines = body.lines();
    if lines.next() != Some(FIRST_LINE) {
        let what = format!("its first line is not {FIRST_LINE:?}");
        return Err(Unreadable::OtherRelease(what));
    }
    let (mut id, mut name, mut cluster, mut forming) = (None, None, None, None);
    for line in lines {
        let (key, value) = line.split_once(' ').ok_or_else(|| format!("line {line:?}"))?;
        let bad = |error: String| format!("line {line:?}: {error}");
        match key {
            "id" => {
                let parsed = u64::from_str_radix(value, 16).map_err(|e| bad(e.to_string()))?;
                id = Some(MemberId(parsed));
            }
            "name" => name = Some(MemberName::new(value).map_err(|e| bad(e.to_string()))?),
            "cluster" => cluster = Some(value.parse().map_err(|e| bad(format!("{e}")))?),
            "forming" => forming = Some(value.parse().map_err(|e| bad(format!("{e}")))?),
            _ => return Err(Unreadable::OtherRelease(format!("line {line:?} is not known"))),
        }
    }
    let id = id.ok_or("it names no id")?;
    let name = name.ok_or("it names no member")?;
    Ok(Identity { id, name, cluster, forming })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A volume that is mounted over the directory of a running member is not that member's.
    #[test]
    fn another_directory_at_the_same_path_is_not_written_to() {
        let directory = tempfile::tempdir().unwrap();
        let (name, data) = (MemberName::new("m1").unwrap(), directory.path().join("data"));
        std::fs::create_dir(&data).unwrap();
        let identity = IdentityFile::open(&data, &name).unwrap();
        std::fs::rename(&data, directory.path().join("early")).unwrap();
        std::fs::create_dir(&data).unwrap();
        let late = IdentityFile::open(&data, &name).unwrap();
        let cluster = Some(ClusterId(7));
        let error = identity.update(|it| it.cluster = cluster).unwrap_err();
        assert!(error.to_string().contains("was its volume mounted late?"), "{error}");
        assert_eq!(identity.get().cluster, None);
        drop(late);
        assert_eq!(IdentityFile::open(&data, &name).unwrap().cluster(), None);
    }

    #[test]
    fn an_identity_stays_and_its_changes_are_on_the_disk() {
        let directory = tempfile::tempdir().unwrap();
        let name = MemberName::new("m1").unwrap();
        let first = IdentityFile::open(directory.path(), &name).unwrap();
        first.update(|identity| identity.cluster = Some(ClusterId(7))).unwrap();
        let again = IdentityFile::open(directory.path(), &name).unwrap();
        assert_eq!(again.get(), first.get());
        assert_eq!(again.cluster(), Some(ClusterId(7)));
    }

    #[test]
    fn two_disks_never_have_the_same_id() {
        let name = MemberName::new("m1").unwrap();
        let ids = [(); 2].map(|()| {
            let directory = tempfile::tempdir().unwrap();
            IdentityFile::open(directory.path(), &name).unwrap().get().id
        });
        assert_ne!(ids[0], ids[1]);
    }

    #[test]
    fn a_damaged_identity_is_refused_whichever_byte_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let name = MemberName::new("m1").unwrap();
        IdentityFile::open(directory.path(), &name).unwrap();
        let path = directory.path().join("identity");
        let good = std::fs::read(&path).unwrap();
        // The last byte is the line's end, which may differ.
        for at in 0..good.len() - 1 {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            let error = IdentityFile::open(directory.path(), &name).unwrap_err();
            assert!(matches!(error, IdentityError::Damaged { .. }), "byte {at}: {error}");
        }
    }

    #[test]
    fn the_identity_of_another_release_is_not_called_damaged() {
        let directory = tempfile::tempdir().unwrap();
        let name = MemberName::new("m1").unwrap();
        let text = "atoll member identity 9\nid 1\nname m1\n";
        let crc = crc32fast::hash(text.as_bytes());
        let path = directory.path().join("identity");
        std::fs::write(path, format!("{text}crc32 {crc:08x}\n")).unwrap();
        let error = IdentityFile::open(directory.path(), &name).unwrap_err();
        assert!(matches!(error, IdentityError::OtherRelease { .. }), "{error}");
    }

    #[test]
    fn the_disk_of_another_member_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        IdentityFile::open(directory.path(), &MemberName::new("m1").unwrap()).unwrap();
        let error =
            IdentityFile::open(directory.path(), &MemberName::new("m2").unwrap()).unwrap_err();
        assert!(matches!(error, IdentityError::OtherName { .. }), "{error}");
    }
}
