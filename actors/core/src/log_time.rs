//! The log's time: what the leader of a shard gives each command as its `at`.
//!
//! Deadlines, waits and records live by it, so it must go as true time does, whatever happens to
//! the wall clock of a machine, and whoever leads. It runs on the boot clock (`CLOCK_BOOTTIME`:
//! never set, and goes on while the machine sleeps), from where the log itself says that it is:
//!
//! - A replica that follows hears the time with each entry that it applies. An entry was some
//!   milliseconds on its way, so the one that says the latest time was the quickest: between
//!   them the boot clock goes on. Entries from before this process's life tell of another time,
//!   and those that a lagging replica applies late are outdone by what it knows.
//! - A leader goes on from there, and lets the time drift towards its wall clock, which NTP keeps
//!   at UTC. It never jumps there.
//! - Where nobody's time was heard, nobody has been running: a cluster that starts goes on by the
//!   wall clock, for true time has passed meanwhile. The time never goes back, though.
//! - Who has only begun to hear it may have heard old entries alone. They are no older than
//!   [`TOLD_NS_MAX`], and within that the wall clock is believed.
//!
//! A wall clock that is far off was set, rightly or not. It is not followed before it has stayed
//! there for [`STEPOUT_NS`], and an operator is told at once.

use tandem_sip::Millis;

const NS_PER_MS: u64 = 1_000_000;
const NS_PER_S: u64 = 1_000_000_000;
const PPM: u64 = 1_000_000;

/// No crystal is that far off, so a difference of some milliseconds always ends; the rate of
/// `adjtime(3)` on Linux.
pub const SLEW_PPM_MIN: u64 = 500;
/// Each millisecond of difference adds one part in a million, up to this: a ring time-out of 20 s
/// is wrong by 0.8 s at most, and an hour is made good within 27 hours. (chronyd goes up to 83,333.)
pub const SLEW_PPM_MAX: u64 = 40_000;
/// A greater difference is no drift: a clock was set.
pub const STEP_NS: u64 = NS_PER_S;
/// So long a clock that was set must stay where it is before it is followed: 900 s, as the stepout
/// threshold of RFC 5905 (appendix A.1.1, `WATCH`). What somebody puts right within that time has moved nothing.
pub const STEPOUT_NS: u64 = 900 * NS_PER_S;
/// A leader lets no more time go by without an entry.
pub const TOLD_NS_MAX: u64 = 6 * NS_PER_S;
/// How often the wall clock is looked at.
const LOOK_NS: u64 = 10 * NS_PER_MS;

const _: () = assert!(SLEW_PPM_MIN <= SLEW_PPM_MAX && SLEW_PPM_MAX < PPM);

/// What the clocks of this process show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Since the machine was started, sleep included.
    pub boot_ns: u64,
    /// Since 1970, as the machine believes.
    pub wall_ns: u64,
}

/// One entry, as far as it tells the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    pub index: u64,
    pub term: u64,
    pub at: Millis,
}

/// Where a new leader has the time from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// From the leader before, or its own last lead.
    Log,
    /// Nobody was heard in this process's life.
    WallClock,
}

/// What is thought of this machine's wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wall {
    /// Close enough to be followed.
    #[default]
    Near,
    /// It was set, or the log's time came from a clock that was: not followed yet.
    Apart { since_ns: u64, ahead_ns: i64 },
    /// It stayed there so long that it is followed.
    Followed { ahead_ns: i64 },
}

/// How well this process knows the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Knowledge {
    /// A lower bound: where the log was once.
    Nothing,
    /// A living leader's entries have come since then, perhaps old ones alone.
    Heard { since_ns: u64 },
    /// One came that was new, or this process has led.
    Known,
}

#[derive(Clone, Debug)]
pub struct LogTime {
    /// Entries up to here are from before this process's life.
    log_end: u64,
    /// The newest term that was heard of.
    term: u64,
    leads: bool,
    knowledge: Knowledge,
    /// The log's time when the boot clock showed `boot_ns`.
    at_ns: u64,
    boot_ns: u64,
    /// What is to be made good from there on.
    slew_ns: i64,
    wall: Wall,
    /// When a living leader's entry was applied last, by the boot clock.
    told_ns: u64,
}

impl LogTime {
    /// `log_end` is the last index that the replica's log had when its process began.
    pub fn new(log_end: u64) -> Self {
        Self {
            log_end,
            term: 0,
            leads: false,
            knowledge: Knowledge::Nothing,
            at_ns: 0,
            boot_ns: 0,
            slew_ns: 0,
            wall: Wall::Near,
            told_ns: 0,
        }
    }

    /// The time for a command, or to compare a deadline with.
    pub fn now(&mut self, reading: Reading) -> Millis {
        self.look(reading);
        Millis(self.at(reading.boot_ns) / NS_PER_MS)
    }

    /// How far the wall clock is ahead of the log's time; none before that is known.
    pub fn wall_ahead_ns(&mut self, reading: Reading) -> Option<i64> {
        self.look(reading);
        self.is_known().then(|| difference(reading.wall_ns, self.at(reading.boot_ns)))
    }

    pub fn wall(&self) -> Wall {
        self.wall
    }

    fn is_known(&self) -> bool {
        self.knowledge == Knowledge::Known
    }

    /// No earlier than this can the time be `at`, by the boot clock.
    pub fn reaches_ns(&self, at: Millis, boot_ns: u64) -> u64 {
        let missing_ns = at.0.saturating_mul(NS_PER_MS).saturating_sub(self.at(boot_ns));
        // It goes no faster than that; the quotient is rounded down.
        let soonest = u128::from(missing_ns) * u128::from(PPM) / u128::from(PPM + SLEW_PPM_MAX);
        boot_ns.saturating_add(u64::try_from(soonest).unwrap_or(u64::MAX))
    }

