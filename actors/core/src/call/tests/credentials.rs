//! A carrier that challenges.

use tandem_sip::digest::{self, Algorithm, Authorization};
use tandem_sip::{Method, Request};

use super::record;
use crate::command::{Command, GatewayEvent};
use crate::deadline::Deadline;
use crate::effect::{Body, Effect};
use crate::ids::CallId;
use crate::tests::shard::{OUT, Shard, audio, phone, response, with_carriers, words};
use crate::trunk::outward::Credentials;

const REALM: &str = "carrier.example";
const PROXY: &str = "Proxy-Authorization";

/// A phone that calls out by a carrier whose password we know.
fn dialing() -> (Shard, CallId) {
    let mut shard = Shard::with(|config| {
        with_carriers(config);
        for out in config.trunks.iter_mut().filter_map(|trunk| trunk.out.as_mut()) {
            out.credentials = Some(Credentials::new("tandem", REALM, "hush"));
        }
    });
    shard.register(1001);
    let call = shard.invite_from("c1", OUT, phone(1001)).0.expect("a call");
    (shard, call)
}

fn challenged(
    shard: &mut Shard,
    invite: &Request,
    (status, name): (u16, &str),
    challenges: &[&str],
) -> Vec<Effect> {
    let mut refused = response(invite, status);
    for challenge in challenges {
        refused.headers.push_other(name, challenge);
    }
    let branch = invite.headers.branch().to_owned();
    let event = GatewayEvent::Response { branch, response: refused.into(), answer: None };
    shard.event(event).1
}

fn proof(request: &Request, header: &str) -> Authorization {
    let value = request.headers.other(header).expect("an answer to the challenge");
    Authorization::parse(value).expect("it can be read")
}

fn proves(request: &Request, header: &str, algorithm: Algorithm) -> bool {
    let ha1 = digest::ha1_with(algorithm, "tandem", REALM, "hush");
    let proof = proof(request, header);
    proof.uri == request.uri.to_string() && digest::verify(request.method.as_str(), &ha1, &proof)
}

