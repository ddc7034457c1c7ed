//! Snapshot files: `snapshot/<index>.snap`, whole or not there.
//!
//! ```text
//! [magic 8]["format" u32][head length u32][body length u64][crc32 of all but itself u32] head body
//! head = postcard(Head)          body = the state section of atoll_codec
//! ```

use std::fs::File;
use std::io::{self, BufWriter, Cursor, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use atoll_codec::DumpWriter;
use atoll_model::ClusterId;
use atoll_store::State;
use serde::{Deserialize, Serialize};

use crate::files;
use crate::types::SnapshotMeta;

const MAGIC: &[u8; 8] = b"ATOLSNAP";
const FORMAT: u32 = 2;
const PREFIX: usize = 28;
const CRC_AT: usize = 24;

/// Bytes that are written or read at a time.
const PIECE: usize = 1 << 20;

/// How the message about a snapshot of another release begins.
const OTHER_RELEASE: &str = "its format is";

/// What a snapshot says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) cluster: u128,
    pub(crate) meta: SnapshotMeta,
}

/// An open snapshot: it stays readable when a newer one takes its place on the disk.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotFile {
    file: Arc<File>,
    pub(crate) len: u64,
}

impl SnapshotFile {
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self { file: Arc::new(file), len })
    }

    /// Reads up to `len` bytes at `at`.
    pub(crate) fn read_at(&self, at: u64, len: usize) -> io::Result<Vec<u8>> {
        let left = self.len.saturating_sub(at);
        let len = usize::try_from(left).map_or(len, |left| left.min(len));
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    fn read_all(&self) -> io::Result<Vec<u8>> {
        let len = usize::try_from(self.len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.read_at(0, len)
    }

    /// Checks the whole file and takes it apart.
    pub(crate) fn open(&self) -> io::Result<Content> {
        decode(self.read_all()?).map_err(|what| io::Error::new(io::ErrorKind::InvalidData, what))
    }
}

/// Checks a whole snapshot and takes it apart.
pub(crate) fn decode(mut bytes: Vec<u8>) -> Result<Content, String> {
    let number = |range: std::ops::Range<usize>| {
        let field = bytes.get(range)?;
        Some(field.iter().rev().fold(0_u64, |value, &byte| value << 8 | u64::from(byte)))
    };
    if bytes.get(..8) != Some(MAGIC) {
        return Err("it is not a snapshot".to_owned());
    }
    let fields = || Some((number(8..12)?, number(12..16)?, number(16..24)?, number(24..28)?));
    let (format, head_len, body_len, crc) = fields().ok_or("it is cut short")?;
    if (PREFIX as u64).checked_add(head_len).and_then(|l| l.checked_add(body_len))
        != Some(bytes.len() as u64)
    {
        return Err("its length is not what it says".to_owned());
    }
    let mut found = crc32fast::Hasher::new();
    found.update(&bytes[..CRC_AT]);
    found.update(&bytes[PREFIX..]);
    if u64::from(found.finalize()) != crc {
        return Err("its checksum does not match".to_owned());
    }
    // The prefix stays as it is in every release, so this one can tell.
    if format != u64::from(FORMAT) {
        return Err(format!("{OTHER_RELEASE} {format}; this release has format {FORMAT}"));
    }
    // It fits: it is less than the vector's length.
    let body = bytes.split_off(PREFIX + usize::try_from(head_len).map_err(|e| e.to_string())?);
    let head = postcard::from_bytes(&bytes[PREFIX..]).map_err(|error| error.to_string())?;
    Ok((head, body))
}

/// A whole snapshot of `state` in memory.
pub(crate) fn encode(head: &Head, state: &State) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    write(&mut bytes, head, |out| write_state(out, state)).expect("memory can be written");
    bytes.into_inner()
}

