use tandem_sip::{Carrier, ConnectionId, Method, Millis, Request, Response};

use super::state::Subscription;
use crate::command::{Command, GatewayEvent, Inbound};
use crate::deadline::Deadline;
use crate::effect::{Body, Effect};
use crate::ids::{AgentId, EntityId};
use crate::limits;
use crate::tests::shard::{Shard, key, phone, request, words};
use crate::world::{Rejection, Reply};

fn notifies(effects: &[Effect]) -> Vec<&Request> {
    effects
        .iter()
        .filter_map(|effect| match &effect.body {
            Body::Notify { request, .. } => Some(&**request),
            Body::Respond { .. } | Body::Send { .. } | Body::Media(_) => None,
        })
        .collect()
}

fn answered(effects: &[Effect]) -> &Response {
    let Body::Respond { response, .. } = &effects[0].body else { panic!("{effects:?}") };
    response
}

fn header<'r>(request: &'r Request, name: &str) -> &'r str {
    request.headers.other(name).unwrap_or_default()
}

/// Version, and of each dialog its state and direction.
fn lamp(notify: &Request) -> (u32, Vec<String>) {
    let text = std::str::from_utf8(&notify.body).unwrap();
    let between = |text: &str, from: &str, to: &str| {
        let (_, rest) = text.split_once(from)?;
        rest.split_once(to).map(|(value, _)| value.to_owned())
    };
    let (_, text) = text.split_once("<dialog-info").unwrap();
    let version = between(text, " version=\"", "\"").unwrap().parse().unwrap();
    let dialogs = text.split("<dialog ").skip(1).map(|dialog| {
        let state = between(dialog, "<state>", "<").unwrap();
        let direction = between(dialog, "direction=\"", "\"");
        direction.map_or(state.clone(), |direction| format!("{state} {direction}"))
    });
    (version, dialogs.collect())
}

/// The one NOTIFY of an entry.
fn told(effects: &[Effect]) -> (u32, Vec<String>) {
    let notifies = notifies(effects);
    assert_eq!(notifies.len(), 1, "{:?}", words(effects));
    lamp(notifies[0])
}

fn only(shard: &Shard) -> &Subscription {
    let mut all = shard.leader.subscriptions.values();
    let only = all.next().expect("a subscription");
    assert!(all.next().is_none());
    only
}

fn event_effects((reply, effects): (Reply, Vec<Effect>)) -> Vec<Effect> {
    assert_eq!(reply, Reply::Done);
    effects
}

/// 1002 watches 1001, who is registered.
fn watched() -> Shard {
    let mut shard = Shard::new();
    shard.register(1001);
    shard.subscribe(1002, "w", "1001", "dialog;id=4", None);
    shard
}

/// A SUBSCRIBE within the dialog of the one subscription.
fn refresh(shard: &mut Shard, cseq: u32, expires_s: Option<u32>, event: &str) -> Vec<Effect> {
    let dialog = only(shard).dialog.clone();
    let contact = format!("<sip:1002@{}>", phone(1002));
    let mut request = request(Method::Subscribe, &dialog.call_id, &dialog.local_tag, &contact);
    request.headers.cseq.number = cseq;
    request.headers.expires = expires_s;
    request.headers.push_other("Event", event);
    let event = GatewayEvent::Request(Inbound {
        transaction: key(&request),
        source: phone(1002),
        carrier: Carrier::Udp,
        request: request.into(),
        offer: None,
        names: Vec::new(),
    });
    event_effects(shard.event(event))
}

#[test]
fn subscriber_is_told_the_whole_state_at_once() {
    let mut shard = Shard::new();
    shard.register(1001);
    let effects = shard.subscribe(1002, "w", "1001", "dialog;id=4", Some(600));
    assert_eq!(words(&effects), ["200", "NOTIFY"]);
    let response = answered(&effects);
    assert_eq!(response.headers.expires, Some(600));
    assert_eq!(response.headers.contact[0].uri.to_string(), "sip:tandem@127.0.0.10:5060");
    let notify = notifies(&effects)[0];
    assert_eq!(header(notify, "Event"), "dialog;id=4");
    assert_eq!(header(notify, "Subscription-State"), "active;expires=600");
    assert_eq!(notify.headers.content_type.as_deref(), Some("application/dialog-info+xml"));
    assert_eq!(notify.headers.from_tag(), response.headers.to_tag());
    assert_eq!(notify.uri.to_string(), format!("sip:1002@{}", phone(1002)));
    assert_eq!(lamp(notify), (0, vec!["terminated".to_owned()]));
    let text = std::str::from_utf8(&notify.body).unwrap();
    assert!(text.contains("state=\"full\" entity=\"sip:1001@127.0.0.10\""), "{text}");
}

