//! openraft's own conformance suite, on a disk and on the twin.

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

use crate::log::{Log, Options, SEGMENT_BYTES_MIN, ShardLog};
use crate::memory::MemoryLog;
use crate::raft::{ShardId, TypeConfig};
use crate::state::State;
use crate::witness::{self, Witness};

const SHARD: ShardId = ShardId(3);

struct OnDisk;

impl StoreBuilder<TypeConfig, ShardLog, Witness, TempDir> for OnDisk {
    async fn build(&self) -> Result<(TempDir, ShardLog, Witness), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { segment_bytes: SEGMENT_BYTES_MIN, ..Options::default() };
        let log = Log::open(&dir.path().join("log"), options).unwrap().shard(SHARD);
        let state = State::open(&dir.path().join("state"), &[][..]).unwrap();
        Ok((dir, log, witness::open(SHARD, state).unwrap()))
    }
}

struct InMemory;

impl StoreBuilder<TypeConfig, ShardLog, Witness, ()> for InMemory {
    async fn build(&self) -> Result<((), ShardLog, Witness), StorageError<TypeConfig>> {
        let state = State::in_memory(&[][..]).unwrap();
        let log = MemoryLog::default().shard(SHARD);
        Ok(((), log, witness::open(SHARD, state).unwrap()))
    }
}

#[tokio::test]
async fn disk_passes_the_suite_of_openraft() {
    Suite::test_all(OnDisk).await.unwrap();
}

#[tokio::test]
async fn twin_passes_the_suite_of_openraft() {
    Suite::test_all(InMemory).await.unwrap();
}
