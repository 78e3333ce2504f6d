//! Bugs of a gateway that are planted between it and what it is told or sends: its own code has
//! none of them.

use std::collections::BTreeSet;
use std::rc::Rc;

use tandem_control::link::Up;
use tandem_core::command::GatewayEvent;
use tandem_core::effect::{Effect, EffectId};
use tandem_sip::Method;

use crate::packet::{Content, Packet};
use crate::plant::Plant;
use crate::simulation::Simulation;

/// What the planted bugs of one life keep.
#[derive(Debug, Default)]
pub struct Planted {
    /// The highest term of any effect.
    term: u64,
    forgotten: BTreeSet<EffectId>,
    strays: BTreeSet<(String, u16)>,
    answers: BTreeSet<u64>,
}

impl Simulation {
    /// `SkipFencing`: whoever speaks is taken for the leader of now.
    pub fn believed_term(&mut self, g: usize, term: u64) -> u64 {
        let planted = &mut self.gateways[g].state.planted;
        planted.term = planted.term.max(term).max(self.watch.fence.heard_of(g));
        if self.options.has(Plant::SkipFencing) { planted.term } else { term }
    }

    /// `ForgetOwed`: what an earlier life sent is said to be done.
    pub fn is_forgotten_effect(&mut self, g: usize, n: usize, effect: &Effect) -> bool {
        let state = &mut self.gateways[g].state;
        let forgets = self.options.has(Plant::ForgetOwed)
            && effect.id.index <= state.began_at_index
            && !matches!(effect.body, tandem_core::effect::Body::Media(_));
        if forgets && state.planted.forgotten.insert(effect.id) {
            self.send_up(g, n, Up::Done { shard: 0, effects: vec![effect.id] });
        }
        forgets
    }

    /// `StrayTooEarly`: before there is routing a final answer is noted, and lost.
    pub fn misses_stray(&mut self, g: usize, packet: &Packet) -> bool {
        let Content::Response(response) = &packet.content else { return false };
        if !self.options.has(Plant::StrayTooEarly) || response.is_provisional() {
            return false;
        }
        let now = self.now_ms();
        let routed = self.gateways[g].state.control.status(now).routing;
        let planted = &mut self.gateways[g].state.planted;
        let name = (response.headers.branch().to_owned(), response.status);
        if !routed {
            planted.strays.insert(name.clone());
        }
        planted.strays.contains(&name)
    }

    /// `EventBeforeLogin`: the number of a login that is sent, and taken for counted at once.
    pub fn takes_login_for_counted(&self, up: &Up) -> Option<u64> {
        match up {
            Up::Event { sequence, event, .. }
                if self.options.has(Plant::EventBeforeLogin)
                    && matches!(**event, GatewayEvent::Login(_)) =>
            {
                Some(*sequence)
            }
            Up::Event { .. } | Up::Done { .. } => None,
        }
    }

    /// `ChangeAnswer`: a 200 to an INVITE is composed anew when it is repeated.
    pub fn perhaps_changed(&mut self, g: usize, packet: Rc<Packet>) -> Rc<Packet> {
        let Content::Response(response) = &packet.content else { return packet };
        let answer = response.is_success() && response.headers.cseq.method == Method::Invite;
        if !self.options.has(Plant::ChangeAnswer) || !answer {
            return packet;
        }
        if self.gateways[g].state.planted.answers.insert(packet.digest) {
            return packet;
        }
        Rc::new(Packet { digest: packet.digest ^ 1, ..(*packet).clone() })
    }
}