fn sent(effects: &[Effect], method: Method) -> Request {
    let found = effects.iter().find_map(|effect| match &effect.body {
        Body::Send { request, .. } if request.method == method => Some((**request).clone()),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("no {method}"))
}

#[test]
fn challenge_is_answered_and_each_request_of_the_dialog_proves_who_we_are() {
    let (mut shard, call) = dialing();
    let first = shard.ringing(call).unwrap();
    assert_eq!(first.headers.other(PROXY), None);
    let challenge = digest::challenge(REALM, "n1", false);
    let way = (407, "Proxy-Authenticate");
    let effects = challenged(&mut shard, &first, way, &[&challenge]);
    assert_eq!(words(&effects), ["INVITE"]);
    let second = shard.ringing(call).unwrap();
    assert!(proves(&second, PROXY, Algorithm::Md5));
    assert_eq!(second.headers.call_id, first.headers.call_id);
    assert_eq!((first.headers.cseq.number, second.headers.cseq.number), (1, 2));
    assert_ne!(second.headers.branch(), first.headers.branch());

    let effects = shard.answer(&second, 200).1;
    let ack = sent(&effects, Method::Ack);
    assert_eq!(ack.headers.other(PROXY), second.headers.other(PROXY));
    let caller = shard.of_peer(call, 0, Method::Bye, 2);
    let effects = shard.in_dialog(caller, None);
    let bye = sent(&effects, Method::Bye);
    assert!(proves(&bye, PROXY, Algorithm::Md5));
    let count = |request| proof(request, PROXY).nc;
    assert_eq!(
        (count(&second).as_deref(), count(&bye).as_deref()),
        (Some("00000001"), Some("00000002"))
    );
}

#[test]
fn one_challenge_of_several_is_answered_and_a_proxys_answer_stays_beside_the_servers() {
    let (mut shard, call) = dialing();
    let first = shard.ringing(call).unwrap();
    let unknown = format!("Digest realm=\"{REALM}\", nonce=\"n0\", algorithm=SHA-512-256");
    let known = digest::challenge_with(Algorithm::Sha256, REALM, "n1", false);
    challenged(&mut shard, &first, (407, "Proxy-Authenticate"), &[&unknown, &known]);
    let second = shard.ringing(call).unwrap();
    assert!(proves(&second, PROXY, Algorithm::Sha256));
    let server = digest::challenge(REALM, "n2", false);
    challenged(&mut shard, &second, (401, "WWW-Authenticate"), &[&server]);
    let third = shard.ringing(call).unwrap();
    assert!(proves(&third, PROXY, Algorithm::Sha256));
    assert!(proves(&third, "Authorization", Algorithm::Md5));
}

#[test]
fn wrong_password_is_tried_once_and_a_stale_nonce_once_more() {
    let (mut shard, call) = dialing();
    let way = (401, "WWW-Authenticate");
    let mut invite = shard.ringing(call).unwrap();
    for (nonce, stale) in [("n1", false), ("n2", true)] {
        let challenge = digest::challenge(REALM, nonce, stale);
        challenged(&mut shard, &invite, way, &[&challenge]);
        invite = shard.ringing(call).unwrap();
        assert_eq!(proof(&invite, "Authorization").nonce, nonce);
    }
    let refused = digest::challenge(REALM, "n3", false);
    challenged(&mut shard, &invite, way, &[&refused]);
    // The carrier's next peer is asked, without what the first one was told.
    let next = shard.ringing(call).unwrap();
    assert_eq!(next.headers.other("Authorization"), None);
    assert_eq!(next.uri.host, "192.0.2.2");
}

#[test]
fn nobody_else_gets_an_answer() {
    let (mut shard, call) = dialing();
    for _ in 0..3 {
        let invite = shard.ringing(call).unwrap();
        let strange = digest::challenge("elsewhere.example", "n1", false);
        let effects = challenged(&mut shard, &invite, (401, "WWW-Authenticate"), &[&strange]);
        assert!(
            words(&effects).iter().all(|word| word == "INVITE"
                || word == "480"
                || word == "503"
                || word.starts_with("media")),
            "{:?}",
            words(&effects)
        );
    }
    assert_eq!(record(&shard).0, "failed");
}

/// The call is up; the carrier has accepted what answered its challenge, with these headers.
fn talking(headers: &[(&str, &str)]) -> (Shard, CallId) {
    let (mut shard, call) = dialing();
    let first = shard.ringing(call).unwrap();
    let challenge = digest::challenge(REALM, "n1", false);
    challenged(&mut shard, &first, (407, "Proxy-Authenticate"), &[&challenge]);
    let second = shard.ringing(call).unwrap();
    let mut taken = response(&second, 200);
    for (name, value) in headers {
        taken.headers.push_other(name, value);
    }
    let branch = second.headers.branch().to_owned();
    let answer = Some(audio(5_000));
    shard.event(GatewayEvent::Response { branch, response: taken.into(), answer });
    shard.ack(call);
    (shard, call)
}

#[test]
fn bye_that_is_challenged_is_sent_once_more_with_an_answer() {
    let (mut shard, call) = talking(&[]);
    let hang_up = shard.of_peer(call, 0, Method::Bye, 2);
    let first = sent(&shard.in_dialog(hang_up, None), Method::Bye);
    let stale = digest::challenge(REALM, "n2", true);
    let way = (407, "Proxy-Authenticate");
    let second = sent(&challenged(&mut shard, &first, way, &[&stale]), Method::Bye);
    assert!(proves(&second, PROXY, Algorithm::Md5));
    let proof = proof(&second, PROXY);
    assert_eq!((proof.nonce.as_str(), proof.nc.as_deref()), ("n2", Some("00000001")));
    assert_eq!(second.headers.cseq.number, first.headers.cseq.number + 1);
    assert_ne!(second.headers.branch(), first.headers.branch());
    // It has had its answer: the leg is over whatever else is wanted.
    let again = digest::challenge(REALM, "n3", true);
    assert!(challenged(&mut shard, &second, way, &[&again]).is_empty());
    assert!(shard.leader.calls.is_empty());
    assert_eq!(record(&shard).0, "answered");
}

#[test]
fn refresh_that_is_challenged_goes_again_at_once_and_what_follows_has_the_new_nonce() {
    for allow in ["INVITE, ACK, BYE, UPDATE", "INVITE, ACK, BYE"] {
        let timer = ("Session-Expires", "90;refresher=uac");
        let (mut shard, call) = talking(&[timer, ("Allow", allow), ("Supported", "timer")]);
        let method = if allow.contains("UPDATE") { Method::Update } else { Method::Invite };
        shard.now += 45_100;
        let due = shard.leader.due(tandem_sip::Millis(shard.now));
        let due = due.into_iter().find(|due| matches!(due, Deadline::SessionTimer { .. }));
        let effects = shard.apply(Command::Due(due.expect("a refresh"))).1;
        let first = sent(&effects, method.clone());
        assert_eq!(proof(&first, PROXY).nonce, "n1");
        let stale = digest::challenge(REALM, "n2", true);
        let server = (401, "WWW-Authenticate");
        let effects = challenged(&mut shard, &first, server, &[&stale]);
        let second = sent(&effects, method.clone());
        // The proxy's stands beside the server's, and each counts for itself.
        assert!(proves(&second, "Authorization", Algorithm::Md5));
        assert!(proves(&second, PROXY, Algorithm::Md5));
        assert_eq!(proof(&second, "Authorization").nc.as_deref(), Some("00000001"));
        let again = digest::challenge(REALM, "n3", true);
        let effects = challenged(&mut shard, &second, server, &[&again]);
        assert!(effects.is_empty(), "no more often than once: {:?}", words(&effects));
        let hang_up = shard.of_peer(call, 0, Method::Bye, 2);
        let bye = sent(&shard.in_dialog(hang_up, None), Method::Bye);
        let proof = proof(&bye, "Authorization");
        assert_eq!((proof.nonce.as_str(), proof.nc.as_deref()), ("n2", Some("00000002")));
    }
}
