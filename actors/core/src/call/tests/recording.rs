//! Pausing and resuming, and what gateways tell of a recording.

use super::{connected, is_not_found};
use crate::cdr::Manifest;
use crate::command::{Command, Gap, GatewayEvent, OperatorCommand, Recorded};
use crate::effect::{Body, Effect, RecordingPlan};
use crate::ids::{CallId, GatewayId, RecordingId};
use crate::query::show_manifest;
use crate::tests::shard::Shard;
use crate::world::{Rejection, Reply};
use crate::{query, rows};

fn pause(shard: &mut Shard, call: CallId, paused: bool) -> (Reply, Vec<Effect>) {
    let key = format!("p{}", shard.leader.index);
    shard.operate(&key, OperatorCommand::PauseRecording { call, paused })
}

fn planned(effects: &[Effect]) -> Option<RecordingPlan> {
    effects.iter().rev().find_map(|effect| match &effect.body {
        Body::Media(plan) => plan.recording,
        Body::Respond { .. } | Body::Send { .. } | Body::Notify { .. } => None,
    })
}

#[test]
fn pause_is_planned_once_and_lasts_over_a_takeover_and_a_restart_of_the_gateway() {
    let (mut shard, call) = connected();
    let id = shard.call(call).recording.unwrap();
    let (reply, effects) = pause(&mut shard, call, true);
    assert_eq!(reply, Reply::Done);
    let plan = planned(&effects).unwrap();
    assert_eq!((plan.id, plan.paused), (id, true));
    let (reply, again) = pause(&mut shard, call, true);
    assert_eq!((reply, planned(&again)), (Reply::Done, None));
    shard.apply(Command::Elected { node: "node-b".into(), dark: false });
    let shown = query::call(&shard.leader, call).unwrap().recording.unwrap();
    assert_eq!((shown.id, shown.paused), (id.to_string(), true));
    assert!(shard.restored().calls[&call].recording_paused);
    let (_, effects) = pause(&mut shard, call, false);
    assert!(!planned(&effects).unwrap().paused);
    assert!(!shard.call(call).recording_paused);
}

#[test]
fn pause_outlives_a_hold() {
    let (mut shard, call) = connected();
    pause(&mut shard, call, true);
    let held = shard.hold(call, 1, 2, true);
    assert!(planned(&held).unwrap().paused);
    let back = shard.hold(call, 1, 3, false);
    assert!(planned(&back).unwrap().paused);
}

#[test]
fn pause_is_refused_where_nothing_is_recorded() {
    let mut shard = Shard::new();
    let echo = shard.invite("c1", "4003").0.unwrap();
    let (reply, effects) = pause(&mut shard, echo, true);
    assert!(matches!(reply, Reply::Rejected(Rejection::Refused(_))), "{reply:?}");
    assert_eq!(planned(&effects), None);
    let (reply, _) = pause(&mut shard, CallId(77), true);
    assert!(is_not_found(&reply), "{reply:?}");
}

fn manifest(gateway: &str, duration_ms: u64, hash: &str) -> Manifest {
    let at = tandem_sip::Millis(1_000);
    let new = Manifest::new(RecordingId(1), CallId(2), GatewayId::from(gateway), at);
    Manifest { duration_ms, hash: hash.into(), sealed: !hash.is_empty(), ..new }
}

#[test]
fn holding_is_a_row_of_who_has_it_and_what_is_whole_is_not_replaced() {
    let (mut shard, call) = connected();
    let recording = shard.call(call).recording.unwrap();
    let of = |manifest: Manifest| Manifest { recording, call, ..manifest };
    // An older gateway names nobody: it is named as its line.
    let whole = of(manifest("", 9_000, "aa"));
    let late = of(manifest("", 4_000, ""));
    let elsewhere = of(manifest("process-b", 5_000, ""));
    shard.event(GatewayEvent::Holdings(vec![whole]));
    shard.event(GatewayEvent::Holdings(vec![late, elsewhere]));
    let of_recording = |key: &Vec<u8>| key.len() > 8 && key.starts_with(&recording.0.to_be_bytes());
    let told: Vec<Manifest> = shard
        .rows
        .iter()
        .filter(|((family, key), _)| *family == rows::RECORDINGS && of_recording(key))
        .map(|(_, row)| rows::decode_manifest(row).unwrap())
        .collect();
    let line = shard.call(call).gateway.to_string();
    let told: Vec<_> =
        told.iter().map(|it| (it.gateway.to_string(), it.sealed, it.duration_ms)).collect();
    let process = "process-b".to_owned();
    assert_eq!(told, [(line.clone(), false, 4_000), (process, false, 5_000), (line, true, 9_000)]);
}

