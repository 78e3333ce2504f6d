//! Where a message came from and which way one goes, whatever carries it (RFC 5626 §2 calls it a
//! flow).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::dialog::{PORT, next_hop};
use crate::message::{Request, Response, Transport, Via};
use crate::text::{self, response_destination, stream_destination};
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

/// What a peer is reached over. A connection is named where the peer has opened one: behind a NAT
/// there is no other way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Carrier {
    #[default]
    Udp,
    Tcp {
        connection: Option<ConnectionId>,
    },
    Tls {
        connection: Option<ConnectionId>,
    },
    /// A WebSocket (RFC 7118); only peers open one.
    Ws {
        connection: Option<ConnectionId>,
    },
    /// One with TLS.
    Wss {
        connection: Option<ConnectionId>,
    },
}

/// A way from one peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    pub carrier: Carrier,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// What the peer has proven to be called, by a certificate (RFC 5922 §7). Of TLS alone.
    pub names: Arc<[String]>,
}

/// The way of a message of ours.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Way {
    pub carrier: Carrier,
    /// The peer: the address that a datagram goes to, or the far end of the connection.
    pub to: SocketAddr,
    /// Where a connection may be opened, where none is named or the named one is gone.
    pub open: Option<SocketAddr>,
    /// What the far end of a connection that we open must prove.
    pub proof: Proof,
    /// What the peer calls itself ([`name_of`]): where the named connection is gone, and the peer has opened another,
    /// it is known by that.
    pub name: Option<Arc<str>>,
}

/// What whoever answers a connection of ours must prove by its certificate (RFC 5922 §4), where
/// the carrier is TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Proof {
    /// That it is at the address that was opened.
    #[default]
    Address,
    /// That it is called like that.
    Name(Arc<str>),
    /// Nothing: the policy of its tenant or trunk says so.
    Nothing,
}

impl Carrier {
    /// Over a connection, whichever it is.
    pub const TCP: Self = Self::Tcp { connection: None };
    pub const TLS: Self = Self::Tls { connection: None };

    /// Whether the transport itself repeats what was lost (RFC 3261 §17).
    pub fn is_reliable(self) -> bool {
        self.transport().is_reliable()
    }

    /// Whether nobody on the way can read or change what is said.
    pub fn is_secure(self) -> bool {
        match self {
            Self::Udp | Self::Tcp { .. } | Self::Ws { .. } => false,
            Self::Tls { .. } | Self::Wss { .. } => true,
        }
    }

    /// As a Via names it.
    pub fn transport(self) -> Transport {
        match self {
            Self::Udp => Transport::Udp,
            Self::Tcp { .. } => Transport::Tcp,
            Self::Tls { .. } => Transport::Tls,
            Self::Ws { .. } => Transport::Ws,
            Self::Wss { .. } => Transport::Wss,
        }
    }

    /// As the parameter of a URI names it; UDP is what a URI means without one (RFC 3263 §4.1), and a
    /// WebSocket has one name, with TLS or without (RFC 7118 §5.2.2).
    pub fn uri_param(self) -> Option<&'static str> {
        match self {
            Self::Udp => None,
            Self::Tcp { .. } => Some("tcp"),
            Self::Tls { .. } => Some("tls"),
            Self::Ws { .. } | Self::Wss { .. } => Some("ws"),
        }
    }

    /// Where a service address that serves UDP and TCP on `port` serves this.
    pub fn port(self, port: u16) -> u16 {
        match self {
            Self::Udp | Self::Tcp { .. } => port,
            Self::Tls { .. } => tls_port(port),
            Self::Ws { .. } => ws_port(port),
            Self::Wss { .. } => wss_port(port),
        }
    }

    pub fn connection(self) -> Option<ConnectionId> {
        match self {
            Self::Udp => None,
            Self::Tcp { connection }
            | Self::Tls { connection }
            | Self::Ws { connection }
            | Self::Wss { connection } => connection,
        }
    }

    /// The same transport over whichever connection.
    fn unnamed(self) -> Self {
        match self {
            Self::Udp => Self::Udp,
            Self::Tcp { .. } => Self::TCP,
            Self::Tls { .. } => Self::TLS,
            Self::Ws { .. } => Self::Ws { connection: None },
            Self::Wss { .. } => Self::Wss { connection: None },
        }
    }

    /// What requests to `contact` go over, which came over this: a flow is kept (RFC 5626 §5.3);
    /// from a datagram's sender it is what the URI asks for. What `sips` promises is kept, too,
    /// whatever it came over (RFC 3261 §26.2.2).
    pub fn towards(self, contact: &Uri) -> Self {
        match self {
            Self::Udp | Self::Tcp { .. } if contact.scheme == Scheme::Sips => Self::TLS,
            Self::Udp if asks(contact, "tls") => Self::TLS,
            Self::Udp if asks(contact, "tcp") => Self::TCP,
            // No such connection is that one's, and none can be opened: nothing goes in the clear.
            Self::Ws { connection } if contact.scheme == Scheme::Sips => Self::Wss { connection },
            Self::Udp
            | Self::Tcp { .. }
            | Self::Tls { .. }
            | Self::Ws { .. }
            | Self::Wss { .. } => self,
        }
    }
}

