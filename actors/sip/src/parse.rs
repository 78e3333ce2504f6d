//! A lenient parser of SIP datagrams (RFC 3261 §7, §25), bounded in everything.
//!
//! Lenient: bare LF, folded lines, compact names, white space where it should not be, bytes that
//! are no UTF-8 in fields that we don't read. Strict: what a transaction or a dialog is named by.

use crate::message::{CSeq, Header, Headers, Message, Method, Request, Response, Transport, Via};
use crate::scan;
use crate::uri::{NameAddr, Uri};
use crate::uri_text::{host_port, params};

/// The largest datagram.
pub const MESSAGE_BYTES_MAX: usize = 65_535;
/// Header lines of one message.
pub const HEADERS_MAX: usize = 256;
/// Values of one list header: Via, Contact, Route, Record-Route.
pub const VALUES_MAX: usize = 64;
/// How much of a bad value an error repeats.
const QUOTED_CHARS_MAX: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct Error {
    pub kind: Kind,
    /// A 400 or 505 for a request that can be answered without understanding it.
    pub answerable: Option<Box<Response>>,
}

impl Error {
    /// Nothing is wrong: a keep-alive (RFC 5626 §3.5.1) or STUN.
    pub fn is_keep_alive(&self) -> bool {
        self.kind == Kind::KeepAlive
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Kind {
    #[error("a keep-alive")]
    KeepAlive,
    #[error("the message is longer than {MESSAGE_BYTES_MAX} bytes")]
    TooLong,
    #[error("the start line {0:?} is neither a request's nor a response's")]
    StartLine(String),
    #[error("SIP version {0:?}; expected SIP/2.0")]
    Version(String),
    #[error("header {name} can't be read: {value:?}")]
    Header { name: &'static str, value: String },
    #[error("header {0} is missing")]
    Missing(&'static str),
    #[error("header {0} stands twice")]
    Twice(&'static str),
    #[error("there are more than {HEADERS_MAX} headers")]
    TooManyHeaders,
    #[error("Content-Length says {said}, but {there} bytes follow")]
    ContentLength { said: usize, there: usize },
    #[error("CSeq names {cseq}, the start line {line}")]
    MethodMismatch { cseq: String, line: String },
}

impl Kind {
    /// A short fixed word for counters.
    pub fn word(&self) -> &'static str {
        match self {
            Self::KeepAlive => "keep_alive",
            Self::TooLong => "too_long",
            Self::StartLine(_) => "start_line",
            Self::Version(_) => "version",
            Self::Header { .. } => "header",
            Self::Missing(_) => "missing",
            Self::Twice(_) => "twice",
            Self::TooManyHeaders => "too_many_headers",
            Self::ContentLength { .. } => "content_length",
            Self::MethodMismatch { .. } => "method_mismatch",
        }
    }
}

enum Start {
    Request { method: Method, uri: Result<Uri, Kind>, version: Result<(), Kind> },
    Response { status: u16, reason: String },
}

/// Reads one datagram.
///
/// # Errors
/// What is wrong and where; with a response where the sender can be answered.
pub fn parse(datagram: &[u8]) -> Result<Message, Error> {
    let plain = |kind| Error { kind, answerable: None };
    if datagram.len() > MESSAGE_BYTES_MAX {
        return Err(plain(Kind::TooLong));
    }
    let skip = datagram.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let message = &datagram[skip..];
    // The first two bits of STUN are zero; a SIP message begins with a letter.
    if message.is_empty() || message.iter().all(|byte| *byte == 0) {
        return Err(plain(Kind::KeepAlive));
    }
    let (head, body) = cut_body(message);
    let lines = unfold(head);
    let mut lines = lines.iter();
    let start = start_line(lines.next().map_or("", String::as_str)).map_err(plain)?;
    let mut fields = Fields::default();
    let mut broken = None;
    for (count, line) in lines.enumerate() {
        if count >= HEADERS_MAX {
            broken.get_or_insert(Kind::TooManyHeaders);
            break;
        }
        if let Err(kind) = fields.take(line) {
            broken.get_or_insert(kind);
        }
    }
    match start {
        Start::Request { method, uri, version } => {
            request(method, uri, version, fields, broken, body)
        }
        Start::Response { status, reason } => {
            if let Some(kind) = broken {
                return Err(plain(kind));
            }
            let length = fields.content_length;
            let headers = fields.finish().map_err(plain)?;
            let body = measure(body, length).map_err(plain)?;
            Ok(Message::Response(Response { status, reason, headers, body }))
        }
    }
}

fn request(
    method: Method,
    uri: Result<Uri, Kind>,
    version: Result<(), Kind>,
    fields: Fields,
    broken: Option<Kind>,
    body: &[u8],
) -> Result<Message, Error> {
    let length = fields.content_length;
    let headers = fields.finish().map_err(|kind| Error { kind, answerable: None })?;
    let whole = version
        .and_then(|()| broken.map_or(Ok(()), Err))
        .and_then(|()| uri)
        .and_then(|uri| {
            if headers.cseq.method == method {
                Ok(uri)
            } else {
                Err(Kind::MethodMismatch {
                    cseq: quote(headers.cseq.method.as_str()),
                    line: quote(method.as_str()),
                })
            }
        })
        .and_then(|uri| measure(body, length).map(|body| (uri, body)));
    match whole {
        Ok((uri, body)) => Ok(Message::Request(Request { method, uri, headers, body })),
        Err(kind) => {
            // An ACK is never answered (RFC 3261 §17).
            let answerable = (method != Method::Ack).then(|| {
                let (status, reason) = match &kind {
                    Kind::Version(_) => (505, None),
                    kind => (400, Some(kind.to_string())),
                };
                let uri = Uri::sip(None, "invalid", None);
                let request = Request { method, uri, headers, body: Vec::new() };
                let reason = reason.map(|reason| format!("Bad Request ({reason})"));
                Box::new(request.respond(status, reason.as_deref(), Some("bad")))
            });
            Err(Error { kind, answerable })
        }
    }
}

/// Header and body, at the first empty line.
fn cut_body(message: &[u8]) -> (&[u8], &[u8]) {
    let mut at = 0;
    while let Some(end) = message[at..].iter().position(|byte| *byte == b'\n') {
        let next = at + end + 1;
        let rest = &message[next..];
        if rest.first() == Some(&b'\n') {
            return (&message[..next], &rest[1..]);
        }
        if rest.starts_with(b"\r\n") {
            return (&message[..next], &rest[2..]);
        }
        at = next;
    }
    (message, &[])
}

/// Lines, with folded ones joined (RFC 3261 §7.3.1). Bytes that are no UTF-8 are taken as Latin-1.
fn unfold(head: &[u8]) -> Vec<String> {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text.to_owned(),
        Err(_) => head.iter().map(|byte| char::from(*byte)).collect(),
    };
    let mut lines: Vec<String> = Vec::new();
    for line in text.split('\n') {
        let line = line.strip_suffix('\r').unwrap_or(line);
        match (line.starts_with([' ', '\t']), lines.last_mut()) {
            (true, Some(last)) => {
                last.push(' ');
                last.push_str(line.trim());
            }
            _ => lines.push(line.to_owned()),
        }
    }
    lines.retain(|line| !line.trim().is_empty());
    lines
}

fn start_line(line: &str) -> Result<Start, Kind> {
    let bad = || Kind::StartLine(quote(line));
    if let Some(rest) = line.strip_prefix("SIP/2.0 ") {
        let (status, reason) = rest.trim_start().split_once(' ').unwrap_or((rest.trim(), ""));
        let status = status.parse().ok().filter(|status| (100..700).contains(status));
        return Ok(Start::Response {
            status: status.ok_or_else(bad)?,
            reason: reason.trim().to_owned(),
        });
    }
    let (method, rest) = line.split_once([' ', '\t']).ok_or_else(bad)?;
    let (uri, version) = rest.trim().rsplit_once([' ', '\t']).ok_or_else(bad)?;
    if !scan::is_token(method) || !version.to_ascii_uppercase().starts_with("SIP/") {
        return Err(bad());
    }
    let uri = uri.trim();
    let uri = uri
        .parse()
        .map_err(|_| Kind::Header { name: "Request-URI", value: quote(uri) });
    let version = if version.eq_ignore_ascii_case("SIP/2.0") {
        Ok(())
    } else {
        Err(Kind::Version(quote(version)))
    };
    Ok(Start::Request { method: Method::from(method), uri, version })
}

fn measure(body: &[u8], length: Option<usize>) -> Result<Vec<u8>, Kind> {
    match length {
        None => Ok(body.to_vec()),
        Some(said) if said <= body.len() => Ok(body[..said].to_vec()),
        Some(said) => Err(Kind::ContentLength { said, there: body.len() }),
    }
}

fn quote(text: &str) -> String {
    text.chars().take(QUOTED_CHARS_MAX).collect()
}

/// What was read so far.
#[derive(Default)]
struct Fields {
    via: Vec<Via>,
    from: Option<NameAddr>,
    to: Option<NameAddr>,
    call_id: Option<String>,
    cseq: Option<CSeq>,
    contact: Vec<NameAddr>,
    route: Vec<NameAddr>,
    record_route: Vec<NameAddr>,
    max_forwards: Option<u8>,
    expires: Option<u32>,
    content_type: Option<String>,
    content_length: Option<usize>,
    other: Vec<Header>,
}

impl Fields {
    fn take(&mut self, line: &str) -> Result<(), Kind> {
        let Some((name, value)) = line.split_once(':') else {
            return Err(Kind::Header { name: "field", value: quote(line) });
        };
        let (name, value) = (name.trim(), value.trim());
        match long_name(name).as_str() {
            "via" => extend(&mut self.via, "Via", value, via),
            "from" => once(&mut self.from, "From", value, |text| text.parse().ok()),
            "to" => once(&mut self.to, "To", value, |text| text.parse().ok()),
            "call-id" => once(&mut self.call_id, "Call-ID", value, |text| {
                (!text.is_empty()).then(|| text.to_owned())
            }),
            "cseq" => once(&mut self.cseq, "CSeq", value, cseq),
            // `Contact: *` is of REGISTER alone and is kept as it came.
            "contact" if value == "*" => {
                self.other.push(Header { name: "Contact".into(), value: "*".into() });
                Ok(())
            }
            "contact" => extend(&mut self.contact, "Contact", value, |text| text.parse().ok()),
            "route" => extend(&mut self.route, "Route", value, |text| text.parse().ok()),
            "record-route" => {
                extend(&mut self.record_route, "Record-Route", value, |text| text.parse().ok())
            }
            "max-forwards" => once(&mut self.max_forwards, "Max-Forwards", value, |text| {
                text.parse::<u32>().ok().map(|hops| u8::try_from(hops).unwrap_or(u8::MAX))
            }),
            "expires" => once(&mut self.expires, "Expires", value, |text| {
                // Beyond 2^32-1 is taken as the greatest (RFC 3261 §20.19 bounds it).
                text.parse::<u64>().ok().map(|s| u32::try_from(s).unwrap_or(u32::MAX))
            }),
            "content-type" => {
                once(&mut self.content_type, "Content-Type", value, |text| Some(text.to_owned()))
            }
            "content-length" => {
                once(&mut self.content_length, "Content-Length", value, |text| text.parse().ok())
            }
            _ if !scan::is_token(name) => Err(Kind::Header { name: "field", value: quote(name) }),
            _ => {
                self.other.push(Header { name: name.to_owned(), value: value.to_owned() });
                Ok(())
            }
        }
    }

    fn finish(self) -> Result<Headers, Kind> {
        if self.via.is_empty() {
            return Err(Kind::Missing("Via"));
        }
        Ok(Headers {
            via: self.via,
            from: self.from.ok_or(Kind::Missing("From"))?,
            to: self.to.ok_or(Kind::Missing("To"))?,
            call_id: self.call_id.ok_or(Kind::Missing("Call-ID"))?,
            cseq: self.cseq.ok_or(Kind::Missing("CSeq"))?,
            contact: self.contact,
            route: self.route,
            record_route: self.record_route,
            max_forwards: self.max_forwards,
            expires: self.expires,
            content_type: self.content_type,
            other: self.other,
        })
    }
}

/// RFC 3261 §7.3.3.
fn long_name(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    let long = match name.as_str() {
        "v" => "via",
        "f" => "from",
        "t" => "to",
        "i" => "call-id",
        "m" => "contact",
        "c" => "content-type",
        "l" => "content-length",
        _ => return name,
    };
    long.to_owned()
}

fn once<T>(
    slot: &mut Option<T>,
    name: &'static str,
    value: &str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<(), Kind> {
    if slot.is_some() {
        return Err(Kind::Twice(name));
    }
    let read = read(value).ok_or_else(|| Kind::Header { name, value: quote(value) })?;
    *slot = Some(read);
    Ok(())
}

fn extend<T>(
    list: &mut Vec<T>,
    name: &'static str,
    value: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<(), Kind> {
    for part in scan::split(value, ',') {
        // An empty element between commas is passed over.
        if part.is_empty() {
            continue;
        }
        let bad = || Kind::Header { name, value: quote(part) };
        if list.len() >= VALUES_MAX {
            return Err(bad());
        }
        list.push(read(part).ok_or_else(bad)?);
    }
    Ok(())
}

fn via(text: &str) -> Option<Via> {
    // "SIP / 2.0 / UDP host": white space may stand around the slashes.
    let (protocol, rest) = text.split_once('/')?;
    let (version, rest) = rest.split_once('/')?;
    if !protocol.trim().eq_ignore_ascii_case("SIP") || version.trim() != "2.0" {
        return None;
    }
    let rest = rest.trim_start();
    let (transport, rest) = rest.split_once([' ', '\t'])?;
    let parts = scan::split(rest, ';');
    let (host, port) = host_port(parts.first()?)?;
    Some(Via { transport: Transport::from(transport), host, port, params: params(&parts[1..]) })
}

fn cseq(text: &str) -> Option<CSeq> {
    let (number, method) = text.split_once([' ', '\t'])?;
    // RFC 3261 §8.1.1.5: less than 2^31.
    let number = number.trim().parse().ok().filter(|number| *number < 1 << 31)?;
    let method = method.trim();
    scan::is_token(method).then(|| CSeq { number, method: Method::from(method) })
}
