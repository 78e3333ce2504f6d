//! SIP over UDP on a service address (RFC 3261 §18).
//!
//! The socket is bound with `SO_REUSEADDR`, so that another gateway can take the address while
//! this one still holds it: on Linux the newest bind gets all packets. Never `SO_REUSEPORT`, which
//! would split them, and never connected.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use socket2::{Domain, Protocol, Type};
use tandem_lease::Fence;
use tandem_sip::{Flow, MESSAGE_BYTES_MAX, Message};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::admission::{Rank, Sources};
use crate::error::Error;
use crate::intake::{Intake, NotTaken, Told, Verdict};
use crate::received::Received;
use crate::{limits, refusal, stun};

/// A bound socket: many may send, one task receives.
#[derive(Debug)]
pub struct Socket {
    socket: UdpSocket,
    local: SocketAddr,
    fence: Arc<Fence>,
}

/// What is remembered of those who send.
struct Guard {
    sources: Sources,
    told: Told,
}

impl Guard {
    fn new(now: Instant) -> Self {
        Self { sources: Sources::new(now), told: Told::new(now) }
    }
}

impl Socket {
    /// Of a line that is served in this life. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Why the address can't be bound, in one sentence.
    pub fn bind(address: SocketAddr, fence: Arc<Fence>) -> Result<Self, Error> {
        let open = || -> io::Result<(UdpSocket, SocketAddr)> {
            let socket = socket2::Socket::new(
                Domain::for_address(address),
                Type::DGRAM,
                Some(Protocol::UDP),
            )?;
            socket.set_reuse_address(true)?;
            socket.set_nonblocking(true)?;
            // A smaller buffer than wished for is no reason not to serve.
            for size in [
                socket.set_recv_buffer_size(limits::SOCKET_BUFFER_BYTES),
                socket.set_send_buffer_size(limits::SOCKET_BUFFER_BYTES),
            ] {
                if let Err(error) = size {
                    tracing::debug!(%error, "socket buffer");
                }
            }
            socket.bind(&address.into())?;
            let socket = UdpSocket::from_std(socket.into())?;
            let local = socket.local_addr()?;
            Ok((socket, local))
        };
        let (socket, local) = open().map_err(|source| Error::of_bind(address, source))?;
        Ok(Self { socket, local, fence })
    }

    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Sends at once or not at all: what the kernel has no room for is lost like any datagram,
    /// and counted. So it is without a lease.
    pub fn send(&self, bytes: &[u8], to: SocketAddr) {
        if !self.fence.is_held() {
            metrics::counter!("tandem_sip_fenced_total").increment(1);
            return;
        }
        if let Err(error) = self.socket.try_send_to(bytes, to) {
            metrics::counter!("tandem_sip_send_failures_total").increment(1);
            tracing::debug!(%to, %error, "a datagram was not sent");
        }
    }

    /// Receives until the handler is gone.
    ///
    /// # Errors
    /// Where the socket itself fails.
    pub async fn receive(self: Arc<Self>, handler: Intake) -> Result<(), Error> {
        let failed = |source| Error::Socket { address: self.local, source };
        let mut guard = Guard::new(Instant::now());
        let mut buffer = vec![0; MESSAGE_BYTES_MAX];
        loop {
            self.socket.ready(Interest::READABLE).await.map_err(failed)?;
            for _ in 0..limits::BATCH_MAX {
                match self.socket.try_recv_from(&mut buffer) {
                    Ok((length, source)) => {
                        if !self.take(&mut guard, &buffer[..length], source, &handler) {
                            return Ok(());
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    // An ICMP answer to something that we sent: it says nothing about this socket.
                    Err(error)
                        if matches!(
                            error.kind(),
                            ErrorKind::ConnectionRefused
                                | ErrorKind::HostUnreachable
                                | ErrorKind::NetworkUnreachable
                                | ErrorKind::Interrupted
                        ) => {}
                    Err(error) => return Err(failed(error)),
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// One datagram; false where there is no handler any more.
    fn take(
        &self,
        guard: &mut Guard,
        datagram: &[u8],
        source: SocketAddr,
        handler: &Intake,
    ) -> bool {
        let now = Instant::now();
        let Guard { sources, told } = guard;
        if !sources.admits(now, source.ip()) {
            metrics::counter!("tandem_sip_dropped_total", "reason" => "source").increment(1);
            return !handler.is_closed();
        }
        if stun::is_stun(datagram) {
            // As seldom as anybody is told anything without proof.
            if let Some(answer) = stun::answer(datagram, source)
                && sources.may_refuse(now, source.ip())
            {
                self.send(&answer, source);
            }
            return !handler.is_closed();
        }
        let mut message = match tandem_sip::parse(datagram) {
            Ok(message) => message,
            Err(error) => {
                if !error.is_keep_alive() {
                    self.on_malformed(sources, now, source, &error);
                }
                return !handler.is_closed();
            }
        };
        refusal::stamp_request(&mut message, source);
        let verdict = match &message {
            Message::Request(request) => told.judge(now, request, handler),
            Message::Response(_) if handler.admits(now, Rank::Existing) => Verdict::LetIn,
            Message::Response(_) => Verdict::TurnedAway,
        };
        match verdict {
            Verdict::LetIn => {}
            Verdict::Over => return !handler.is_closed(),
            Verdict::TurnedAway => {
                self.on_overload(sources, now, source, &message);
                return !handler.is_closed();
            }
        }
        let flow = Flow::udp(self.local, source);
        match handler.try_send(Received { at: now, flow, message }) {
            Ok(()) => true,
            Err(NotTaken::Full) => {
                metrics::counter!("tandem_sip_dropped_total", "reason" => "overload").increment(1);
                true
            }
            Err(NotTaken::Over) => false,
        }
    }

    fn on_malformed(
        &self,
        sources: &mut Sources,
        now: Instant,
        source: SocketAddr,
        error: &tandem_sip::ParseError,
    ) {
        let reason = error.kind.word();
        metrics::counter!("tandem_sip_malformed_total", "reason" => reason).increment(1);
        tracing::debug!(%source, %error, "malformed datagram");
        let Some(response) = &error.answerable else { return };
        if sources.may_refuse(now, source.ip()) {
            let mut response = (**response).clone();
            refusal::stamp(&mut response, source);
            self.send(&response.to_bytes(), refusal::destination(&response, source));
        }
    }

    fn on_overload(
        &self,
        sources: &mut Sources,
        now: Instant,
        source: SocketAddr,
        message: &Message,
    ) {
        metrics::counter!("tandem_sip_dropped_total", "reason" => "overload").increment(1);
        let Message::Request(request) = message else { return };
        let rank = Rank::of_request(request);
        if rank != Rank::Existing && sources.may_turn_away(now, source.ip(), rank) {
            let response = refusal::overloaded(request);
            self.send(&response.to_bytes(), refusal::destination(&response, source));
        }
    }
}
