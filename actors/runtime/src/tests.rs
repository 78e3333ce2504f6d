//! The runtime on a log in memory and a link that writes down what it is given.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tandem_core::command::{
    Command, GatewayEvent, Inbound, Login, OperatorCommand, Origin, TransactionKey,
};
use tandem_core::demo::demo_config;
use tandem_core::effect::{Body, Effect};
use tandem_core::ids::{AgentId, EntityId, GatewayId};
use tandem_core::log_time::Reading;
use tandem_sip::{Carrier, Message, parse};
use tokio::sync::watch;

use crate::shard::Options;
use crate::{
    Clock, Committed, Consensus, Leadership, Link, LogClock, ProposeError, Replica, ShardRuntime,
    Verdict,
};

const WITHIN: Duration = Duration::from_secs(5);

/// Commits at once, or refuses while it is cut off.
struct Log {
    replica: Arc<Replica>,
    index: AtomicU64,
    cut: AtomicBool,
    leadership: watch::Sender<Leadership>,
}

impl Consensus for Log {
    fn propose(&self, command: Vec<u8>) -> BoxFuture<'static, Result<Committed, ProposeError>> {
        if self.cut.load(Ordering::SeqCst) {
            return async { Err(ProposeError::NotLeading) }.boxed();
        }
        let index = self.index.fetch_add(1, Ordering::SeqCst) + 1;
        let outcome = self.replica.apply(index, self.leadership.borrow().term, &command);
        self.replica.stored(index);
        async move { Ok(Committed { index, reply: outcome.reply }) }.boxed()
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }
}

#[derive(Default)]
struct Written {
    effects: Mutex<Vec<(u64, Effect)>>,
    accepted: Mutex<Vec<(u64, Verdict)>>,
}

impl Link for Written {
    fn effect(&self, term: u64, effect: &Effect) -> bool {
        self.effects.lock().push((term, effect.clone()));
        true
    }

    fn accepted(&self, origin: &Origin, _shard: u16, verdict: Verdict) {
        self.accepted.lock().push((origin.sequence, verdict));
    }
}

/// Both in milliseconds.
struct TestClock {
    boot: AtomicU64,
    wall: AtomicU64,
}

impl Clock for TestClock {
    fn read(&self) -> Reading {
        let ns = |clock: &AtomicU64| clock.load(Ordering::SeqCst) * 1_000_000;
        Reading { boot_ns: ns(&self.boot), wall_ns: ns(&self.wall) }
    }

    fn seed(&self) -> u64 {
        self.boot.fetch_add(1, Ordering::SeqCst)
    }
}

struct Rig {
    runtime: ShardRuntime,
    log: Arc<Log>,
    link: Arc<Written>,
    clock: Arc<TestClock>,
    full: watch::Sender<bool>,
}

impl Rig {
    async fn start() -> Self {
        let clock =
            Arc::new(TestClock { boot: AtomicU64::new(1_000), wall: AtomicU64::new(1_000_000) });
        let log_clock = LogClock::new(0, Arc::clone(&clock) as Arc<dyn Clock>, 0);
        let replica = Replica::new(0, Arc::new(log_clock));
        let log = Arc::new(Log {
            replica: Arc::clone(&replica),
            index: AtomicU64::new(0),
            cut: AtomicBool::new(false),
            leadership: watch::channel(Leadership { term: 1, leading: true }).0,
        });
        let link = Arc::new(Written::default());
        let full = watch::Sender::new(false);
        let runtime = ShardRuntime::start(Options {
            node: "node-a".into(),
            replica,
            epoch: 0,
            consensus: Arc::clone(&log) as Arc<dyn Consensus>,
            link: Arc::clone(&link) as Arc<dyn Link>,
            full: full.subscribe(),
        });
        let rig = Self { runtime, log, link, clock, full };
        rig.serving().await;
        let configure = Command::Configure(Box::new(demo_config()));
        rig.runtime.propose(configure).await.expect("leads");
        rig.event(
            1,
            GatewayEvent::Login(Login {
                vip: "127.0.0.10:5060".parse().expect("an address"),
                ports: vec![20_000, 20_002, 20_004],
            }),
        );
        rig
    }

