//! A lenient parser of SIP datagrams (RFC 3261 §7, §25), bounded in everything.
//!
//! Lenient: bare LF, folded lines, compact names, white space where it should not be, lines that
//! are no UTF-8. Strict: what a transaction or a dialog is named by, and the request-URI.

use crate::message::{CSeq, Header, Headers, Message, Method, Request, Response, Transport, Via};
use crate::scan;
use crate::text::reason_phrase;
use crate::uri::{NameAddr, Uri};
use crate::uri_text::{host_port, params};

/// The largest datagram.
pub const MESSAGE_BYTES_MAX: usize = 65_535;
/// Header lines of one message.
///
/// Each value of a list header counts, so that what was read can be written one value a line and
/// read again.
pub const HEADERS_MAX: usize = 256;
/// Values of one list header: Via, Contact, Route, Record-Route.
pub const VALUES_MAX: usize = 64;
/// How much of a bad value an error repeats.
const QUOTED_CHARS_MAX: usize = 64;
/// RFC 8489 §5: the magic cookie, behind type and length.
const STUN_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const STUN_HEADER_BYTES: usize = 20;
/// The version in a Via.
const SIP_VERSION: &str = "2.0";
/// Stands in a refusal where the request's own From, To or Call-ID can't be read (RFC 2606 §2).
const UNREADABLE: &str = "unreadable.invalid";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct Error {
    pub kind: Kind,
    /// A 400, 501 or 505 for a request that can be answered without understanding it: its topmost
    /// Via can be read, which names the transaction (RFC 3261 §17.1.3).
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
    if message.is_empty() || message.iter().all(|byte| *byte == 0) || is_stun(datagram) {
        return Err(plain(Kind::KeepAlive));
    }
    let (head, body) = cut_body(message);
    let lines = unfold(head);
    let mut lines = lines.iter();
    let start = start_line(lines.next().map_or("", String::as_str)).map_err(plain)?;
    let mut fields = Fields::default();
    let mut broken = None;
    for line in lines {
        if fields.lines >= HEADERS_MAX {
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
    let (headers, missing) = match fields.finish_or_mend(&method) {
        Some(finished) => finished,
        None => {
            let kind = broken.unwrap_or(Kind::Missing("Via"));
            return Err(Error { kind, answerable: None });
        }
    };
    let whole = version
        // A header that could not be read is why it is missing.
        .and_then(|()| broken.or(missing).map_or(Ok(()), Err))
        .and(uri)
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
        Err(kind) => Err(Error { answerable: refusal(method, headers, &kind), kind }),
    }
}

/// What a request that can't be read is answered; an ACK never is (RFC 3261 §17).
fn refusal(method: Method, headers: Headers, kind: &Kind) -> Option<Box<Response>> {
    if method == Method::Ack {
        return None;
    }
    let (status, phrase) = match kind {
        Kind::Version(_) => (505, reason_phrase(505)),
        // Whatever the method means, its CSeq may mean it, too (RFC 4475 §3.1.2.18).
        Kind::MethodMismatch { .. } if matches!(method, Method::Other(_)) => {
            (501, reason_phrase(501))
        }
        Kind::KeepAlive
        | Kind::TooLong
        | Kind::StartLine(_)
        | Kind::Header { .. }
        | Kind::Missing(_)
        | Kind::Twice(_)
        | Kind::TooManyHeaders
        | Kind::ContentLength { .. }
        | Kind::MethodMismatch { .. } => (400, reason_phrase(400)),
    };
    let reason = format!("{phrase} ({kind})");
    let request =
        Request { method, uri: Uri::sip(None, "invalid", None), headers, body: Vec::new() };
    Some(Box::new(request.respond(status, Some(&reason), Some("bad"))))
}

/// The bytes of the body behind `head`, as its Content-Length says; `None` where it has none, which
/// on a stream nobody may send (RFC 3261 §20.14).
///
/// # Errors
/// Where it is no number, or stands twice.
pub fn body_length(head: &[u8]) -> Result<Option<usize>, Kind> {
    let mut fields = Fields::default();
    for line in unfold(head).iter().skip(1) {
        // The same reading as the parser's: where the two differed, a message could hide in another.
        let name = line.split(':').next().unwrap_or("").trim();
        if name.eq_ignore_ascii_case("Content-Length") || name.eq_ignore_ascii_case("l") {
            fields.take(line)?;
        }
    }
    Ok(fields.content_length)
}

/// A STUN message on the SIP port (RFC 5626 §3.5.2): its first two bits are zero.
fn is_stun(datagram: &[u8]) -> bool {
    datagram.len() >= STUN_HEADER_BYTES && datagram[0] & 0xc0 == 0 && datagram[4..8] == STUN_COOKIE
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

/// Lines, with folded ones joined (RFC 3261 §7.3.1). A line that is no UTF-8 is taken as Latin-1.
///
/// A CR alone is white space: to others it might end a line, and so smuggle a header past us.
fn unfold(head: &[u8]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in head.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = match std::str::from_utf8(line) {
            Ok(text) => text.replace('\r', " "),
            Err(_) => {
                line.iter().map(|byte| char::from(*byte)).collect::<String>().replace('\r', " ")
            }
        };
        match (line.starts_with([' ', '\t']), lines.last_mut()) {
            (true, Some(last)) => {
                last.push(' ');
                last.push_str(line.trim());
            }
            (true, None) | (false, _) => lines.push(line),
        }
    }
    lines.retain(|line| !line.trim().is_empty());
    lines
}

fn start_line(line: &str) -> Result<Start, Kind> {
    let bad = || Kind::StartLine(quote(line));
    // The version compares without case (RFC 3261 §7.1); a method never holds a slash.
    if line.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("SIP/2.0 ")) {
        let rest = line[8..].trim();
        let (status, reason) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
        let status = scan::digits(status).filter(|_| status.len() == 3);
        let status = status.and_then(|status| u16::try_from(status).ok());
        return Ok(Start::Response {
            status: status.filter(|status| (100..700).contains(status)).ok_or_else(bad)?,
            reason: reason.trim().to_owned(),
        });
    }
    let (method, rest) = line.split_once([' ', '\t']).ok_or_else(bad)?;
    let (uri, version) = rest.trim().rsplit_once([' ', '\t']).ok_or_else(bad)?;
    if !scan::is_token(method) || !version.to_ascii_uppercase().starts_with("SIP/") {
        return Err(bad());
    }
    let uri = uri.trim();
    let spaced = uri.contains(char::is_whitespace);
    let uri = uri
        .parse()
        .ok()
        .filter(|_| !spaced)
        .ok_or_else(|| Kind::Header { name: "Request-URI", value: quote(uri) });
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
    /// How many lines it takes to write them.
    lines: usize,
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
        let listed = self.listed();
        let taken = self.take_value(name, value);
        self.lines += (self.listed() - listed).max(1);
        taken
    }

    /// The headers, and what of them is missing and was replaced so that the request can be
    /// refused; `None` where nobody could tell what is refused.
    fn finish_or_mend(mut self, method: &Method) -> Option<(Headers, Option<Kind>)> {
        let mut missing = None;
        let nobody = || NameAddr::new(Uri::sip(None, UNREADABLE, None));
        // In the order in which [`Fields::finish`] misses them.
        self.from.get_or_insert_with(|| {
            missing.get_or_insert(Kind::Missing("From"));
            nobody()
        });
        self.to.get_or_insert_with(|| {
            missing.get_or_insert(Kind::Missing("To"));
            nobody()
        });
        self.call_id.get_or_insert_with(|| {
            missing.get_or_insert(Kind::Missing("Call-ID"));
            UNREADABLE.to_owned()
        });
        self.cseq.get_or_insert_with(|| {
            missing.get_or_insert(Kind::Missing("CSeq"));
            CSeq { number: 0, method: method.clone() }
        });
        Some((self.finish().ok()?, missing))
    }

    fn listed(&self) -> usize {
        self.via.len() + self.contact.len() + self.route.len() + self.record_route.len()
    }

    fn take_value(&mut self, name: &str, value: &str) -> Result<(), Kind> {
        match long_name(name).as_str() {
            "via" => {
                let mut foreign = None;
                let read = |text: &str| {
                    let (via, version) = via(text)?;
                    foreign =
                        foreign.take().or_else(|| (version != SIP_VERSION).then(|| quote(text)));
                    Some(via)
                };
                extend(&mut self.via, "Via", value, read)?;
                // A message of another version is told so by its start line; in one of ours no Via
                // of another can be kept as it came.
                foreign.map_or(Ok(()), |value| Err(Kind::Header { name: "Via", value }))
            }
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
                // RFC 3261 §20.22 bounds it.
                scan::digits_up_to(text, u8::MAX.into()).and_then(|hops| u8::try_from(hops).ok())
            }),
            "expires" => once(&mut self.expires, "Expires", value, |text| {
                // RFC 3261 §20.19 bounds it.
                scan::digits_up_to(text, u32::MAX.into()).and_then(|s| u32::try_from(s).ok())
            }),
            "content-type" => {
                once(&mut self.content_type, "Content-Type", value, |text| Some(text.to_owned()))
            }
            "content-length" => once(&mut self.content_length, "Content-Length", value, |text| {
                scan::digits(text).and_then(|length| usize::try_from(length).ok())
            }),
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