/// The port of TLS on a service address: the next one, as 5061 is to 5060.
pub fn tls_port(port: u16) -> u16 {
    port.saturating_add(1)
}

/// The ports of WebSockets on a service address, without and with TLS: the two behind that.
pub fn ws_port(port: u16) -> u16 {
    port.saturating_add(2)
}

pub fn wss_port(port: u16) -> u16 {
    port.saturating_add(3)
}

fn asks(uri: &Uri, transport: &str) -> bool {
    uri.param("transport").is_some_and(|name| name.eq_ignore_ascii_case(transport))
}

impl Flow {
    pub fn udp(local: SocketAddr, remote: SocketAddr) -> Self {
        Self::over(Carrier::Udp, local, remote)
    }

    pub fn tcp(local: SocketAddr, remote: SocketAddr, connection: ConnectionId) -> Self {
        Self::over(Carrier::Tcp { connection: Some(connection) }, local, remote)
    }

    pub fn over(carrier: Carrier, local: SocketAddr, remote: SocketAddr) -> Self {
        Self { carrier, local, remote, names: Arc::default() }
    }

    pub fn is_reliable(&self) -> bool {
        self.carrier.is_reliable()
    }

    /// Where the answer to a request of this flow goes: back over the same connection; where that
    /// is gone a new one is opened to the address that the Via names (RFC 3261 §18.2.2).
    pub fn way_back(&self, response: &Response) -> Way {
        match self.carrier {
            Carrier::Udp => Way::udp(response_destination(response).unwrap_or(self.remote)),
            Carrier::Tcp { .. } | Carrier::Tls { .. } => Way {
                carrier: self.carrier,
                to: self.remote,
                open: stream_destination(response),
                proof: proof_of(response),
                name: name_in(response, self.remote.ip()),
            },
            Carrier::Ws { .. } | Carrier::Wss { .. } => Way {
                name: name_in(response, self.remote.ip()),
                ..Way::kept(self.carrier, self.remote)
            },
        }
    }
}

/// What a peer at `source` calls itself in a Via, where that tells it from all others and nobody else can say it.
/// Behind a WebSocket that is a name of `.invalid`, which is random (RFC 7118 §5): who says it is the same script. Over TCP
/// it is the address where the peer listens, as RFC 5923 has it, but believed only of who is at that very
/// address. Over TLS it is nothing, for there an address is to be proven.
pub fn name_of(via: &Via, source: IpAddr) -> Option<Arc<str>> {
    match via.transport {
        Transport::Tcp if text::literal(&via.host) == Some(source) => {
            Some(SocketAddr::new(source, via.port.unwrap_or(PORT)).to_string().into())
        }
        Transport::Ws | Transport::Wss => invalid(&via.host),
        Transport::Tcp | Transport::Tls | Transport::Udp | Transport::Other(_) => None,
    }
}

/// A name that stands for no address (RFC 2606 §2).
pub fn invalid(host: &str) -> Option<Arc<str>> {
    let host = host.to_ascii_lowercase();
    host.ends_with(".invalid").then(|| host.into())
}

impl Way {
    pub fn udp(to: SocketAddr) -> Self {
        Self { carrier: Carrier::Udp, to, open: None, proof: Proof::Address, name: None }
    }