#[test]
fn lamp_follows_the_call_in_the_entries_that_change_it() {
    let mut shard = watched();
    let (call, effects) = shard.invite("c1", "1001");
    let call = call.unwrap();
    assert_eq!(told(&effects), (1, vec!["trying recipient".to_owned()]));
    let invite = shard.ringing(call).unwrap();
    let effects = event_effects(shard.answer(&invite, 180));
    assert_eq!(told(&effects), (2, vec!["early recipient".to_owned()]));
    // What rings is named as an INVITE with Replaces names it, and who calls is not.
    let text = std::str::from_utf8(&notifies(&effects)[0].body).unwrap();
    let leg = &shard.call(call).legs[1];
    let (call_id, tag) = (&leg.invite.headers.call_id, &leg.local_tag);
    let name = format!("call-id=\"{call_id}\" local-tag=\"{tag}\" remote-tag=\"phone\"");
    assert!(text.contains(&name), "{text}");
    assert!(!text.contains("138"), "{text}");
    let effects = event_effects(shard.answer(&invite, 200));
    assert_eq!(told(&effects), (3, vec!["confirmed recipient".to_owned()]));
    shard.ack(call);
    let effects = shard.bye(call, 2);
    assert_eq!(told(&effects), (4, vec!["terminated".to_owned()]));
    let cseqs = only(&shard).dialog.local_cseq;
    assert_eq!(cseqs, 5, "one a NOTIFY");
    // What nobody watches tells nobody.
    shard.register(1003);
    let (_, effects) = shard.invite("c2", "1003");
    assert_eq!(notifies(&effects).len(), 0);
}

#[test]
fn lamp_shows_who_places_a_call() {
    let mut shard = watched();
    let (call, effects) = shard.invite_from("c1", "4003", phone(1001));
    assert_eq!(told(&effects), (1, vec!["confirmed initiator".to_owned()]));
    shard.ack(call.unwrap());
    let (_, call, effects) = shard.originate(1001, "4003");
    assert!(call.is_none() && notifies(&effects).is_empty(), "the phone is busy");
    let effects = shard.bye(shard.leader.calls.keys().copied().next().unwrap(), 2);
    assert_eq!(told(&effects), (2, vec!["terminated".to_owned()]));
}

#[test]
fn picked_up_call_moves_from_one_lamp_to_the_other() {
    let mut shard = watched();
    shard.register(1003);
    shard.subscribe(1002, "w3", "1003", "dialog", None);
    let (call, _) = shard.invite("c1", "1001");
    let invite = shard.ringing(call.unwrap()).unwrap();
    let effects = event_effects(shard.answer(&invite, 180));
    let text = String::from_utf8(notifies(&effects)[0].body.clone()).unwrap();
    let named = |name: &str| {
        let (_, rest) = text.split_once(&format!(" {name}=\"")).unwrap();
        rest.split_once('"').unwrap().0.to_owned()
    };
    let (call_id, to, from) = (named("call-id"), named("local-tag"), named("remote-tag"));
    let replaces = format!("{call_id};to-tag={to};from-tag={from}");
    let (status, effects) = shard.invite_replacing("p", &replaces, phone(1003));
    assert_eq!(status, 200);
    let lamps: Vec<_> = notifies(&effects).into_iter().map(|notify| lamp(notify).1).collect();
    assert_eq!(lamps, [vec!["terminated".to_owned()], vec!["confirmed initiator".to_owned()]]);
}

#[test]
fn refresh_tells_anew_and_expires_zero_ends_it() {
    let mut shard = watched();
    let effects = refresh(&mut shard, 2, Some(120), "dialog;id=4");
    assert_eq!(words(&effects), ["200", "NOTIFY"]);
    assert_eq!(answered(&effects).headers.expires, Some(120));
    assert_eq!(told(&effects).0, 1);
    // The same request once more, and one that was overtaken.
    let again = refresh(&mut shard, 2, Some(120), "dialog;id=4");
    assert_eq!(words(&again), ["200", "NOTIFY"]);
    assert_eq!(words(&refresh(&mut shard, 1, Some(120), "dialog;id=4")), ["500"]);
    // Another package, or another of that name, is another subscription.
    for event in ["dialog", "message-summary", "dialog;id=5"] {
        assert_eq!(words(&refresh(&mut shard, 3, None, event)), ["481"], "{event}");
    }
    let effects = refresh(&mut shard, 4, Some(0), "dialog;id=4");
    assert_eq!(answered(&effects).headers.expires, Some(0));
    let notify = notifies(&effects)[0];
    assert_eq!(header(notify, "Subscription-State"), "terminated;reason=timeout");
    assert_eq!(words(&refresh(&mut shard, 5, None, "dialog;id=4")), ["481"]);
    let (_, effects) = shard.invite("c1", "1001");
    assert_eq!(notifies(&effects).len(), 0, "it is over");
    shard.due(limits::RELEASE_MS_MAX);
    assert!(shard.leader.subscriptions.is_empty());
    assert!(!shard.leader.outbox.values().any(|effect| matches!(effect.body, Body::Notify { .. })));
}

