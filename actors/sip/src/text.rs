//! Methods, transports, Via and whole messages to text.

use std::fmt::{self, Write as _};
use std::net::{IpAddr, SocketAddr};

use crate::message::{CSeq, Header, Headers, Message, Method, Request, Response, Transport, Via};
use crate::scan;
use crate::uri::{NameAddr, Param};
use crate::uri_text::find;

impl Method {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Invite => "INVITE",
            Self::Ack => "ACK",
            Self::Bye => "BYE",
            Self::Cancel => "CANCEL",
            Self::Register => "REGISTER",
            Self::Options => "OPTIONS",
            Self::Prack => "PRACK",
            Self::Update => "UPDATE",
            Self::Info => "INFO",
            Self::Refer => "REFER",
            Self::Notify => "NOTIFY",
            Self::Subscribe => "SUBSCRIBE",
            Self::Message => "MESSAGE",
            Self::Publish => "PUBLISH",
            Self::Other(name) => name,
        }
    }
}

impl From<&str> for Method {
    fn from(name: &str) -> Self {
        match name {
            "INVITE" => Self::Invite,
            "ACK" => Self::Ack,
            "BYE" => Self::Bye,
            "CANCEL" => Self::Cancel,
            "REGISTER" => Self::Register,
            "OPTIONS" => Self::Options,
            "PRACK" => Self::Prack,
            "UPDATE" => Self::Update,
            "INFO" => Self::Info,
            "REFER" => Self::Refer,
            "NOTIFY" => Self::Notify,
            "SUBSCRIBE" => Self::Subscribe,
            "MESSAGE" => Self::Message,
            "PUBLISH" => Self::Publish,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Transport {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Ws => "WS",
            Self::Wss => "WSS",
            Self::Other(name) => name,
        }
    }

    /// Whether the transport itself repeats what was lost (RFC 3261 §17).
    pub fn is_reliable(&self) -> bool {
        !matches!(self, Self::Udp)
    }
}

impl From<&str> for Transport {
    fn from(name: &str) -> Self {
        match name.to_ascii_uppercase().as_str() {
            "UDP" => Self::Udp,
            "TCP" => Self::Tcp,
            "TLS" => Self::Tls,
            "WS" => Self::Ws,
            "WSS" => Self::Wss,
            _ => Self::Other(name.to_owned()),
        }
    }
}

impl Via {
    pub fn branch(&self) -> Option<&str> {
        find(&self.params, "branch").filter(|branch| !branch.is_empty())
    }

    pub fn received(&self) -> Option<IpAddr> {
        literal(find(&self.params, "received")?)
    }

    /// `None` where absent, `Some(None)` where asked for, `Some(port)` where filled in (RFC 3581).
    pub fn rport(&self) -> Option<Option<u16>> {
        find(&self.params, "rport")
            .map(|value| scan::digits(value).and_then(|port| u16::try_from(port).ok()))
    }

    /// `host:port` as it stands, without case.
    pub fn sent_by(&self) -> String {
        let host = self.host.to_ascii_lowercase();
        match self.port {
            Some(port) => format!("{host}:{port}"),
            None => host,
        }
    }

    fn set(&mut self, name: &str, value: String) {
        match self.params.iter_mut().find(|param| param.name.eq_ignore_ascii_case(name)) {
            Some(param) => param.value = Some(value),
            None => self.params.push(Param { name: name.to_owned(), value: Some(value) }),
        }
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SIP/2.0/{} {}", self.transport.as_str(), self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        for param in &self.params {
            match &param.value {
                Some(value) => write!(f, ";{}={value}", param.name)?,
                None => write!(f, ";{}", param.name)?,
            }
        }
        Ok(())
    }
}

/// An IP address, an IPv6 one with or without brackets.
pub(crate) fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Notes in the topmost Via where the request came from (RFC 3261 §18.2.1, RFC 3581 §4).
///
/// A `received` that the peer wrote itself is taken out: it would turn our answer to others.
pub fn stamp_source(request: &mut Request, source: SocketAddr) {
    let Some(via) = request.headers.via.first_mut() else { return };
    via.params.retain(|param| !param.name.eq_ignore_ascii_case("received"));
    let wants_rport = via.rport().is_some();
    if literal(&via.host) != Some(source.ip()) || wants_rport {
        via.set("received", source.ip().to_string());
    }
    if wants_rport {
        via.set("rport", source.port().to_string());
    }
}

