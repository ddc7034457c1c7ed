//! openraft's own storage suite on this log and state machine.

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};

use super::Wal;
use crate::machine::Machine;
use crate::machine::disk_test::Disk;
use crate::types::TypeConfig;

struct Disks;

impl StoreBuilder<TypeConfig, Wal, Machine, tempfile::TempDir> for Disks {
    async fn build(&self) -> Result<(tempfile::TempDir, Wal, Machine), StorageError<TypeConfig>> {
        let directory = tempfile::tempdir().unwrap();
        let wal = Disk::wal(directory.path());
        let disk = Disk::open(directory.path(), 100);
        Ok((directory, wal, disk.machine))
    }
}

#[tokio::test]
async fn log_and_state_machine_pass_openrafts_storage_suite() {
    Suite::test_all(Disks).await.unwrap();
}