#[test]
fn subscription_that_nobody_refreshes_ends_with_a_word() {
    let mut shard = watched();
    shard.now += u64::from(limits::SUBSCRIBED_S_DEFAULT) * 1_000;
    let due = shard.leader.due(Millis(shard.now));
    let due: Vec<_> =
        due.into_iter().filter(|it| matches!(it, Deadline::SubscriptionDue { .. })).collect();
    assert_eq!(due.len(), 1);
    let effects = event_effects(shard.apply(Command::Due(due[0].clone())));
    let notify = notifies(&effects)[0];
    assert_eq!(header(notify, "Subscription-State"), "terminated;reason=timeout");
    // The same once more is stale.
    let (reply, _) = shard.apply(Command::Due(due[0].clone()));
    assert!(matches!(reply, Reply::Rejected(Rejection::NotFound(_))), "{reply:?}");
}

#[test]
fn fetch_is_told_once_and_keeps_nothing() {
    let mut shard = Shard::new();
    let effects = shard.subscribe(1002, "w", "1001", "dialog", Some(0));
    let notify = notifies(&effects)[0];
    assert_eq!(header(notify, "Subscription-State"), "terminated;reason=timeout");
    assert_eq!(lamp(notify).1, ["terminated"]);
    shard.due(limits::RELEASE_MS_MAX);
    assert!(shard.leader.subscriptions.is_empty());
}

#[test]
fn mailbox_is_empty_and_the_own() {
    let mut shard = Shard::new();
    let effects = shard.subscribe(1002, "m", "1002", "message-summary", None);
    let notify = notifies(&effects)[0];
    assert_eq!(
        std::str::from_utf8(&notify.body).unwrap(),
        "Messages-Waiting: no\r\nMessage-Account: sip:1002@127.0.0.10\r\n"
    );
    let content_type = notify.headers.content_type.as_deref();
    assert_eq!(content_type, Some("application/simple-message-summary"));
    let status = |effects: Vec<Effect>| answered(&effects).status;
    assert_eq!(status(shard.subscribe(1002, "m3", "1003", "message-summary", None)), 403);
    assert_eq!(status(shard.subscribe(1002, "m4", "1999", "message-summary", None)), 404);
    assert_eq!(status(shard.subscribe(1002, "d4", "1999", "dialog", None)), 404);
    let effects = shard.subscribe(1002, "p", "1003", "presence", None);
    assert_eq!(answered(&effects).status, 489);
    let events = answered(&effects).headers.other("Allow-Events");
    assert_eq!(events, Some("dialog, message-summary"));
    assert_eq!(shard.leader.subscriptions.len(), 1);
}

#[test]
fn newest_notify_is_the_one_that_waits_and_is_done_again_by_the_next_life() {
    let mut shard = watched();
    let (call, _) = shard.invite("c1", "1001");
    let invite = shard.ringing(call.unwrap()).unwrap();
    shard.answer(&invite, 180);
    let waiting = |shard: &Shard| -> Vec<(u32, Vec<String>)> {
        let subscriber = EntityId::Agent("1002".into());
        let outbox = shard.leader.effects_of(&subscriber);
        let notifies = outbox.filter_map(|effect| match &effect.body {
            Body::Notify { request, .. } => Some(lamp(request)),
            Body::Respond { .. } | Body::Send { .. } | Body::Media(_) => None,
        });
        notifies.collect()
    };
    let newest = (2, vec!["early recipient".to_owned()]);
    assert_eq!(waiting(&shard), std::slice::from_ref(&newest));
    shard.log_in((0..40).map(|n| 20_000 + 2 * n).collect());
    assert_eq!(waiting(&shard), [newest]);
    shard.done = shard
        .leader
        .outbox
        .values()
        .filter(|effect| matches!(effect.body, Body::Notify { .. }))
        .map(|effect| effect.id)
        .collect();
    shard.apply(Command::Trim);
    assert_eq!(waiting(&shard), []);
}

