//! SIP values to and from their versioned encodings (`proto/tandem/sip/v1/sip.proto`).

use std::ops::RangeInclusive;

use crate::dialog::Dialog;
use crate::message::{CSeq, Header, Headers, Method, Request, Response, Transport, Via};
use crate::proto;
use crate::sdp::{Audio, Codec, Direction, Payload};
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

fn to_all<'a, A: 'a, B: From<&'a A>>(list: &'a [A]) -> Vec<B> {
    list.iter().map(B::from).collect()
}

fn from_all<A, B: TryFrom<A, Error = Error>>(list: Vec<A>) -> Result<Vec<B>, Error> {
    list.into_iter().map(B::try_from).collect()
}

impl From<&Param> for proto::Param {
    fn from(param: &Param) -> Self {
        Self { name: param.name.clone(), value: param.value.clone() }
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

impl From<&Uri> for proto::Uri {
    fn from(uri: &Uri) -> Self {
        let scheme = match &uri.scheme {
            Scheme::Sip => "sip",
            Scheme::Sips => "sips",
            Scheme::Tel => "tel",
            Scheme::Other(other) => other,
        };
        Self {
            scheme: scheme.to_owned(),
            user: uri.user.clone(),
            host: uri.host.clone(),
            port: uri.port.map(u32::from),
            params: to_all(&uri.params),
            headers: uri.headers.clone(),
        }
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

impl From<&NameAddr> for proto::NameAddr {
    fn from(name: &NameAddr) -> Self {
        Self {
            display: name.display.clone(),
            uri: Some((&name.uri).into()),
            params: to_all(&name.params),
        }
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

impl From<&Via> for proto::Via {
    fn from(via: &Via) -> Self {
        Self {
            transport: via.transport.as_str().to_owned(),
            host: via.host.clone(),
            port: via.port.map(u32::from),
            params: to_all(&via.params),
        }
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

impl From<&Headers> for proto::Headers {
    fn from(headers: &Headers) -> Self {
        Self {
            via: to_all(&headers.via),
            from: Some((&headers.from).into()),
            to: Some((&headers.to).into()),
            call_id: headers.call_id.clone(),
            cseq: headers.cseq.number,
            cseq_method: headers.cseq.method.as_str().to_owned(),
            contact: to_all(&headers.contact),
            route: to_all(&headers.route),
            record_route: to_all(&headers.record_route),
            max_forwards: headers.max_forwards.map(u32::from),
            expires: headers.expires,
            content_type: headers.content_type.clone(),
            other: headers
                .other
                .iter()
                .map(|h| proto::Header { name: h.name.clone(), value: h.value.clone() })
                .collect(),
        }
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

impl From<&Request> for proto::Request {
    fn from(request: &Request) -> Self {
        Self {
            method: request.method.as_str().to_owned(),
            uri: Some((&request.uri).into()),
            headers: Some((&request.headers).into()),
            body: request.body.clone(),
        }
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

impl From<&Response> for proto::Response {
    fn from(response: &Response) -> Self {
        Self {
            status: u32::from(response.status),
            reason: response.reason.clone(),
            headers: Some((&response.headers).into()),
            body: response.body.clone(),
        }
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

impl From<&Dialog> for proto::Dialog {
    fn from(dialog: &Dialog) -> Self {
        Self {
            call_id: dialog.call_id.clone(),
            local_tag: dialog.local_tag.clone(),
            remote_tag: dialog.remote_tag.clone(),
            local: Some((&dialog.local).into()),
            remote: Some((&dialog.remote).into()),
            local_cseq: dialog.local_cseq,
            remote_cseq: dialog.remote_cseq,
            route_set: to_all(&dialog.route_set),
            remote_target: Some((&dialog.remote_target).into()),
        }
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
        other => Err(Error::Unknown("codec", other.to_owned())),
    }
}

impl From<&Audio> for proto::Audio {
    fn from(audio: &Audio) -> Self {
        Self {
            address: audio.address.to_string(),
            port: u32::from(audio.port),
            payloads: audio
                .payloads
                .iter()
                .map(|payload| proto::Payload {
                    number: u32::from(payload.number),
                    codec: payload.codec.name().to_owned(),
                })
                .collect(),
            telephone_event: audio.telephone_event.map(u32::from),
            direction: audio.direction.as_str().to_owned(),
            ptime_ms: audio.ptime_ms.map(u32::from),
            session_id: audio.session_id,
            session_version: audio.session_version,
        }
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
            direction,
            ptime_ms: narrow_some(audio.ptime_ms, "audio.ptime_ms")?,
            session_id: audio.session_id,
            session_version: audio.session_version,
        })
    }
}
