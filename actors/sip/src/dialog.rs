//! Dialogs (RFC 3261 §12): plain data, so that another process can go on with one.

use std::net::SocketAddr;

use crate::message::{CSeq, Headers, Method, Request, Response, Via};
use crate::uri::{NameAddr, Scheme, Uri};

/// RFC 3261 §8.1.1.6.
pub const MAX_FORWARDS: u8 = 70;
/// RFC 3261 §19.1.2.
pub(crate) const PORT: u16 = 5060;
const PORT_TLS: u16 = 5061;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialog {
    pub call_id: String,
    pub local_tag: String,
    pub remote_tag: String,
    /// With its tag: our From in requests.
    pub local: NameAddr,
    /// With its tag: our To in requests.
    pub remote: NameAddr,
    /// Of the last request that we sent.
    pub local_cseq: u32,
    /// Of the last request that the peer sent.
    pub remote_cseq: Option<u32>,
    /// In the order in which our requests carry it.
    pub route_set: Vec<NameAddr>,
    pub remote_target: Uri,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the message has no {0} tag")]
    NoTag(&'static str),
    #[error("the message has no Contact")]
    NoContact,
}

/// Why a dialog refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Its Call-ID or a tag is another dialog's.
    NotOfDialog,
    /// Its CSeq is not higher than one before (RFC 3261 §12.2.2).
    CseqTooLow,
}

impl Refused {
    /// The answer's status.
    pub fn status(self) -> u16 {
        match self {
            Self::NotOfDialog => 481,
            Self::CseqTooLow => 500,
        }
    }
}

impl Dialog {
    /// The side that answers an INVITE with `local_tag` (RFC 3261 §12.1.1).
    ///
    /// # Errors
    /// Where the request has no From tag or no Contact.
    pub fn as_uas(request: &Request, local_tag: &str) -> Result<Self, Error> {
        let headers = &request.headers;
        let remote_tag = headers.from_tag().ok_or(Error::NoTag("From"))?.to_owned();
        let contact = headers.contact.first().ok_or(Error::NoContact)?;
        let mut local = headers.to.clone();
        local.set_tag(local_tag);
        Ok(Self {
            call_id: headers.call_id.clone(),
            local_tag: local_tag.to_owned(),
            remote_tag,
            local,
            remote: headers.from.clone(),
            local_cseq: 0,
            remote_cseq: Some(headers.cseq.number),
            route_set: headers.record_route.clone(),
            remote_target: contact.uri.clone(),
        })
    }

    /// The side that sent `request` and got `response` (RFC 3261 §12.1.2).
    ///
    /// # Errors
    /// Where a tag is missing, or a 2xx has no Contact.
    pub fn as_uac(request: &Request, response: &Response) -> Result<Self, Error> {
        let headers = &response.headers;
        let remote_tag = headers.to_tag().ok_or(Error::NoTag("To"))?.to_owned();
        let local_tag = request.headers.from_tag().ok_or(Error::NoTag("From"))?.to_owned();
        let contact = headers.contact.first().ok_or(Error::NoContact)?;
        Ok(Self {
            call_id: headers.call_id.clone(),
            local_tag,
            remote_tag,
            local: request.headers.from.clone(),
            remote: headers.to.clone(),
            local_cseq: request.headers.cseq.number,
            remote_cseq: None,
            route_set: headers.record_route.iter().rev().cloned().collect(),
            remote_target: contact.uri.clone(),
        })
    }

    /// The next request within the dialog; its CSeq is one higher (RFC 3261 §12.2.1.1). An ACK or
    /// a CANCEL has the number of its INVITE, for which the last request is taken: see
    /// [`Dialog::ack`] and [`cancel_for`] for others.
    pub fn request(&mut self, method: Method, via: Via, contact: Option<NameAddr>) -> Request {
        if !matches!(method, Method::Ack | Method::Cancel) {
            self.local_cseq = self.local_cseq.saturating_add(1);
        }
        self.compose(method, self.local_cseq, via, contact)
    }

    /// The ACK of the 2xx to the INVITE of `cseq` (RFC 3261 §13.2.2.4).
    pub fn ack(&self, cseq: u32, via: Via) -> Request {
        self.compose(Method::Ack, cseq, via, None)
    }

