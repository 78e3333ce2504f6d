//! The clocks of a node, and the log's time on it, by the very code of a node.

use tandem_core::log_time::{LogTime, Reading, Source, Told};
use tandem_sip::Millis;

use crate::draws::For;
use crate::limits::{EPOCH_MS, PPM};
use crate::names;
use crate::plant::Plant;
use crate::simulation::Simulation;

const NS_PER_MS: u64 = 1_000_000;
/// A wall clock that is further off was set.
const SET_MS: u64 = 60_000;

impl Simulation {
    fn boot_ns(&self, n: usize) -> u64 {
        self.now.saturating_mul(PPM.saturating_add_signed(self.node_ppm[n]))
    }

    fn wall(&self, n: usize) -> Millis {
        Millis((EPOCH_MS + self.now).saturating_add_signed(self.nodes[n].wall_ahead_ms))
    }

    fn reading(&self, n: usize) -> Reading {
        let wall_ns = self.wall(n).0.saturating_mul(NS_PER_MS);
        Reading { boot_ns: self.boot_ns(n), wall_ns }
    }

    /// A planted bug: the wall clock is believed.
    fn believes_wall_clock(&self) -> bool {
        self.options.has(Plant::BelieveWallClock) || self.options.has(Plant::TrustLocalClock)
    }

    /// What a node takes for the log's time.
    pub fn log_now(&mut self, n: usize) -> Millis {
        if self.believes_wall_clock() {
            return self.wall(n);
        }
        let reading = self.reading(n);
        self.nodes[n].log_time.now(reading)
    }

    /// The next moment at which a node need look whether `deadline` has passed: no later than that.
    pub fn look_at(&mut self, n: usize, deadline: Millis) -> u64 {
        if deadline <= self.log_now(n) {
            return self.now;
        }
        let at = if self.believes_wall_clock() {
            let ahead_ms = self.nodes[n].wall_ahead_ms;
            deadline.0.saturating_add_signed(-ahead_ms).saturating_sub(EPOCH_MS)
        } else {
            let boot_ns = self.nodes[n].log_time.reaches_ns(deadline, self.boot_ns(n));
            boot_ns / PPM.saturating_add_signed(self.node_ppm[n])
        };
        at.max(self.now + 1)
    }

    /// An entry is applied.
    pub fn hear_time(&mut self, n: usize, told: Told) {
        let (boot_ns, term) = (self.boot_ns(n), self.consensus.term);
        let time = &mut self.nodes[n].log_time;
        time.on_term(term);
        time.on_applied(told, boot_ns);
    }

    pub fn begin_to_lead(&mut self, n: usize) -> Source {
        let reading = self.reading(n);
        let source = self.nodes[n].log_time.on_elected(reading);
        let ahead_ms = self.nodes[n].wall_ahead_ms.unsigned_abs();
        match source {
            Source::Log if ahead_ms > SET_MS => {
                self.coverage.mark("who takes over has a wall clock that was set");
            }
            Source::Log => {}
            Source::WallClock => {
                self.coverage.mark("a leader begins by its wall clock");
                self.misled_ms = self.misled_ms.max(ahead_ms);
            }
        }
        source
    }

    pub fn cease_to_lead(&mut self, n: usize) {
        let boot_ns = self.boot_ns(n);
        self.nodes[n].log_time.on_deposed(boot_ns);
    }

    /// A new process on a machine whose wall clock was put right when it was started.
    pub fn begin_time(&mut self, n: usize) {
        let owner = names::of(&[n as u64, self.now]);
        self.nodes[n].wall_ahead_ms = self.draws.at(For::Clock, owner).between(0, 60) as i64 - 30;
        let boot_ns = self.boot_ns(n);
        let mut time = LogTime::new(self.consensus.last_index());
        time.on_restored(self.nodes[n].replica.world.at, boot_ns);
        self.nodes[n].log_time = time;
    }

    /// A leader gives this time to a command.
    pub fn check_time(&mut self, at: Millis) {
        let checked = crate::inv_clock::gives(at, self.now, self.misled_ms);
        self.check("clock", checked);
    }
}
