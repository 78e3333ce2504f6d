//! What a REGISTER can't mean, whoever sends it. Pure.

use tandem_core::agent::binding::outbound_of;
use tandem_core::limits::PATH_MAX;
use tandem_sip::{NameAddr, Request, Response, outbound};

use super::edge::{answer, bad};
use crate::limits;

/// # Errors
/// The refusal.
pub fn check(request: &Request) -> Result<(), Box<Response>> {
    check_wildcard(request)?;
    let path = check_path(request)?;
    check_outbound(request, &path)
}

/// RFC 3261 §10.3, step 6.
fn check_wildcard(request: &Request) -> Result<(), Box<Response>> {
    let headers = &request.headers;
    let all = headers.other("Contact").is_some();
    if all && (!headers.contact.is_empty() || headers.expires != Some(0)) {
        return Err(bad(request, "Contact: * stands alone, with Expires: 0"));
    }
    Ok(())
}

/// RFC 3327 §5.3: whoever does not know that there is a way would not know that it is used.
fn check_path(request: &Request) -> Result<Vec<NameAddr>, Box<Response>> {
    let headers = &request.headers;
    if headers.other("Path").is_none() {
        return Ok(Vec::new());
    }
    if !outbound::knows_path(headers) {
        let mut response = answer(request, 420);
        response.headers.push_other("Unsupported", outbound::PATH);
        return Err(Box::new(response));
    }
    let path: Vec<NameAddr> = headers.addresses("Path").collect();
    let loose = path.iter().all(|hop| hop.uri.param("lr").is_some());
    // One that can't be read would be missing from the way; its commas may be within brackets.
    let readable = headers.list("Path").filter(|text| text.contains('<')).count() == path.len();
    if path.is_empty() || path.len() > PATH_MAX || !loose || !readable {
        return Err(bad(request, "Path is no way of loose routers, or too long"));
    }
    Ok(path)
}

/// RFC 5626 §6.
fn check_outbound(request: &Request, path: &[NameAddr]) -> Result<(), Box<Response>> {
    let headers = &request.headers;
    let named: Vec<_> = headers.contact.iter().filter_map(outbound_of).collect();
    if named.is_empty() || !outbound::is_known(headers) {
        return Ok(());
    }
    if headers.contact.len() > 1 {
        return Err(bad(request, "one flow is one Contact"));
    }
    if named.iter().any(|named| named.instance.len() > limits::NAME_BYTES_MAX) {
        return Err(bad(request, "+sip.instance is too long"));
    }
    // The hop next to the phone must keep its flow; we do where there is none.
    let kept = path.last().is_some_and(|hop| hop.uri.param("ob").is_some());
    if headers.via.len() > 1 && !kept {
        let mut response = answer(request, 439);
        response.reason = "First Hop Lacks Outbound Support".into();
        return Err(Box::new(response));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tandem_sip::Message;

    use super::*;

    fn refused(more: &str) -> Option<u16> {
        let text = format!(
            "REGISTER sip:demo SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKa\r\n\
             From: <sip:1001@demo>;tag=1\r\nTo: <sip:1001@demo>\r\nCall-ID: c\r\n\
             CSeq: 1 REGISTER\r\n{more}\r\n"
        );
        let Ok(Message::Request(request)) = tandem_sip::parse(text.as_bytes()) else {
            panic!("no request: {text}")
        };
        check(&request).err().map(|response| response.status)
    }

    const FLOW: &str = "Contact: <sip:1001@a.invalid>;reg-id=1;+sip.instance=\"<urn:uuid:1>\"\r\n";

    #[test]
    fn wildcard_stands_alone_with_no_time() {
        assert_eq!(refused("Contact: *\r\nExpires: 0\r\n"), None);
        assert_eq!(refused("Contact: *\r\n"), Some(400));
        assert_eq!(refused("Contact: *\r\nExpires: 60\r\n"), Some(400));
        assert_eq!(refused("Contact: *\r\nContact: <sip:a@b>\r\nExpires: 0\r\n"), Some(400));
    }

    #[test]
    fn path_is_for_who_knows_it_and_of_loose_routers() {
        let knows = "Supported: path\r\n";
        assert_eq!(refused("Path: <sip:edge;lr>\r\n"), Some(420));
        assert_eq!(refused(&format!("{knows}Path: <sip:a,b@edge;lr>, <sip:e2;lr>\r\n")), None);
        assert_eq!(refused(&format!("{knows}Path: <sip:edge>\r\n")), Some(400));
        assert_eq!(refused(&format!("{knows}Path: junk\r\n")), Some(400));
        assert_eq!(refused(&format!("{knows}Path: <sip:e;lr>, <::>\r\n")), Some(400));
        let many = "Path: <sip:edge;lr>\r\n".repeat(PATH_MAX);
        assert_eq!(refused(&format!("{knows}{many}")), None);
        assert_eq!(refused(&format!("{knows}{many}Path: <sip:edge;lr>\r\n")), Some(400));
    }

    #[test]
    fn flow_is_one_contact_and_kept_by_the_first_hop() {
        let knows = "Supported: path, outbound\r\n";
        assert_eq!(refused(&format!("{knows}{FLOW}")), None);
        assert_eq!(refused(&format!("{knows}{FLOW}Contact: <sip:a@b>\r\n")), Some(400));
        let by_proxy = "Via: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKb\r\n";
        assert_eq!(refused(&format!("{by_proxy}{knows}{FLOW}")), Some(439));
        let path = "Path: <sip:inner;lr;ob>, <sip:edge;lr>\r\n";
        assert_eq!(refused(&format!("{by_proxy}{knows}{path}{FLOW}")), Some(439));
        let path = "Path: <sip:inner;lr>, <sip:edge;lr;ob>\r\n";
        assert_eq!(refused(&format!("{by_proxy}{knows}{path}{FLOW}")), None);
        // Who does not know flows has none.
        assert_eq!(refused(&format!("{by_proxy}{FLOW}")), None);
    }
}
