//! An agent's phone that takes the place of another's, which rings or talks (RFC 3891): its user has
//! heard it ring, or was asked to come.

use super::Step;
use super::line::State;
use crate::draws::For;
use crate::event::Event;
use crate::plan::{Call, From, To};
use crate::simulation::Simulation;

impl Simulation {
    pub fn perhaps_picked_up(&mut self, p: usize, l: usize, within_ms: u64) {
        let name = self.name_of_line(p, l);
        let mut random = self.draws.next(For::PickUp, name);
        let by = random.below(u64::from(self.settings.agents)) as usize;
        if !random.percent(10) || by == p {
            return;
        }
        let at = self.now + random.between(5, within_ms);
        let (life, step) = (self.peers[by].life, Step::PickUp { phone: p, line: l });
        self.schedule.put(at, Event::Step { peer: by, life, line: 0, step });
    }

    pub fn pick_up(&mut self, q: usize, p: usize, l: usize) {
        let (Some(agent), Some(of)) = (self.peers[q].agent, self.peers[p].agent) else { return };
        let line = &self.peers[p].lines[l];
        if self.peers[q].is_busy() || !matches!(line.state, State::Invited | State::Up) {
            return;
        }
        let headers = &line.invite.headers;
        let ours = headers.from_tag().unwrap_or_default();
        let replaces = format!("{};to-tag={ours};from-tag={}", line.call_id, line.tag);
        let mut random = self.draws.next(For::PickUp, self.name_of_line(p, l));
        let call = Call {
            at: self.now,
            gateway: self.peers[q].home,
            from: From::Agent(agent),
            to: To::Extension(of),
            cancel_after: 7_000,
            talk_ms: random.between(300, 6_000),
            ack_after: *random.pick(&[Some(0), Some(0), Some(0), Some(400), None]),
            hold: None,
            vanish_after: None,
            offerless: random.percent(20),
            keys: Vec::new(),
            by_info: false,
        };
        let planned = self.calls.len();
        self.calls.push(call);
        self.dial(q, planned, Some(&replaces));
    }
}
