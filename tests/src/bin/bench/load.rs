//! Callers and agents, each side one thread and one socket, so that a load costs the machine little
//! beside what is measured. They are silent unless their [`Media`] is told to speak.

mod agents;
mod callers;
mod media;

use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash as _, Hasher as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tandem_sip::sdp::{Audio, Beside, Codec, Direction, Payload};
use tandem_sip::{CSeq, Message, NameAddr, Param, Request, Scheme, Transport, Uri, Via};

pub use agents::Agents;
pub use callers::call;
pub use media::Media;

/// What a call may take at most: a histogram ends here.
const HIGHEST_US: u64 = 60_000_000;
/// RFC 3261 §17.1.1.1.
const T1: Duration = Duration::from_millis(500);
/// Timer B.
const GIVE_UP: Duration = Duration::from_millis(64 * 500);
const FIRST_AGENT: u32 = 20_001;
const DATAGRAM_BYTES_MAX: usize = 65_535;
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// Calls to a number at an even rate, each hung up `hold` after it was answered.
pub struct Plan {
    pub server: SocketAddr,
    pub number: &'static str,
    pub calls_a_second: u32,
    pub seconds: u32,
    pub hold: Duration,
}

/// Microseconds from a caller's INVITE.
pub struct Outcome {
    pub trying_us: Histogram<u64>,
    pub answered_us: Histogram<u64>,
    /// To a final answer that is no 200.
    pub refused_us: Histogram<u64>,
    /// Calls that ended otherwise than by their caller's BYE, by what happened.
    pub failed: BTreeMap<String, u64>,
    /// Messages that had to be sent again.
    pub repeated: u64,
    /// How often the server sent the message that it sent most often.
    pub came_at_most: u32,
    pub calls: u64,
}

impl Outcome {
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    pub fn print(&self) {
        let (failed, repeated) = (self.failures(), self.repeated);
        println!("  {} calls, {failed} failed, {repeated} messages repeated", self.calls);
        for (why, count) in &self.failed {
            println!("    {count} x {why}");
        }
    }
}

/// When each caller, by number, sent its INVITE.
pub type Called = Arc<Mutex<HashMap<String, Instant>>>;

/// A socket that speaks SIP.
struct Line {
    socket: UdpSocket,
    address: SocketAddr,
    server: SocketAddr,
    media: Arc<Media>,
    buffer: Vec<u8>,
    /// How often each message came, by what stays the same when it is sent again.
    came: HashMap<u64, u32>,
}

impl Line {
    fn open(server: SocketAddr, media: Arc<Media>) -> Result<Self> {
        let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let socket = UdpSocket::bind(any)?;
        // What this side loses would be taken for the server's silence.
        socket2::SockRef::from(&socket).set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
        let address = socket.local_addr()?;
        let buffer = vec![0; DATAGRAM_BYTES_MAX];
        let came = HashMap::new();
        Ok(Self { socket, address, server, media, buffer, came })
    }

    fn send(&self, bytes: &[u8]) {
        // What is lost is sent again, as on any network.
        let _ = self.socket.send_to(bytes, self.server);
    }

    /// The next message, or nothing within `wait`.
    fn next(&mut self, wait: Duration) -> Option<Message> {
        self.socket.set_read_timeout(Some(wait.max(Duration::from_micros(1)))).ok()?;
        let (length, _) = self.socket.recv_from(&mut self.buffer).ok()?;
        let message = tandem_sip::parse(&self.buffer[..length]).ok()?;
        *self.came.entry(identity(&message)).or_default() += 1;
        Some(message)
    }

    /// How often the message came that came most often.
    fn came_at_most(&self) -> u32 {
        self.came.values().copied().max().unwrap_or_default()
    }

    fn via(&self) -> Via {
        Via {
            transport: Transport::Udp,
            host: self.address.ip().to_string(),
            port: Some(self.address.port()),
            params: vec![param("branch", Some(&format!("z9hG4bK{:016x}", rand::random::<u64>())))],
        }
    }

    fn own(&self, user: &str) -> NameAddr {
        bare(uri(Some(user), self.address))
    }

    fn audio(&self) -> Result<Vec<u8>> {
        let audio = Audio {
            address: self.address.ip(),
            port: self.media.socket.local_addr().context("the media socket")?.port(),
            payloads: vec![Payload::new(0, Codec::Pcmu)],
            telephone_event: Some(101),
            telephone_event_wide: None,
            direction: Direction::SendRecv,
            ptime_ms: Some(20),
            session_id: 1,
            session_version: 1,
            crypto: Vec::new(),
            secure: false,
            beside: Beside::default(),
        };
        Ok(audio.compose())
    }
}

/// The same for a message that is sent again (RFC 3261 §17).
fn identity(message: &Message) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    let (headers, what) = match message {
        Message::Request(request) => (&request.headers, branch(request).to_owned()),
        Message::Response(response) => (&response.headers, response.status.to_string()),
    };
    let CSeq { number, method } = &headers.cseq;
    (&headers.call_id, number, method.as_str(), what).hash(&mut hasher);
    hasher.finish()
}

/// So many agents.
pub fn users(count: u32) -> Vec<String> {
    (0..count).map(|n| (FIRST_AGENT + n).to_string()).collect()
}

fn branch(request: &Request) -> &str {
    let params = request.headers.via.first().map(|via| via.params.as_slice()).unwrap_or_default();
    let branch = params.iter().find(|param| param.name == "branch");
    branch.and_then(|param| param.value.as_deref()).unwrap_or_default()
}

fn param(name: &str, value: Option<&str>) -> Param {
    Param { name: name.into(), value: value.map(str::to_owned) }
}

fn bare(uri: Uri) -> NameAddr {
    NameAddr { display: None, uri, params: Vec::new() }
}

fn uri(user: Option<&str>, at: SocketAddr) -> Uri {
    Uri {
        scheme: Scheme::Sip,
        user: user.map(str::to_owned),
        host: at.ip().to_string(),
        port: Some(at.port()),
        params: Vec::new(),
        headers: None,
    }
}
