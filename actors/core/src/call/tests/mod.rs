//! Each transition of a call and its legs, and those that must not be: a file for each machine.

mod attended;
mod codecs;
mod connect;
mod consult;
mod credentials;
mod early;
mod early_media;
mod early_offer;
mod ending;
mod glare;
mod identity;
mod inbound;
mod indialog;
mod originate;
mod outbound;
mod outside;
mod pickup;
mod probe;
mod protection;
mod reason;
mod recording;
mod redirect;
mod refused;
mod reliable;
mod session_timer;
mod transfer;
mod transferee;

use tandem_sip::sdp::Audio;
use tandem_sip::{Carrier, Method};

use super::leg::{Leg, State};
use crate::cdr::Cdr;
use crate::command::{GatewayEvent, Inbound, TransactionKey};
use crate::effect::{Body, Effect, MediaPlan};
use crate::ids::CallId;
use crate::tests::shard::{OUT, Shard, key, phone, request};
use crate::world::{Rejection, Reply};

fn with_agent() -> Shard {
    let mut shard = Shard::new();
    shard.register(1001);
    shard
}

/// The extension 1001 rings for a trunk's caller.
fn dialing() -> (Shard, CallId) {
    let mut shard = with_agent();
    let call = shard.invite("c1", "1001").0.expect("a call");
    (shard, call)
}

/// The caller talks to an agent of the queue.
fn connected() -> (Shard, CallId) {
    let mut shard = with_agent();
    let call = shard.talk("c1");
    (shard, call)
}

/// The caller's leg is the first, that of an agent's phone the second.
fn leg(shard: &Shard, call: CallId, at: usize) -> &Leg {
    &shard.call(call).legs[at]
}

fn state(shard: &Shard, call: CallId, at: usize) -> &State {
    &leg(shard, call, at).state
}

fn transaction(shard: &Shard, call: CallId) -> TransactionKey {
    leg(shard, call, 0).transaction.clone().expect("an inbound leg")
}

fn times_out(shard: &mut Shard, branch: &str) -> (Reply, Vec<Effect>) {
    shard.event(GatewayEvent::ClientTimeout { branch: branch.to_owned() })
}

fn is_illegal(reply: &Reply, of: &str) -> bool {
    matches!(reply, Reply::Rejected(Rejection::Illegal { state, .. }) if *state == of)
}

fn is_not_found(reply: &Reply) -> bool {
    matches!(reply, Reply::Rejected(Rejection::NotFound(_)))
}

fn plan(effects: &[Effect]) -> &MediaPlan {
    let plan = effects.iter().rev().find_map(|effect| match &effect.body {
        Body::Media(plan) => Some(plan),
        Body::Respond { .. } | Body::Send { .. } | Body::Notify { .. } => None,
    });
    plan.expect("a media plan")
}

/// The one record: how it ended, by whom, and the cause.
fn record(shard: &Shard) -> (&'static str, &'static str, &str) {
    let [Cdr { disposition, hung_up_by, cause, .. }] = shard.cdrs.as_slice() else {
        panic!("one record, not {:?}", shard.cdrs);
    };
    (disposition.as_str(), hung_up_by.as_str(), cause)
}

/// The phone of 1001 has dialled the number outside.
fn dial_outside(shard: &mut Shard, more: &[(&str, &str)], offer: Option<Audio>) -> CallId {
    let mut invite = request(Method::Invite, "c1", "", "<sip:c@127.0.0.1:6000>");
    invite.uri.user = Some(OUT.into());
    for (name, value) in more {
        invite.headers.push_other(name, value);
    }
    invite.headers.content_type = offer.is_some().then(|| "application/sdp".into());
    shard.event(GatewayEvent::Invite(Inbound {
        transaction: key(&invite),
        source: phone(1001),
        carrier: Carrier::Udp,
        request: invite.into(),
        offer,
        names: Vec::new(),
    }));
    *shard.leader.calls.keys().next_back().expect("a call")
}