/// Writes the state section object by object: a state and its messages at once would be several
/// times the memory of the state.
pub(crate) fn write_state<W: Write + Seek>(out: W, state: &State) -> io::Result<()> {
    let mut writer = DumpWriter::begin(BufWriter::with_capacity(PIECE, out), &state.dump_frame())?;
    state.objects().try_for_each(|object| writer.object(&object))?;
    state.outcomes().try_for_each(|(id, at, outcome)| writer.outcome(id, at, outcome))?;
    writer.finish()?.flush()
}

/// Writes a snapshot into `file`, which is empty, with what `body` writes as its state section.
///
/// The checksum is taken of what can be read afterwards.
fn write<F: Read + Write + Seek>(
    file: &mut F,
    head: &Head,
    body: impl FnOnce(&mut F) -> io::Result<()>,
) -> io::Result<()> {
    let head = postcard::to_stdvec(head).expect("our own types have an encoding");
    let head_len = u32::try_from(head.len()).expect("a membership is small");
    file.write_all(&[0; PREFIX])?;
    file.write_all(&head)?;
    body(file)?;
    let rest_len = file.stream_position()? - PREFIX as u64;
    let mut prefix = Vec::with_capacity(PREFIX);
    prefix.extend_from_slice(MAGIC);
    prefix.extend_from_slice(&FORMAT.to_le_bytes());
    prefix.extend_from_slice(&head_len.to_le_bytes());
    prefix.extend_from_slice(&(rest_len - head.len() as u64).to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&prefix);
    file.seek(SeekFrom::Start(PREFIX as u64))?;
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            read => crc.update(&piece[..read]),
        }
    }
    prefix.extend_from_slice(&crc.finalize().to_le_bytes());
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&prefix)
}

/// A snapshot's head, and its encoded state.
pub(crate) type Content = (Head, Vec<u8>);

/// Why the snapshot on the disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A file cannot be read or written.
    #[error("cannot read or write {0}")]
    Io(PathBuf, #[source] io::Error),
    /// It does not check out.
    #[error(
        "snapshot {path}: {what}. The log alone cannot rebuild the state, so this member does not \
         start. Move the whole data directory away (keep it) and start: the member comes back \
         under a new id and fetches everything from the others"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Another release wrote it.
    #[error(
        "snapshot {path} was written by another release of Atoll: {what}; start the release that \
         wrote it, or a later one"
    )]
    OtherRelease {
        /// The file.
        path: PathBuf,
        /// What this release does not know.
        what: String,
    },
    /// It is of another cluster than the disk.
    #[error("snapshot {path} is of cluster {found}, but this disk belongs to cluster {expected}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The snapshot's cluster.
        found: ClusterId,
        /// The disk's cluster.
        expected: ClusterId,
    },
}

/// The snapshot directory and the newest snapshot in it.
#[derive(Debug)]
pub(crate) struct Snapshots {
    directory: PathBuf,
    newest: Mutex<Option<(SnapshotMeta, SnapshotFile)>>,
}

