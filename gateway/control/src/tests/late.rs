//! What comes late, of before another process took over, and what somebody has made up: its outcome, and what is counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use tandem_sip::dialog::cancel_for;
use tandem_sip::{CSeq, Carrier, Method, Request, Transport};

use super::streams::{answers, invite_over};
use super::{Bench, bye, invite};

const NOTHING: [&str; 0] = [];

/// Counters by name, whatever their labels.
#[derive(Default)]
struct Counts(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Counts {
    fn of(&self, name: &str) -> u64 {
        let counts = self.0.lock().unwrap();
        counts.get(name).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

impl Recorder for Counts {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let mut counts = self.0.lock().unwrap();
        Counter::from_arc(Arc::clone(counts.entry(key.name().to_owned()).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// What was counted under that name meanwhile.
fn counted(name: &str, play: impl FnOnce()) -> u64 {
    let counts = Counts::default();
    metrics::with_local_recorder(&counts, play);
    counts.of(name)
}

fn within_dialog(method: &Method, branch: &str) -> Request {
    let mut request = bye(branch);
    request.headers.cseq = CSeq { number: 2, method: method.clone() };
    request.method = method.clone();
    request
}

/// The ACK of a 200 that `Bench::respond` has given.
fn ack_of(invite: &Request) -> Request {
    let mut ack = invite.clone();
    ack.method = Method::Ack;
    ack.headers.cseq.method = Method::Ack;
    ack.headers.to.set_tag("t");
    for param in &mut ack.headers.via[0].params {
        param.value = Some("z9hG4bKack".into());
    }
    ack
}

/// RFC 3261 §9.2: it has no effect on what was answered.
#[test]
fn cancel_that_comes_after_the_200_of_an_adopted_call_ends_nothing() {
    let mut bench = Bench::led();
    let call = invite("a");
    // The dead gateway's transaction, taken on with its answer.
    bench.respond(1, &call, 200);
    assert_eq!(bench.outputs(), ["200"]);
    bench.send(&cancel_for(&call));
    assert_eq!(bench.outputs(), ["200"], "the CANCEL's own answer, and nothing for the cluster");
    bench.send(&ack_of(&call));
    assert_eq!(bench.outputs(), ["event 2"], "the call is acknowledged and lives");
    bench.send(&ack_of(&call));
    assert_eq!(bench.outputs(), NOTHING);
}

#[test]
fn cancel_that_knows_the_call_id_alone_is_answered_481_and_the_call_goes_on() {
    let unknown = counted("tandem_sip_unknown_dialogs_total", || {
        let mut bench = Bench::led();
        let call = invite("a");
        bench.send(&call);
        assert_eq!(bench.outputs(), ["event 2"]);
        let mut forged = invite("forged");
        forged.headers.call_id = call.headers.call_id.clone();
        bench.send(&cancel_for(&forged));
        assert_eq!(bench.outputs(), ["481"]);
        bench.respond(1, &call, 200);
        assert_eq!(bench.outputs(), ["200"]);
    });
    assert_eq!(unknown, 1);
}

#[test]
fn ack_that_nobody_waits_for_is_counted_and_told_to_nobody() {
    let dropped = counted("tandem_sip_dropped_total", || {
        let mut bench = Bench::led();
        bench.send(&ack_of(&invite("a")));
        assert_eq!(bench.outputs(), NOTHING);
    });
    assert_eq!(dropped, 1);
}

/// The core knows the branch, and what was given up: it acknowledges, and hangs up.
#[test]
fn late_200_to_an_invite_of_the_dead_gateway_is_told_once_however_often_it_comes() {
    let mut bench = Bench::led();
    let call = invite_over(Transport::Udp, 5_060);
    answers(&mut bench, &call, Carrier::Udp, 200);
    answers(&mut bench, &call, Carrier::Udp, 200);
    assert_eq!(bench.outputs(), ["event 2"]);
    // One of another address is none of ours.
    let dropped = counted("tandem_sip_dropped_total", || {
        answers(&mut bench, &invite_over(Transport::Udp, 5_999), Carrier::Udp, 200);
        assert_eq!(bench.outputs(), NOTHING);
    });
    assert_eq!(dropped, 1);
}

#[test]
fn bye_of_an_ended_call_that_comes_again_is_asked_of_the_cluster_once() {
    let unknown = counted("tandem_sip_unknown_dialogs_total", || {
        let mut bench = Bench::led();
        let again = bye("a");
        bench.send(&again);
        bench.send(&again);
        assert_eq!(bench.outputs(), ["event 2"]);
        bench.respond(1, &again, 481);
        assert_eq!(bench.outputs(), ["481"]);
        bench.send(&again);
        assert_eq!(bench.outputs(), ["481"], "the same answer, and no second event");
    });
    assert_eq!(unknown, 1);
}

#[test]
fn requests_within_dialogs_that_the_cluster_does_not_know_are_counted_each_once() {
    let methods = [Method::Bye, Method::Invite, Method::Update, Method::Info];
    let unknown = counted("tandem_sip_unknown_dialogs_total", || {
        let mut bench = Bench::led();
        for (method, branch) in methods.iter().zip(["a", "b", "c", "d"]) {
            let forged = within_dialog(method, branch);
            bench.send(&forged);
            bench.respond(1, &forged, 481);
            assert!(bench.outputs().contains(&"481".to_owned()), "{method}");
            bench.send(&forged);
            assert_eq!(bench.outputs(), ["481"], "{method}");
        }
        // What is known is no alarm.
        bench.send(&bye("known"));
        bench.respond(1, &bye("known"), 200);
        bench.outputs();
    });
    assert_eq!(unknown, 4);
}
