//! The world of one shard on this process: consensus writes it, the runtime reads it.

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use tandem_core::effect::Effect;
use tandem_core::ids::EntityId;
use tandem_core::log_time::Told;
use tandem_core::rows::RowChange;
use tandem_core::wire;
use tandem_core::{Meta, Rejection, Reply, World};
use tandem_sip::Millis;
use tokio::sync::{Notify, mpsc};

use crate::time::LogClock;

/// What one entry came to, released when its rows are stored.
#[derive(Debug)]
pub struct Released {
    pub index: u64,
    pub term: u64,
    pub effects: Vec<Effect>,
    pub touched: Vec<EntityId>,
}

pub struct Replica {
    shard: u16,
    clock: Arc<LogClock>,
    world: RwLock<World>,
    /// Applied, not stored yet.
    unstored: Mutex<Vec<Released>>,
    released: mpsc::UnboundedSender<Released>,
    /// Told of each batch of entries that was stored.
    stored: Notify,
}

pub struct Outcome {
    pub rows: Vec<RowChange>,
    /// Encoded: see [`decode_reply`].
    pub reply: Vec<u8>,
}

impl Replica {
    /// The receiver gets what is released, in log order. It is drained at once by the runtime, so
    /// it holds no more than consensus has under way.
    pub fn new(shard: u16, clock: Arc<LogClock>) -> (Arc<Self>, mpsc::UnboundedReceiver<Released>) {
        let (released, releases) = mpsc::unbounded_channel();
        let replica = Self {
            shard,
            clock,
            world: RwLock::new(World::new(shard)),
            unstored: Mutex::default(),
            released,
            stored: Notify::new(),
        };
        (Arc::new(replica), releases)
    }

    pub fn shard(&self) -> u16 {
        self.shard
    }

    pub fn clock(&self) -> &Arc<LogClock> {
        &self.clock
    }

    /// Puts stored rows in the place of what was.
    ///
    /// # Errors
    /// A sentence: this build can't read a row.
    pub fn restore(&self, rows: &mut dyn Iterator<Item = (String, Vec<u8>)>) -> Result<(), String> {
        let mut world = World::new(self.shard);
        for (family, value) in rows {
            world.restore(&family, &value).map_err(|error| format!("family {family}: {error}"))?;
        }
        world.restored().map_err(|error| error.to_string())?;
        self.clock.on_restored(world.at);
        *self.world.write() = world;
        self.unstored.lock().clear();
        Ok(())
    }

    /// Applies one entry, on every replica in log order.
    pub fn apply(&self, index: u64, term: u64, command: &[u8]) -> Outcome {
        let envelope = match wire::decode_envelope(command) {
            Ok(envelope) => envelope,
            Err(error) => {
                tracing::error!(index, %error, "TD0103 an entry can't be read by this build");
                let why = format!("entry {index} can't be read: {error}");
                let reply = Reply::Rejected(Rejection::Refused(why));
                return Outcome { rows: Vec::new(), reply: encode_reply(&reply) };
            }
        };
        self.clock.on_applied(Told { index, term, at: envelope.at });
        let meta = Meta {
            at: envelope.at,
            seed: envelope.seed,
            version: envelope.version,
            shard: self.shard,
            index,
            term,
        };
        let applied = self.world.write().apply(&meta, &envelope);
        if let Some(alarm) = &applied.alarm {
            tracing::error!(index, "{alarm}");
            metrics::counter!("tandem_alarms_total").increment(1);
        }
        let reply = encode_reply(&applied.reply);
        self.unstored.lock().push(Released {
            index,
            term,
            effects: applied.effects,
            touched: applied.touched,
        });
        Outcome { rows: applied.rows, reply }
    }

    /// The rows of every entry up to `index` are stored: commit, then act.
    pub fn stored(&self, index: u64) {
        let mut unstored = self.unstored.lock();
        let count = unstored.partition_point(|released| released.index <= index);
        for released in unstored.drain(..count) {
            // Without a runtime nobody listens: a replica that only follows.
            let _ = self.released.send(released);
        }
        drop(unstored);
        self.stored.notify_waiters();
    }

    /// Returns once something is stored that was not when this was called.
    pub fn next_stored(&self) -> impl Future<Output = ()> + '_ {
        self.stored.notified()
    }

    pub fn read<R>(&self, look: impl FnOnce(&World) -> R) -> R {
        look(&self.world.read())
    }

    pub fn due(&self, now: Millis) -> Vec<tandem_core::deadline::Deadline> {
        self.read(|world| world.due(now))
    }
}

const DONE: u8 = 0;
const NOT_FOUND: u8 = 1;
const AGAIN: u8 = 2;
const REFUSED: u8 = 3;
const REPEATED: u8 = 4;
const KEY_REUSED: u8 = 5;
const FULL: u8 = 6;

/// A byte that says what kind, then the sentence.
fn encode_reply(reply: &Reply) -> Vec<u8> {
    let (kind, text) = match reply {
        Reply::Done => (DONE, String::new()),
        Reply::Rejected(Rejection::NotFound(what)) => (NOT_FOUND, what.clone()),
        Reply::Rejected(Rejection::TooEarly) => (AGAIN, String::new()),
        Reply::Rejected(Rejection::Repeated) => (REPEATED, String::new()),
        Reply::Rejected(Rejection::KeyReused(key)) => (KEY_REUSED, key.clone()),
        Reply::Rejected(Rejection::Full) => (FULL, String::new()),
        Reply::Rejected(other) => (REFUSED, other.to_string()),
    };
    let mut bytes = vec![kind];
    bytes.extend(text.into_bytes());
    bytes
}

/// The reply of a committed command.
pub fn decode_reply(bytes: &[u8]) -> Reply {
    let text = || String::from_utf8_lossy(bytes.get(1..).unwrap_or_default()).into_owned();
    match bytes.first() {
        Some(&DONE) => Reply::Done,
        Some(&NOT_FOUND) => Reply::Rejected(Rejection::NotFound(text())),
        Some(&AGAIN) => Reply::Rejected(Rejection::TooEarly),
        Some(&REPEATED) => Reply::Rejected(Rejection::Repeated),
        Some(&KEY_REUSED) => Reply::Rejected(Rejection::KeyReused(text())),
        Some(&FULL) => Reply::Rejected(Rejection::Full),
        Some(_) | None => Reply::Rejected(Rejection::Refused(text())),
    }
}
