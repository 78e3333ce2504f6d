//! RFC 3262, from the phone that we call: each response once and in order, and what it described.

use tandem_sip::reliable::number_response;
use tandem_sip::sdp::Audio;
use tandem_sip::{Method, Request};

use super::{dialing, leg, state, times_out};
use crate::call::leg::State;
use crate::command::{Command, GatewayEvent};
use crate::effect::{Body, Effect};
use crate::ids::CallId;
use crate::tests::shard::{Shard, audio, response, words};

fn says(
    shard: &mut Shard,
    invite: &Request,
    (status, tag, rseq): (u16, &str, u32),
    sdp: Option<Audio>,
) -> Vec<Effect> {
    let mut response = response(invite, status);
    response.headers.to.set_tag(tag);
    if rseq > 0 {
        number_response(&mut response, rseq);
    }
    shard
        .event(GatewayEvent::Response {
            branch: invite.headers.branch().to_owned(),
            response: Box::new(response),
            answer: sdp,
        })
        .1
}

fn rings() -> (Shard, CallId, Request) {
    let (shard, call) = dialing();
    let invite = shard.ringing(call).unwrap();
    assert!(invite.headers.list("Supported").any(|option| option == "100rel"));
    (shard, call, invite)
}

fn prack(effects: &[Effect]) -> Request {
    let sent = effects.iter().find_map(|effect| match &effect.body {
        Body::Send { request, .. } if request.method == Method::Prack => Some(request),
        Body::Send { .. } | Body::Respond { .. } | Body::Notify { .. } | Body::Media(_) => None,
    });
    (**sent.expect("a PRACK")).clone()
}

#[test]
fn each_reliable_response_is_acknowledged_once_and_in_order() {
    let (mut shard, call, invite) = rings();
    let effects = says(&mut shard, &invite, (183, "phone", 5), None);
    assert_eq!(words(&effects), ["PRACK", "180"]);
    let first = prack(&effects);
    assert_eq!(first.headers.other("RAck"), Some("5 1 INVITE"));
    assert_eq!((first.headers.cseq.number, first.headers.to_tag()), (2, Some("phone")));
    // Again, before its turn, and in its turn.
    assert!(says(&mut shard, &invite, (183, "phone", 5), None).is_empty());
    assert!(says(&mut shard, &invite, (180, "phone", 7), None).is_empty());
    let effects = says(&mut shard, &invite, (180, "phone", 6), None);
    assert_eq!(prack(&effects).headers.other("RAck"), Some("6 1 INVITE"));
    assert_eq!(prack(&effects).headers.cseq.number, 3);
    // Requests of the call go on counting.
    says(&mut shard, &invite, (200, "phone", 0), Some(audio(5_000)));
    let dialog = leg(&shard, call, 1).dialog.clone().unwrap();
    assert_eq!(dialog.local_cseq, 3);
    assert!(leg(&shard, call, 1).early.is_empty());
}

/// What a gateway's next life has to say again.
#[test]
fn prack_is_owed_until_it_is_answered() {
    let (mut shard, call, invite) = rings();
    let effects = says(&mut shard, &invite, (180, "phone", 5), None);
    let prack = prack(&effects);
    shard.done = shard.leader.outbox.keys().copied().collect();
    shard.apply(Command::Trim);
    let owed = |shard: &Shard| {
        let known = shard.leader.outbox.values().map(|effect| &effect.body);
        known
            .filter(|body| matches!(body, Body::Send { request, .. } if **request == prack))
            .count()
    };
    assert_eq!(owed(&shard), 1);
    let branch = prack.headers.branch().to_owned();
    let response = Box::new(response(&prack, 200));
    shard.event(GatewayEvent::Response { branch, response, answer: None });
    assert_eq!(owed(&shard), 0);
    assert_eq!(state(&shard, call, 1), &State::Alerting);
}

#[test]
fn prack_that_nobody_answers_leaves_the_call_as_it_is() {
    let (mut shard, call, invite) = rings();
    let effects = says(&mut shard, &invite, (180, "phone", 5), None);
    times_out(&mut shard, prack(&effects).headers.branch());
    assert_eq!(state(&shard, call, 1), &State::Alerting);
}

/// RFC 3261 §13.2.1: the first answer is the answer.
#[test]
fn early_answer_is_kept_for_a_200_that_says_nothing_more() {
    for sdp in [None, Some(audio(5_500))] {
        let (mut shard, call, invite) = rings();
        says(&mut shard, &invite, (183, "phone", 5), Some(audio(5_000)));
        let effects = says(&mut shard, &invite, (200, "phone", 0), sdp);
        assert_eq!(words(&effects), ["ACK", "200", "media [leg leg]"]);
        let remote = leg(&shard, call, 1).media.remote.unwrap();
        assert_eq!(remote.port(), 5_000);
    }
}

#[test]
fn each_branch_of_a_fork_counts_for_itself() {
    let (mut shard, call, invite) = rings();
    says(&mut shard, &invite, (183, "one", 5), Some(audio(5_000)));
    let effects = says(&mut shard, &invite, (183, "two", 900), Some(audio(5_200)));
    assert_eq!(prack(&effects).headers.to_tag(), Some("two"));
    says(&mut shard, &invite, (180, "one", 6), None);
    says(&mut shard, &invite, (200, "two", 0), None);
    assert_eq!(leg(&shard, call, 1).media.remote.map(|remote| remote.port()), Some(5_200));
    assert_eq!(leg(&shard, call, 1).dialog.as_ref().map(|dialog| dialog.local_cseq), Some(2));
}

#[test]
fn response_that_comes_while_we_cancel_is_acknowledged_and_cancelled() {
    let (mut shard, call, invite) = rings();
    let transaction = super::transaction(&shard, call);
    shard.event(GatewayEvent::Cancel { transaction, q850: None });
    let effects = says(&mut shard, &invite, (180, "phone", 5), None);
    assert_eq!(words(&effects), ["PRACK", "CANCEL"]);
}
