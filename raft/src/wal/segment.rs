//! Segment files: their names, and how one comes to be.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use atoll_model::MemberId;

use super::WalError;
use super::batch::{Batch, Header, Record};
use super::frame;
use super::spares::{self, Spares};
use crate::files;
use crate::mutant::Mutant;
use crate::types::{LogId, Vote};

/// The segments on disk, and where to go on.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) directory: PathBuf,
    pub(super) member: MemberId,
    pub(super) spares: Spares,
    /// Oldest first; the last one is being written.
    pub(super) segments: VecDeque<Segment>,
    pub(super) current: File,
    /// The next frame of `current`.
    pub(super) position: u64,
    pub(super) next_sequence: u64,
    pub(super) carried: Carried,
}

/// What each segment's first batch repeats, because older segments may be deleted.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Carried {
    pub(super) vote: Option<Vote>,
    pub(super) purged: Option<LogId>,
    pub(super) committed: Option<LogId>,
}

/// A segment on disk.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    /// Length of its file.
    pub(super) bytes: u64,
    /// The highest index of an entry in it, also of entries that were truncated later.
    pub(super) highest: Option<u64>,
}

pub(super) fn path_of(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:016x}.seg"))
}

pub(super) fn io_error<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(std::io::Error) -> WalError + 'a {
    move |source| WalError::Io { action, path: path.to_owned(), source }
}

/// Numbers of the segments in `directory`, in order.
pub(super) fn list(directory: &Path) -> Result<Vec<u64>, WalError> {
    let mut numbers = Vec::new();
    let listed = match std::fs::read_dir(directory) {
        Ok(listed) => listed,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(numbers),
        Err(error) => return Err(io_error("list", directory)(error)),
    };
    for item in listed {
        let name = item.map_err(io_error("list", directory))?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".seg"));
        if let Some(number) = number.and_then(|hex| u64::from_str_radix(hex, 16).ok()) {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn sync(file: &File, path: &Path) -> Result<(), WalError> {
    if Mutant::NoFdatasync.is_on() {
        return Ok(());
    }
    file.sync_data().map_err(io_error("sync", path))
}

impl Files {
    /// Begins a log.
    pub(super) fn begin(
        directory: &Path,
        member: MemberId,
        spares: Spares,
    ) -> Result<Self, WalError> {
        let (path, bytes) = (directory.join("first.new"), spares.bytes());
        spares::allocate(&path, bytes)?;
        let mut files = Self {
            directory: directory.to_owned(),
            member,
            spares,
            segments: VecDeque::new(),
            current: spares::open(&path)?,
            position: 0,
            next_sequence: 1,
            carried: Carried::default(),
        };
        files.make(&path, bytes)?;
        Ok(files)
    }

    pub(super) fn path(&self) -> PathBuf {
        path_of(&self.directory, self.segments.back().map_or(1, |segment| segment.number))
    }

    /// Room in the current segment, in frames.
    fn room(&self) -> u64 {
        let bytes = self.segments.back().map_or(0, |segment| segment.bytes);
        (bytes / frame::FRAME as u64).saturating_sub(self.position)
    }

    /// Makes sure that the current segment has room for a batch of `frames`.
    pub(super) fn make_room(&mut self, frames: u64) -> Result<(), WalError> {
        if frames <= self.room() {
            return Ok(());
        }
        let needed = (frames + 1) * frame::FRAME as u64;
        if needed <= self.spares.bytes() {
            let path = self.spares.take();
            return self.make(&path, self.spares.bytes());
        }
        // A batch with a very large entry gets a segment of its own size.
        let path = self.directory.join("large.new");
        spares::allocate(&path, needed)?;
        self.make(&path, needed)
    }

    /// Makes the file at `path` the next segment. It gets its first batch before its name: so
    /// whatever has a segment's name is one.
    fn make(&mut self, path: &Path, bytes: u64) -> Result<(), WalError> {
        let number = self.segments.back().map_or(1, |segment| segment.number + 1);
        let mut batch = Batch::new();
        batch.push(&Record::Header(Header::new(number, self.member, bytes)));
        if let Some(vote) = self.carried.vote {
            batch.push(&Record::Vote(vote));
        }
        if let Some(purged) = self.carried.purged {
            batch.push(&Record::Purge(purged));
        }
        if self.carried.committed.is_some() {
            batch.push(&Record::Committed(self.carried.committed));
        }
        let frames = frame::write(&batch.seal(), number, self.next_sequence, 0);
        let file = spares::open(path)?;
        file.write_all_at(&frames, 0).map_err(io_error("write", path))?;
        sync(&file, path)?;
        let named = path_of(&self.directory, number);
        std::fs::rename(path, &named).map_err(io_error("rename", path))?;
        let directory = &self.directory;
        files::sync_directory(directory).map_err(io_error("sync", directory))?;
        self.current = file;
        self.position = (frames.len() / frame::FRAME) as u64;
        self.next_sequence += 1;
        self.segments.push_back(Segment { number, bytes, highest: None });
        Ok(())
    }

    /// Writes a batch behind the last one, and nothing else.
    pub(super) fn write(&mut self, batch: Batch) -> Result<(), WalError> {
        let highest = batch.highest();
        let bytes = batch.seal();
        self.make_room(frame::count(bytes.len()) as u64)?;
        let number = self.segments.back().map_or(1, |segment| segment.number);
        let frames = frame::write(&bytes, number, self.next_sequence, self.position);
        let at = self.position * frame::FRAME as u64;
        self.current.write_all_at(&frames, at).map_err(io_error("write", &self.path()))?;
        self.position += (frames.len() / frame::FRAME) as u64;
        self.next_sequence += 1;
        if let Some(segment) = self.segments.back_mut() {
            segment.highest = segment.highest.max(highest);
        }
        Ok(())
    }

    pub(super) fn sync(&self) -> Result<(), WalError> {
        sync(&self.current, &self.path())
    }

    /// Overwrites what an interrupted write left behind the last batch: it must not be taken for
    /// a part of the next.
    pub(super) fn clear(&self, frames: u64) -> Result<(), WalError> {
        let zeros = vec![0; usize::try_from(frames).expect("a file's size") * frame::FRAME];
        let at = self.position * frame::FRAME as u64;
        self.current.write_all_at(&zeros, at).map_err(io_error("clear", &self.path()))?;
        self.sync()
    }

    /// Recycles segments whose entries are all purged, oldest first.
    pub(super) fn recycle_purged(&mut self) -> Result<(), WalError> {
        let purged = self.carried.purged.map(|id| id.index);
        let mut gone = false;
        while self.segments.len() > 1
            && self.segments.front().is_some_and(|segment| segment.highest <= purged)
            && let Some(segment) = self.segments.pop_front()
        {
            self.spares.recycle(&path_of(&self.directory, segment.number), segment.bytes)?;
            gone = true;
        }
        if gone {
            let directory = &self.directory;
            files::sync_directory(directory).map_err(io_error("sync", directory))?;
        }
        Ok(())
    }
}
