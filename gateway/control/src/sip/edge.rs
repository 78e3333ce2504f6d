//! What the gateway answers by itself, without the cluster: requests that can't be right
//! (RFC 3261 §8.2), and OPTIONS outside of dialogs (§11.2). Pure.

use tandem_sip::sdp::{Audio, Error as SdpError};
use tandem_sip::uri::Scheme;
use tandem_sip::{Method, Request, Response};

use super::stateless_tag;
use crate::limits;

pub const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, INFO, REFER, NOTIFY, REGISTER";
const ACCEPT: &str = "application/sdp";
const SDP: &str = "application/sdp";

/// A stateless answer.
pub fn answer(request: &Request, status: u16) -> Response {
    request.respond(status, None, Some(&stateless_tag(&request.headers)))
}

/// 503 with the time to come back.
pub fn unavailable(request: &Request, retry_after_s: u32) -> Response {
    let mut response = answer(request, 503);
    response.headers.push_other("Retry-After", &retry_after_s.to_string());
    response
}

/// The answer to OPTIONS outside of a dialog.
pub fn capabilities(request: &Request) -> Response {
    let mut response = answer(request, 200);
    response.headers.push_other("Allow", ALLOW);
    response.headers.push_other("Accept", ACCEPT);
    response.headers.push_other("Accept-Encoding", "identity");
    response.headers.push_other("Accept-Language", "en");
    response.headers.push_other("Supported", "");
    response
}

/// Method, request-URI, hops and extensions, in the order of RFC 3261 §8.2. Not for ACK and
/// CANCEL.
///
/// # Errors
/// The refusal.
pub fn check(request: &Request) -> Result<(), Box<Response>> {
    let headers = &request.headers;
    match request.method {
        Method::Invite
        | Method::Ack
        | Method::Bye
        | Method::Cancel
        | Method::Register
        | Method::Options
        | Method::Update
        | Method::Info
        | Method::Refer
        | Method::Notify => {}
        Method::Prack
        | Method::Subscribe
        | Method::Message
        | Method::Publish
        | Method::Other(_) => {
            let mut response = answer(request, 405);
            response.headers.push_other("Allow", ALLOW);
            return Err(Box::new(response));
        }
    }
    if !matches!(request.uri.scheme, Scheme::Sip | Scheme::Sips | Scheme::Tel) {
        return Err(Box::new(answer(request, 416)));
    }
    let too_long = [Some(headers.call_id.as_str()), headers.from_tag(), headers.to_tag()]
        .into_iter()
        .flatten()
        .any(|name| name.len() > limits::NAME_BYTES_MAX);
    if too_long || headers.from_tag().is_none() && request.method == Method::Invite {
        return Err(Box::new(answer(request, 400)));
    }
    if request.method == Method::Invite && headers.contact.is_empty() {
        // RFC 3261 §8.1.1.8: without it no request of ours could reach the peer.
        let mut response = answer(request, 400);
        response.reason = "Bad Request (Contact is missing)".into();
        return Err(Box::new(response));
    }
    // OPTIONS asks how far it came, so it is answered where it stops (§11).
    if headers.max_forwards == Some(0) && request.method != Method::Options {
        return Err(Box::new(answer(request, 483)));
    }
    let wanted: Vec<&str> = headers
        .other
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case("Require"))
        .flat_map(|header| header.value.split(','))
        .map(str::trim)
        .filter(|option| !option.is_empty())
        .collect();
    if !wanted.is_empty() {
        let mut response = answer(request, 420);
        response.headers.push_other("Unsupported", &wanted.join(", "));
        return Err(Box::new(response));
    }
    let outside = !request.is_in_dialog();
    let within = [Method::Bye, Method::Update, Method::Info, Method::Refer, Method::Notify];
    if outside && within.contains(&request.method) {
        return Err(Box::new(answer(request, 481)));
    }
    Ok(())
}

/// Takes the SDP out of a request that may offer media.
///
/// # Errors
/// The refusal: 415 for another body in an INVITE, 400 or 488 with a Warning for SDP that can't
/// be used.
pub fn take_offer(request: &mut Request) -> Result<Option<Audio>, Box<Response>> {
    if request.body.is_empty() {
        return Ok(None);
    }
    let offers = matches!(request.method, Method::Invite | Method::Update);
    if !is_sdp(request.headers.content_type.as_deref()) {
        if !offers {
            return Ok(None);
        }
        let mut response = answer(request, 415);
        response.headers.push_other("Accept", ACCEPT);
        return Err(Box::new(response));
    }
    if !offers {
        request.body = Vec::new();
        return Ok(None);
    }
    let encoding = request.headers.other("Content-Encoding").or(request.headers.other("e"));
    if encoding.is_some_and(|encoding| !encoding.trim().eq_ignore_ascii_case("identity")) {
        let mut response = answer(request, 415);
        response.headers.push_other("Accept-Encoding", "identity");
        return Err(Box::new(response));
    }
    match Audio::parse(&request.body) {
        Ok(audio) => {
            request.body = Vec::new();
            Ok(Some(audio))
        }
        Err(error) => Err(Box::new(unusable(request, &error))),
    }
}

/// RFC 3261 §20.43 names the codes of Warning.
fn unusable(request: &Request, error: &SdpError) -> Response {
    let (status, code) = match error {
        SdpError::Syntax(_) => (400, 399),
        SdpError::NoAudio => (488, 304),
        SdpError::NoAddress | SdpError::Address(_) => (488, 301),
        SdpError::NoCommonCodec => (488, 305),
    };
    let text: String = error
        .to_string()
        .chars()
        .filter(|c| !c.is_control())
        .map(|c| if matches!(c, '"' | '\\') { '\'' } else { c })
        .collect();
    let mut response = answer(request, status);
    response.headers.push_other("Warning", &format!("{code} tandem \"{text}\""));
    response
}

/// Takes the SDP out of a response or an ACK; one that can't be read is as if it were not there.
pub fn take_answer(content_type: Option<&str>, body: &mut Vec<u8>) -> Option<Audio> {
    if body.is_empty() || !is_sdp(content_type) {
        return None;
    }
    let audio = Audio::parse(body).inspect_err(|error| tracing::debug!(%error, "answer")).ok();
    *body = Vec::new();
    audio
}

fn is_sdp(content_type: Option<&str>) -> bool {
    content_type
        .and_then(|value| value.split(';').next())
        .is_some_and(|value| value.trim().eq_ignore_ascii_case(SDP))
}
