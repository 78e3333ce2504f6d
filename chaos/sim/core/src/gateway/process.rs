//! The process around a gateway's control: what arrives is given to it, what it says is done.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tandem_control::link::{self, Up};
use tandem_control::sip::{Transmit, stateless_tag};
use tandem_control::{Output, Verdict};
use tandem_core::effect::Effect;
use tandem_core::ids::GatewayId;
use tandem_sip::{Carrier, Flow, Message, Method, Millis};

use super::SHARD;
use crate::event::Event;
use crate::inv_acknowledged::Acknowledged;
use crate::limits;
use crate::links::Down;
use crate::packet::{Content, Packet};
use crate::plant::Plant;
use crate::simulation::Simulation;

/// The key of the nonces, the same on both gateways.
const NONCE_KEY: [u8; 32] = [7; 32];

impl Simulation {
    pub fn now_ms(&self) -> Millis {
        Millis(self.now)
    }

    // --- what arrives --------------------------------------------------------------------------

    pub fn on_packet_to_gateway(&mut self, g: usize, from: SocketAddr, packet: &Packet) {
        if self.misses_stray(g, packet) {
            return;
        }
        let reliable = self.addresses.get(&from).is_some_and(|p| self.peers[*p].reliable);
        let carrier = if reliable { Carrier::TCP } else { Carrier::Udp };
        let flow = Flow::over(carrier, self.gateways[g].vip, from);
        let message = match &packet.content {
            Content::Request(request) => Message::Request((**request).clone()),
            Content::Response(response) => Message::Response((**response).clone()),
        };
        let (now, unix_ms) = (self.now_ms(), limits::EPOCH_MS + self.now);
        self.gateways[g].state.control.on_message(now, unix_ms, &flow, message);
        self.perform_outputs(g);
    }

    pub fn on_down(&mut self, g: usize, n: usize, message: Down) {
        let now = self.now_ms();
        match message {
            Down::Effect { term, effect } => self.on_effect(g, n, term, &effect),
            Down::Accepted { life, sequence, overloaded } => {
                self.on_accepted(g, n, life, sequence, overloaded);
            }
            Down::Leading { term, leading } => {
                let leading = link::Leading { shard: SHARD, term, leading };
                if leading.leading {
                    self.watch.fence.heard(g, term);
                }
                let control = &mut self.gateways[g].state.control;
                control.on_down(now, n, link::Down::Leading(leading));
            }
            Down::Routing => {
                let routing = link::Routing {
                    shard: SHARD,
                    all: vec![SHARD],
                    config: crate::simulation::house(&self.settings).into(),
                    nonce_key: NONCE_KEY.to_vec(),
                };
                let control = &mut self.gateways[g].state.control;
                control.on_down(now, n, link::Down::Routing(routing));
            }
        }
        self.serve_gateway(g);
    }

    pub fn on_session_begun(&mut self, g: usize, n: usize) {
        let now = self.now_ms();
        self.gateways[g].state.control.on_session(now, n);
        self.serve_gateway(g);
    }

    pub fn on_session_over(&mut self, g: usize, n: usize) {
        let now = self.now_ms();
        self.gateways[g].state.control.on_session_over(now, n);
        self.serve_gateway(g);
    }

    fn on_accepted(&mut self, g: usize, n: usize, life: u64, sequence: u64, overloaded: bool) {
        let now = self.now_ms();
        let gateway = &mut self.gateways[g];
        if life != gateway.incarnation && !self.options.has(Plant::AcceptForAnotherLife) {
            return;
        }
        let waited = gateway.state.control.waits_for(SHARD, sequence);
        let accepted = link::Accepted { shard: SHARD, sequence, overloaded, retry_after_s: 5 };
        gateway.state.control.on_down(now, n, link::Down::Accepted(accepted));
        if waited && !overloaded {
            self.check_let_go(g, sequence);
        }
        self.perform_outputs(g);
    }

    fn check_let_go(&mut self, g: usize, sequence: u64) {
        let gateway = &self.gateways[g];
        let (name, life) = (&gateway.name, gateway.incarnation);
        if self.waits_to_be_applied(name, life, sequence) {
            return;
        }
        let checked = Acknowledged::on_let_go(self.front(), name, life, sequence);
        self.check("acknowledged", checked);
    }

    /// Committed, and the one node that had applied it was killed: it will count again.
    fn waits_to_be_applied(&self, gateway: &GatewayId, life: u64, sequence: u64) -> bool {
        let unapplied = self.front().index + 1..=self.consensus.committed;
        unapplied.filter_map(|index| self.consensus.entry(index)?.envelope.as_ref()).any(
            |envelope| {
                envelope.origin.as_ref().is_some_and(|origin| {
                    origin.gateway == *gateway
                        && origin.incarnation == life
                        && origin.sequence == sequence
                })
            },
        )
    }

