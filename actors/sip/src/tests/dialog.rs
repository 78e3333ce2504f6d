//! Dialogs: routes, numbers, and what belongs to another.

use super::{INVITE, answer, request};
use crate::dialog::{Dialog, Error, Refused, ack_for_failure, cancel_for, destination, next_hop};
use crate::{Method, Request};

fn caller() -> Dialog {
    let invite = request(INVITE);
    Dialog::as_uac(&invite, &answer(&invite)).unwrap()
}

fn callee() -> Dialog {
    Dialog::as_uas(&request(INVITE), "t").unwrap()
}

fn via() -> crate::Via {
    request(INVITE).headers.via[0].clone()
}

fn of_caller(method: Method) -> Request {
    caller().request(method, via(), None)
}

#[test]
fn strict_router_becomes_the_request_uri() {
    let mut dialog = callee();
    dialog.route_set = ["<sip:old.example;method=INVITE?X=y>", "<sip:127.0.0.3;lr>"]
        .map(|text| text.parse().unwrap())
        .to_vec();
    let bye = dialog.request(Method::Bye, via(), None);
    assert_eq!(bye.uri.to_string(), "sip:old.example");
    let routes: Vec<String> = bye.headers.route.iter().map(ToString::to_string).collect();
    assert_eq!(routes, ["<sip:127.0.0.3;lr>", "<sip:a@127.0.0.1:6000>"]);
    assert_eq!(dialog.next_hop().host, "old.example");
}

#[test]
fn ack_and_cancel_take_no_number() {
    let mut dialog = caller();
    let cseq = |request: Request| (request.headers.cseq.number, request.headers.cseq.method);
    let mut number = |method| cseq(dialog.request(method, via(), None));
    assert_eq!(number(Method::Invite), (8, Method::Invite));
    assert_eq!(number(Method::Ack), (8, Method::Ack));
    assert_eq!(number(Method::Cancel), (8, Method::Cancel));
    assert_eq!(number(Method::Bye), (9, Method::Bye));
}

#[test]
fn request_of_another_dialog_is_481_and_an_old_one_500() {
    let bye = of_caller(Method::Bye);
    for spoil in [
        |bye: &mut Request| bye.headers.call_id.push('x'),
        |bye: &mut Request| bye.headers.from.set_tag("x"),
        |bye: &mut Request| bye.headers.to.set_tag("x"),
        |bye: &mut Request| bye.headers.to = bye.headers.to.without_tag(),
    ] {
        let mut other = bye.clone();
        spoil(&mut other);
        let mut dialog = callee();
        assert_eq!(dialog.admit(&other).map_err(Refused::status), Err(481));
        assert_eq!(dialog, callee(), "a refusal leaves no trace");
    }
    let mut dialog = callee();
    let mut old = bye.clone();
    old.headers.cseq.number = 6;
    assert_eq!(dialog.admit(&old).map_err(Refused::status), Err(500));
    assert_eq!(dialog.admit(&of_caller(Method::Ack)), Ok(()));
    assert_eq!(dialog.admit(&cancel_for(&request(INVITE))), Ok(()));
    assert_eq!(dialog.admit(&bye), Ok(()));
    assert_eq!(dialog.remote_cseq, Some(8));
}

#[test]
fn dialog_needs_tags_and_a_contact() {
    let without = |what: &str| request(&INVITE.replace(what, ""));
    assert_eq!(Dialog::as_uas(&without(";tag=1"), "t"), Err(Error::NoTag("From")));
    let silent = without("Contact: <sip:a@127.0.0.1:6000>;expires=60\r\n");
    assert_eq!(Dialog::as_uas(&silent, "t"), Err(Error::NoContact));
    let invite = request(INVITE);
    assert_eq!(Dialog::as_uac(&invite, &invite.respond(180, None, None)), Err(Error::NoTag("To")));
}

#[test]
fn cancel_and_ack_of_a_failure_are_of_the_invites_transaction() {
    let mut invite = request(INVITE);
    invite.headers.route = vec!["<sip:127.0.0.3:5070;lr>".parse().unwrap()];
    let busy = invite.respond(486, None, Some("busy"));
    let (cancel, ack) = (cancel_for(&invite), ack_for_failure(&invite, &busy));
    for (made, method, tag) in [(cancel, Method::Cancel, None), (ack, Method::Ack, Some("busy"))] {
        assert_eq!(made.method, method);
        assert_eq!(made.headers.cseq, crate::CSeq { number: 7, method });
        assert_eq!(made.headers.via, invite.headers.via[..1]);
        assert_eq!((&made.uri, &made.headers.route), (&invite.uri, &invite.headers.route));
        assert_eq!(made.headers.to_tag(), tag);
        assert!(made.body.is_empty() && made.headers.contact.is_empty());
    }
}

#[test]
fn target_is_refreshed_by_a_contact_alone() {
    let mut dialog = callee();
    let before = dialog.remote_target.clone();
    dialog.refresh_target(&of_caller(Method::Info).headers);
    assert_eq!(dialog.remote_target, before);
    let contact = "<sip:a@127.0.0.1:6002>".parse().unwrap();
    dialog.refresh_target(&caller().request(Method::Invite, via(), Some(contact)).headers);
    assert_eq!(dialog.remote_target.port, Some(6002));
}

#[test]
fn next_hop_is_the_loose_router_or_the_target() {
    let mut bye = of_caller(Method::Bye);
    for (route, uri, expected) in [
        (Some("<sip:127.0.0.3;lr>"), "sip:x.example", Some(("127.0.0.3", 5060))),
        (Some("<sip:127.0.0.3>"), "sip:127.0.0.4:5090", Some(("127.0.0.4", 5090))),
        (None, "sips:x.example", Some(("x.example", 5061))),
        (None, "sip:x.example;transport=TLS", Some(("x.example", 5061))),
        (None, "tel:+123", None),
    ] {
        bye.headers.route = route.map(|text| text.parse().unwrap()).into_iter().collect();
        bye.uri = uri.parse().unwrap();
        assert_eq!(next_hop(&bye), expected, "{route:?} {uri}");
    }
    bye.headers.route.clear();
    bye.uri = "sip:[::1]:5070".parse().unwrap();
    assert_eq!(destination(&bye), Some("[::1]:5070".parse().unwrap()));
    bye.uri = "sip:x.example".parse().unwrap();
    assert_eq!(destination(&bye), None);
}
