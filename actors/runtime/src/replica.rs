//! The world of one tenant on this process: consensus writes it, the runtime reads it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use tandem_core::effect::Effect;
use tandem_core::ids::EntityId;
use tandem_core::log_time::Told;
use tandem_core::rows::RowChange;
use tandem_core::survival::Survival;
use tandem_core::wire;
use tandem_core::{Meta, Rejection, Reply, World};
use tandem_sip::Millis;
use tokio::sync::{Notify, mpsc};

use crate::tenants::standing::in_epoch;
use crate::time::LogClock;

/// What one entry came to, released when its rows are stored.
#[derive(Debug)]
pub struct Released {
    /// In the log.
    pub index: u64,
    pub effects: Vec<Effect>,
    pub touched: Vec<EntityId>,
    /// As the log says it: of an entry of another term somebody else has told.
    pub term: u64,
    pub survival: Survival,
}

pub struct Replica {
    tenant: u16,
    clock: Arc<LogClock>,
    world: RwLock<World>,
    epoch: AtomicU64,
    /// Applied, not stored yet.
    unstored: Mutex<Vec<Released>>,
    /// Where somebody listens.
    released: Mutex<Option<mpsc::UnboundedSender<Released>>>,
    /// Told of each batch of entries that was stored.
    stored: Notify,
}

pub struct Outcome {
    pub rows: Vec<RowChange>,
    /// Encoded: see [`decode_reply`].
    pub reply: Vec<u8>,
}

impl Replica {
    pub fn new(tenant: u16, clock: Arc<LogClock>) -> Arc<Self> {
        Arc::new(Self {
            tenant,
            clock,
            world: RwLock::new(World::new(tenant)),
            epoch: AtomicU64::new(0),
            unstored: Mutex::default(),
            released: Mutex::default(),
            stored: Notify::new(),
        })
    }

    /// What is released from now on, in log order; who listened before hears nothing more. It is drained
    /// at once by the runtime, so it holds no more than consensus has under way.
    pub fn listen(&self) -> mpsc::UnboundedReceiver<Released> {
        let (released, releases) = mpsc::unbounded_channel();
        *self.released.lock() = Some(released);
        releases
    }

    pub fn tenant(&self) -> u16 {
        self.tenant
    }

    pub fn clock(&self) -> &Arc<LogClock> {
        &self.clock
    }

    /// Puts a world in the place of what was.
    pub(crate) fn install(&self, world: World, epoch: u64) {
        self.clock.on_restored(world.at);
        *self.world.write() = world;
        self.set_epoch(epoch);
        self.unstored.lock().clear();
    }

    /// From the next entry on.
    pub(crate) fn set_epoch(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Release);
    }

    /// Applies one entry, on every replica in log order.
    pub fn apply(&self, index: u64, term: u64, command: &[u8]) -> Outcome {
        let envelope = match wire::decode_envelope(command) {
            Ok(envelope) => envelope,
            Err(error) => {
                let reply = Reply::Rejected(Rejection::Refused(unreadable(index, &error)));
                return Outcome { rows: Vec::new(), reply: encode_reply(&reply) };
            }
        };
        self.clock.on_applied(Told { index, term, at: envelope.at });
        let epoch = self.epoch.load(Ordering::Acquire);
        let meta = Meta {
            at: envelope.at,
            seed: envelope.seed,
            version: envelope.version,
            shard: self.tenant,
            index: in_epoch(epoch, index),
            term: in_epoch(epoch, term),
        };
        let applied = self.world.write().apply(&meta, &envelope);
        if let Some(alarm) = &applied.alarm {
            tracing::error!(index, "{alarm}");
            metrics::counter!("tandem_alarms_total").increment(1);
        }
        let reply = encode_reply(&applied.reply);
        let (effects, touched, survival) = (applied.effects, applied.touched, applied.survival);
        self.unstored.lock().push(Released { index, effects, touched, term, survival });
        Outcome { rows: applied.rows, reply }
    }

    /// The rows of every entry up to `index` are stored: commit, then act.
    pub fn stored(&self, index: u64) {
        let mut unstored = self.unstored.lock();
        let count = unstored.partition_point(|released| released.index <= index);
        let released = self.released.lock();
        for now in unstored.drain(..count) {
            // Without a runtime nobody listens: a replica that only follows.
            let _ = released.as_ref().map(|released| released.send(now));
        }
        drop((unstored, released));
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

/// The tenant is in another group, or on its way: the command is nobody's.
pub(crate) const MOVED: &[u8] = &[7];

/// Tells the operator; the sentence for who has proposed it.
pub(crate) fn unreadable(index: u64, error: &dyn std::fmt::Display) -> String {
    tracing::error!(index, %error, "TD0103 an entry can't be read by this build");
    format!("entry {index} can't be read: {error}")
}

/// A byte that says what kind, then the sentence.
pub(crate) fn encode_reply(reply: &Reply) -> Vec<u8> {
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
