//! What a refused caller is told when its gateway starts anew.

use tandem_sip::{Carrier, Method, Millis};

use crate::command::{Command, Envelope, GatewayEvent, Inbound, Origin};
use crate::effect::Body;
use crate::ids::GatewayId;
use crate::tests::shard::{GATEWAY, Shard, key, phone, request, words};
use crate::world::{Meta, Reply};
use crate::{invariants, limits};

/// The status and To tag of the refusals that wait in the outbox.
fn kept(shard: &Shard) -> Vec<(u16, Option<String>)> {
    let kept = |body: &Body| match body {
        Body::Respond { response, .. } if response.status >= 300 => {
            Some((response.status, response.headers.to_tag().map(str::to_owned)))
        }
        Body::Respond { .. } | Body::Send { .. } | Body::Notify { .. } | Body::Media(_) => None,
    };
    shard.leader.outbox.values().filter_map(|effect| kept(&effect.body)).collect()
}

fn pass(shard: &mut Shard, ms: u64) {
    shard.now += ms;
    shard.apply(Command::Trim);
}

#[test]
fn refused_invite_that_comes_again_gets_the_same_answer_and_no_second_record() {
    let mut shard = Shard::new();
    assert_eq!(words(&shard.invite("c1", "4999").1), ["404"]);
    let said = kept(&shard);
    assert_eq!(words(&shard.invite("c1", "4999").1), ["404"]);
    assert_eq!(kept(&shard), said, "the same tag, for it is the same answer");
    assert_eq!(shard.cdrs.len(), 1);
}

#[test]
fn refusal_is_kept_though_it_is_done_until_its_transaction_is_over() {
    let mut shard = Shard::new();
    shard.register(1001);
    // 100 was said: this caller repeats nothing, so the refusal must be said to it again.
    let call = shard.invite("c1", "1001").0.expect("a call");
    let invite = shard.ringing(call).expect("a phone rings");
    let (_, effects) = shard.answer(&invite, 486);
    assert_eq!(words(&effects), ["486", "media []"]);
    shard.done.extend(effects.iter().map(|effect| effect.id));
    pass(&mut shard, limits::REFUSED_MS - 100);
    assert_eq!(kept(&shard).len(), 1);
    assert!(shard.leader.calls.is_empty());
    pass(&mut shard, 100);
    assert_eq!(kept(&shard), []);
    assert!(shard.leader.refused.is_empty());
}

#[test]
fn oldest_refusal_is_forgotten_where_too_many_are_remembered() {
    let mut shard = Shard::new();
    shard.invite("c0", "4999");
    let oldest = shard.leader.refused.keys().next().cloned().expect("remembered");
    // One replica alone: what many commands come to is of interest here, not who agrees.
    let mut world = shard.leader;
    for n in 1..=limits::REFUSED_MAX as u64 {
        let mut invite = request(Method::Invite, &format!("c{n}"), "", "<sip:c@127.0.0.1:6000>");
        invite.uri.user = Some("4999".into());
        let inbound = Inbound {
            transaction: key(&invite),
            source: phone(1001),
            carrier: Carrier::Udp,
            request: invite.into(),
            offer: None,
            names: Vec::new(),
        };
        let origin = Some(Origin {
            gateway: GatewayId(GATEWAY.into()),
            incarnation: shard.incarnation,
            sequence: shard.sequence + n,
        });
        let (at, index) = (Millis(shard.now + 1), world.index + 1);
        let command = Command::Gateway(GatewayEvent::Invite(inbound));
        let envelope = Envelope { at, seed: n, version: 1, origin, done: Vec::new(), command };
        let meta = Meta { at, seed: n, version: 1, shard: 0, index, term: 1 };
        assert_eq!(world.apply(&meta, &envelope).reply, Reply::Done);
    }
    assert_eq!(world.refused.len(), limits::REFUSED_MAX);
    assert!(!world.refused.contains_key(&oldest));
    invariants::check(&world).expect("each that is remembered can be said again");
}