    fn compose(&self, method: Method, cseq: u32, via: Via, contact: Option<NameAddr>) -> Request {
        let mut route = self.route_set.clone();
        let mut uri = self.remote_target.clone();
        let strict = route.first().is_some_and(|first| first.uri.param("lr").is_none());
        if strict {
            // A strict router: it becomes the request-URI, the target the last route.
            let first = route.remove(0);
            route.push(NameAddr::new(uri));
            uri = first.uri;
        }
        // What a request-URI must not hold (RFC 3261 §19.1.1, table 1).
        uri.headers = None;
        uri.params.retain(|param| !param.name.eq_ignore_ascii_case("method"));
        Request {
            method: method.clone(),
            uri,
            headers: Headers {
                via: vec![via],
                from: self.local.clone(),
                to: self.remote.clone(),
                call_id: self.call_id.clone(),
                cseq: CSeq { number: cseq, method },
                contact: contact.into_iter().collect(),
                route,
                record_route: Vec::new(),
                max_forwards: Some(MAX_FORWARDS),
                expires: None,
                content_type: None,
                other: Vec::new(),
            },
            body: Vec::new(),
        }
    }

    /// Where the next request goes: the first router, strict or loose, or the peer itself
    /// (RFC 3261 §12.2.1.1).
    pub fn next_hop(&self) -> &Uri {
        self.route_set.first().map_or(&self.remote_target, |route| &route.uri)
    }

    /// Takes note of a request of the peer (RFC 3261 §12.2.2).
    ///
    /// # Errors
    /// Where it is another dialog's, or its CSeq is no higher than one before. An ACK and a CANCEL
    /// repeat the INVITE's and are admitted.
    pub fn admit(&mut self, request: &Request) -> Result<(), Refused> {
        // The CANCEL of the INVITE that made the dialog has no To tag.
        if request.method == Method::Cancel {
            return Ok(());
        }
        let headers = &request.headers;
        let of_us = headers.call_id == self.call_id
            && headers.from_tag() == Some(self.remote_tag.as_str())
            && headers.to_tag() == Some(self.local_tag.as_str());
        if !of_us {
            return Err(Refused::NotOfDialog);
        }
        if request.method == Method::Ack {
            return Ok(());
        }
        let number = headers.cseq.number;
        if self.remote_cseq.is_some_and(|last| number <= last) {
            return Err(Refused::CseqTooLow);
        }
        self.remote_cseq = Some(number);
        Ok(())
    }

    /// A re-INVITE or UPDATE moves the peer's target (RFC 3261 §12.2.2).
    pub fn refresh_target(&mut self, headers: &Headers) {
        if let Some(contact) = headers.contact.first() {
            self.remote_target = contact.uri.clone();
        }
    }
}

/// The CANCEL of a pending INVITE: same branch, same CSeq number (RFC 3261 §9.1).
pub fn cancel_for(invite: &Request) -> Request {
    alike(invite, Method::Cancel, invite.headers.to.clone())
}

/// The ACK of a final response that is no 2xx: of the INVITE's transaction (RFC 3261 §17.1.1.3).
pub fn ack_for_failure(invite: &Request, response: &Response) -> Request {
    alike(invite, Method::Ack, response.headers.to.clone())
}

fn alike(invite: &Request, method: Method, to: NameAddr) -> Request {
    let headers = &invite.headers;
    Request {
        method: method.clone(),
        uri: invite.uri.clone(),
        headers: Headers {
            via: headers.via.first().cloned().into_iter().collect(),
            from: headers.from.clone(),
            to,
            call_id: headers.call_id.clone(),
            cseq: CSeq { number: headers.cseq.number, method },
            contact: Vec::new(),
            route: headers.route.clone(),
            record_route: Vec::new(),
            max_forwards: Some(MAX_FORWARDS),
            expires: None,
            content_type: None,
            other: Vec::new(),
        },
        body: Vec::new(),
    }
}

/// The next hop of a request, host and port (RFC 3261 §8.1.2): the topmost Route where it is a
/// loose router's, else the request-URI. `None` where that is no SIP URI.
///
/// Behind a strict router that is followed by a loose one only [`Dialog::next_hop`] is right.
pub fn next_hop(request: &Request) -> Option<(&str, u16)> {
    let uri = match request.headers.route.first() {
        Some(route) if route.uri.param("lr").is_some() => &route.uri,
        Some(_) | None => &request.uri,
    };
    let tls = uri.scheme == Scheme::Sips
        || uri.param("transport").is_some_and(|name| name.eq_ignore_ascii_case("tls"));
    match uri.scheme {
        Scheme::Sip | Scheme::Sips => {
            let port = uri.port.unwrap_or(if tls { PORT_TLS } else { PORT });
            Some((uri.host.as_str(), port))
        }
        Scheme::Tel | Scheme::Other(_) => None,
    }
}

/// The next hop of a request where it is an IP address.
pub fn destination(request: &Request) -> Option<SocketAddr> {
    let (host, port) = next_hop(request)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some(SocketAddr::new(host.parse().ok()?, port))
}