/// Where a response goes by its topmost Via (RFC 3261 §18.2.2, RFC 3581 §4). `None` where that
/// names a host and nobody has stamped its address. `maddr` is not followed: it would turn our
/// answer to others.
pub fn response_destination(response: &Response) -> Option<SocketAddr> {
    let via = response.headers.via.first()?;
    let ip = via.received().or_else(|| literal(&via.host))?;
    let port = via.rport().flatten().or(via.port).unwrap_or(5060);
    Some(SocketAddr::new(ip, port))
}

/// Where a connection for a response is opened when that of its request is gone (RFC 3261 §18.2.2):
/// the port is where the peer listens, never the one that it has sent from.
pub fn stream_destination(response: &Response) -> Option<SocketAddr> {
    let via = response.headers.via.first()?;
    let ip = via.received().or_else(|| literal(&via.host))?;
    let port = if via.transport == Transport::Tls { 5061 } else { 5060 };
    Some(SocketAddr::new(ip, via.port.unwrap_or(port)))
}

impl Headers {
    pub fn top_via(&self) -> Option<&Via> {
        self.via.first()
    }

    /// The topmost Via's branch, or nothing.
    pub fn branch(&self) -> &str {
        self.top_via().and_then(Via::branch).unwrap_or("")
    }

    pub fn from_tag(&self) -> Option<&str> {
        self.from.tag()
    }

    pub fn to_tag(&self) -> Option<&str> {
        self.to.tag()
    }

    /// The first value of a header that is kept as it came. Names compare without case, and a
    /// compact name is the long one (`k` is `Supported`).
    pub fn other(&self, name: &str) -> Option<&str> {
        self.other
            .iter()
            .find(|header| is_named(&header.name, name))
            .map(|header| header.value.as_str())
    }

    /// The values of a list header that is kept as it came, all its lines together.
    pub fn list<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'h str> {
        let lines = self.other.iter().filter(move |header| is_named(&header.name, name));
        let values = lines.flat_map(|header| header.value.split(','));
        values.map(str::trim).filter(|value| !value.is_empty())
    }

    /// The addresses of a list header that is kept as it came; one that can't be read is passed
    /// over.
    pub fn addresses<'h>(&'h self, name: &'h str) -> impl Iterator<Item = NameAddr> + 'h {
        let lines = self.other.iter().filter(move |header| is_named(&header.name, name));
        let values = lines.flat_map(|header| scan::split(&header.value, ','));
        values.filter_map(|value| value.parse().ok())
    }

    pub fn push_other(&mut self, name: &str, value: &str) {
        self.other.push(Header { name: name.to_owned(), value: value.to_owned() });
    }

    pub fn remove_other(&mut self, name: &str) {
        self.other.retain(|header| !is_named(&header.name, name));
    }

    fn write(&self, text: &mut String) {
        let mut line = |name: &str, value: &dyn fmt::Display| {
            // Writing to a String can't fail.
            let start = text.len();
            let _ = write!(text, "{name}: {value}");
            end_line(text, start);
        };
        for via in &self.via {
            line("Via", via);
        }
        for route in &self.route {
            line("Route", route);
        }
        for record_route in &self.record_route {
            line("Record-Route", record_route);
        }
        if let Some(hops) = self.max_forwards {
            line("Max-Forwards", &hops);
        }
        line("From", &self.from);
        line("To", &self.to);
        line("Call-ID", &self.call_id);
        line("CSeq", &self.cseq);
        for contact in &self.contact {
            line("Contact", contact);
        }
        if let Some(seconds) = self.expires {
            line("Expires", &seconds);
        }
        for header in &self.other {
            line(&header.name, &header.value);
        }
        if let Some(content_type) = &self.content_type {
            line("Content-Type", content_type);
        }
    }
}

impl fmt::Display for CSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number, self.method)
    }
}

/// Ends the line that begins at `start`. A line end within a value, which the parser never lets in
/// but another source of names might, becomes a space: nothing can smuggle a header in.
fn end_line(text: &mut String, start: usize) {
    if text[start..].contains(['\r', '\n']) {
        let line = text[start..].replace(['\r', '\n'], " ");
        text.truncate(start);
        text.push_str(&line);
    }
    text.push_str("\r\n");
}

/// Compact names (RFC 3261 §7.3.3 and the registry) of headers that are kept as they came.
const COMPACT: [(&str, &str); 13] = [
    ("a", "Accept-Contact"),
    ("b", "Referred-By"),
    ("d", "Request-Disposition"),
    ("e", "Content-Encoding"),
    ("j", "Reject-Contact"),
    ("k", "Supported"),
    ("n", "Identity-Info"),
    ("o", "Event"),
    ("r", "Refer-To"),
    ("s", "Subject"),
    ("u", "Allow-Events"),
    ("x", "Session-Expires"),
    ("y", "Identity"),
];