#[test]
fn phone_that_knows_of_no_subscription_is_told_nothing_more() {
    let mut shard = watched();
    let dialog = only(&shard).dialog.clone();
    let gone = |call_id: &str| GatewayEvent::SubscriptionGone {
        call_id: call_id.to_owned(),
        local_tag: dialog.local_tag.clone(),
    };
    let (reply, _) = shard.event(gone("another"));
    assert!(matches!(reply, Reply::Rejected(Rejection::NotFound(_))));
    event_effects(shard.event(gone(&dialog.call_id)));
    assert!(shard.leader.subscriptions.is_empty());
}

/// A gateway may have died between the entry and the phone; a phone may have been started anew.
#[test]
fn same_request_makes_one_subscription_and_a_phone_one_of_a_kind() {
    let mut shard = watched();
    let tag = only(&shard).dialog.local_tag.clone();
    let effects = shard.subscribe(1002, "w", "1001", "dialog;id=4", None);
    assert_eq!(answered(&effects).headers.to_tag(), Some(tag.as_str()));
    assert_eq!(only(&shard).dialog.local_tag, tag);
    let effects = shard.subscribe(1002, "after a reboot", "1001", "dialog;id=4", None);
    assert_ne!(answered(&effects).headers.to_tag(), Some(tag.as_str()));
    assert_ne!(only(&shard).dialog.local_tag, tag);
    shard.subscribe(1003, "another's", "1001", "dialog;id=4", None);
    assert_eq!(shard.leader.subscriptions.len(), 2);
}

#[test]
fn watchers_of_one_and_subscriptions_of_one_are_bounded() {
    let mut shard = Shard::new();
    for n in 0..limits::SUBSCRIPTIONS_OF_AGENT_MAX {
        let effects =
            shard.subscribe(1002, &format!("w{n}"), "1002", &format!("dialog;id={n}"), None);
        let status = if n < limits::WATCHERS_MAX { 200 } else { 486 };
        assert_eq!(answered(&effects).status, status, "{n}");
    }
    for n in 0..=(limits::SUBSCRIPTIONS_OF_AGENT_MAX - limits::WATCHERS_MAX) {
        let event = format!("message-summary;id={n}");
        let effects = shard.subscribe(1002, &format!("m{n}"), "1002", &event, None);
        let room = n < limits::SUBSCRIPTIONS_OF_AGENT_MAX - limits::WATCHERS_MAX;
        assert_eq!(answered(&effects).status, if room { 200 } else { 486 }, "{n}");
    }
    // What takes the place of another needs no room.
    let effects = shard.subscribe(1002, "w0 anew", "1002", "dialog;id=0", None);
    assert_eq!(answered(&effects).status, 200);
}

#[test]
fn subscription_that_its_connection_alone_leads_to_ends_with_it() {
    let over = |carrier, contact: &str| {
        let mut shard = Shard::new();
        let mut request = request(Method::Subscribe, "w", "", contact);
        request.uri.user = Some("1001".into());
        request.headers.push_other("Event", "dialog");
        shard.subscribe_with(1002, request, phone(1002), carrier);
        let source = phone(1002);
        let other = GatewayEvent::FlowGone { source, connection: ConnectionId(8) };
        shard.event(other);
        assert_eq!(shard.leader.subscriptions.len(), 1);
        shard.event(GatewayEvent::FlowGone { source, connection: ConnectionId(7) });
        let left = shard.leader.subscriptions.len();
        if left == 1 {
            shard.log_in(vec![40_000, 40_002]);
            assert_eq!(shard.leader.subscriptions.len(), 1, "it is reached at its Contact");
        }
        left
    };
    let connection = Some(ConnectionId(7));
    assert_eq!(over(Carrier::Ws { connection }, "<sip:1002@a.invalid;transport=ws>"), 0);
    assert_eq!(over(Carrier::Tcp { connection }, "<sip:1002@192.0.2.9;transport=tcp;ob>"), 0);
    assert_eq!(over(Carrier::Tcp { connection }, "<sip:1002@192.0.2.9;transport=tcp>"), 1);
}

#[test]
fn lives_of_gateways_and_leaders_change_nothing_of_it() {
    let mut shard = watched();
    let before = only(&shard).clone();
    shard.apply(Command::Elected { node: "n".into(), dark: false });
    shard.log_in((0..40).map(|n| 20_000 + 2 * n).collect());
    assert_eq!(*only(&shard), before);
    let (call, effects) = shard.invite("c1", "1001");
    assert_eq!(told(&effects).0, 1);
    assert_eq!(notifies(&effects)[0].headers.cseq.number, before.dialog.local_cseq + 1);
    assert!(call.is_some());
    assert!(shard.leader.is_watched(&AgentId::from("1001")));
}
