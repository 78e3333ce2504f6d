//! One connection: what is read from it, what is written to it, and why it ends.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Buf;
use tandem_sip::{Flow, Ticket};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::{timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;

use super::framer::{Frame, Framer};
use super::inlet::Inlet;
use super::table::{Outgoing, Place, Writing};
use super::{Report, Shared, Undelivered, websocket};
use crate::intake::Intake;
use crate::limits;

pub struct Connection {
    pub(super) shared: Arc<Shared>,
    pub(super) place: Place,
    pub(super) flow: Flow,
    /// The peer has opened it.
    pub(super) accepted: bool,
    pub(super) handler: Intake,
    pub(super) reports: mpsc::Sender<Report>,
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
    /// Whoever answers it can't prove that it is the peer.
    Unproven,
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
            Self::Unproven => "unproven",
            Self::Over => "over",
        }
    }

    /// Whether the peer may still read what it is told.
    fn is_said(self) -> bool {
        match self {
            Self::Peer | Self::Idle | Self::Silent | Self::Slow | Self::Junk | Self::Flood => true,
            Self::Broken | Self::Stuck | Self::Unreachable | Self::Unproven | Self::Over => false,
        }
    }
}

/// What brings messages.
pub trait Reads {
    /// Until the connection ends.
    fn read(&mut self) -> impl Future<Output = Reason> + Send;

    /// Reads what the peer still sends, and forgets it.
    fn discard(&mut self) -> impl Future<Output = ()> + Send;
}

/// What takes messages.
pub trait Writes {
    /// Writes until the queue is closed and empty. May be dropped and called again: no byte is
    /// lost or written twice.
    fn write(
        &mut self,
        writing: &Writing,
        queue: &mut mpsc::Receiver<Outgoing>,
    ) -> impl Future<Output = Reason> + Send;

    /// Says that nothing more comes; false where it can't be said.
    fn close(&mut self) -> impl Future<Output = bool> + Send;

    /// Of requests that nobody can tell to have arrived.
    fn tickets(&mut self) -> Vec<Ticket>;
}

impl Connection {
    /// Serves a stream of bytes, of both its halves, until either ends it.
    pub async fn serve<R, W>(self, read: R, write: W)
    where
        R: AsyncRead + Unpin + Send,
        W: AsyncWrite + Unpin + Send,
    {
        let reader = Reader { half: read, inlet: self.inlet(), accepted: self.accepted };
        let writer = Writer { half: write, current: None, tickets: VecDeque::new() };
        self.keep(reader, writer).await;
    }

    /// Serves a WebSocket.
    pub async fn serve_frames<S>(self, socket: WebSocketStream<S>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let (reader, writer) = websocket::split(socket, self.inlet());
        self.keep(reader, writer).await;
    }

    async fn keep(mut self, mut reader: impl Reads, mut writer: impl Writes) {
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
                if writer.close().await {
                    reader.discard().await;
                }
            };
            let _ = timeout(limit, last_words).await;
        }
        self.report(writer.tickets()).await;
        self.end(reason).await;
    }

    fn inlet(&self) -> Inlet {
        Inlet {
            shared: Arc::clone(&self.shared),
            flow: self.flow.clone(),
            writing: self.place.writing.clone(),
            handler: self.handler.clone(),
            malformed: 0,
            name: None,
        }
    }

    /// Whoever waits for a request of this connection is told.
    pub async fn end(mut self, reason: Reason) {
        self.shared.table.lock().remove(self.place.id);
        metrics::counter!("tandem_sip_connections_closed_total", "reason" => reason.word())
            .increment(1);
        tracing::debug!(remote = %self.flow.remote, reason = reason.word(), "a connection is closed");
        self.place.queue.close();
        let mut tickets = Vec::new();
        while let Ok(outgoing) = self.place.queue.try_recv() {
            tickets.extend(outgoing.ticket);
        }
        self.report(tickets).await;
        if self.accepted {
            let closed = Report::Closed { remote: self.flow.remote, connection: self.place.id };
            // Where nobody listens any more the gateway ends, and its flows with it.
            let _ = self.reports.send(closed).await;
        }
    }

    async fn report(&self, tickets: Vec<Ticket>) {
        let opened = !self.accepted;
        for ticket in tickets {
            let undelivered = Report::Undelivered(Undelivered { ticket, opened });
            if self.reports.send(undelivered).await.is_err() {
                return;
            }
        }
    }
}

struct Writer<W> {
    half: W,
    /// What is left of the message that is being written.
    current: Option<Outgoing>,
    /// Of the last requests that were written.
    tickets: VecDeque<Ticket>,
}

impl<W: AsyncWrite + Unpin + Send> Writes for Writer<W> {
    async fn write(&mut self, writing: &Writing, queue: &mut mpsc::Receiver<Outgoing>) -> Reason {
        let limit = Duration::from_millis(limits::WRITE_MS_MAX);
        loop {
            if self.current.is_none() {
                self.current = queue.recv().await;
            }
            let Some(outgoing) = &mut self.current else { return Reason::Over };
            writing.may_write().await;
            while outgoing.bytes.has_remaining() {
                match timeout(limit, self.half.write_buf(&mut outgoing.bytes)).await {
                    Ok(Ok(written)) if written > 0 => writing.note_sent(written),
                    Ok(Ok(_) | Err(_)) => return Reason::Broken,
                    Err(_) => return Reason::Stuck,
                }
            }
            match timeout(limit, self.half.flush()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Reason::Broken,
                Err(_) => return Reason::Stuck,
            }
            note_sent(&mut self.tickets, outgoing.ticket);
            self.current = None;
        }
    }

    async fn close(&mut self) -> bool {
        self.half.shutdown().await.is_ok()
    }

    fn tickets(&mut self) -> Vec<Ticket> {
        let unsent = self.current.take().and_then(|outgoing| outgoing.ticket);
        self.tickets.drain(..).chain(unsent).collect()
    }
}

/// The oldest is forgotten first: most likely it has been answered.
pub fn note_sent(tickets: &mut VecDeque<Ticket>, ticket: Option<Ticket>) {
    let Some(ticket) = ticket else { return };
    if tickets.len() >= limits::TICKETS_MAX {
        tickets.pop_front();
    }
    tickets.push_back(ticket);
}

struct Reader<R> {
    half: R,
    inlet: Inlet,
    accepted: bool,
}

impl<R: AsyncRead + Unpin + Send> Reads for Reader<R> {
    async fn read(&mut self) -> Reason {
        let bounds = self.inlet.shared.bounds;
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
                // Many close TLS without a word.
                Ok(Err(error)) if error.kind() == ErrorKind::UnexpectedEof => return Reason::Peer,
                Ok(Err(_)) => return Reason::Broken,
            }
            // Until the first message, lines that say nothing buy no time.
            if !silent {
                heard = Instant::now();
            }
            loop {
                let taken = match framer.poll() {
                    Ok(None) => break,
                    Ok(Some(Frame::KeepAlive)) => self.inlet.on_keep_alive(),
                    Ok(Some(Frame::Message(bytes))) => {
                        (silent, begun, heard) = (false, None, Instant::now());
                        self.inlet.on_message(&bytes).await
                    }
                    Err(broken) => self.inlet.on_broken(&broken),
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

    async fn discard(&mut self) {
        let mut buffer = [0; limits::READ_BYTES];
        while matches!(self.half.read(&mut buffer).await, Ok(read) if read > 0) {}
    }
}
