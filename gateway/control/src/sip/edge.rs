//! What the gateway answers by itself, without the cluster: requests that can't be right
//! (RFC 3261 §8.2), and OPTIONS outside of dialogs (§11.2). Pure.

use tandem_core::subscription::state::Package;
use tandem_sip::multipart::{self, Found};
use tandem_sip::outbound;
use tandem_sip::reliable::{self, RAck};
use tandem_sip::replaces;
use tandem_sip::sdp::{Audio, Error as SdpError};
use tandem_sip::session_expires::{self, SessionExpires};
use tandem_sip::uri::Scheme;
use tandem_sip::{Method, Request, Response};

use super::{stateless_tag, subscribes, texts};
use crate::limits;

pub const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO, REFER, \
                         NOTIFY, SUBSCRIBE, MESSAGE, REGISTER";
/// Extensions that a request may require.
const SUPPORTED: [&str; 5] =
    [session_expires::OPTION, reliable::OPTION, replaces::OPTION, outbound::OPTION, outbound::PATH];
const SDP: &str = "application/sdp";
/// What a request may bring.
const ACCEPT: &str = "application/sdp, multipart/mixed, multipart/alternative";

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
    response.headers.push_other("Allow-Events", &Package::NAMES.join(", "));
    response.headers.push_other("Accept", ACCEPT);
    response.headers.push_other("Accept-Encoding", "identity");
    response.headers.push_other("Accept-Language", "en");
    response.headers.push_other("Supported", &SUPPORTED.join(", "));
    response
}

/// Method, request-URI, names, hops and extensions, in the order of RFC 3261 §8.2. Not for ACK and
/// CANCEL.
///
/// # Errors
/// The refusal.
pub fn check(request: &Request, session_s_min: u32) -> Result<(), Box<Response>> {
    check_method(request)?;
    check_uri(request)?;
    check_names(request)?;
    // OPTIONS asks how far it came, so it is answered where it stops (§11).
    if request.headers.max_forwards == Some(0) && request.method != Method::Options {
        return Err(Box::new(answer(request, 483)));
    }
    check_extensions(request)?;
    check_accept(request)?;
    check_session(request, session_s_min)?;
    subscribes::check(request)?;
    texts::check(request)?;
    let outside = !request.is_in_dialog();
    let within =
        [Method::Bye, Method::Prack, Method::Update, Method::Info, Method::Refer, Method::Notify];
    if outside && within.contains(&request.method) {
        return Err(Box::new(answer(request, 481)));
    }
    if request.method == Method::Prack && RAck::of(request).is_none() {
        return Err(bad(request, "RAck names no response"));
    }
    // RFC 3891 §3: a new call takes the place of another, and nothing else does.
    let replaces = request.headers.other("Replaces").is_some();
    if replaces && request.method != Method::Invite {
        return Err(bad(request, "Replaces is for an INVITE"));
    }
    Ok(())
}

/// A 400 whose phrase says what is wrong.
pub fn bad(request: &Request, why: &str) -> Box<Response> {
    let mut response = answer(request, 400);
    response.reason = format!("Bad Request ({why})");
    Box::new(response)
}

fn check_method(request: &Request) -> Result<(), Box<Response>> {
    let status = match request.method {
        Method::Invite
        | Method::Ack
        | Method::Bye
        | Method::Cancel
        | Method::Register
        | Method::Options
        | Method::Prack
        | Method::Update
        | Method::Info
        | Method::Refer
        | Method::Notify
        | Method::Subscribe
        | Method::Message => return Ok(()),
        // Known, and nothing that is done here (§8.2.1).
        Method::Publish => 405,
        // Not known at all (§21.5.2).
        Method::Other(_) => 501,
    };
    let mut response = answer(request, status);
    response.headers.push_other("Allow", ALLOW);
    Err(Box::new(response))
}

fn check_uri(request: &Request) -> Result<(), Box<Response>> {
    if !matches!(request.uri.scheme, Scheme::Sip | Scheme::Sips | Scheme::Tel) {
        return Err(Box::new(answer(request, 416)));
    }
    if request.uri.headers.is_some() {
        // §19.1.1, table 1: they would be headers of a request that somebody else has written.
        return Err(bad(request, "the request-URI has headers"));
    }
    let of_record = &request.headers.to.uri.scheme;
    if request.method == Method::Register && !matches!(of_record, Scheme::Sip | Scheme::Sips) {
        // §10.2: an address of record is a SIP URI.
        return Err(bad(request, "To is no SIP URI"));
    }
    Ok(())
}

