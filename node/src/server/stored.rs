//! Rows of a shard as this node's disk has them.

use tandem_storage::raft::ShardId;
use tandem_storage::state::State;

use super::records::Rows;

pub struct Stored {
    pub state: State,
    pub shard: ShardId,
    pub family: &'static str,
}

impl Stored {
    fn failed(&self, error: &tandem_storage::state::Error) {
        tracing::error!(family = self.family, %error, "TD0205 rows can't be read");
    }
}

impl Rows for Stored {
    fn scan_down(&self, before: Option<&[u8]>, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) {
        let scanned = self.state.scan_down(self.shard, self.family, before, visit);
        if let Err(error) = scanned {
            self.failed(&error);
        }
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.state
            .get(self.shard, self.family, key)
            .inspect_err(|error| self.failed(error))
            .ok()
            .flatten()
    }
}
