//! One connection: what is read from it, what is written to it, and why it ends.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use tandem_sip::{Flow, Message, ParseError, ParseErrorKind, Request, Response, Ticket};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::{timeout, timeout_at};

use super::framer::{Broken, Frame, Framer, Why};
use super::table::{Outgoing, Place, Writing};
use super::{Shared, Undelivered, tune};
use crate::admission::Rank;
use crate::received::Received;
use crate::{limits, refusal};

/// The answer to a keep-alive (RFC 5626 §4.4.1).
const EMPTY_LINE: &[u8] = b"\r\n";

pub struct Connection {
    pub(super) shared: Arc<Shared>,
    pub(super) place: Place,
    pub(super) remote: SocketAddr,
    /// The peer has opened it.
    pub(super) accepted: bool,
    pub(super) handler: mpsc::Sender<Received>,
    pub(super) reports: mpsc::Sender<Undelivered>,
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The peer has closed it.
    Peer,
    /// The network or the peer has broken it.
    Broken,
    /// Nothing came for too long.
    Idle,
    /// No message came at all.
    Silent,
    /// A message was begun and not ended.
    Slow,
    /// What came is no SIP, or can't be told apart.
    Junk,
    /// More messages than one address may send.
    Flood,
    /// The peer takes nothing.
    Stuck,
    /// It could not be opened.
    Unreachable,
    /// The gateway ends.
    Over,
}

impl Reason {
    fn word(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Broken => "broken",
            Self::Idle => "idle",
            Self::Silent => "silent",
            Self::Slow => "slow",
            Self::Junk => "junk",
            Self::Flood => "flood",
            Self::Stuck => "stuck",
            Self::Unreachable => "unreachable",
            Self::Over => "over",
        }
    }

    /// Whether the peer may still read what it is told.
    fn is_said(self) -> bool {
        match self {
            Self::Peer | Self::Idle | Self::Silent | Self::Slow | Self::Junk | Self::Flood => true,
            Self::Broken | Self::Stuck | Self::Unreachable | Self::Over => false,
        }
    }
}

impl Connection {
    pub async fn serve(mut self, stream: TcpStream) {
        tune(&stream);
        let (read, write) = stream.into_split();
        let mut reader = Reader {
            half: read,
            shared: Arc::clone(&self.shared),
            flow: Flow::tcp(self.shared.local, self.remote, self.place.id),
            writing: self.place.writing.clone(),
            handler: self.handler.clone(),
            accepted: self.accepted,
            malformed: 0,
        };
        let mut writer = Writer { half: write, current: None, tickets: VecDeque::new() };
        let reason = {
            let Place { writing, queue, .. } = &mut self.place;
            tokio::select! {
                reason = reader.read() => reason,
                reason = writer.write(writing, queue) => reason,
                () = writing.stuck() => Reason::Stuck,
            }
        };
        // From here on nothing more is put into the queue.
        self.shared.table.lock().remove(self.place.id);
        if reason.is_said() {
            let limit = Duration::from_millis(limits::CLOSE_MS_MAX);
            let Place { writing, queue, .. } = &mut self.place;
            queue.close();
            let last_words = async {
                writer.write(writing, queue).await;
                // What is unread would turn our end of the connection into a reset, and take the
                // last words along.
                if writer.half.shutdown().await.is_ok() {
                    reader.discard().await;
                }
            };
            let _ = timeout(limit, last_words).await;
        }
        let unsent = writer.current.take().and_then(|outgoing| outgoing.ticket);
        let tickets: Vec<Ticket> = writer.tickets.drain(..).chain(unsent).collect();
        self.report(tickets).await;
        self.end(reason).await;
    }

    /// Whoever waits for a request of this connection is told.
    pub async fn end(mut self, reason: Reason) {
        self.shared.table.lock().remove(self.place.id);
        metrics::counter!("tandem_sip_connections_closed_total", "reason" => reason.word())
            .increment(1);
        tracing::debug!(remote = %self.remote, reason = reason.word(), "a connection is closed");
        self.place.queue.close();
        let mut tickets = Vec::new();
        while let Ok(outgoing) = self.place.queue.try_recv() {
            tickets.extend(outgoing.ticket);
        }
        self.report(tickets).await;
    }

    async fn report(&self, tickets: Vec<Ticket>) {
        let opened = !self.accepted;
        for ticket in tickets {
            if self.reports.send(Undelivered { ticket, opened }).await.is_err() {
                return;
            }
        }
    }
}

struct Writer {
    half: OwnedWriteHalf,
    /// What is left of the message that is being written.
    current: Option<Outgoing>,
    /// Of the last requests that were written.
    tickets: VecDeque<Ticket>,
}

