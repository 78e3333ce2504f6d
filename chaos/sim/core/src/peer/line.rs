//! One call of one user agent.

use std::rc::Rc;

use tandem_sip::Request;
use tandem_sip::dialog::Dialog;
use tandem_sip::sdp::{Audio, Beside, Codec, Direction, Payload};
use tandem_sip::transaction::Key;

use crate::packet::Packet;
use crate::transactions::{Client, Server};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its INVITE has no final answer.
    Inviting,
    /// It was invited and has given no final answer.
    Invited,
    /// It answered and waits for the ACK.
    Answered,
    Up,
    Over,
}

#[derive(Debug)]
pub struct Line {
    pub call_id: String,
    /// The planned call that it is; none where it was called.
    pub planned: Option<usize>,
    pub state: State,
    pub invite: Rc<Request>,
    pub tag: String,
    pub dialog: Option<Dialog>,
    /// The peer's INVITE.
    pub server: Option<(Key, Server)>,
    /// Our INVITE.
    pub client: Option<Client>,
    /// Other requests of ours, with the ACK of a re-INVITE's 2xx.
    pub clients: Vec<(Client, Option<Rc<Packet>>)>,
    /// Other requests of the peer, with the digest of their bytes.
    pub servers: Vec<(Key, Server, u64)>,
    /// Tag and digest of the 2xx.
    pub success: Option<(String, u64)>,
    pub ack: Option<Rc<Packet>>,
    pub ack_due: bool,
    pub provisional: bool,
    /// The early dialog of our INVITE, with the number of what was acknowledged last (RFC 3262).
    pub early: Option<(Dialog, u32)>,
    /// What our INVITE was told before its answer.
    pub previewed: Option<Vec<u8>>,
    /// Our 180 waits for its PRACK.
    pub unpracked: bool,
    /// It has described our audio, too.
    pub described: bool,
    pub wants_cancel: bool,
    pub cancelled: bool,
    pub rtp_port: u16,
    /// Since when it waits for an ACK.
    pub answered_at: u64,
    pub started_at: u64,
    pub held: bool,
}

impl Line {
    pub fn new(
        call_id: String,
        planned: Option<usize>,
        state: State,
        invite: Rc<Request>,
        tag: String,
    ) -> Self {
        Self {
            call_id,
            planned,
            state,
            invite,
            tag,
            dialog: None,
            server: None,
            client: None,
            clients: Vec::new(),
            servers: Vec::new(),
            success: None,
            ack: None,
            ack_due: false,
            provisional: false,
            early: None,
            previewed: None,
            unpracked: false,
            described: false,
            wants_cancel: false,
            cancelled: false,
            rtp_port: 0,
            answered_at: 0,
            started_at: 0,
            held: false,
        }
    }

    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// The next time that one of its transactions waits for.
    pub fn deadline(&self) -> Option<u64> {
        let server = self.server.as_ref().and_then(|(_, server)| server.deadline());
        let client = self.client.as_ref().and_then(Client::deadline);
        let clients = self.clients.iter().filter_map(|(client, _)| client.deadline()).min();
        let servers = self.servers.iter().filter_map(|(_, server, _)| server.deadline()).min();
        [server, client, clients, servers].into_iter().flatten().min().map(|at| at.0)
    }

    /// Its transactions are gone without a word.
    pub fn forget(&mut self) {
        self.state = State::Over;
        self.dialog = None;
        self.server = None;
        self.client = None;
        self.clients.clear();
        self.servers.clear();
    }

    /// What it says of its audio.
    pub fn audio(&self, address: std::net::IpAddr, direction: Direction) -> Audio {
        let codecs: &[Codec] = match self.rtp_port / 2 % 6 {
            0 | 2 => &[Codec::Pcma],
            1 => &[Codec::Pcmu],
            3 => &[Codec::G722],
            4 => &[Codec::Opus, Codec::Pcma],
            _ => &[Codec::G729, Codec::Pcmu],
        };
        let payload = |codec: &Codec| Payload::new(codec.static_payload(), *codec);
        Audio {
            address,
            port: self.rtp_port,
            payloads: codecs.iter().map(payload).collect(),
            telephone_event: Some(101),
            telephone_event_wide: None,
            direction,
            ptime_ms: Some(20),
            session_id: u64::from(self.rtp_port),
            session_version: 1 + u64::from(self.held),
            crypto: Vec::new(),
            secure: false,
            beside: Beside::default(),
        }
    }
}