fn check_names(request: &Request) -> Result<(), Box<Response>> {
    let headers = &request.headers;
    for (name, value) in [
        ("Call-ID", Some(headers.call_id.as_str())),
        ("the tag of From", headers.from_tag()),
        ("the tag of To", headers.to_tag()),
    ] {
        if value.is_some_and(|value| value.len() > limits::NAME_BYTES_MAX) {
            let why = format!("{name} is longer than {} bytes", limits::NAME_BYTES_MAX);
            return Err(bad(request, &why));
        }
    }
    if matches!(request.method, Method::Invite | Method::Subscribe) {
        if headers.from_tag().is_none() {
            return Err(bad(request, "From has no tag"));
        }
        // §8.1.1.8: without it no request of ours could reach the peer.
        if headers.contact.is_empty() {
            return Err(bad(request, "Contact is missing"));
        }
    }
    Ok(())
}

fn check_extensions(request: &Request) -> Result<(), Box<Response>> {
    let known = |option: &&str| SUPPORTED.iter().any(|known| known.eq_ignore_ascii_case(option));
    let unknown: Vec<&str> = request.headers.list("Require").filter(|it| !known(it)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let mut response = answer(request, 420);
    response.headers.push_other("Unsupported", &unknown.join(", "));
    Err(Box::new(response))
}

/// A session whose time is too short for us (RFC 4028 §9). One that does not know timers would not
/// know the answer either.
fn check_session(request: &Request, least_s: u32) -> Result<(), Box<Response>> {
    let headers = &request.headers;
    let asked = SessionExpires::of(headers)
        .filter(|_| matches!(request.method, Method::Invite | Method::Update));
    if asked.is_none_or(|asked| asked.interval_s >= least_s) || !session_expires::is_known(headers)
    {
        return Ok(());
    }
    let mut response = answer(request, 422);
    response.headers.push_other("Min-SE", &least_s.to_string());
    Err(Box::new(response))
}

/// What is answered to an offer is SDP (§21.4.7). Without an Accept it is taken (§20.1).
fn check_accept(request: &Request) -> Result<(), Box<Response>> {
    let named = request.headers.other("Accept").is_some();
    if !named || !matches!(request.method, Method::Invite | Method::Update) {
        return Ok(());
    }
    let takes_sdp = request.headers.list("Accept").any(|range| {
        let range = range.split(';').next().unwrap_or_default().trim();
        [SDP, "application/*", "*/*"].iter().any(|known| range.eq_ignore_ascii_case(known))
    });
    if takes_sdp {
        return Ok(());
    }
    let mut response = answer(request, 406);
    response.headers.push_other("Warning", "399 tandem \"Accept does not name application/sdp\"");
    Err(Box::new(response))
}

/// Takes the SDP out of a request that may offer media, alone or among other parts (RFC 5621). A
/// PRACK may answer, too (RFC 3262 §5).
///
/// # Errors
/// The refusal: 415 for another body in an INVITE, 400 or 488 with a Warning for SDP that can't
/// be used.
pub fn take_offer(request: &mut Request) -> Result<Option<Audio>, Box<Response>> {
    if request.body.is_empty() {
        return Ok(None);
    }
    let headers = &request.headers;
    let offers = matches!(request.method, Method::Invite | Method::Prack | Method::Update);
    let found = multipart::find(headers.content_type.as_deref(), &request.body, SDP);
    let sdp = match found {
        Found::Body(sdp) => sdp,
        Found::Nothing | Found::Refused if !offers => return Ok(None),
        Found::Nothing
            if multipart::is_optional(headers.other("Content-Disposition"))
                || is_multipart(headers.content_type.as_deref()) =>
        {
            request.body = Vec::new();
            return Ok(None);
        }
        Found::Nothing | Found::Refused => {
            let mut response = answer(request, 415);
            response.headers.push_other("Accept", ACCEPT);
            return Err(Box::new(response));
        }
    };
    if !offers {
        request.body = Vec::new();
        return Ok(None);
    }
    let encoding = headers.other("Content-Encoding");
    if encoding.is_some_and(|encoding| !encoding.trim().eq_ignore_ascii_case("identity")) {
        let mut response = answer(request, 415);
        response.headers.push_other("Accept-Encoding", "identity");
        return Err(Box::new(response));
    }
    match Audio::parse(sdp) {
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
        SdpError::NoAudio | SdpError::Sections => (488, 304),
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
    let Found::Body(sdp) = multipart::find(content_type, body, SDP) else { return None };
    if sdp.is_empty() {
        return None;
    }
    let audio = Audio::parse(sdp).inspect_err(|error| tracing::debug!(%error, "answer")).ok();
    *body = Vec::new();
    audio
}

/// All its parts are of kinds that need not be understood.
fn is_multipart(content_type: Option<&str>) -> bool {
    content_type.is_some_and(|it| it.trim().to_ascii_lowercase().starts_with("multipart/"))
}
