//! Where a message came from and which way one goes, whatever carries it (RFC 5626 §2 calls it a
//! flow).

use std::net::SocketAddr;

use crate::dialog::next_hop;
use crate::message::{Request, Response, Transport};
use crate::text::{response_destination, stream_destination};
use crate::uri::{NameAddr, Scheme, Uri};

/// A request of ours that is longer goes by a transport that looks after congestion and fragments
/// (RFC 3261 §18.1.1).
pub const UDP_REQUEST_BYTES_MAX: usize = 1_300;

/// One connection in the life of one gateway; its flow token (RFC 5626 §5.2). No two connections
/// have the same, not even of different lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// Names a request of ours until its peer has answered, for whoever carries it to say that it did
/// not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What a peer is reached over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Carrier {
    #[default]
    Udp,
    /// Over the connection that the peer has opened, where it has: behind a NAT there is no other
    /// way.
    Tcp { connection: Option<ConnectionId> },
}

/// A way from one peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    pub carrier: Carrier,
    pub local: SocketAddr,
    pub remote: SocketAddr,
}

/// The way of a message of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Way {
    pub carrier: Carrier,
    /// The peer: the address that a datagram goes to, or the far end of the connection.
    pub to: SocketAddr,
    /// Where a connection may be opened, where none is named or the named one is gone.
    pub open: Option<SocketAddr>,
}

impl Carrier {
    /// Over a connection, whichever it is.
    pub const TCP: Self = Self::Tcp { connection: None };

    /// Whether the transport itself repeats what was lost (RFC 3261 §17).
    pub fn is_reliable(self) -> bool {
        self.transport().is_reliable()
    }

    /// As a Via names it.
    pub fn transport(self) -> Transport {
        match self {
            Self::Udp => Transport::Udp,
            Self::Tcp { .. } => Transport::Tcp,
        }
    }

    /// As the parameter of a URI names it; UDP is what a URI means without one (RFC 3263 §4.1).
    pub fn uri_param(self) -> Option<&'static str> {
        match self {
            Self::Udp => None,
            Self::Tcp { .. } => Some("tcp"),
        }
    }

    pub fn connection(self) -> Option<ConnectionId> {
        match self {
            Self::Udp => None,
            Self::Tcp { connection } => connection,
        }
    }

    /// What requests to `contact` go over, which came over this: a flow is kept (RFC 5626 §5.3);
    /// from a datagram's sender it is what the URI asks for.
    pub fn towards(self, contact: &Uri) -> Self {
        let asks = contact.param("transport").is_some_and(|name| name.eq_ignore_ascii_case("tcp"));
        match self {
            Self::Udp if asks => Self::TCP,
            Self::Udp | Self::Tcp { .. } => self,
        }
    }
}

impl Flow {
    pub fn udp(local: SocketAddr, remote: SocketAddr) -> Self {
        Self { carrier: Carrier::Udp, local, remote }
    }

    pub fn tcp(local: SocketAddr, remote: SocketAddr, connection: ConnectionId) -> Self {
        Self { carrier: Carrier::Tcp { connection: Some(connection) }, local, remote }
    }

    pub fn is_reliable(&self) -> bool {
        self.carrier.is_reliable()
    }

    /// Where the answer to a request of this flow goes: back over the same connection; where that
    /// is gone a new one is opened to the address that the Via names (RFC 3261 §18.2.2).
    pub fn way_back(&self, response: &Response) -> Way {
        match self.carrier {
            Carrier::Udp => Way::udp(response_destination(response).unwrap_or(self.remote)),
            Carrier::Tcp { .. } => {
                Way { carrier: self.carrier, to: self.remote, open: stream_destination(response) }
            }
        }
    }
}

impl Way {
    pub fn udp(to: SocketAddr) -> Self {
        Self { carrier: Carrier::Udp, to, open: None }
    }

    /// Over a connection to `to`, which may have to be opened.
    pub fn tcp(to: SocketAddr) -> Self {
        Self { carrier: Carrier::TCP, to, open: Some(to) }
    }

    /// The way of a request to a peer that is known at `peer`. A connection that is gone is opened
    /// to where the request itself leads: a peer listens at its Contact, not at the far end of a
    /// connection that it has opened.
    pub fn of_request(request: &Request, peer: SocketAddr, carrier: Carrier) -> Self {
        match carrier {
            Carrier::Udp => Self::udp(peer),
            Carrier::Tcp { .. } => Self { carrier, to: peer, open: listens(request, peer) },
        }
    }

    /// The way of a response whose request nobody here remembers. `None` where the Via names no
    /// address.
    pub fn of_response(response: &Response) -> Option<Self> {
        match response.headers.top_via()?.transport {
            Transport::Tcp => stream_destination(response).map(Self::tcp),
            _ => response_destination(response).map(Self::udp),
        }
    }

    /// The same peer over a connection that is opened anew; `None` where none may be opened.
    pub fn anew(self) -> Option<Self> {
        self.open.map(Self::tcp)
    }
}

/// Where the next hop of a request listens. `None` where it wants TLS, which this is not. A name
/// is taken for the peer that is known.
fn listens(request: &Request, peer: SocketAddr) -> Option<SocketAddr> {
    let loose = |route: &&NameAddr| route.uri.param("lr").is_some();
    let uri = request.headers.route.first().filter(loose).map_or(&request.uri, |route| &route.uri);
    let asks = |name: &str| uri.param("transport").is_some_and(|it| it.eq_ignore_ascii_case(name));
    if uri.scheme == Scheme::Sips || asks("tls") {
        return None;
    }
    let (host, port) = next_hop(request)?;
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
    Some(SocketAddr::new(literal.unwrap_or(peer.ip()), port))
}
