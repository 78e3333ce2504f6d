//! The log's time on this process: shared by the replica, which hears it, and the leader, which
//! gives it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tandem_core::log_time::{LogTime, Source, Told, Wall};
use tandem_sip::Millis;

use crate::ports::{Clock, Leadership};

/// A second and more in nanoseconds, as an operator reads it.
const NS_PER_S: f64 = 1e9;

pub struct LogClock {
    shard: u16,
    clock: Arc<dyn Clock>,
    time: Mutex<LogTime>,
    /// What an operator was told last.
    said: Mutex<Wall>,
    /// When something was proposed here last: it tells the time.
    proposed_at: AtomicU64,
}

impl LogClock {
    /// `log_end` is the last index of the shard's log as it was when the process began.
    pub fn new(shard: u16, clock: Arc<dyn Clock>, log_end: u64) -> Self {
        let (time, said) = (Mutex::new(LogTime::new(log_end)), Mutex::default());
        Self { shard, clock, time, said, proposed_at: AtomicU64::default() }
    }

    pub fn shard(&self) -> u16 {
        self.shard
    }

    /// The time for a command.
    pub(crate) fn to_propose(&self) -> Millis {
        let now = self.now();
        self.proposed_at.fetch_max(now.0, Ordering::Relaxed);
        now
    }

    /// So long nothing was proposed here, by any tenant of the shard.
    pub(crate) fn idle_ms(&self) -> u64 {
        self.now().since(Millis(self.proposed_at.load(Ordering::Relaxed)))
    }

    pub fn now(&self) -> Millis {
        let reading = self.clock.read();
        self.time.lock().now(reading)
    }

    pub fn seed(&self) -> u64 {
        self.clock.seed()
    }

    pub(crate) fn on_restored(&self, at: Millis) {
        let reading = self.clock.read();
        self.time.lock().on_restored(at, reading.boot_ns);
    }

    pub(crate) fn on_applied(&self, told: Told) {
        let reading = self.clock.read();
        self.time.lock().on_applied(told, reading.boot_ns);
    }

    pub(crate) fn on_leadership(&self, now: Leadership) {
        let reading = self.clock.read();
        let mut time = self.time.lock();
        time.on_term(now.term);
        if !now.leading {
            time.on_deposed(reading.boot_ns);
        }
    }

    pub(crate) fn on_elected(&self) -> Source {
        let reading = self.clock.read();
        let source = self.time.lock().on_elected(reading);
        match source {
            Source::Log => {}
            Source::WallClock => tracing::info!(
                shard = self.shard,
                "nobody led before in this process's life: the log's time is the wall clock's"
            ),
        }
        source
    }

    /// Sets the gauge, and says what has become of the wall clock since it was called last.
    pub(crate) fn watch(&self) {
        let reading = self.clock.read();
        let (ahead_ns, wall) = {
            let mut time = self.time.lock();
            (time.wall_ahead_ns(reading), time.wall())
        };
        let Some(ahead_ns) = ahead_ns else { return };
        #[expect(clippy::cast_precision_loss, reason = "a gauge holds no integers")]
        let offset_s = ahead_ns as f64 / NS_PER_S;
        let shard = self.shard;
        metrics::gauge!("tandem_clock_offset_seconds", "shard" => format!("s{shard}"))
            .set(offset_s);
        let before = std::mem::replace(&mut *self.said.lock(), wall);
        match (before, wall) {
            (Wall::Near | Wall::Followed { .. }, Wall::Apart { .. }) => {
                metrics::counter!("tandem_alarms_total").increment(1);
                tracing::error!(
                    shard,
                    offset_s,
                    "TD0410 this machine's wall clock is not where the log's time is. Calls go on by \
                     the log's time, which does not jump. Look at NTP here (chronyc tracking, timedatectl) \
                     and put the clock right, within 15 minutes if you can; if the clock is right already \
                     and the log is wrong, leave it: the log follows from then on, by 4 % at most"
                );
            }
            (Wall::Near | Wall::Apart { .. }, Wall::Followed { .. }) => tracing::warn!(
                shard,
                offset_s,
                "TD0411 the wall clock has stayed apart for 15 minutes. Where this node leads, the log's \
                 time follows it now: waits and time-outs are wrong by up to 4 % until both agree. Put the \
                 clock right if it is not"
            ),
            (Wall::Apart { .. } | Wall::Followed { .. }, Wall::Near) => {
                tracing::info!(shard, offset_s, "the wall clock and the log's time agree again");
            }
            (Wall::Near, Wall::Near)
            | (Wall::Apart { .. }, Wall::Apart { .. })
            | (Wall::Followed { .. }, Wall::Followed { .. }) => {}
        }
    }
}