    // --- what happens ------------------------------------------------------------------------

    /// A term has begun, led by this process or by another.
    pub fn on_term(&mut self, term: u64) {
        self.term = self.term.max(term);
    }

    /// The world was read from disk, or came from another replica.
    pub fn on_restored(&mut self, at: Millis, boot_ns: u64) {
        self.advance(boot_ns);
        self.at_ns = self.at_ns.max(at.0.saturating_mul(NS_PER_MS));
    }

    pub fn on_applied(&mut self, told: Told, boot_ns: u64) {
        if self.leads {
            return;
        }
        self.advance(boot_ns);
        let at_ns = told.at.0.saturating_mul(NS_PER_MS);
        let late_ns = self.at_ns.saturating_sub(at_ns);
        self.at_ns = self.at_ns.max(at_ns);
        // The rest is from before this life, or of a leader that is gone.
        if told.index <= self.log_end || told.term != self.term {
            return;
        }
        match self.knowledge {
            Knowledge::Nothing => self.knowledge = Knowledge::Heard { since_ns: boot_ns },
            // By now the leader has made a new one, if it lives.
            Knowledge::Heard { since_ns } if boot_ns.saturating_sub(since_ns) >= TOLD_NS_MAX => {
                self.knowledge = Knowledge::Known;
            }
            Knowledge::Heard { .. } => {}
            // It may have been slow, or this clock goes ahead of the leader's. A leader's time
            // is never slower by more than this.
            Knowledge::Known => {
                let since_ns = boot_ns.saturating_sub(self.told_ns);
                self.at_ns -= late_ns.min(part(since_ns, SLEW_PPM_MAX));
            }
        }
        self.told_ns = boot_ns;
    }

    /// This process leads and has applied all that was before.
    pub fn on_elected(&mut self, reading: Reading) -> Source {
        self.advance(reading.boot_ns);
        self.leads = true;
        let (latest_ns, source) = match self.knowledge {
            Knowledge::Nothing => (u64::MAX, Source::WallClock),
            Knowledge::Heard { .. } => (self.at_ns.saturating_add(TOLD_NS_MAX), Source::Log),
            Knowledge::Known => (self.at_ns, Source::Log),
        };
        self.at_ns = reading.wall_ns.clamp(self.at_ns, latest_ns);
        self.knowledge = Knowledge::Known;
        source
    }

    pub fn on_deposed(&mut self, boot_ns: u64) {
        self.advance(boot_ns);
        self.leads = false;
        self.told_ns = boot_ns;
    }

    // --- how it goes -------------------------------------------------------------------------

    /// The boot clock's pace, and a part of what is to be made good. It never goes back: less is
    /// taken away than goes by.
    fn at(&self, boot_ns: u64) -> u64 {
        let elapsed_ns = boot_ns.saturating_sub(self.boot_ns);
        let missing_ns = self.slew_ns.unsigned_abs();
        let rate_ppm = (missing_ns / NS_PER_MS).clamp(SLEW_PPM_MIN, SLEW_PPM_MAX);
        let made_good_ns = part(elapsed_ns, rate_ppm).min(missing_ns);
        let straight_ns = self.at_ns.saturating_add(elapsed_ns);
        if self.slew_ns < 0 {
            straight_ns.saturating_sub(made_good_ns)
        } else {
            straight_ns.saturating_add(made_good_ns)
        }
    }

    fn advance(&mut self, boot_ns: u64) {
        self.at_ns = self.at(boot_ns);
        self.boot_ns = self.boot_ns.max(boot_ns);
        self.slew_ns = 0;
    }

    fn look(&mut self, reading: Reading) {
        if !self.is_known() || reading.boot_ns < self.boot_ns.saturating_add(LOOK_NS) {
            return;
        }
        self.advance(reading.boot_ns);
        let ahead_ns = difference(reading.wall_ns, self.at_ns);
        self.wall = self.wall.then(ahead_ns, reading.boot_ns);
        if self.leads && !matches!(self.wall, Wall::Apart { .. }) {
            self.slew_ns = ahead_ns;
        }
    }
}

impl Wall {
    fn then(self, ahead_ns: i64, boot_ns: u64) -> Self {
        if ahead_ns.unsigned_abs() <= STEP_NS {
            return Self::Near;
        }
        let moved = |before_ns: i64| ahead_ns.abs_diff(before_ns) > STEP_NS;
        match self {
            Self::Apart { since_ns, ahead_ns: then } if !moved(then) => {
                if boot_ns.saturating_sub(since_ns) < STEPOUT_NS {
                    return self;
                }
                Self::Followed { ahead_ns }
            }
            Self::Followed { ahead_ns: then } if !moved(then) => Self::Followed { ahead_ns },
            Self::Near | Self::Apart { .. } | Self::Followed { .. } => {
                Self::Apart { since_ns: boot_ns, ahead_ns }
            }
        }
    }
}

fn difference(one_ns: u64, other_ns: u64) -> i64 {
    let magnitude = i64::try_from(one_ns.abs_diff(other_ns)).unwrap_or(i64::MAX);
    if one_ns < other_ns { -magnitude } else { magnitude }
}

fn part(ns: u64, ppm: u64) -> u64 {
    let part = u128::from(ns) * u128::from(ppm) / u128::from(PPM);
    u64::try_from(part).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
