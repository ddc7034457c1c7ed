//! openraft's storage traits on the log.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};

use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use tokio::sync::oneshot;

use super::writer::Request;
use super::{Wal, entry_bytes};
use crate::options::LOG_READ_BYTES_MAX;
use crate::types::{Entry, LogId, TypeConfig, Vote};

impl Wal {
    async fn request(&self, request: Request) -> io::Result<()> {
        let closed = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the log is closed");
        self.writer.send(request).await.map_err(closed)
    }
}

/// `BTreeMap::range` panics on an inverted range; openraft's suite asks for one.
fn is_empty(range: &impl RangeBounds<u64>) -> bool {
    let start = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(&start) => start + 1,
        Bound::Unbounded => 0,
    };
    match range.end_bound() {
        Bound::Included(&end) => start > end,
        Bound::Excluded(&end) => start >= end,
        Bound::Unbounded => false,
    }
}

impl RaftLogReader<TypeConfig> for Wal {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        if is_empty(&range) {
            return Ok(Vec::new());
        }
        Ok(self.lock().entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.lock().vote)
    }

    /// At least one entry, then as many as fit into [`LOG_READ_BYTES_MAX`].
    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        if start >= end {
            return Ok(Vec::new());
        }
        let cache = self.lock();
        let (mut taken, mut bytes) = (Vec::new(), 0);
        for (_, entry) in cache.entries.range(start..end) {
            bytes += entry_bytes(entry);
            if bytes > LOG_READ_BYTES_MAX && !taken.is_empty() {
                break;
            }
            taken.push(entry.clone());
        }
        Ok(taken)
    }
}

impl RaftLogStorage<TypeConfig> for Wal {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let cache = self.lock();
        Ok(LogState { last_purged_log_id: cache.purged, last_log_id: cache.last() })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let (durable, done) = oneshot::channel();
        self.request(Request::Vote { vote: *vote, durable }).await?;
        done.await.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the log is closed"))
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.lock().committed = committed;
        self.request(Request::Committed(committed)).await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.lock().committed)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        flushed: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        {
            let mut cache = self.lock();
            for entry in &entries {
                cache.insert(entry.clone());
            }
        }
        self.request(Request::Append { entries, flushed }).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        self.lock().truncate_after(last);
        self.request(Request::Truncate(last)).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.lock().purge(upto);
        self.request(Request::Purge(upto)).await
    }
}
