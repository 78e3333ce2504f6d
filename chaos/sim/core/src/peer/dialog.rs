//! Within a dialog: BYE, hold and retrieve, and the requests that come.

use std::rc::Rc;

use tandem_sip::dialog::Refused;
use tandem_sip::sdp::{Audio, Direction};
use tandem_sip::transaction::Key;
use tandem_sip::{Method, NameAddr, Request, Response, Uri};

use super::Step;
use super::line::State;
use super::phone::session_expires;
use crate::desk::digits;
use crate::packet::Packet;
use crate::plan::To;
use crate::simulation::Simulation;
use crate::transactions::{Client, Server};

impl Simulation {
    pub fn hang_up(&mut self, p: usize, l: usize) {
        let via = self.peers[p].via();
        let line = &mut self.peers[p].lines[l];
        if !matches!(line.state, State::Up | State::Answered) {
            return;
        }
        line.state = State::Over;
        let Some(dialog) = &mut line.dialog else { return };
        let bye = Rc::new(dialog.request(Method::Bye, via, None));
        self.send_from_line(p, l, bye, None);
    }

    /// The caller shall go on to another number (RFC 3515).
    pub fn refer(&mut self, p: usize, l: usize, to: To) {
        let via = self.peers[p].via();
        let address = self.peers[p].address;
        let line = &mut self.peers[p].lines[l];
        if line.state != State::Up {
            return;
        }
        let contact = Uri::sip(Some("p"), &address.ip().to_string(), Some(address.port()));
        let Some(dialog) = &mut line.dialog else { return };
        let mut refer = dialog.request(Method::Refer, via, Some(NameAddr::new(contact)));
        refer.headers.push_other("Refer-To", &format!("<sip:{}@demo.tandem>", digits(to)));
        if line.rtp_port.is_multiple_of(10) {
            refer.headers.push_other("Refer-Sub", "false");
        }
        self.send_from_line(p, l, Rc::new(refer), None);
    }

    /// A re-INVITE that holds, or that takes the call back.
    pub fn hold(&mut self, p: usize, l: usize, held: bool) {
        let via = self.peers[p].via();
        let address = self.peers[p].address;
        let line = &mut self.peers[p].lines[l];
        if line.state != State::Up || line.held == held || line.ack_due {
            return;
        }
        line.held = held;
        let direction = if held { Direction::SendOnly } else { Direction::SendRecv };
        let audio = line.audio(address.ip(), direction);
        let contact = Uri::sip(Some("h"), &address.ip().to_string(), Some(address.port()));
        let Some(dialog) = &mut line.dialog else { return };
        let method = if line.rtp_port.is_multiple_of(6) { Method::Update } else { Method::Invite };
        let request = Rc::new(dialog.request(method, via, Some(NameAddr::new(contact))));
        self.send_from_line(p, l, request, Some(audio));
        if held {
            let after = self.peers[p].lines[l]
                .planned
                .and_then(|planned| self.calls[planned].hold)
                .map_or(700, |(_, for_ms)| for_ms);
            self.plan_step(p, l, after, Step::Retrieve);
        }
    }

    pub fn send_from_line(
        &mut self,
        p: usize,
        l: usize,
        request: Rc<Request>,
        audio: Option<Audio>,
    ) {
        let reliable = self.peers[p].reliable;
        let (client, packet) = Client::start(self.now_ms(), request, audio, reliable);
        self.peers[p].lines[l].clients.push((client, None));
        self.transmit_on_line(p, l, packet);
    }

    /// A response to another request of ours than the first INVITE.
    pub fn on_other_response(&mut self, p: usize, response: &Response) {
        let now = self.now_ms();
        let headers = &response.headers;
        let is_of = |client: &Client| {
            client.request.headers.branch() == headers.branch()
                && client.request.method == headers.cseq.method
        };
        let found = self.peers[p].lines.iter().enumerate().find_map(|(l, line)| {
            let c = line.clients.iter().position(|(client, _)| is_of(client))?;
            Some((l, c))
        });
        let Some((l, c)) = found else { return };
        let (client, ack) = &mut self.peers[p].lines[l].clients[c];
        let answered = client.on_response(now, response);
        let method = client.request.method.clone();
        let number = client.request.headers.cseq.number;
        let again = ack.clone();
        if let Some(packet) = answered.transmit {
            self.transmit_on_line(p, l, packet);
        }
        if method == Method::Invite && response.is_success() && answered.told {
            let packet = again.or_else(|| self.acknowledge_reinvite(p, l, c, number));
            if let Some(packet) = packet {
                self.transmit_on_line(p, l, packet);
            }
        }
        if method == Method::Prack && response.is_success() && answered.told {
            self.perhaps_updates(p, l);
        }
        if method == Method::Update && answered.told {
            self.on_updated(p, l, response);
        }
        // The other side knows no such call (RFC 3261 §12.2.1.2).
        let gone = matches!(response.status, 408 | 481);
        if gone && method != Method::Cancel {
            self.peers[p].lines[l].state = State::Over;
        }
    }