    fn on_effect(&mut self, g: usize, n: usize, term: u64, effect: &Arc<Effect>) {
        if self.is_forgotten_effect(g, n, effect) {
            return;
        }
        let now = self.now_ms();
        let believed = self.believed_term(g, term);
        let control = &mut self.gateways[g].state.control;
        let verdict = control.on_effect(now, SHARD, believed, effect);
        match verdict {
            Verdict::Fenced => self.coverage.mark("an effect of an old leader is fenced"),
            Verdict::Repeated => {}
            Verdict::Do => {
                if let Err(what) = self.watch.fence.performs(g, term) {
                    self.fail("fence", what);
                }
                self.tell(|sim| {
                    let what = format!("does {} of term {term}", crate::words::effect(effect));
                    (sim.gateways[g].name.to_string(), what)
                });
            }
        }
        self.perform_outputs(g);
    }

    // --- time ----------------------------------------------------------------------------------

    pub fn on_wake_gateway(&mut self, g: usize, incarnation: u64) {
        let gateway = &mut self.gateways[g];
        let woken = gateway.state.wake_at.is_some_and(|at| at <= self.now);
        if gateway.incarnation != incarnation || !gateway.is_up() || !woken {
            return;
        }
        gateway.state.wake_at = None;
        self.serve_gateway(g);
    }

    /// Whatever is due; then the next timer is armed.
    pub fn serve_gateway(&mut self, g: usize) {
        if !self.gateways[g].is_up() {
            return;
        }
        if self.now >= self.gateways[g].state.silence_look_at {
            self.gateways[g].state.silence_look_at = self.now + limits::SILENCE_LOOK_MS;
            self.look_for_silence(g);
        }
        let now = self.now_ms();
        self.perform_outputs(g);
        self.end_prompts(g);
        self.gateways[g].state.control.on_time(now);
        self.perform_outputs(g);
        self.arm_gateway(g);
    }

    fn arm_gateway(&mut self, g: usize) {
        let state = &self.gateways[g].state;
        let silence = (!state.media.is_empty()).then_some(state.silence_look_at);
        let control = state.control.wake_at().map(|at| at.0);
        let prompt = self.next_prompt_end(g);
        let Some(at) = [control, silence, prompt].into_iter().flatten().min() else { return };
        let at = at.max(self.now + 1);
        if state.wake_at.is_none_or(|armed| at < armed) {
            let gateway = &mut self.gateways[g];
            gateway.state.wake_at = Some(at);
            let incarnation = gateway.incarnation;
            self.schedule.put(at, Event::WakeGateway { gateway: g, incarnation });
        }
    }

    // --- what it does --------------------------------------------------------------------------

    fn perform_outputs(&mut self, g: usize) {
        while let Some(output) = self.gateways[g].state.control.next_output() {
            match output {
                Output::Transmit(transmit) => self.on_transmit(g, &transmit),
                Output::Up { node, up } => self.on_up_sent(g, node, up),
                Output::Media { plan, .. } => self.on_media_plan(g, &plan),
            }
        }
    }

    fn on_up_sent(&mut self, g: usize, n: usize, up: Up) {
        let login = self.takes_login_for_counted(&up);
        self.send_up(g, n, up);
        if let Some(sequence) = login {
            let accepted =
                link::Accepted { shard: SHARD, sequence, overloaded: false, retry_after_s: 0 };
            let now = self.now_ms();
            let control = &mut self.gateways[g].state.control;
            control.on_down(now, n, link::Down::Accepted(accepted));
        }
    }

    fn on_transmit(&mut self, g: usize, transmit: &Transmit) {
        let listens = self.addresses.get(&transmit.way.to).is_some_and(|p| self.peers[*p].reliable);
        if transmit.way.carrier.is_reliable() && !listens {
            // A phone of the model that is on UDP takes no connections.
            if let Some(ticket) = transmit.ticket {
                let now = self.now_ms();
                self.gateways[g].state.control.on_undelivered(now, ticket, true);
            }
            return;
        }
        let packet = match Packet::read(&transmit.bytes) {
            Ok(packet) => packet,
            Err(why) => {
                self.fail("peers", format!("{} sends what nobody reads: {why}", transmit.way.to));
                return;
            }
        };
        let packet = self.perhaps_changed(g, packet);
        self.check_acknowledged(&packet);
        self.transmit_from_gateway(g, packet, transmit.way.to);
    }

    /// What a peer is told of its INVITE was committed before, unless it is the gateway's own
    /// refusal.
    fn check_acknowledged(&mut self, packet: &Packet) {
        let Content::Response(response) = &packet.content else { return };
        let headers = &response.headers;
        let own = headers.to_tag() == Some(stateless_tag(headers).as_str());
        let first = headers.to_tag().is_none() || headers.cseq.number == 1;
        if headers.cseq.method == Method::Invite && first && !own {
            let checked = self.watch.acknowledged.on_told(&headers.call_id);
            self.check("acknowledged", checked);
        }
    }
}

/// The packet's bytes are those of the gateway: whoever gets them must be able to read them.
impl Packet {
    fn read(bytes: &[u8]) -> Result<Rc<Self>, tandem_sip::ParseError> {
        Ok(match tandem_sip::parse(bytes)? {
            Message::Request(request) => Self::request(Rc::new(request), bytes),
            Message::Response(response) => Self::response(Rc::new(response), bytes),
        })
    }
}