impl Snapshots {
    /// Finds and checks the newest snapshot; answers its content too.
    pub(crate) fn open(
        directory: &Path,
        cluster: Option<ClusterId>,
    ) -> Result<(Self, Option<Content>), SnapshotError> {
        let io_error = |error| SnapshotError::Io(directory.to_owned(), error);
        std::fs::create_dir_all(directory).map_err(io_error)?;
        let mut newest: Option<PathBuf> = None;
        for item in std::fs::read_dir(directory).map_err(io_error)? {
            let path = item.map_err(io_error)?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                // Names have a fixed width, so their order is the order of indexes.
                Some("snap") => newest = newest.max(Some(path)),
                // Left by a crash in the middle of writing or receiving one.
                Some("tmp") => std::fs::remove_file(&path).map_err(io_error)?,
                _ => {}
            }
        }
        let directory = directory.to_owned();
        let Some(path) = newest else {
            return Ok((Self { directory, newest: Mutex::new(None) }, None));
        };
        let file = File::open(&path).and_then(SnapshotFile::new);
        let file = file.map_err(|error| SnapshotError::Io(path.clone(), error))?;
        let (head, body) = file.open().map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData if error.to_string().starts_with(OTHER_RELEASE) => {
                SnapshotError::OtherRelease { path: path.clone(), what: error.to_string() }
            }
            io::ErrorKind::InvalidData => {
                SnapshotError::Damaged { path: path.clone(), what: error.to_string() }
            }
            _ => SnapshotError::Io(path.clone(), error),
        })?;
        if let Some(expected) = cluster
            && expected.0 != head.cluster
        {
            return Err(SnapshotError::Foreign { path, found: ClusterId(head.cluster), expected });
        }
        let newest = Mutex::new(Some((head.meta.clone(), file)));
        Ok((Self { directory, newest }, Some((head, body))))
    }

    pub(crate) fn newest(&self) -> Option<(SnapshotMeta, SnapshotFile)> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes a snapshot whose state section `body` writes durable, then removes older ones.
    pub(crate) fn store(
        &self,
        head: &Head,
        body: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<SnapshotFile> {
        let index = head.meta.last_log_id.map_or(0, |id| id.index);
        let path = self.directory.join(format!("{index:020}.snap"));
        files::replace_with(&path, |file| write(file, head, body))?;
        let file = SnapshotFile::new(File::open(&path)?)?;
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((head.meta.clone(), file.clone()));
        for item in std::fs::read_dir(&self.directory)? {
            let other = item?.path();
            if other.extension().is_some_and(|extension| extension == "snap") && other < path {
                std::fs::remove_file(&other)?;
            }
        }
        Ok(file)
    }

    /// A nameless file for a snapshot that is being received: it is gone with its last handle.
    pub(crate) fn nameless(&self) -> io::Result<File> {
        let path = self.directory.join(format!("receiving-{:016x}.tmp", rand()?));
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(file)
    }
}

fn rand() -> io::Result<u64> {
    getrandom::u64().map_err(|error| io::Error::other(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head { cluster: 7, meta: SnapshotMeta::default() }
    }

    #[test]
    fn a_stored_snapshot_is_found_again_and_older_ones_are_gone() {
        let directory = tempfile::tempdir().unwrap();
        let (snapshots, none) = Snapshots::open(directory.path(), None).unwrap();
        assert!(none.is_none());
        snapshots.store(&head(), |file| file.write_all(b"state")).unwrap();
        let (_, found) = Snapshots::open(directory.path(), Some(ClusterId(7))).unwrap();
        assert_eq!(found, Some((head(), b"state".to_vec())));
        let error = Snapshots::open(directory.path(), Some(ClusterId(8))).unwrap_err();
        assert!(matches!(error, SnapshotError::Foreign { .. }), "{error}");
    }

    #[test]
    fn the_snapshot_of_another_release_is_not_called_damaged() {
        let directory = tempfile::tempdir().unwrap();
        let mut bytes = encode(&head(), &State::default());
        bytes[8] = 9;
        let crc = crc32fast::hash(&[&bytes[..CRC_AT], &bytes[PREFIX..]].concat());
        bytes[CRC_AT..PREFIX].copy_from_slice(&crc.to_le_bytes());
        std::fs::write(directory.path().join("1.snap"), bytes).unwrap();
        let error = Snapshots::open(directory.path(), None).unwrap_err();
        assert!(matches!(error, SnapshotError::OtherRelease { .. }), "{error}");
    }

    #[test]
    fn a_damaged_snapshot_is_refused_whichever_byte_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let (snapshots, _) = Snapshots::open(directory.path(), None).unwrap();
        snapshots.store(&head(), |file| file.write_all(b"state")).unwrap();
        let path = directory.path().join(format!("{:020}.snap", 0));
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            let error = Snapshots::open(directory.path(), None).unwrap_err();
            assert!(matches!(error, SnapshotError::Damaged { .. }), "byte {at}: {error}");
        }
        std::fs::write(&path, &good[..good.len() - 1]).unwrap();
        assert!(Snapshots::open(directory.path(), None).is_err());
    }
}
