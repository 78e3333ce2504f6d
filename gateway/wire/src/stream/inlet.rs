//! What is done with what has come over a connection, whatever has cut it into messages.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tandem_sip::{Carrier, Flow, Message, ParseError, ParseErrorKind, Request, Response};

use super::Shared;
use super::connection::Reason;
use super::framer::{Broken, Why};
use super::table::{Outgoing, Writing};
use crate::admission::Rank;
use crate::intake::Intake;
use crate::received::Received;
use crate::{limits, refusal};

/// The answer to a keep-alive (RFC 5626 §4.4.1).
const EMPTY_LINE: &[u8] = b"\r\n";

pub struct Inlet {
    pub shared: Arc<Shared>,
    pub flow: Flow,
    pub writing: Writing,
    pub handler: Intake,
    pub malformed: u32,
    /// What the peer has called itself last.
    pub name: Option<Arc<str>>,
}

impl Inlet {
    /// How long nothing is said before a ping.
    pub fn ping(&self) -> Duration {
        self.shared.bounds.ping
    }

    pub fn admit(&self) -> Result<(), Reason> {
        let source = self.flow.remote.ip();
        if self.shared.sources.lock().admits(Instant::now(), source) {
            return Ok(());
        }
        metrics::counter!("tandem_sip_dropped_total", "reason" => "source").increment(1);
        Err(Reason::Flood)
    }

    pub fn on_keep_alive(&self) -> Result<(), Reason> {
        self.admit()?;
        self.say(Bytes::from_static(EMPTY_LINE))
    }

    pub async fn on_message(&mut self, bytes: &[u8]) -> Result<(), Reason> {
        self.admit()?;
        let mut message = match tandem_sip::parse(bytes) {
            Ok(message) => message,
            Err(error) => return self.on_malformed(&error),
        };
        refusal::stamp_request(&mut message, self.flow.remote);
        self.note_name(&message);
        let now = Instant::now();
        if let Message::Request(request) = &message {
            let rank = Rank::of_request(request);
            if rank != Rank::Existing && !self.handler.admits(now, rank) {
                metrics::counter!("tandem_sip_dropped_total", "reason" => "overload").increment(1);
                return self.turn_away(now, rank, &refusal::overloaded(request));
            }
        }
        // What belongs to a live call waits for its turn, and the peer with it: it would not send
        // it again.
        let received = Received { at: now, flow: self.flow.clone(), message };
        self.handler.send(received).await.map_err(|_| Reason::Over)
    }

    /// A peer that has lost its connection and opened this one is known again by what it calls itself.
    fn note_name(&mut self, message: &Message) {
        let name = match message {
            Message::Request(Request { headers, .. }) => headers
                .top_via()
                .filter(|via| via.transport == self.flow.carrier.transport())
                .and_then(|via| tandem_sip::name_of(via, self.flow.remote.ip())),
            Message::Response(Response { headers, .. }) => match self.flow.carrier {
                Carrier::Ws { .. } | Carrier::Wss { .. } => {
                    headers.contact.first().and_then(|it| tandem_sip::invalid(&it.uri.host))
                }
                Carrier::Udp | Carrier::Tcp { .. } | Carrier::Tls { .. } => None,
            },
        };
        if let (Some(name), Some(id)) = (name, self.flow.carrier.connection())
            && self.name.as_ref() != Some(&name)
        {
            self.shared.table.lock().name(id, &name);
            self.name = Some(name);
        }
    }

    /// The message has an end, so that the next one can be read.
    fn on_malformed(&mut self, error: &ParseError) -> Result<(), Reason> {
        let reason = error.kind.word();
        metrics::counter!("tandem_sip_malformed_total", "reason" => reason).increment(1);
        tracing::debug!(source = %self.flow.remote, %error, "malformed message");
        if matches!(error.kind, ParseErrorKind::StartLine(_)) {
            return Err(Reason::Junk);
        }
        if let Some(response) = &error.answerable {
            let mut response = (**response).clone();
            refusal::stamp(&mut response, self.flow.remote);
            self.refuse(&response)?;
        }
        self.malformed += 1;
        if self.malformed >= limits::MALFORMED_MAX { Err(Reason::Junk) } else { Ok(()) }
    }

    /// RFC 3261 §18.3: what has no length is refused, and nothing behind it can be read.
    pub fn on_broken(&self, broken: &Broken) -> Result<(), Reason> {
        let word = match broken.why {
            Why::NoMessage => "start_line",
            Why::NoLength | Why::BadLength(_) => "content_length",
            Why::TooLong => "too_long",
        };
        metrics::counter!("tandem_sip_malformed_total", "reason" => word).increment(1);
        tracing::debug!(source = %self.flow.remote, why = %broken.why, "broken stream");
        let status = if broken.why == Why::TooLong { 513 } else { 400 };
        let reason = match status {
            400 => Some(format!("Bad Request ({})", broken.why)),
            _ => None,
        };
        if let Some(request) = request_of(&broken.head) {
            let mut response = request.respond(status, reason.as_deref(), Some("bad"));
            refusal::stamp(&mut response, self.flow.remote);
            self.refuse(&response)?;
        }
        Err(Reason::Junk)
    }

    /// Says no, as often as anybody is told.
    fn refuse(&self, response: &Response) -> Result<(), Reason> {
        let source = self.flow.remote.ip();
        if !self.shared.sources.lock().may_refuse(Instant::now(), source) {
            return Ok(());
        }
        self.say(response.to_bytes().into())
    }

    fn turn_away(&self, now: Instant, rank: Rank, response: &Response) -> Result<(), Reason> {
        let source = self.flow.remote.ip();
        if !self.shared.sources.lock().may_turn_away(now, source, rank) {
            return Ok(());
        }
        self.say(response.to_bytes().into())
    }

    fn say(&self, bytes: Bytes) -> Result<(), Reason> {
        let outgoing = Outgoing { bytes, ticket: None };
        self.writing.put(outgoing, &self.shared.bounds).map_err(|_| Reason::Stuck)
    }
}

/// The request of a header whose length is missing or wrong, where it can be answered at all.
fn request_of(head: &[u8]) -> Option<Request> {
    // Without the line that is wrong, the rest may well be understood.
    let text = String::from_utf8_lossy(head);
    let is_length = |line: &&str| {
        let name = line.split(':').next().unwrap_or("").trim();
        name.eq_ignore_ascii_case("Content-Length") || name.eq_ignore_ascii_case("l")
    };
    let rest: String = text.split_inclusive('\n').filter(|line| !is_length(line)).collect();
    match tandem_sip::parse(rest.as_bytes()) {
        Ok(Message::Request(request)) if request.method != tandem_sip::Method::Ack => Some(request),
        Ok(_) | Err(_) => None,
    }
}