/// RFC 3261 §7.3.3, for the fields that are typed.
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
    mut read: impl FnMut(&str) -> Option<T>,
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

/// And the version that it names.
fn via(text: &str) -> Option<(Via, &str)> {
    // "SIP / 2.0 / UDP host": white space may stand around the slashes.
    let (protocol, rest) = text.split_once('/')?;
    let (version, rest) = rest.split_once('/')?;
    let version = version.trim();
    if !protocol.trim().eq_ignore_ascii_case("SIP") || !scan::is_token(version) {
        return None;
    }
    let rest = rest.trim_start();
    let (transport, rest) = rest.split_once([' ', '\t'])?;
    if !scan::is_token(transport) {
        return None;
    }
    let parts = scan::split_closed(rest, ';')?;
    let (host, port) = host_port(parts.first()?)?;
    let params = params(&parts[1..]);
    Some((Via { transport: Transport::from(transport), host, port, params }, version))
}

fn cseq(text: &str) -> Option<CSeq> {
    let (number, method) = text.split_once([' ', '\t'])?;
    // RFC 3261 §8.1.1.5: less than 2^31.
    let number = scan::digits(number.trim()).filter(|number| *number < 1 << 31)?;
    let number = u32::try_from(number).ok()?;
    let method = method.trim();
    scan::is_token(method).then(|| CSeq { number, method: Method::from(method) })
}
