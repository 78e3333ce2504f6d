//! What a switch lets be heard before anybody answers there, and what its caller is told of it.

use std::rc::Rc;

use tandem_sip::sdp::Direction;
use tandem_sip::{NameAddr, Response, Uri};

use super::line::Line;
use crate::simulation::Simulation;

/// The tag of another branch of a fork begins with what a line's own tag has not.
const BRANCH: &str = "f";

/// Some switches are heard before they answer.
pub fn is_heard(line: &Line) -> bool {
    line.rtp_port / 2 % 5 < 2
}

/// Of some of those two branches are.
fn is_forked(line: &Line) -> bool {
    line.rtp_port / 2 % 5 == 1
}

impl Simulation {
    /// It rings, or is heard to.
    pub fn announce(&mut self, p: usize, l: usize) {
        let line = &self.peers[p].lines[l];
        if !is_heard(line) {
            self.answer_invite(p, l, 180);
            return;
        }
        if is_forked(line) {
            self.announce_branch(p, l);
        }
        self.answer_invite(p, l, 183);
    }

    /// Another branch of the fork, with a port of its own.
    fn announce_branch(&mut self, p: usize, l: usize) {
        let (now, address) = (self.now_ms(), self.peers[p].address);
        let line = &mut self.peers[p].lines[l];
        let mut response = line.invite.respond(183, None, Some(&format!("{BRANCH}{}", line.tag)));
        let contact = Uri::sip(Some("f"), &address.ip().to_string(), Some(address.port()));
        response.headers.contact = vec![NameAddr::new(contact)];
        let mut audio = line.audio(address.ip(), Direction::SendRecv);
        audio.port += 1;
        let Some((_, server)) = &mut line.server else { return };
        if let Some(packet) = server.respond(now, &Rc::new(response), Some(audio)) {
            self.transmit_on_line(p, l, packet);
        }
    }

    /// A caller that is told where to listen before the answer is told no other in it (RFC 3261
    /// §13.2.1).
    pub fn on_preview(&mut self, p: usize, l: usize, response: &Response) {
        if response.headers.content_type.is_none() {
            return;
        }
        let line = &mut self.peers[p].lines[l];
        let first = line.previewed.get_or_insert_with(|| response.body.clone());
        if *first != response.body {
            let what = format!("{} is told two descriptions before its answer", line.call_id);
            self.fail("peers", what);
        }
    }

    pub fn check_previewed(&mut self, p: usize, l: usize, response: &Response) {
        let line = &self.peers[p].lines[l];
        let told = response.headers.content_type.is_some();
        if told && line.previewed.as_ref().is_some_and(|first| *first != response.body) {
            let what = format!("the 200 of {} is not what its 183 has said", line.call_id);
            self.fail("peers", what);
        }
    }
}
