//! What the nodes say, what is sent up to the one that leads, and what is due.

use std::rc::Rc;

use tandem_core::command::{GatewayEvent, Login, TransactionKey};
use tandem_core::effect::{Body, Effect};
use tandem_sip::transaction::Key;
use tandem_sip::{Method, Millis};

use super::ledger::{About, Settled, Verdict};
use super::requests::unavailable;
use crate::event::Event;
use crate::inv_acknowledged::Acknowledged;
use crate::limits;
use crate::links::{Down, Up};
use crate::packet::Packet;
use crate::plant::Plant;
use crate::simulation::Simulation;

/// The first port that a gateway grants.
const PORT_FIRST: u16 = 20_000;

impl Simulation {
    pub fn on_down(&mut self, g: usize, n: usize, message: Down) {
        match message {
            Down::Effect { term, effect } => self.on_effect(g, term, &effect),
            Down::Accepted { life, sequence, overloaded } => {
                self.on_accepted(g, n, life, sequence, overloaded);
            }
            Down::Leading { term, leading } => {
                let state = &mut self.gateways[g].state;
                if leading {
                    state.leading.insert(n, term);
                    state.fence.raise(term);
                    self.watch.fence.heard(g, term);
                } else {
                    state.leading.remove(&n);
                }
                self.choose_leader(g);
                self.note_leader(g);
            }
            Down::Routing => {
                let state = &mut self.gateways[g].state;
                if !state.logged_in {
                    state.logged_in = true;
                    let ports = (0..limits::PORTS).map(|port| PORT_FIRST + 2 * port).collect();
                    let login = Login { vip: self.gateways[g].vip, ports };
                    self.raise(g, GatewayEvent::Login(login), About::Existing);
                }
                self.note_leader(g);
            }
        }
        self.flush(g);
    }

    pub fn on_session_over(&mut self, g: usize, n: usize) {
        self.gateways[g].state.leading.remove(&n);
        self.choose_leader(g);
        self.note_leader(g);
        self.flush(g);
    }

    /// The highest term counts; what waits is sent again to whoever is new.
    fn choose_leader(&mut self, g: usize) {
        let fences = !self.options.has(Plant::SkipFencing);
        let state = &mut self.gateways[g].state;
        let fence = state.fence.term();
        let best = state
            .leading
            .iter()
            .map(|(node, term)| (*node, *term))
            .filter(|(_, term)| !fences || *term >= fence)
            .max_by_key(|(_, term)| *term);
        if best != state.leader {
            state.leader = best;
            state.ledger.send_all_again();
        }
    }

    fn note_leader(&mut self, g: usize) {
        let now = self.now;
        let state = &mut self.gateways[g].state;
        if state.leader.is_some() {
            state.leaderless_since = None;
            state.turned_away = false;
        } else {
            state.leaderless_since.get_or_insert(now);
        }
    }

    fn is_leaderless(&self, g: usize) -> bool {
        let since = self.gateways[g].state.leaderless_since;
        since.is_some_and(|since| self.now - since >= limits::NO_QUORUM_MS_MAX)
    }

    pub fn refuses_new_calls(&self, g: usize) -> bool {
        !self.gateways[g].state.logged_in || self.is_leaderless(g)
    }

    fn on_accepted(&mut self, g: usize, n: usize, life: u64, sequence: u64, overloaded: bool) {
        let gateway = &mut self.gateways[g];
        if life != gateway.incarnation && !self.options.has(Plant::AcceptForAnotherLife) {
            return;
        }
        // Only who leads now can say that an event will never be committed.
        if overloaded && gateway.state.leader.map(|(node, _)| node) != Some(n) {
            return;
        }
        let holds = gateway.state.ledger.holds(sequence);
        match gateway.state.ledger.on_accepted(sequence, overloaded) {
            Settled::Over if holds && !overloaded => self.check_let_go(g, sequence),
            Settled::Over => {}
            Settled::Later => {
                gateway.state.retry_at.get_or_insert(self.now + limits::EVENT_RETRY_MS);
            }
            Settled::Refused(key) => self.refuse(g, &key),
        }
    }

    fn check_let_go(&mut self, g: usize, sequence: u64) {
        let gateway = &self.gateways[g];
        let (name, life) = (&gateway.name, gateway.incarnation);
        let checked = Acknowledged::on_let_go(self.front(), name, life, sequence);
        self.check("acknowledged", checked);
    }

    pub fn raise(&mut self, g: usize, event: GatewayEvent, about: About) {
        self.gateways[g].state.ledger.push(event, about);
    }

    /// 503 in the cluster's place, to an INVITE or REGISTER that waits.
    fn refuse(&mut self, g: usize, key: &Key) {
        let servers = &mut self.gateways[g].state.servers;
        let Some(id) = servers.id(key) else { return };
        let Some(request) = servers.get(id).and_then(|entry| entry.request.clone()) else { return };
        let response = Rc::new(unavailable(&request));
        self.respond(g, key, &response, true);
    }

    // --- effects -------------------------------------------------------------------------------

