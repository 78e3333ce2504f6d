//! SRTP and SRTCP (RFC 3711) over real sockets of the loopback interface.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tandem_media::endpoint::{Endpoint, EndpointPool};
use tandem_media::{Common, Engine, Keys, Leg, MusicRef, Options, Plan, Rollover, Source};
use tandem_sip::sdp::Codec;
use tandem_sip::srtp::{Key, Suite};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const WITHIN: Duration = Duration::from_secs(20);
const SUITE: Suite = Suite::AesCm128HmacSha1_80;
const CALLER_HZ: u32 = 440;
const AGENT_HZ: u32 = 1000;

struct Bench {
    engine: Engine,
    pool: EndpointPool,
    ports: Vec<u16>,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let common = Common::new(dir.path().join("recordings"));
        let mut options = Options::new(LOCAL);
        (options.pairs, options.rtcp_interval_ms) = (4, 200);
        let engine = Engine::start(common, options).expect("the engine starts");
        let (pool, ports) = (EndpointPool::start().expect("a thread"), engine.ports());
        Self { engine, pool, ports, _dir: dir }
    }

    fn phone(&self, at: usize, hz: u32, keys: Option<&Keys>) -> Endpoint {
        let phone = self.pool.open(LOCAL).expect("an endpoint");
        if let Some(keys) = keys {
            phone.protect(keys);
        }
        phone.talk(SocketAddr::new(LOCAL, self.ports[at]), Codec::Pcmu, hz);
        phone
    }

    /// The caller's leg with these keys, the agent's in the clear.
    fn talk(&self, version: u64, caller: &Endpoint, agent: &Endpoint, keys: Option<Keys>) {
        let legs = vec![
            Leg { keys, ..leg(self.ports[0], 0, caller.address(), Source::Leg(1)) },
            leg(self.ports[1], 1, agent.address(), Source::Leg(0)),
        ];
        self.apply(version, legs);
    }

    fn apply(&self, version: u64, legs: Vec<Leg>) {
        self.engine
            .apply(Plan { call: 7.into(), version, legs, recording: None })
            .expect("a good plan");
    }
}

fn leg(port: u16, leg: u64, remote: SocketAddr, source: Source) -> Leg {
    Leg {
        leg,
        port,
        remote: Some(remote),
        codec: Codec::Pcmu,
        payload: 0,
        telephone_event: Some(101),
        events_wide: false,
        ssrc: 0x1000 + leg as u32,
        source,
        role: "caller",
        keys: None,
    }
}

fn keys(suite: Suite, ours: &str, theirs: &str) -> Keys {
    let key = |name: &str| Key::derive(b"secret", suite, name.as_bytes());
    Keys { suite, ours: key(ours), theirs: key(theirs), from: Rollover::default() }
}

/// As the other side has them.
fn other_side(keys: &Keys) -> Keys {
    Keys { ours: keys.theirs.clone(), theirs: keys.ours.clone(), ..keys.clone() }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < WITHIN, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn hears(phone: &Endpoint, hz: u32) {
    until(&format!("a phone hears {hz} Hz"), || phone.heard_hz(200) == Some(hz));
}

#[test]
fn protected_caller_and_agent_in_the_clear_hear_each_other() {
    for suite in Suite::ALL {
        let bench = Bench::start();
        let keys = keys(suite, "ours", "theirs");
        let caller = bench.phone(0, CALLER_HZ, Some(&other_side(&keys)));
        let agent = bench.phone(1, AGENT_HZ, None);
        bench.talk(1, &caller, &agent, Some(keys));
        hears(&caller, AGENT_HZ);
        hears(&agent, CALLER_HZ);
        assert_eq!(caller.stats().unauthentic, 0, "{suite:?}");
        assert_eq!(bench.engine.stats().totals.dropped_unauthentic, 0, "{suite:?}");
    }
}

#[test]
fn packets_of_another_key_and_of_none_are_dropped_and_not_latched_to() {
    for wrong in [Some(other_side(&keys(SUITE, "ours", "guessed"))), None] {
        let bench = Bench::start();
        let caller = bench.phone(0, CALLER_HZ, wrong.as_ref());
        let agent = bench.phone(1, AGENT_HZ, None);
        bench.talk(1, &caller, &agent, Some(keys(SUITE, "ours", "theirs")));
        until("packets are dropped", || bench.engine.stats().totals.dropped_unauthentic >= 20);
        let legs = bench.engine.stats().legs;
        assert!(legs.iter().any(|leg| leg.leg == 0 && !leg.latched && leg.received == 0));
        assert_eq!(agent.stats().received, 0);
    }
}

#[test]
fn peer_changes_its_key_and_our_stream_goes_on() {
    let bench = Bench::start();
    let first = keys(SUITE, "ours", "theirs");
    let caller = bench.phone(0, CALLER_HZ, Some(&other_side(&first)));
    let agent = bench.phone(1, AGENT_HZ, None);
    bench.talk(1, &caller, &agent, Some(first));
    hears(&agent, CALLER_HZ);
    let second = keys(SUITE, "ours", "renewed");
    bench.talk(2, &caller, &agent, Some(second.clone()));
    caller.protect(&other_side(&second));
    caller.talk(SocketAddr::new(LOCAL, bench.ports[0]), Codec::Pcmu, CALLER_HZ + 160);
    hears(&agent, CALLER_HZ + 160);
    hears(&caller, AGENT_HZ);
    assert_eq!(caller.stats().streams, 1);
}

#[test]
fn reports_are_protected_as_the_audio_is() {
    let (here, there) = (Bench::start(), Bench::start());
    let keys = keys(SUITE, "ours", "theirs");
    let serve = |bench: &Bench, peer: &Bench, keys: Option<Keys>| {
        let remote = SocketAddr::new(LOCAL, peer.ports[0]);
        bench.apply(
            1,
            vec![Leg {
                keys,
                ..leg(bench.ports[0], 0, remote, Source::Music(MusicRef::default()))
            }],
        );
    };
    serve(&here, &there, Some(keys.clone()));
    serve(&there, &here, Some(other_side(&keys)));
    for bench in [&here, &there] {
        until("reports come", || bench.engine.stats().totals.rtcp_in >= 3);
        let totals = bench.engine.stats().totals;
        assert_eq!((totals.dropped_unauthentic, totals.rtcp_dropped_malformed), (0, 0));
    }
    // Whoever has no key gets no word in.
    let stranger = Bench::start();
    let before = here.engine.stats().totals.dropped_unauthentic;
    let plain = SocketAddr::new(LOCAL, here.ports[0]);
    drop(there);
    stranger.apply(1, vec![leg(stranger.ports[0], 0, plain, Source::Music(MusicRef::default()))]);
    let remote = SocketAddr::new(LOCAL, stranger.ports[0]);
    let protected = Leg {
        keys: Some(keys),
        ..leg(here.ports[0], 0, remote, Source::Music(MusicRef::default()))
    };
    here.apply(2, vec![protected]);
    let reports = here.engine.stats().totals.rtcp_in;
    until("what is not protected is dropped", || {
        here.engine.stats().totals.dropped_unauthentic > before + 50
    });
    assert_eq!(here.engine.stats().totals.rtcp_in, reports);
}