#[test]
fn recorded_is_the_process_that_has_it_and_a_line_that_names_none_has_it_itself() {
    let (mut shard, call) = connected();
    let recording = shard.call(call).recording.unwrap();
    let line = shard.call(call).gateway.to_string();
    let recorded = |holder: &str| Recorded {
        call,
        recording,
        duration_ms: 9_000,
        chunks: 9,
        gaps: Vec::new(),
        hash: "aa".into(),
        bytes: 44,
        pauses: Vec::new(),
        began_at: None,
        holder: holder.into(),
    };
    for (holder, expected) in [("", line.as_str()), ("process-b", "process-b")] {
        shard.event(GatewayEvent::Recorded(recorded(holder)));
        let key = (rows::RECORDINGS, recording.0.to_be_bytes().to_vec());
        let shown = show_manifest(&rows::decode_manifest(&shard.rows[&key]).unwrap(), &[]);
        assert_eq!((shown.gateway.as_str(), shown.copies), (expected, vec![expected.to_owned()]));
    }
}

#[test]
fn copies_are_those_whose_hash_is_the_sealed_one() {
    let sealed = manifest("gateway-a", 9_000, "aa");
    let good = manifest("gateway-b", 9_000, "aa");
    let other = manifest("gateway-c", 9_000, "bb");
    let shown = show_manifest(&sealed, &[good, other]);
    assert_eq!(shown.copies, ["gateway-a", "gateway-b"]);
    assert!(shown.sealed && !shown.cut);
}

#[test]
fn recording_of_a_dead_gateway_is_what_another_has_until_it_goes_on() {
    let begun = manifest("gateway-a", 0, "");
    let told = manifest("gateway-a", 10_000, "");
    let gaps = vec![Gap { at_ms: 1_000, len_ms: 20 }];
    let rest = Manifest { cut: true, gaps, sealed: false, ..manifest("gateway-b", 14_000, "cc") };
    let shown = show_manifest(&begun, &[told.clone(), rest.clone()]);
    assert_eq!((shown.duration_ms, shown.sealed, shown.cut), (14_000, true, true));
    assert_eq!((shown.copies, shown.hash), (vec!["gateway-b".to_owned()], "cc".to_owned()));
    assert_eq!(shown.gaps.len(), 1);
    // Its gateway came back and went on with it.
    let on = manifest("gateway-a", 24_000, "");
    let shown = show_manifest(&begun, &[on, rest.clone()]);
    assert_eq!((shown.duration_ms, shown.sealed, shown.cut), (24_000, false, false));
    assert_eq!(shown.copies, ["gateway-a"]);
    let sealed = show_manifest(&manifest("gateway-a", 30_000, "dd"), &[told, rest]);
    assert_eq!((sealed.copies, sealed.cut), (vec!["gateway-a".to_owned()], false));
}

#[test]
fn recording_that_goes_on_in_another_process_is_shown_there_and_whole_where_it_was_sealed() {
    let begun = manifest("gateway-a", 0, "");
    let before = manifest("gateway-a", 10_000, "");
    // The other process goes on from its copy, with less than the first had told.
    let on = manifest("gateway-b", 9_000, "");
    let shown = show_manifest(&begun, &[before.clone(), on]);
    assert_eq!((shown.gateway.as_str(), shown.duration_ms), ("gateway-a", 10_000));
    let on = manifest("gateway-b", 24_000, "");
    let shown = show_manifest(&begun, &[before.clone(), on.clone()]);
    assert_eq!((shown.gateway.as_str(), shown.duration_ms), ("gateway-b", 24_000));
    assert_eq!((shown.copies, shown.sealed), (vec!["gateway-b".to_owned()], false));
    // The first is back, has the copy, and tells of it when that one is gone, too.
    let rest = Manifest { cut: true, sealed: false, ..manifest("gateway-a", 23_000, "cc") };
    let shown = show_manifest(&begun, &[rest.clone(), on.clone()]);
    assert_eq!((shown.gateway.as_str(), shown.cut), ("gateway-b", false));
    let sealed = manifest("gateway-b", 30_000, "dd");
    let copy = manifest("gateway-a", 30_000, "dd");
    let shown = show_manifest(&sealed, &[before, rest, on, copy]);
    assert_eq!(shown.copies, ["gateway-b", "gateway-a"]);
    assert_eq!((shown.gateway.as_str(), shown.sealed, shown.cut), ("gateway-b", true, false));
}

#[test]
fn part_that_its_gateway_sealed_when_it_came_back_hides_no_longer_one() {
    // Told as what it has: nobody had said that it goes on elsewhere.
    let part = manifest("gateway-a", 10_000, "aa");
    let begun = manifest("gateway-a", 0, "");
    let alone = show_manifest(&begun, std::slice::from_ref(&part));
    assert_eq!((alone.duration_ms, alone.sealed), (10_000, true));
    assert_eq!(alone.copies, ["gateway-a"]);
    let on_both = show_manifest(&begun, &[manifest("gateway-b", 10_000, "aa"), part.clone()]);
    assert_eq!(on_both.copies, ["gateway-a", "gateway-b"]);
    let sealed = show_manifest(&manifest("gateway-b", 30_000, "bb"), &[part]);
    assert_eq!((sealed.duration_ms, sealed.copies), (30_000, vec!["gateway-b".to_owned()]));
}
