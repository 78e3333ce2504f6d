//! An agent's phone answers.

use tandem_sip::sdp::Audio;

use super::{dialing, leg, plan, record, state, with_agent};
use crate::call::leg::State;
use crate::call::state::State as CallState;
use crate::command::GatewayEvent;
use crate::effect::{Effect, Source};
use crate::ids::CallId;
use crate::rows;
use crate::tests::shard::{Shard, audio, response, words};

/// The phone answers with this description.
fn answer_with(shard: &mut Shard, call: CallId, answer: Option<Audio>) -> Vec<Effect> {
    let invite = shard.ringing(call).unwrap();
    let event = GatewayEvent::Response {
        branch: invite.headers.branch().to_owned(),
        response: Box::new(response(&invite, 200)),
        answer,
    };
    shard.event(event).1
}

#[test]
fn both_legs_hear_each_other_once_the_agent_answers() {
    let mut shard = with_agent();
    let call = shard.offered("c1");
    let effects = answer_with(&mut shard, call, Some(audio(5_000)));
    assert_eq!(words(&effects), ["ACK", "media [leg leg] recorded"]);
    let (caller, agent) = (leg(&shard, call, 0).id, leg(&shard, call, 1).id);
    let [first, second] = plan(&effects).legs.as_slice() else { panic!("two legs") };
    assert_eq!((first.leg, first.source.clone()), (caller, Source::Leg(agent)));
    assert_eq!((second.leg, second.source.clone()), (agent, Source::Leg(caller)));
    assert_eq!(second.remote, audio(5_000).remote());
    let recording = plan(&effects).recording.unwrap();
    assert_eq!((recording.left, recording.right), (caller, agent));
    assert_eq!(shard.call(call).recording, Some(recording.id));
    assert_eq!(shard.call(call).state, CallState::Connected { leg: agent });
    assert_eq!(state(&shard, call, 1), &State::Active);
}

#[test]
fn recording_has_a_manifest_from_its_first_moment() {
    let mut shard = with_agent();
    let call = shard.talk("c1");
    let recording = shard.call(call).recording.unwrap();
    let key = (rows::RECORDINGS, recording.0.to_be_bytes().to_vec());
    let manifest = rows::decode_manifest(&shard.rows[&key]).unwrap();
    assert_eq!((manifest.call, manifest.sealed), (call, false));
}

#[test]
fn call_is_recorded_only_where_its_queue_says_so() {
    let mut shard = Shard::with(|config| config.queues[0].record = false);
    shard.register(1001);
    let call = shard.offered("c1");
    let effects = answer_with(&mut shard, call, Some(audio(5_000)));
    assert_eq!(words(&effects), ["ACK", "media [leg leg]"]);
    assert_eq!(shard.call(call).recording, None);

    let (mut shard, call) = dialing();
    let effects = answer_with(&mut shard, call, Some(audio(5_000)));
    assert_eq!(words(&effects), ["ACK", "200", "media [leg leg]"]);
    assert_eq!(shard.call(call).recording, None);
}

#[test]
fn caller_of_an_extension_is_answered_in_the_same_entry() {
    let (mut shard, call) = dialing();
    assert_eq!(shard.call(call).answered_at, None);
    answer_with(&mut shard, call, Some(audio(5_000)));
    let call = shard.call(call);
    assert_eq!(call.answered_at, call.connected_at);
    assert!(call.answered_at.is_some());
}

#[test]
fn answer_that_can_not_be_talked_over_is_hung_up_and_the_caller_waits_on() {
    for answer in [None, Some(Audio { payloads: Vec::new(), ..audio(5_000) })] {
        let mut shard = with_agent();
        let call = shard.offered("c1");
        let effects = answer_with(&mut shard, call, answer);
        assert_eq!(words(&effects), ["ACK", "BYE"]);
        assert_eq!(shard.call(call).state_name(), "queued");
        assert_eq!(shard.agent_state(1001), "not_ready");
        shard.peers_answer(&effects);
        assert_eq!(shard.call(call).legs.len(), 1);
    }
}

#[test]
fn extension_that_can_not_be_talked_to_is_refused_to_the_caller() {
    let (mut shard, call) = dialing();
    let effects = answer_with(&mut shard, call, None);
    assert_eq!(words(&effects), ["ACK", "BYE", "488", "media []"]);
    assert_eq!(record(&shard), ("rejected", "callee", "488"));
    shard.peers_answer(&effects);
    assert!(shard.leader.calls.is_empty());
}
