//! SIP values to and from their versioned encodings (`proto/tandem/sip/v1/sip.proto`). The numbers
//! are the fields' of that file; the golden files hold them to it.

use std::ops::RangeInclusive;

use crate::dialog::Dialog;
use crate::message::{CSeq, Header, Headers, Method, Request, Response, Transport, Via};
use crate::proto;
use crate::protobuf::{Encode, Writer};
use crate::sdp::{Audio, Beside, Codec, Direction, Payload, Section};
use crate::srtp::{Crypto, Key, Suite};
use crate::uri::{NameAddr, Param, Scheme, Uri};

/// An encoding that this build can't read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("field {0} is missing")]
    Missing(&'static str),
    #[error("field {0} is out of range")]
    Range(&'static str),
    #[error("{0} {1:?} is not known to this build")]
    Unknown(&'static str, String),
}

fn need<T>(field: Option<T>, name: &'static str) -> Result<T, Error> {
    field.ok_or(Error::Missing(name))
}

fn narrow<T: TryFrom<u32>>(number: u32, name: &'static str) -> Result<T, Error> {
    T::try_from(number).map_err(|_| Error::Range(name))
}

fn within<T: PartialOrd>(
    number: T,
    range: RangeInclusive<T>,
    name: &'static str,
) -> Result<T, Error> {
    if range.contains(&number) { Ok(number) } else { Err(Error::Range(name)) }
}

fn narrow_some<T: TryFrom<u32>>(
    number: Option<u32>,
    name: &'static str,
) -> Result<Option<T>, Error> {
    number.map(|number| narrow(number, name)).transpose()
}

fn from_all<A, B: TryFrom<A, Error = Error>>(list: Vec<A>) -> Result<Vec<B>, Error> {
    list.into_iter().map(B::try_from).collect()
}

impl Encode for Param {
    fn encode(&self, to: &mut Writer) {
        to.text(1, &self.name);
        to.some_text(2, self.value.as_deref());
    }
}

impl From<proto::Param> for Param {
    fn from(param: proto::Param) -> Self {
        Self { name: param.name, value: param.value }
    }
}

fn from_params(params: Vec<proto::Param>) -> Vec<Param> {
    params.into_iter().map(Param::from).collect()
}

impl Encode for Uri {
    fn encode(&self, to: &mut Writer) {
        let scheme = match &self.scheme {
            Scheme::Sip => "sip",
            Scheme::Sips => "sips",
            Scheme::Tel => "tel",
            Scheme::Other(other) => other,
        };
        to.text(1, scheme);
        to.some_text(2, self.user.as_deref());
        to.text(3, &self.host);
        to.some_uint(4, self.port);
        to.messages(5, &self.params);
        to.some_text(6, self.headers.as_deref());
    }
}

impl TryFrom<proto::Uri> for Uri {
    type Error = Error;

    fn try_from(uri: proto::Uri) -> Result<Self, Error> {
        let scheme = match uri.scheme.as_str() {
            "sip" => Scheme::Sip,
            "sips" => Scheme::Sips,
            "tel" => Scheme::Tel,
            _ => Scheme::Other(uri.scheme),
        };
        Ok(Self {
            scheme,
            user: uri.user,
            host: uri.host,
            port: narrow_some(uri.port, "uri.port")?,
            params: from_params(uri.params),
            headers: uri.headers,
        })
    }
}

impl Encode for NameAddr {
    fn encode(&self, to: &mut Writer) {
        to.some_text(1, self.display.as_deref());
        to.message(2, &self.uri);
        to.messages(3, &self.params);
    }
}

impl TryFrom<proto::NameAddr> for NameAddr {
    type Error = Error;

    fn try_from(name: proto::NameAddr) -> Result<Self, Error> {
        Ok(Self {
            display: name.display,
            uri: need(name.uri, "name_addr.uri")?.try_into()?,
            params: from_params(name.params),
        })
    }
}

impl Encode for Via {
    fn encode(&self, to: &mut Writer) {
        to.text(1, self.transport.as_str());
        to.text(2, &self.host);
        to.some_uint(3, self.port);
        to.messages(4, &self.params);
    }
}

impl TryFrom<proto::Via> for Via {
    type Error = Error;

    fn try_from(via: proto::Via) -> Result<Self, Error> {
        Ok(Self {
            transport: Transport::from(via.transport.as_str()),
            host: via.host,
            port: narrow_some(via.port, "via.port")?,
            params: from_params(via.params),
        })
    }
}

impl Encode for Header {
    fn encode(&self, to: &mut Writer) {
        to.text(1, &self.name);
        to.text(2, &self.value);
    }
}

impl Encode for Headers {
    fn encode(&self, to: &mut Writer) {
        to.messages(1, &self.via);
        to.message(2, &self.from);
        to.message(3, &self.to);
        to.text(4, &self.call_id);
        to.uint(5, self.cseq.number);
        to.text(6, self.cseq.method.as_str());
        to.messages(7, &self.contact);
        to.messages(8, &self.route);
        to.messages(9, &self.record_route);
        to.some_uint(10, self.max_forwards);
        to.some_uint(11, self.expires);
        to.some_text(12, self.content_type.as_deref());
        to.messages(13, &self.other);
    }
}

impl TryFrom<proto::Headers> for Headers {
    type Error = Error;

    fn try_from(headers: proto::Headers) -> Result<Self, Error> {
        Ok(Self {
            via: from_all(headers.via)?,
            from: need(headers.from, "headers.from")?.try_into()?,
            to: need(headers.to, "headers.to")?.try_into()?,
            call_id: headers.call_id,
            cseq: CSeq { number: headers.cseq, method: Method::from(headers.cseq_method.as_str()) },
            contact: from_all(headers.contact)?,
            route: from_all(headers.route)?,
            record_route: from_all(headers.record_route)?,
            max_forwards: narrow_some(headers.max_forwards, "headers.max_forwards")?,
            expires: headers.expires,
            content_type: headers.content_type,
            other: headers
                .other
                .into_iter()
                .map(|h| Header { name: h.name, value: h.value })
                .collect(),
        })
    }
}

impl Encode for Request {
    fn encode(&self, to: &mut Writer) {
        to.text(1, self.method.as_str());
        to.message(2, &self.uri);
        to.message(3, &self.headers);
        to.blob(4, &self.body);
    }
}

impl TryFrom<proto::Request> for Request {
    type Error = Error;

    fn try_from(request: proto::Request) -> Result<Self, Error> {
        Ok(Self {
            method: Method::from(request.method.as_str()),
            uri: need(request.uri, "request.uri")?.try_into()?,
            headers: need(request.headers, "request.headers")?.try_into()?,
            body: request.body,
        })
    }
}

impl Encode for Response {
    fn encode(&self, to: &mut Writer) {
        to.uint(1, self.status);
        to.text(2, &self.reason);
        to.message(3, &self.headers);
        to.blob(4, &self.body);
    }
}

impl TryFrom<proto::Response> for Response {
    type Error = Error;

    fn try_from(response: proto::Response) -> Result<Self, Error> {
        Ok(Self {
            status: narrow(response.status, "response.status")
                .and_then(|status: u16| within(status, 100..=699, "response.status"))?,
            reason: response.reason,
            headers: need(response.headers, "response.headers")?.try_into()?,
            body: response.body,
        })
    }
}

impl Encode for Dialog {
    fn encode(&self, to: &mut Writer) {
        to.text(1, &self.call_id);
        to.text(2, &self.local_tag);
        to.text(3, &self.remote_tag);
        to.message(4, &self.local);
        to.message(5, &self.remote);
        to.uint(6, self.local_cseq);
        to.some_uint(7, self.remote_cseq);
        to.messages(8, &self.route_set);
        to.message(9, &self.remote_target);
    }
}

impl TryFrom<proto::Dialog> for Dialog {
    type Error = Error;

    fn try_from(dialog: proto::Dialog) -> Result<Self, Error> {
        Ok(Self {
            call_id: dialog.call_id,
            local_tag: dialog.local_tag,
            remote_tag: dialog.remote_tag,
            local: need(dialog.local, "dialog.local")?.try_into()?,
            remote: need(dialog.remote, "dialog.remote")?.try_into()?,
            local_cseq: dialog.local_cseq,
            remote_cseq: dialog.remote_cseq,
            route_set: from_all(dialog.route_set)?,
            remote_target: need(dialog.remote_target, "dialog.remote_target")?.try_into()?,
        })
    }
}

/// The codec of a name as `Codec::name` gives it.
///
/// # Errors
/// Where this build doesn't know it.
pub fn codec(name: &str) -> Result<Codec, Error> {
    match name {
        "PCMU" => Ok(Codec::Pcmu),
        "PCMA" => Ok(Codec::Pcma),
        "G722" => Ok(Codec::G722),
        "opus" => Ok(Codec::Opus),
        "G729" => Ok(Codec::G729),
        other => Err(Error::Unknown("codec", other.to_owned())),
    }
}

impl Encode for Payload {
    fn encode(&self, to: &mut Writer) {
        to.uint(1, self.number);
        to.text(2, self.codec.name());
        to.some_text(80, self.fmtp.as_deref());
    }
}

impl Encode for Audio {
    fn encode(&self, to: &mut Writer) {
        to.shown(1, &self.address);
        to.uint(2, self.port);
        to.messages(3, &self.payloads);
        to.some_uint(4, self.telephone_event);
        to.text(5, self.direction.as_str());
        to.some_uint(6, self.ptime_ms);
        to.uint(7, self.session_id);
        to.uint(8, self.session_version);
        to.messages(9, &self.crypto);
        to.flag(10, self.secure);
        to.messages(11, &self.beside.before);
        to.messages(12, &self.beside.after);
        to.some_uint(80, self.telephone_event_wide);
    }
}

impl Encode for Crypto {
    fn encode(&self, to: &mut Writer) {
        to.uint(1, self.tag);
        to.text(2, self.suite.name());
        to.blob(3, self.key.bytes());
    }
}

impl TryFrom<proto::Crypto> for Crypto {
    type Error = Error;

    fn try_from(crypto: proto::Crypto) -> Result<Self, Error> {
        let suite = suite(&crypto.suite)?;
        Ok(Self { tag: crypto.tag, suite, key: key(suite, crypto.key)? })
    }
}

/// # Errors
/// A suite that this build does not know.
pub fn suite(name: &str) -> Result<Suite, Error> {
    Suite::of_name(name).ok_or_else(|| Error::Unknown("suite", name.to_owned()))
}

/// # Errors
/// A key that is not of the suite's length.
pub fn key(suite: Suite, bytes: Vec<u8>) -> Result<Key, Error> {
    Key::new(suite, bytes).map_err(|_| Error::Range("key"))
}

impl Encode for Section {
    fn encode(&self, to: &mut Writer) {
        to.text(1, &self.media);
        to.text(2, &self.protocol);
        to.text(3, &self.format);
    }
}

impl From<proto::Section> for Section {
    fn from(section: proto::Section) -> Self {
        let proto::Section { media, protocol, format } = section;
        Self { media, protocol, format }
    }
}

impl TryFrom<proto::Audio> for Audio {
    type Error = Error;

    fn try_from(audio: proto::Audio) -> Result<Self, Error> {
        let payload = |payload: proto::Payload| -> Result<Payload, Error> {
            Ok(Payload {
                number: narrow(payload.number, "payload.number")
                    .and_then(|number: u8| within(number, 0..=127, "payload.number"))?,
                codec: codec(&payload.codec)?,
                fmtp: payload.fmtp,
            })
        };
        let direction =
            [Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive]
                .into_iter()
                .find(|direction| direction.as_str() == audio.direction)
                .ok_or_else(|| Error::Unknown("direction", audio.direction.clone()))?;
        Ok(Self {
            address: audio
                .address
                .parse()
                .map_err(|_| Error::Unknown("address", audio.address.clone()))?,
            port: narrow(audio.port, "audio.port")?,
            payloads: audio.payloads.into_iter().map(payload).collect::<Result<_, _>>()?,
            telephone_event: narrow_some(audio.telephone_event, "audio.telephone_event")?,
            telephone_event_wide: narrow_some(
                audio.telephone_event_wide,
                "audio.telephone_event_wide",
            )?,
            direction,
            ptime_ms: narrow_some(audio.ptime_ms, "audio.ptime_ms")?,
            session_id: audio.session_id,
            session_version: audio.session_version,
            crypto: audio.crypto.into_iter().map(Crypto::try_from).collect::<Result<_, _>>()?,
            secure: audio.secure,
            beside: Beside {
                before: audio.before.into_iter().map(Section::from).collect(),
                after: audio.after.into_iter().map(Section::from).collect(),
            },
        })
    }
}
