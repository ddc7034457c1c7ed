//! Files that are either wholly there or not at all, also after a power cut.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use nix::errno::Errno;

use crate::mutant::Mutant;

/// Makes `path` hold exactly `bytes`: written beside it, synced, renamed, and the rename synced.
///
/// After an error or a power cut `path` is as it was or as it shall be, never in between.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_with(path, |file| file.write_all(bytes))
}

/// As [`replace`], with what `write` puts into an empty file that it may also read.
pub(crate) fn replace_with(
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let beside = path.with_extension("tmp");
    let mut file =
        File::options().read(true).write(true).create(true).truncate(true).open(&beside)?;
    write(&mut file)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    sync_parent(path)
}

/// Creates `path` with `bytes`, synced; `AlreadyExists` if it is there.
///
/// Written under another name (`beside`, unique to the caller) and linked: so it never exists
/// without its content, whatever crashes, and of two callers one is refused.
pub(crate) fn create_new(path: &Path, beside: &str, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension(beside);
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    let linked = std::fs::hard_link(&beside, path);
    std::fs::remove_file(&beside)?;
    linked?;
    sync_parent(path)
}

/// Makes creations, renames and deletions in `directory` durable.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    if Mutant::NoDirectorySync.is_on() {
        return Ok(());
    }
    File::open(directory)?.sync_all()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_directory(parent),
        _ => sync_directory(Path::new(".")),
    }
}

/// Does this error say that the disk is full?
pub(crate) fn is_full(error: &io::Error) -> bool {
    let full = [Errno::ENOSPC, Errno::EDQUOT].map(|errno| errno as i32);
    error.raw_os_error().is_some_and(|errno| full.contains(&errno))
}

/// Reads `path`; `None` if there is no such file.
pub(crate) fn read_if_exists(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_created_once_and_the_second_caller_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("marker");
        create_new(&path, "a", b"first").unwrap();
        let error = create_new(&path, "b", b"second").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
