//! SIP over WebSocket (RFC 7118): the step from HTTP, and a connection that brings a message a
//! frame.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use tandem_sip::{MESSAGE_BYTES_MAX, Ticket};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::{timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{
    Callback, ErrorResponse, Request, Response,
};
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::{Message, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Utf8Bytes};

use super::connection::{Reads, Reason, Writes, note_sent};
use super::inlet::Inlet;
use super::table::{Outgoing, Writing};
use crate::limits;

/// The subprotocol (RFC 7118 §4.1).
const SIP: &str = "sip";

/// From HTTP to a WebSocket; whoever does not ask for SIP, or comes from a page that may not, is
/// told so.
///
/// # Errors
/// Where it did not come about.
pub async fn upgrade<S>(stream: S, origins: Arc<[String]>) -> Result<WebSocketStream<S>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default()
        .read_buffer_size(limits::READ_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(limits::UNSENT_BYTES_MAX)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let gate = Gate { origins };
    tokio_tungstenite::accept_hdr_async_with_config(stream, gate, Some(config)).await
}

/// How a handshake ended, as it is counted.
pub fn word(error: &Error) -> &'static str {
    match error {
        Error::Http(_) => "refused",
        Error::Io(_) | Error::ConnectionClosed | Error::AlreadyClosed => "broken",
        Error::Tls(_)
        | Error::Capacity(_)
        | Error::Protocol(_)
        | Error::WriteBufferFull(_)
        | Error::Utf8(_)
        | Error::AttackAttempt
        | Error::Url(_)
        | Error::HttpFormat(_) => "junk",
    }
}

/// Who may come in.
struct Gate {
    /// Pages whose scripts may; any, where none is named.
    origins: Arc<[String]>,
}

impl Callback for Gate {
    fn on_request(
        self,
        request: &Request,
        mut response: Response,
    ) -> Result<Response, ErrorResponse> {
        let offered = texts(request, &header::SEC_WEBSOCKET_PROTOCOL);
        if !offered.flat_map(|text| text.split(',')).any(|name| name.trim() == SIP) {
            let why = "the subprotocol sip is required (RFC 7118)\n";
            return Err(refusal(StatusCode::BAD_REQUEST, why));
        }
        // A browser always says whose page it is (RFC 6455 §4.1); who says nothing is none.
        let may =
            |origin: &str| self.origins.iter().any(|known| known.eq_ignore_ascii_case(origin));
        if !self.origins.is_empty() && !texts(request, &header::ORIGIN).all(may) {
            return Err(refusal(StatusCode::FORBIDDEN, "pages of this origin are not served\n"));
        }
        let protocol = HeaderValue::from_static(SIP);
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        Ok(response)
    }
}

/// What is no text counts as one that nobody knows.
fn texts<'r>(request: &'r Request, name: &HeaderName) -> impl Iterator<Item = &'r str> {
    request.headers().get_all(name).into_iter().map(|value| value.to_str().unwrap_or_default())
}