impl Writer {
    /// Writes until the queue is closed and empty. May be dropped and called again: no byte is
    /// lost or written twice.
    async fn write(&mut self, writing: &Writing, queue: &mut mpsc::Receiver<Outgoing>) -> Reason {
        let limit = Duration::from_millis(limits::WRITE_MS_MAX);
        loop {
            if self.current.is_none() {
                self.current = queue.recv().await;
            }
            let Some(outgoing) = &mut self.current else { return Reason::Over };
            while outgoing.bytes.has_remaining() {
                match timeout(limit, self.half.write_buf(&mut outgoing.bytes)).await {
                    Ok(Ok(written)) if written > 0 => writing.note_sent(written),
                    Ok(Ok(_) | Err(_)) => return Reason::Broken,
                    Err(_) => return Reason::Stuck,
                }
            }
            if let Some(ticket) = outgoing.ticket {
                if self.tickets.len() >= limits::TICKETS_MAX {
                    self.tickets.pop_front();
                }
                self.tickets.push_back(ticket);
            }
            self.current = None;
        }
    }
}

struct Reader {
    half: OwnedReadHalf,
    shared: Arc<Shared>,
    flow: Flow,
    writing: Writing,
    handler: mpsc::Sender<Received>,
    accepted: bool,
    malformed: u32,
}

impl Reader {
    async fn read(&mut self) -> Reason {
        let bounds = self.shared.bounds;
        let mut framer = Framer::default();
        let mut silent = self.accepted;
        let mut begun: Option<Instant> = None;
        let mut heard = Instant::now();
        loop {
            let (limit, reason) = match begun {
                Some(begun) => (begun + bounds.message, Reason::Slow),
                None if silent => (heard + bounds.first_message, Reason::Silent),
                None => (heard + bounds.idle, Reason::Idle),
            };
            framer.buffer().reserve(limits::READ_BYTES);
            match timeout_at(limit.into(), self.half.read_buf(framer.buffer())).await {
                Err(_) => return reason,
                Ok(Ok(0)) => return Reason::Peer,
                Ok(Ok(_)) => {}
                Ok(Err(_)) => return Reason::Broken,
            }
            // Until the first message, lines that say nothing buy no time.
            if !silent {
                heard = Instant::now();
            }
            loop {
                let taken = match framer.poll() {
                    Ok(None) => break,
                    Ok(Some(Frame::KeepAlive)) => self.on_keep_alive(),
                    Ok(Some(Frame::Message(bytes))) => {
                        (silent, begun, heard) = (false, None, Instant::now());
                        self.on_message(&bytes).await
                    }
                    Err(broken) => self.on_broken(&broken),
                };
                if let Err(reason) = taken {
                    return reason;
                }
            }
            if framer.is_within_message() {
                begun.get_or_insert_with(Instant::now);
            }
        }
    }

    /// Reads what the peer still sends, and forgets it.
    async fn discard(&mut self) {
        let mut buffer = [0; limits::READ_BYTES];
        while matches!(self.half.read(&mut buffer).await, Ok(read) if read > 0) {}
    }

    fn admit(&self) -> Result<(), Reason> {
        let source = self.flow.remote.ip();
        if self.shared.sources.lock().admits(Instant::now(), source) {
            return Ok(());
        }
        metrics::counter!("tandem_sip_dropped_total", "reason" => "source").increment(1);
        Err(Reason::Flood)
    }

    fn on_keep_alive(&self) -> Result<(), Reason> {
        self.admit()?;
        self.say(Bytes::from_static(EMPTY_LINE))
    }

    async fn on_message(&mut self, bytes: &[u8]) -> Result<(), Reason> {
        self.admit()?;
        let mut message = match tandem_sip::parse(bytes) {
            Ok(message) => message,
            Err(error) => return self.on_malformed(&error),
        };
        refusal::stamp_request(&mut message, self.flow.remote);
        let waiting = self.handler.max_capacity() - self.handler.capacity();
        if let Message::Request(request) = &message
            && refusal::is_refusable(request)
            && !Rank::of_request(request).admits(waiting)
        {
            metrics::counter!("tandem_sip_dropped_total", "reason" => "overload").increment(1);
            return self.refuse(&refusal::overloaded(request));
        }
        // What belongs to a live call waits for its turn, and the peer with it: it would not send
        // it again.
        let received = Received { at: Instant::now(), flow: self.flow.clone(), message };
        self.handler.send(received).await.map_err(|_| Reason::Over)
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
    fn on_broken(&self, broken: &Broken) -> Result<(), Reason> {
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
