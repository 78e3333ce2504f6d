//! A carrier that challenges.

use tandem_sip::digest::{self, Algorithm, Authorization};
use tandem_sip::{Method, Request};

use super::record;
use crate::effect::{Body, Effect};
use crate::ids::CallId;
use crate::tests::shard::{OUT, Shard, phone, response, with_carriers, words};
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
    let event =
        crate::command::GatewayEvent::Response { branch, response: refused.into(), answer: None };
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
