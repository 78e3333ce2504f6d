//! The pool of RTP and RTCP sockets: bound up front, so that a granted port is a port we have.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};
use tandem_lease::Fence;

use crate::limits::{PAIRS_MAX, RTCP_RECEIVE_BYTES, RTP_RECEIVE_BYTES};

/// Outside what Linux hands out to unbound sockets (32768–60999).
pub const RANGE_DEFAULT: RangeInclusive<u16> = 20_000..=29_999;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{wanted} pairs of RTP ports were asked for; the most is {PAIRS_MAX}")]
    TooMany { wanted: usize },
    #[error("only {got} of {wanted} pairs of RTP ports are free on {address} in {first}–{last}")]
    TooFew { got: usize, wanted: usize, address: IpAddr, first: u16, last: u16 },
    #[error("no RTP socket can be bound on {address}: {error}")]
    Bind { address: IpAddr, error: io::Error },
    #[error("port {0} is no even RTP port below 65535")]
    Odd(u16),
}

/// An even RTP port and the RTCP port after it (RFC 3550 §11).
pub struct Pair {
    pub port: u16,
    /// Granted by a gateway before us.
    pub adopted: bool,
    pub rtp: UdpSocket,
    pub rtcp: UdpSocket,
    fence: Arc<Fence>,
}

impl Pair {
    /// Whether it was sent: without a lease of the address nothing is.
    ///
    /// # Errors
    /// The socket's.
    pub fn send_rtp(&self, packet: &[u8], to: SocketAddr) -> io::Result<bool> {
        self.send(&self.rtp, packet, to)
    }

    /// The same from the port after it.
    ///
    /// # Errors
    /// The socket's.
    pub fn send_rtcp(&self, packet: &[u8], to: SocketAddr) -> io::Result<bool> {
        self.send(&self.rtcp, packet, to)
    }

    fn send(&self, socket: &UdpSocket, packet: &[u8], to: SocketAddr) -> io::Result<bool> {
        if !self.fence.is_held() {
            return Ok(false);
        }
        socket.send_to(packet, to).map(|_| true)
    }
}

/// Ports that somebody else holds are left out.
pub fn bind(
    address: IpAddr,
    range: &RangeInclusive<u16>,
    wanted: usize,
    fence: &Arc<Fence>,
) -> Result<Vec<Arc<Pair>>, Error> {
    if wanted > PAIRS_MAX {
        return Err(Error::TooMany { wanted });
    }
    let mut pairs = Vec::with_capacity(wanted);
    let (first, last) = (*range.start(), *range.end());
    let mut port = first + first % 2;
    while pairs.len() < wanted && port < last {
        match pair(address, port, Claim::Exclusive, fence) {
            Ok(pair) => pairs.push(Arc::new(pair)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(Error::Bind { address, error }),
        }
        port += 2;
    }
    if pairs.len() < wanted {
        return Err(Error::TooFew { got: pairs.len(), wanted, address, first, last });
    }
    Ok(pairs)
}

/// Those that [`bind`] would try first, without those that are known to be busy.
pub fn likely(range: &RangeInclusive<u16>, wanted: usize, busy: &BTreeSet<u16>) -> Vec<u16> {
    let (first, last) = (*range.start(), *range.end());
    let even = (first + first % 2..last).step_by(2);
    even.filter(|port| !busy.contains(port)).take(wanted).collect()
}

/// One pair that was granted by a gateway before us: taken even while that one still holds it.
pub fn adopt(address: IpAddr, port: u16, fence: &Arc<Fence>) -> Result<Arc<Pair>, Error> {
    if !port.is_multiple_of(2) || port == 0 {
        return Err(Error::Odd(port));
    }
    pair(address, port, Claim::Takeover, fence)
        .map(Arc::new)
        .map_err(|error| Error::Bind { address, error })
}

#[derive(Clone, Copy)]
enum Claim {
    /// Fails if anybody has the port.
    Exclusive,
    /// The newest bind gets all packets.
    Takeover,
}

fn pair(address: IpAddr, port: u16, claim: Claim, fence: &Arc<Fence>) -> io::Result<Pair> {
    Ok(Pair {
        port,
        adopted: matches!(claim, Claim::Takeover),
        rtp: socket(SocketAddr::new(address, port), RTP_RECEIVE_BYTES, claim)?,
        rtcp: socket(SocketAddr::new(address, port + 1), RTCP_RECEIVE_BYTES, claim)?,
        fence: Arc::clone(fence),
    })
}

/// `SO_REUSEADDR` is set on all sockets, so that another gateway can take them over; set only
/// after the bind where a busy port must be noticed.
fn socket(address: SocketAddr, receive_bytes: usize, claim: Claim) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(receive_bytes)?;
    match claim {
        Claim::Exclusive => {
            socket.bind(&address.into())?;
            socket.set_reuse_address(true)?;
        }
        Claim::Takeover => {
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
        }
    }
    Ok(socket.into())
}
