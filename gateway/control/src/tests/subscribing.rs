//! SUBSCRIBEs that are proven, and NOTIFYs that wait for one another.

use std::sync::Arc;

use tandem_core::command::GatewayEvent;
use tandem_core::effect::{Body, Effect, EffectId};
use tandem_core::ids::{EntityId, GatewayId};
use tandem_sip::{Carrier, Message, Request, digest, parse};

use super::{Bench, SHARD};
use crate::{Output, Verdict};

fn request(text: &str) -> Request {
    match parse(text.as_bytes()) {
        Ok(Message::Request(request)) => request,
        other => panic!("{text}: {other:?}"),
    }
}

fn subscribe(branch: &str, user: &str, authorization: Option<&str>) -> Request {
    let authorization =
        authorization.map(|value| format!("Authorization: {value}\r\n")).unwrap_or_default();
    request(&format!(
        "SUBSCRIBE sip:1002@demo SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:6000;branch=z9hG4bK{branch}\r\n\
         From: <sip:{user}@demo>;tag=1\r\nTo: <sip:1002@demo>\r\nCall-ID: w\r\n\
         CSeq: 1 SUBSCRIBE\r\nContact: <sip:{user}@127.0.0.1:6000>\r\nEvent: dialog\r\n\
         {authorization}\r\n"
    ))
}

fn notify(cseq: u32, state: &str) -> Request {
    request(&format!(
        "NOTIFY sip:1001@127.0.0.1:6000 SIP/2.0\r\n\
         Via: SIP/2.0/UDP 127.0.0.10:5060;branch=z9hG4bKn{cseq}\r\nFrom: <sip:1002@demo>;tag=t\r\n\
         To: <sip:1001@demo>;tag=1\r\nCall-ID: w\r\nCSeq: {cseq} NOTIFY\r\nEvent: dialog\r\n\
         Subscription-State: {state}\r\n\r\n"
    ))
}

impl Bench {
    fn tell(&mut self, index: u64, request: &Request) -> Verdict {
        let gateway = GatewayId::from("g");
        let effect = Effect {
            id: EffectId { shard: 0, index, ordinal: 0 },
            entity: EntityId::Agent("1001".into()),
            gateway,
            body: Body::Notify {
                request: Arc::new(request.clone()),
                destination: "127.0.0.1:6000".parse().unwrap(),
                carrier: Carrier::Udp,
            },
        };
        self.control.on_effect(self.now, SHARD, 1, &Arc::new(effect))
    }

    fn answered(&mut self, request: &Request, status: u16) {
        let flow =
            tandem_sip::Flow::udp(self.control.identity.vip, "127.0.0.1:6000".parse().unwrap());
        let response = Message::Response(request.respond(status, None, None));
        self.control.on_message(self.now, 0, &flow, response);
    }

    /// What is done, with what waits to be said to be done.
    fn after_a_while(&mut self) -> Vec<String> {
        self.pass(100);
        self.outputs()
    }

    fn is_gone(&self) -> bool {
        self.control.pending(SHARD).any(|event| {
            matches!(event, GatewayEvent::SubscriptionGone { call_id, local_tag }
                if call_id == "w" && local_tag == "t")
        })
    }
}

#[test]
fn phone_that_subscribes_proves_its_password_and_names_itself() {
    let mut bench = Bench::led();
    bench.send(&subscribe("a", "1001", None));
    let Some(Output::Transmit(transmit)) = bench.control.next_output() else { panic!("nothing") };
    let Ok(Message::Response(challenge)) = parse(&transmit.bytes) else { panic!("no answer") };
    assert_eq!(challenge.status, 401);
    let value = challenge.headers.other("WWW-Authenticate").unwrap();
    let proof = |password: &str| {
        digest::answer(value, "1001", password, "SUBSCRIBE", "sip:1002@demo", "c").unwrap()
    };
    // Another's name, a wrong password, the right one.
    bench.send(&subscribe("b", "1003", Some(&proof("tandem-1001"))));
    assert_eq!(bench.outputs(), ["403"]);
    bench.pass(60_000);
    bench.send(&subscribe("c", "1001", Some(&proof("guessed"))));
    assert_eq!(bench.outputs(), ["403"]);
    bench.pass(60_000);
    bench.send(&subscribe("d", "1001", Some(&proof("tandem-1001"))));
    assert_eq!(bench.outputs(), ["event 2"]);
    let proven = bench.control.pending(SHARD).any(|event| {
        matches!(event, GatewayEvent::Subscribe(proven)
            if *proven.agent.0 == *"1001" && proven.request.headers.other("Authorization").is_none())
    });
    assert!(proven);
}

#[test]
fn notify_is_done_when_it_is_answered_and_the_newest_of_those_behind_it_goes_then() {
    let mut bench = Bench::led();
    let all: Vec<Request> = (1..=4).map(|cseq| notify(cseq, "active;expires=60")).collect();
    assert_eq!(bench.tell(1, &all[0]), Verdict::Do);
    assert_eq!(bench.after_a_while(), ["NOTIFY"]);
    for (index, notify) in (2..).zip(&all[1..]) {
        assert_eq!(bench.tell(index, notify), Verdict::Do);
    }
    assert_eq!(bench.after_a_while(), ["done 2"], "the newest has taken the place of two");
    // A new leader sends again what it does not know to be done.
    assert_eq!(bench.tell(1, &all[0]), Verdict::Repeated);
    assert_eq!(bench.tell(4, &all[3]), Verdict::Repeated);
    assert_eq!(bench.after_a_while(), [] as [&str; 0]);
    bench.answered(&all[0], 200);
    assert_eq!(bench.after_a_while(), ["NOTIFY", "done 1"]);
    bench.answered(&all[3], 500);
    assert_eq!(bench.after_a_while(), ["done 1"], "it goes on");
    assert_eq!(bench.tell(4, &all[3]), Verdict::Repeated);
    assert_eq!(bench.after_a_while(), ["done 1"]);
    assert!(!bench.is_gone());
}

#[test]
fn notify_that_is_refused_for_good_or_not_answered_ends_the_subscription() {
    for status in [Some(481), None] {
        let mut bench = Bench::led();
        bench.tell(1, &notify(1, "active;expires=60"));
        bench.tell(2, &notify(2, "active;expires=60"));
        match status {
            Some(status) => bench.answered(&notify(1, ""), status),
            None => {
                for _ in 0..100 {
                    bench.after_a_while();
                    bench.pass(400);
                }
            }
        }
        bench.outputs();
        assert!(bench.is_gone(), "{status:?}");
    }
    // The last one needs no answer.
    let mut bench = Bench::led();
    bench.tell(1, &notify(1, "terminated;reason=timeout"));
    bench.answered(&notify(1, ""), 481);
    assert_eq!(bench.after_a_while(), ["NOTIFY", "done 1"]);
    assert!(!bench.is_gone());
}