    fn on_effect(&mut self, g: usize, term: u64, effect: &Rc<Effect>) {
        let now = self.now;
        let fences = !self.options.has(Plant::SkipFencing);
        let state = &mut self.gateways[g].state;
        let verdict = state.fence.judge(term, effect.id, fences);
        if verdict == Verdict::Fenced {
            self.coverage.mark("an effect of an old leader is fenced");
            return;
        }
        state.done.push(effect.id);
        state.done_since.get_or_insert(now);
        let of_old = effect.id.index <= state.began_at_index;
        // Its term may be news, even where the effect is not: whoever led in a lower one leads no
        // more.
        self.choose_leader(g);
        if verdict == Verdict::Repeated || of_old && self.options.has(Plant::ForgetOwed) {
            self.note_leader(g);
            return;
        }
        if let Err(what) = self.watch.fence.performs(g, term) {
            self.fail("fence", what);
        }
        self.tell(|sim| {
            let what = format!("does {} of term {term}", crate::words::effect(effect));
            (sim.gateways[g].name.to_string(), what)
        });
        match &effect.body {
            Body::Respond { transaction, response } => {
                let key = key_of(transaction);
                self.respond(g, &key, &Rc::new((**response).clone()), false);
            }
            Body::Send { request, destination } => {
                let request = Rc::new((**request).clone());
                if request.method == Method::Ack {
                    self.send_ack(g, &request, *destination);
                } else {
                    self.send_request(g, request, *destination);
                }
            }
            Body::Media(plan) => self.on_media_plan(g, plan),
        }
        self.note_leader(g);
    }

    fn send_ack(&mut self, g: usize, ack: &Rc<tandem_sip::Request>, to: std::net::SocketAddr) {
        let packet = Packet::request(Rc::clone(ack), &ack.to_bytes(), None);
        let headers = &ack.headers;
        let tag = headers.to_tag().unwrap_or_default().to_owned();
        let name = (headers.call_id.clone(), tag, headers.cseq.number);
        self.gateways[g].state.acks.insert(name, (Rc::clone(&packet), to));
        self.transmit_from_gateway(g, packet, to);
    }

    // --- time ----------------------------------------------------------------------------------

    pub fn on_wake_gateway(&mut self, g: usize, incarnation: u64) {
        let gateway = &mut self.gateways[g];
        let woken = gateway.state.wake_at.is_some_and(|at| at <= self.now);
        if gateway.incarnation != incarnation || !gateway.is_up() || !woken {
            return;
        }
        gateway.state.wake_at = None;
        self.serve_time(g);
        self.flush(g);
    }

    /// Whatever is due.
    pub fn serve_time(&mut self, g: usize) {
        self.serve_server_timers(g);
        self.serve_client_timers(g);
        let now = self.now;
        let state = &mut self.gateways[g].state;
        if state.retry_at.is_some_and(|at| now >= at) {
            state.retry_at = None;
            state.ledger.send_refused_again();
        }
        if self.is_leaderless(g) && !self.gateways[g].state.turned_away {
            self.gateways[g].state.turned_away = true;
            let withdrawn = self.gateways[g].state.ledger.withdraw_new_calls();
            for key in withdrawn {
                self.refuse(g, &key);
            }
        }
        if now >= self.gateways[g].state.silence_look_at {
            self.gateways[g].state.silence_look_at = now + limits::SILENCE_LOOK_MS;
            self.look_for_silence(g);
        }
    }

    /// Sends to the leader what waits for it, and arms the next timer.
    pub fn flush(&mut self, g: usize) {
        let now = self.now;
        if !self.gateways[g].is_up() {
            return;
        }
        let node = self.gateways[g].state.leader.map(|(node, _)| node);
        // Without a leader it waits: the one whose effects these are may be about to say that it
        // leads.
        if let Some(n) = node {
            while let Some(batch) = self.take_done(g) {
                self.send_up(g, n, Up::Done(Rc::new(batch)));
            }
        }
        if let Some(n) = node {
            while let Some((sequence, event)) = self.gateways[g].state.ledger.send_next() {
                self.send_up(g, n, Up::Event { sequence, event });
            }
        }
        let state = &self.gateways[g].state;
        let leaderless = state
            .leaderless_since
            .filter(|_| !state.turned_away)
            .map(|since| since + limits::NO_QUORUM_MS_MAX);
        let done = state
            .done_since
            .filter(|_| node.is_some())
            .map(|since| since + limits::DONE_WAIT_MS_MAX);
        let silence = (!state.media.is_empty()).then_some(state.silence_look_at);
        let timers =
            [state.servers.next(), state.clients.next(), leaderless, done, state.retry_at, silence];
        let Some(at) = timers.into_iter().flatten().min() else { return };
        let at = at.max(now + 1);
        if state.wake_at.is_none_or(|armed| at < armed) {
            let gateway = &mut self.gateways[g];
            gateway.state.wake_at = Some(at);
            let incarnation = gateway.incarnation;
            self.schedule.put(at, Event::WakeGateway { gateway: g, incarnation });
        }
    }

    fn take_done(&mut self, g: usize) -> Option<Vec<tandem_core::effect::EffectId>> {
        let now = self.now;
        let state = &mut self.gateways[g].state;
        let due = state.done.len() >= limits::DONE_BATCH_MAX
            || state.done_since.is_some_and(|since| now - since >= limits::DONE_WAIT_MS_MAX);
        if !due {
            return None;
        }
        let batch = state.done.len().min(limits::DONE_BATCH_MAX);
        let rest = state.done.split_off(batch);
        let batch = std::mem::replace(&mut state.done, rest);
        state.done_since = (!state.done.is_empty()).then_some(now);
        Some(batch)
    }

    pub fn now_ms(&self) -> Millis {
        Millis(self.now)
    }
}

pub fn key_of(transaction: &TransactionKey) -> Key {
    Key {
        branch: transaction.branch.to_string(),
        sent_by: transaction.sent_by.to_string(),
        method: transaction.method.to_string(),
    }
}