fn long(name: &str) -> &str {
    let compact = COMPACT.iter().find(|(compact, _)| compact.eq_ignore_ascii_case(name));
    compact.map_or(name, |(_, long)| long)
}

fn is_named(name: &str, wanted: &str) -> bool {
    long(name).eq_ignore_ascii_case(long(wanted))
}

fn finish(mut text: String, headers: &Headers, body: &[u8]) -> Vec<u8> {
    end_line(&mut text, 0);
    headers.write(&mut text);
    let _ = write!(text, "Content-Length: {}\r\n\r\n", body.len());
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

impl Request {
    /// The same request gives the same bytes, every time.
    pub fn to_bytes(&self) -> Vec<u8> {
        finish(format!("{} {} SIP/2.0", self.method, self.uri), &self.headers, &self.body)
    }

    /// It has a To tag: it belongs to a dialog.
    pub fn is_in_dialog(&self) -> bool {
        self.headers.to_tag().is_some()
    }

    /// A response to this request (RFC 3261 §8.2.6). `to_tag` is set where the request has none.
    pub fn respond(&self, status: u16, reason: Option<&str>, to_tag: Option<&str>) -> Response {
        let mut to = self.headers.to.clone();
        if let (None, Some(tag), true) = (to.tag(), to_tag, status > 100) {
            to.set_tag(tag);
        }
        // RFC 3261 §8.2.6.1: the 100 repeats the request's Timestamp.
        let timestamp = self.headers.other("Timestamp").filter(|_| status == 100);
        let other = timestamp.map(|value| Header { name: "Timestamp".into(), value: value.into() });
        let forms_dialog = (101..300).contains(&status)
            && matches!(self.method, Method::Invite | Method::Subscribe | Method::Refer);
        Response {
            status,
            reason: reason.unwrap_or_else(|| reason_phrase(status)).to_owned(),
            headers: Headers {
                via: self.headers.via.clone(),
                from: self.headers.from.clone(),
                to,
                call_id: self.headers.call_id.clone(),
                cseq: self.headers.cseq.clone(),
                contact: Vec::new(),
                route: Vec::new(),
                record_route: if forms_dialog {
                    self.headers.record_route.clone()
                } else {
                    Vec::new()
                },
                max_forwards: None,
                expires: None,
                content_type: None,
                other: other.into_iter().collect(),
            },
            body: Vec::new(),
        }
    }
}

impl Response {
    pub fn to_bytes(&self) -> Vec<u8> {
        finish(format!("SIP/2.0 {} {}", self.status, self.reason), &self.headers, &self.body)
    }

    pub fn is_provisional(&self) -> bool {
        self.status < 200
    }

    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl Message {
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Request(request) => request.to_bytes(),
            Self::Response(response) => response.to_bytes(),
        }
    }

    pub fn headers(&self) -> &Headers {
        match self {
            Self::Request(request) => &request.headers,
            Self::Response(response) => &response.headers,
        }
    }
}

/// RFC 3261 §21.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        181 => "Call Is Being Forwarded",
        182 => "Queued",
        183 => "Session Progress",
        200 => "OK",
        202 => "Accepted",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        410 => "Gone",
        413 => "Request Entity Too Large",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        420 => "Bad Extension",
        422 => "Session Interval Too Small",
        423 => "Interval Too Brief",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        484 => "Address Incomplete",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        489 => "Bad Event",
        491 => "Request Pending",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        606 => "Not Acceptable",
        _ => match status / 100 {
            1 => "Progress",
            2 => "Success",
            3 => "Redirection",
            4 => "Request Failure",
            5 => "Server Failure",
            _ => "Global Failure",
        },
    }
}

/// An IP address as a URI and a Via have it: one of version 6 in brackets (RFC 3261 §25.1).
pub fn host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(_) => plain(address),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// An IP address as SDP has it: what `to_string` makes, for the common kind without the formatter.
pub(crate) fn plain(address: IpAddr) -> String {
    let IpAddr::V4(address) = address else { return address.to_string() };
    let mut text = String::with_capacity("255.255.255.255".len());
    for (at, part) in address.octets().into_iter().enumerate() {
        if at > 0 {
            text.push('.');
        }
        for (divisor, from) in [(100, 100), (10, 10), (1, 0)] {
            if part >= from {
                text.push(char::from(b'0' + part / divisor % 10));
            }
        }
    }
    text
}