    /// Over a connection to `to`, which may have to be opened.
    pub fn tcp(to: SocketAddr) -> Self {
        Self { carrier: Carrier::TCP, open: Some(to), ..Self::udp(to) }
    }

    /// The same with TLS.
    pub fn tls(to: SocketAddr, proof: Proof) -> Self {
        Self { carrier: Carrier::TLS, open: Some(to), proof, ..Self::udp(to) }
    }

    /// Over a connection that lives, or not at all: what a Via or Contact names behind a WebSocket
    /// is no address (RFC 7118 §5.2).
    fn kept(carrier: Carrier, to: SocketAddr) -> Self {
        Self { carrier, ..Self::udp(to) }
    }

    /// The way of a request to a peer that is known at `peer`. A connection that is gone is opened
    /// to where the request itself leads: a peer listens at its Contact, not at the far end of a
    /// connection that it has opened.
    pub fn of_request(request: &Request, peer: SocketAddr, carrier: Carrier) -> Self {
        match carrier {
            Carrier::Udp => Self::udp(peer),
            Carrier::Tcp { .. } | Carrier::Tls { .. } => match listens(request, peer, carrier) {
                Some((open, proof)) => {
                    Self { open: Some(open), proof, ..Self::kept(carrier, peer) }
                }
                None => Self::kept(carrier, peer),
            },
            Carrier::Ws { .. } | Carrier::Wss { .. } => {
                let name = next_hop(request).and_then(|(host, _)| invalid(host));
                Self { name, ..Self::kept(carrier, peer) }
            }
        }
    }

    /// The way of a response whose request nobody here remembers. `None` where the Via names nothing that leads back.
    pub fn of_response(response: &Response) -> Option<Self> {
        let via = response.headers.top_via()?;
        match via.transport {
            Transport::Tcp => stream_destination(response)
                .map(|to| Self { name: name_of(via, to.ip()), ..Self::tcp(to) }),
            Transport::Tls => {
                stream_destination(response).map(|to| Self::tls(to, proof_of(response)))
            }
            // Nobody opens a connection to a browser (RFC 7118 §5.2.2); it may open another itself.
            Transport::Ws => Self::of_browser(Carrier::Ws { connection: None }, via),
            Transport::Wss => Self::of_browser(Carrier::Wss { connection: None }, via),
            Transport::Udp | Transport::Other(_) => response_destination(response).map(Self::udp),
        }
    }

    fn of_browser(carrier: Carrier, via: &Via) -> Option<Self> {
        let to = SocketAddr::new(via.received()?, via.rport().flatten().unwrap_or(0));
        Some(Self { name: Some(invalid(&via.host)?), ..Self::kept(carrier, to) })
    }

    /// The same peer over a connection that is opened anew; `None` where none may be opened.
    pub fn anew(&self) -> Option<Self> {
        let (to, carrier) = (self.open?, self.carrier.unnamed());
        Some(Self { carrier, open: Some(to), proof: self.proof.clone(), ..Self::udp(to) })
    }
}

/// Where the next hop of a request listens for connections of this carrier, and what it must
/// prove there. `None` where it wants the other: what wants TLS is never opened in the clear. A
/// name is taken for the peer that is known.
fn listens(request: &Request, peer: SocketAddr, carrier: Carrier) -> Option<(SocketAddr, Proof)> {
    let loose = |route: &&NameAddr| route.uri.param("lr").is_some();
    let uri = request.headers.route.first().filter(loose).map_or(&request.uri, |route| &route.uri);
    let wants_tls = uri.scheme == Scheme::Sips || asks(uri, "tls");
    if wants_tls != matches!(carrier, Carrier::Tls { .. }) {
        return None;
    }
    let (host, port) = next_hop(request)?;
    let literal = text::literal(host);
    Some((SocketAddr::new(literal.unwrap_or(peer.ip()), port), proof_by(host)))
}

fn name_in(response: &Response, source: IpAddr) -> Option<Arc<str>> {
    name_of(response.headers.top_via()?, source)
}

/// What the peer must prove that a response is brought to.
fn proof_of(response: &Response) -> Proof {
    response.headers.top_via().map_or(Proof::Address, |via| proof_by(&via.host))
}

fn proof_by(host: &str) -> Proof {
    match text::literal(host) {
        Some(_) => Proof::Address,
        None => Proof::Name(host.to_ascii_lowercase().into()),
    }
}