fn refusal(status: StatusCode, why: &str) -> ErrorResponse {
    let mut response = ErrorResponse::new(Some(why.to_owned()));
    *response.status_mut() = status;
    let length = HeaderValue::from(why.len());
    response.headers_mut().insert(header::CONTENT_LENGTH, length);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Both halves of a WebSocket.
pub fn split<S>(socket: WebSocketStream<S>, inlet: Inlet) -> (FrameReader<S>, FrameWriter<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (sink, source) = socket.split();
    let writer = FrameWriter { sink, current: None, tickets: VecDeque::new(), ping: inlet.ping() };
    (FrameReader { source, inlet }, writer)
}

pub struct FrameReader<S> {
    source: SplitStream<WebSocketStream<S>>,
    inlet: Inlet,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Reads for FrameReader<S> {
    async fn read(&mut self) -> Reason {
        let bounds = self.inlet.shared.bounds;
        let mut silent = true;
        let mut heard = Instant::now();
        loop {
            let (limit, reason) = if silent {
                (heard + bounds.first_message, Reason::Silent)
            } else {
                (heard + bounds.ping * limits::PINGS_MAX, Reason::Idle)
            };
            let message = match timeout_at(limit.into(), self.source.next()).await {
                Err(_) => return reason,
                Ok(None) => return Reason::Peer,
                Ok(Some(Err(error))) => return ended_by(&error),
                Ok(Some(Ok(message))) => message,
            };
            let taken = match message {
                Message::Text(text) => self.take(text.as_bytes(), &mut silent).await,
                Message::Binary(bytes) => self.take(&bytes, &mut silent).await,
                // A ping has been answered by now.
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => self.inlet.admit(),
                Message::Close(_) => Err(Reason::Peer),
            };
            if let Err(reason) = taken {
                return reason;
            }
            if !silent {
                heard = Instant::now();
            }
        }
    }

    async fn discard(&mut self) {
        while matches!(self.source.next().await, Some(Ok(_))) {}
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> FrameReader<S> {
    /// A message, or an empty line to keep the connection (RFC 7118 §6).
    async fn take(&mut self, bytes: &[u8], silent: &mut bool) -> Result<(), Reason> {
        match bytes {
            b"\r\n\r\n" => self.inlet.on_keep_alive(),
            b"\r\n" | b"" => self.inlet.admit(),
            _ => {
                *silent = false;
                self.inlet.on_message(bytes).await
            }
        }
    }
}

fn ended_by(error: &Error) -> Reason {
    match error {
        Error::ConnectionClosed | Error::AlreadyClosed => Reason::Peer,
        Error::Io(_) | Error::Tls(_) | Error::WriteBufferFull(_) => Reason::Broken,
        Error::Capacity(_)
        | Error::Protocol(_)
        | Error::Utf8(_)
        | Error::AttackAttempt
        | Error::Url(_)
        | Error::Http(_)
        | Error::HttpFormat(_) => {
            metrics::counter!("tandem_sip_malformed_total", "reason" => "frame").increment(1);
            tracing::debug!(%error, "broken frames");
            Reason::Junk
        }
    }
}

pub struct FrameWriter<S> {
    sink: SplitSink<WebSocketStream<S>, Message>,
    /// The frame that is being written.
    current: Option<Piece>,
    /// Of the last requests that were written.
    tickets: VecDeque<Ticket>,
    ping: Duration,
}

struct Piece {
    /// None, once it is the socket's.
    frame: Option<Message>,
    bytes: usize,
    ticket: Option<Ticket>,
}

impl Piece {
    fn of(outgoing: Outgoing) -> Self {
        let Outgoing { bytes, ticket } = outgoing;
        let length = bytes.len();
        // A script gets text as text; what is none goes as it is (RFC 7118 §5.1).
        let frame = match Utf8Bytes::try_from(bytes.clone()) {
            Ok(text) => Message::Text(text),
            Err(_) => Message::Binary(bytes),
        };
        Self { frame: Some(frame), bytes: length, ticket }
    }

    fn ping() -> Self {
        Self { frame: Some(Message::Ping(Bytes::new())), bytes: 0, ticket: None }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Writes for FrameWriter<S> {
    async fn write(&mut self, writing: &Writing, queue: &mut mpsc::Receiver<Outgoing>) -> Reason {
        let limit = Duration::from_millis(limits::WRITE_MS_MAX);
        loop {
            if self.current.is_none() {
                self.current = match timeout(self.ping, queue.recv()).await {
                    Ok(Some(outgoing)) => Some(Piece::of(outgoing)),
                    Ok(None) => return Reason::Over,
                    // Nothing was said for so long: what is between us shall not forget us.
                    Err(_) => Some(Piece::ping()),
                };
            }
            writing.may_write().await;
            match timeout(limit, self.put()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Reason::Broken,
                Err(_) => return Reason::Stuck,
            }
            if let Some(Piece { bytes, ticket, .. }) = self.current.take() {
                writing.note_sent(bytes);
                note_sent(&mut self.tickets, ticket);
            }
        }
    }

    async fn close(&mut self) -> bool {
        self.sink.send(Message::Close(None)).await.is_ok()
    }

    fn tickets(&mut self) -> Vec<Ticket> {
        let unsent = self.current.take().and_then(|piece| piece.ticket);
        self.tickets.drain(..).chain(unsent).collect()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> FrameWriter<S> {
    /// Writes the current frame to its end. May be dropped and called again.
    async fn put(&mut self) -> Result<(), Error> {
        poll_fn(|context| self.sink.poll_ready_unpin(context)).await?;
        if let Some(frame) = self.current.as_mut().and_then(|piece| piece.frame.take()) {
            self.sink.start_send_unpin(frame)?;
        }
        self.sink.flush().await
    }
}

#[cfg(test)]
mod tests;