    fn acknowledge_reinvite(
        &mut self,
        p: usize,
        l: usize,
        c: usize,
        number: u32,
    ) -> Option<Rc<Packet>> {
        let via = self.peers[p].via();
        let line = &mut self.peers[p].lines[l];
        let ack = Rc::new(line.dialog.as_ref()?.ack(number, via));
        let packet = Packet::request(Rc::clone(&ack), &ack.to_bytes());
        line.clients.get_mut(c)?.1 = Some(Rc::clone(&packet));
        Some(packet)
    }

    /// A request within a dialog.
    pub fn on_dialog_request(&mut self, p: usize, key: &Key, packet: &Packet, request: &Request) {
        let headers = &request.headers;
        let found = self.peers[p].lines.iter().position(|line| {
            line.call_id == headers.call_id
                && line
                    .dialog
                    .as_ref()
                    .is_some_and(|dialog| headers.to_tag() == Some(dialog.local_tag.as_str()))
        });
        let Some(l) = found else {
            self.answer_stateless_from_peer(p, request, 481);
            return;
        };
        let admitted =
            self.peers[p].lines[l].dialog.as_mut().map_or(Ok(()), |dialog| dialog.admit(request));
        match admitted {
            Ok(()) => {}
            Err(Refused::NotOfDialog) => {
                self.answer_on_line(p, l, key, packet, request, 481);
                return;
            }
            // The call is over and its transactions are forgotten: an old request, come late.
            Err(Refused::CseqTooLow) if self.peers[p].lines[l].is_over() => {
                self.answer_on_line(p, l, key, packet, request, 481);
                return;
            }
            // A NOTIFY has overtaken it; it is sent anew.
            Err(Refused::CseqTooLow)
                if matches!(request.method, Method::Update | Method::Prack) =>
            {
                self.answer_on_line(p, l, key, packet, request, 500);
                return;
            }
            Err(Refused::CseqTooLow) => {
                let what = format!(
                    "{} gets {} {} of {} after a higher CSeq",
                    self.peers[p].name(),
                    request.method,
                    headers.cseq.number,
                    headers.call_id
                );
                self.fail("peers", what);
                return;
            }
        }
        self.answer_on_line(p, l, key, packet, request, 200);
        if request.method == Method::Prack {
            self.on_pracked(p, l, request);
        }
        if request.method == Method::Notify {
            self.on_notified(p, l, request);
        }
        if request.method == Method::Bye {
            self.peers[p].lines[l].state = State::Over;
        }
    }

    /// How the transfer ended: some phones hang up by themselves then, some wait for the BYE.
    fn on_notified(&mut self, p: usize, l: usize, request: &Request) {
        let said = String::from_utf8_lossy(&request.body).into_owned();
        let status = said.strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3));
        let Some(status) = status.and_then(|status| status.parse::<u16>().ok()) else {
            let what = format!("{} is notified of {said:?}", self.peers[p].name());
            self.fail("peers", what);
            return;
        };
        if status < 200 {
            // A phone that trusts hangs up before it knows.
            if self.peers[p].lines[l].rtp_port.is_multiple_of(14) {
                self.plan_step(p, l, 5, Step::HangUp);
            }
            return;
        }
        self.coverage.mark("a phone hears how its transfer ended");
        if status < 300 && self.peers[p].lines[l].rtp_port.is_multiple_of(4) {
            self.plan_step(p, l, 2, Step::HangUp);
        }
    }

    pub fn answer_on_line(
        &mut self,
        p: usize,
        l: usize,
        key: &Key,
        packet: &Packet,
        request: &Request,
        status: u16,
    ) {
        let now = self.now_ms();
        let mut server = Server::new(false, self.peers[p].reliable);
        let tag = self.peers[p].lines[l].tag.clone();
        let mut response = request.respond(status, None, Some(&tag));
        if status == 200 && request.headers.other("Session-Expires").is_some() {
            response.headers.push_other("Session-Expires", &session_expires());
            self.coverage.mark("a session is refreshed");
        }
        let response = Rc::new(response);
        let answer = server.respond(now, &response, None);
        self.peers[p].lines[l].servers.push((key.clone(), server, packet.digest));
        if let Some(answer) = answer {
            self.transmit_on_line(p, l, answer);
        }
    }

    pub fn answer_stateless_from_peer(&mut self, p: usize, request: &Request, status: u16) {
        let response = request.respond(status, None, Some("none"));
        let bytes = response.to_bytes();
        let vip = request.headers.top_via().and_then(|via| self.vip_of(&via.sent_by()));
        if let Some(vip) = vip {
            self.transmit_from_peer(p, Packet::response(Rc::new(response), &bytes), vip);
        }
    }
}
