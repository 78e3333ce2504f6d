//! An agent's phone that asks before it sends the caller on: it holds the caller, places a second
//! call, and has both joined (RFC 5589 §7.3).

use std::rc::Rc;

use tandem_sip::{Method, NameAddr, Uri};

use super::Step;
use super::line::State;
use crate::draws::For;
use crate::plan::{Call, From, To};
use crate::simulation::Simulation;

/// The second call is given up when it is not answered by then.
const PATIENCE_MS: u64 = 7_000;

impl Simulation {
    /// Holds the caller; the second call follows.
    pub fn ask_colleague(&mut self, p: usize, l: usize, to: To) {
        self.hold(p, l, true);
        let name = self.name_of_line(p, l);
        let after = self.draws.next(For::Second, name).between(50, 500);
        self.plan_step(p, l, after, Step::Dial(to));
    }

    pub fn dial_second(&mut self, p: usize, l: usize, to: To) {
        let line = &self.peers[p].lines[l];
        let Some(agent) = self.peers[p].agent.filter(|_| line.state == State::Up && line.held)
        else {
            return;
        };
        let name = self.name_of_line(p, l);
        let mut random = self.draws.next(For::Second, name);
        let call = Call {
            at: self.now,
            gateway: self.peers[p].home,
            from: From::Agent(agent),
            to,
            cancel_after: PATIENCE_MS,
            talk_ms: random.between(500, 9_000),
            ack_after: Some(0),
            hold: None,
            vanish_after: None,
            offerless: false,
            keys: Vec::new(),
            by_info: false,
        };
        let planned = self.calls.len();
        self.calls.push(call);
        let second = self.dial(p, planned, None);
        // Some are quicker than the colleague.
        let join_after = *random.pick(&[300, 2_000, 4_000, 6_000]);
        self.plan_step(p, l, random.between(100, join_after), Step::Join(second));
    }

    /// The caller shall take the place of this phone in its second call.
    pub fn join(&mut self, p: usize, l: usize, second: usize) {
        let via = self.peers[p].via();
        let address = self.peers[p].address;
        let of = &self.peers[p].lines[second];
        let Some(dialog) = of.dialog.as_ref().filter(|_| of.state == State::Up) else { return };
        let replaces = format!(
            "{}%3Bto-tag%3D{}%3Bfrom-tag%3D{}",
            dialog.call_id.replace('@', "%40"),
            dialog.remote_tag,
            dialog.local_tag
        );
        let to = of.invite.uri.user.clone().unwrap_or_default();
        let line = &mut self.peers[p].lines[l];
        if line.state != State::Up {
            return;
        }
        let contact = Uri::sip(Some("p"), &address.ip().to_string(), Some(address.port()));
        let Some(dialog) = &mut line.dialog else { return };
        let mut refer = dialog.request(Method::Refer, via, Some(NameAddr::new(contact)));
        let target = format!("<sip:{to}@demo.tandem?Replaces={replaces}>");
        refer.headers.push_other("Refer-To", &target);
        self.send_from_line(p, l, Rc::new(refer), None);
    }
}
