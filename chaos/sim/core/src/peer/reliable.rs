//! RFC 3262 at both kinds of peers: callers that take nothing unreliable, phones that ring reliably.

use std::rc::Rc;

use tandem_sip::dialog::Dialog;
use tandem_sip::reliable::{self, RAck, RSEQ_MAX};
use tandem_sip::sdp::Direction;
use tandem_sip::{Method, NameAddr, Request, Response, Uri};

use super::line::State;
use crate::simulation::Simulation;

impl Simulation {
    /// Every other caller requires it.
    pub fn requires_100rel(planned: usize) -> bool {
        planned.is_multiple_of(2)
    }

    /// A 1xx to a caller: one that wants a PRACK gets it, the first time.
    pub fn on_provisional_response(&mut self, p: usize, l: usize, response: &Response) {
        let via = self.peers[p].via();
        let address = self.peers[p].address;
        let line = &mut self.peers[p].lines[l];
        let requires = reliable::is_required(&line.invite.headers);
        let Some(rseq) = reliable::rseq(response) else {
            if requires && response.status > 100 {
                let what = format!("{} is told {} unreliably", line.call_id, response.status);
                self.fail("peers", what);
            }
            return;
        };
        if let Some((_, known)) = &line.early {
            if *known != rseq {
                let what = format!("{} is told {rseq} after {known}", line.call_id);
                self.fail("peers", what);
            }
            return;
        }
        if line.success.is_some() {
            return;
        }
        let Ok(mut dialog) = Dialog::as_uac(&line.invite, response) else { return };
        let mut prack = dialog.request(Method::Prack, via, None);
        prack.headers.push_other("RAck", &format!("{rseq} 1 INVITE"));
        line.early = Some((dialog, rseq));
        let offerless = line.planned.is_some_and(|planned| self.calls[planned].offerless);
        let line = &self.peers[p].lines[l];
        let audio = offerless.then(|| line.audio(address.ip(), Direction::SendRecv));
        self.coverage.mark("a caller acknowledges a 180");
        self.send_from_line(p, l, Rc::new(prack), audio);
    }

    /// Both have agreed on the first offer: some callers make the next before the answer (RFC 3311
    /// §5.1).
    pub fn perhaps_updates(&mut self, p: usize, l: usize) {
        let via = self.peers[p].via();
        let address = self.peers[p].address;
        let line = &mut self.peers[p].lines[l];
        if line.state != State::Inviting || !line.rtp_port.is_multiple_of(8) {
            return;
        }
        let Some((dialog, _)) = &mut line.early else { return };
        let contact = Uri::sip(Some("u"), &address.ip().to_string(), Some(address.port()));
        let update = dialog.request(Method::Update, via, Some(NameAddr::new(contact)));
        let audio = line.audio(address.ip(), Direction::SendRecv);
        self.send_from_line(p, l, Rc::new(update), Some(audio));
    }

    /// Nothing stands against its offer but that the call is over.
    pub fn on_updated(&mut self, p: usize, l: usize, response: &Response) {
        let early = self.peers[p].lines[l].state == State::Inviting;
        let waits = response.status == 491 || response.headers.other("Retry-After").is_some();
        match response.status {
            200 if early => self.coverage.mark("an UPDATE changes a call before its answer"),
            // A 500 without it says that a gateway's new life brings an UPDATE that counted.
            491 | 500 if early && waits => {
                let call_id = &self.peers[p].lines[l].call_id;
                let what = format!("an UPDATE of {call_id} is told {}", response.status);
                self.fail("peers", what);
            }
            _ => {}
        }
    }

    /// Whoever requires it hears how to talk in a reliable response, or in the 200: once.
    pub fn check_described(&mut self, p: usize, l: usize, response: &Response) {
        let line = &self.peers[p].lines[l];
        if response.headers.content_type.is_some() == line.early.is_none() {
            return;
        }
        let what = if line.early.is_none() {
            format!("the 200 of {} comes before the PRACK that it waits for", line.call_id)
        } else {
            format!("the 200 of {} describes what its 180 has described", line.call_id)
        };
        self.fail("peers", what);
    }

    /// Some phones ring reliably, where they may; some of those describe their audio with it.
    pub fn perhaps_reliable(&mut self, p: usize, l: usize, response: &mut Response) -> bool {
        let line = &mut self.peers[p].lines[l];
        let known = line.invite.headers.list("Supported").any(|name| name == reliable::OPTION);
        if !known || line.unpracked || !line.rtp_port.is_multiple_of(6) {
            return false;
        }
        reliable::number_response(response, 1 + u32::from(line.rtp_port) % RSEQ_MAX);
        line.dialog = Dialog::as_uas(&line.invite, &line.tag).ok();
        line.unpracked = true;
        line.described = line.rtp_port.is_multiple_of(4);
        line.described
    }

    /// The PRACK of a phone's 180, answered already.
    pub fn on_pracked(&mut self, p: usize, l: usize, prack: &Request) {
        let line = &mut self.peers[p].lines[l];
        let Some(rack) = RAck::of(prack) else {
            let what = format!("{} gets a PRACK of nothing", line.call_id);
            self.fail("peers", what);
            return;
        };
        let took = line.server.as_mut().is_some_and(|(_, server)| server.on_prack(rack.rseq));
        if took || line.state != State::Invited {
            line.unpracked = false;
            self.coverage.mark("a phone's 180 is acknowledged");
        }
    }

    /// 64·T1 after a reliable 180.
    pub fn on_unpracked(&mut self, p: usize, l: usize) {
        let calm = self.is_calm() && self.panic_at < self.peers[p].lines[l].started_at;
        if calm {
            let what =
                format!("{} rang, and all was well, but it got no PRACK", self.peers[p].name());
            self.fail("liveness", what);
        }
        self.answer_invite(p, l, 504);
    }
}