    async fn serving(&self) {
        let mut serving = self.runtime.serving();
        let waited = tokio::time::timeout(WITHIN, serving.wait_for(|now| now.leading)).await;
        waited.expect("serves in time").expect("the runtime lives");
    }

    fn event(&self, sequence: u64, event: GatewayEvent) {
        let gateway = GatewayId("gateway-a".into());
        self.runtime.on_event(Origin { gateway, incarnation: 1, sequence }, event);
    }

    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + WITHIN;
        while !holds(self) {
            assert!(tokio::time::Instant::now() < deadline, "{what} did not come true");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn statuses(&self, term: u64) -> Vec<u16> {
        let effects = self.link.effects.lock();
        let status = |(of, effect): &(u64, Effect)| match &effect.body {
            Body::Respond { response, .. } if *of == term => Some(response.status),
            _ => None,
        };
        effects.iter().filter_map(status).collect()
    }
}

fn invite(call_id: &str) -> GatewayEvent {
    let text = format!(
        "INVITE sip:4003@127.0.0.10 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:6000;branch=z9hG4bK{call_id}\r\n\
         From: <sip:1@x>;tag=1\r\nTo: <sip:4003@x>\r\nCall-ID: {call_id}\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:1@127.0.0.1:6000>\r\n\r\n"
    );
    let Ok(Message::Request(request)) = parse(text.as_bytes()) else { panic!("{text}") };
    GatewayEvent::Invite(Inbound {
        transaction: TransactionKey {
            gateway: GatewayId("gateway-a".into()),
            branch: request.headers.branch().into(),
            sent_by: "127.0.0.1:6000".into(),
            method: "INVITE".into(),
        },
        source: "127.0.0.1:6000".parse().expect("an address"),
        carrier: Carrier::Udp,
        request: request.into(),
        offer: None,
        names: Vec::new(),
    })
}

#[tokio::test]
async fn call_is_answered_after_its_commit_and_counted() {
    let rig = Rig::start().await;
    rig.event(2, invite("a"));
    rig.until("100 and 200", |rig| rig.statuses(1) == [100, 200]).await;
    rig.until("accepted", |rig| rig.link.accepted.lock().contains(&(2, Verdict::Counted))).await;
}

#[tokio::test]
async fn no_call_begins_while_the_disk_is_full_and_those_that_live_go_on() {
    let rig = Rig::start().await;
    rig.event(2, invite("a"));
    rig.until("answered", |rig| rig.statuses(1).contains(&200)).await;
    rig.full.send_replace(true);
    rig.event(3, invite("b"));
    let refused = Verdict::Overloaded { retry_after_s: crate::limits::RETRY_AFTER_S };
    rig.until("refused", |rig| rig.link.accepted.lock().contains(&(3, refused))).await;
    let calls = || rig.runtime.replica().read(|world| world.calls.len());
    assert_eq!(calls(), 1);
    let originate = OperatorCommand::Originate { from: AgentId("1001".into()), to: "4003".into() };
    let begun = rig.runtime.propose(Command::Operator(originate)).await;
    assert!(matches!(begun, Err(ProposeError::Overloaded)), "{begun:?}");
    let call = rig.runtime.replica().read(|world| *world.calls.keys().next().expect("a call"));
    let hang_up = Command::Operator(OperatorCommand::ReleaseCall { call });
    rig.runtime.propose(hang_up).await.expect("a live call may end");
    rig.full.send_replace(false);
    rig.event(3, invite("b"));
    rig.until("counted", |rig| rig.link.accepted.lock().contains(&(3, Verdict::Counted))).await;
    assert_eq!(calls(), 2);
}

#[tokio::test]
async fn event_without_a_commit_is_left_to_the_next_leader() {
    let rig = Rig::start().await;
    rig.until("login", |rig| rig.link.accepted.lock().len() == 1).await;
    rig.log.cut.store(true, Ordering::SeqCst);
    rig.event(2, invite("a"));
    rig.log.cut.store(false, Ordering::SeqCst);
    rig.event(3, invite("b"));
    rig.until("the second", |rig| rig.link.accepted.lock().iter().any(|(s, _)| *s == 3)).await;
    assert!(rig.link.accepted.lock().iter().all(|(sequence, _)| *sequence != 2));
}

#[tokio::test]
async fn new_term_performs_what_is_undone_again() {
    let rig = Rig::start().await;
    rig.event(2, invite("a"));
    rig.until("answered", |rig| rig.statuses(1).contains(&200)).await;
    rig.log.leadership.send_replace(Leadership { term: 2, leading: true });
    rig.until("answered again", |rig| rig.statuses(2) == [200]).await;
    let takeovers = rig
        .runtime
        .replica()
        .read(|world| world.calls.values().map(|call| call.takeovers).collect::<Vec<_>>());
    assert_eq!(takeovers, [1]);
}

#[tokio::test]
async fn actor_that_panics_is_restarted_and_does_its_effects_again() {
    let rig = Rig::start().await;
    rig.event(2, invite("a"));
    rig.until("answered", |rig| rig.statuses(1).contains(&200)).await;
    let call = rig.runtime.replica().read(|world| *world.calls.keys().next().expect("a call"));
    assert!(rig.runtime.panic_actor(&EntityId::Call(call)));
    let twice = |rig: &Rig| rig.statuses(1).iter().filter(|status| **status == 200).count() >= 2;
    rig.until("answered again", twice).await;
}

#[tokio::test]
async fn actor_that_keeps_panicking_is_quarantined_and_its_agent_is_not_ready() {
    let rig = Rig::start().await;
    let agent = AgentId("1001".into());
    let entity = EntityId::Agent(agent.clone());
    for _ in 0..crate::limits::CRASHES_MAX {
        assert!(rig.runtime.panic_actor(&entity));
        // Restarts back off for up to 80 ms here; a message before that waits for the actor.
        tokio::time::sleep(Duration::from_millis(120)).await;
    }
    let quarantined = rig.log.index.load(Ordering::SeqCst);
    assert!(quarantined >= 4, "the quarantine is an entry of the log");
    // Other actors are untouched.
    rig.event(2, invite("a"));
    rig.until("answered", |rig| rig.statuses(1).contains(&200)).await;
}

#[tokio::test]
async fn deadline_is_proposed_when_the_clock_has_passed_it() {
    let rig = Rig::start().await;
    rig.event(2, invite("a"));
    rig.until("answered", |rig| rig.statuses(1).contains(&200)).await;
    // Whatever the wall clock does meanwhile.
    rig.clock.wall.fetch_add(5 * 3_600_000, Ordering::SeqCst);
    let log_clock = Arc::clone(rig.runtime.replica().clock());
    assert!(log_clock.now().0 < 1_060_000, "{:?}", log_clock.now());
    let live = |world: &tandem_core::World| world.calls.values().all(|call| call.is_live());
    assert!(rig.runtime.replica().read(live));
    rig.clock.boot.fetch_add(5 * 3_600_000, Ordering::SeqCst);
    rig.until("too long: ended", |rig| {
        rig.runtime.replica().read(|world| world.calls.values().all(|call| !call.is_live()))
    })
    .await;
}

#[tokio::test]
async fn idle_leader_makes_an_entry_that_tells_the_time() {
    let rig = Rig::start().await;
    rig.until("login", |rig| rig.link.accepted.lock().len() == 1).await;
    let before = rig.log.index.load(Ordering::SeqCst);
    rig.clock.boot.fetch_add(crate::limits::TIME_TOLD_MS_MAX, Ordering::SeqCst);
    rig.until("an entry", |rig| rig.log.index.load(Ordering::SeqCst) > before).await;
    let told = rig.runtime.replica().read(|world| world.at.0);
    assert!(told >= 1_000_000 + crate::limits::TIME_TOLD_MS_MAX, "{told}");
}
