//! Prompts over real sockets of the loopback interface.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use tandem_media::endpoint::{Endpoint, EndpointPool};
use tandem_media::{CallKey, Common, Engine, Event, Leg, Options, Plan, Prompt, Source};
use tandem_sip::sdp::Codec;

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const WITHIN: Duration = Duration::from_secs(20);
const CALL: CallKey = CallKey { tenant: 3, call: 7 };
const LEG: u64 = 1;
const PROMPT_HZ: u32 = 600;
const PROMPT_MS: u64 = 1_500;
/// A test machine's threads may be late.
const LATE_MS_MAX: u64 = 400;

struct Bench {
    engine: Engine,
    caller: Endpoint,
    port: u16,
    version: u64,
    _pool: EndpointPool,
    _dir: tempfile::TempDir,
}

impl Bench {
    /// A caller, and a prompt named `tone`.
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let prompts = dir.path().join("prompts");
        std::fs::create_dir(&prompts).expect("a folder");
        write_tone(&prompts.join("tone.wav"));
        let mut common = Common::new(dir.path().join("recordings"));
        let mut options = Options::new(LOCAL);
        options.pairs = 2;
        common.prompts = Some(prompts);
        let engine = Engine::start(common, options).expect("the engine starts");
        let pool = EndpointPool::start().expect("a thread");
        let caller = pool.open(LOCAL).expect("an endpoint");
        let port = engine.ports()[0];
        caller.talk(SocketAddr::new(LOCAL, port), Codec::Pcmu, 440);
        Self { engine, caller, port, version: 0, _pool: pool, _dir: dir }
    }

    fn play(&mut self, name: &str, play: u64, offset_ms: u64, barge_in: bool) {
        let clip = self.engine.prompt(name);
        self.hear(Source::Prompt(Prompt { clip, play, offset_ms, barge_in }));
    }

    fn hear(&mut self, source: Source) {
        self.version += 1;
        let leg = Leg {
            leg: LEG,
            port: self.port,
            remote: Some(self.caller.address()),
            codec: Codec::Pcmu,
            payload: 0,
            telephone_event: Some(101),
            events_wide: false,
            ssrc: 9,
            source,
            role: "caller",
            keys: None,
        };
        let plan = Plan { call: CALL, version: self.version, legs: vec![leg], recording: None };
        self.engine.apply(plan).expect("a good plan");
    }
}

fn write_tone(path: &Path) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 8_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).expect("a file");
    for at in 0..PROMPT_MS * 8 {
        let turn = std::f64::consts::TAU * f64::from(PROMPT_HZ) * at as f64 / 8_000.0;
        writer.write_sample((turn.sin() * 8_000.0) as i16).expect("a sample");
    }
    writer.finalize().expect("a header");
}

/// How long until the end of the play is told.
fn ends(events: &Receiver<Event>, play: u64, missing: bool) -> u64 {
    let begun = Instant::now();
    let event = events.recv_timeout(WITHIN).expect("an end");
    assert_eq!(event, Event::PromptEnded { call: CALL, leg: LEG, play, missing });
    u64::try_from(begun.elapsed().as_millis()).expect("short")
}

fn hears(bench: &Bench, hz: Option<u32>) {
    let begun = Instant::now();
    while bench.caller.stats().received < 12 || bench.caller.heard_hz(100) != hz {
        assert!(begun.elapsed() < WITHIN, "{hz:?} Hz is not heard");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn near(ms: u64, wanted: u64) {
    assert!((wanted.saturating_sub(40)..wanted + LATE_MS_MAX).contains(&ms), "{ms} ms");
}

#[test]
fn prompt_is_heard_once_and_its_end_told_once_though_plans_come_again() {
    let mut bench = Bench::start();
    let events = bench.engine.events();
    let begun = Instant::now();
    bench.play("tone", 1, 0, true);
    hears(&bench, Some(PROMPT_HZ));
    // The same play in a later plan, for instance of a hold: it goes on where it is.
    bench.play("tone", 1, 900, true);
    ends(&events, 1, false);
    near(u64::try_from(begun.elapsed().as_millis()).expect("short"), PROMPT_MS);
    hears(&bench, None);
    bench.play("tone", 1, 0, true);
    assert!(events.recv_timeout(Duration::from_millis(200)).is_err(), "told again");
    // Asked again, it is another play of the same prompt.
    bench.play("tone", 2, 0, true);
    near(ends(&events, 2, false), PROMPT_MS);
}

#[test]
fn prompt_begins_where_a_gateway_of_before_has_come() {
    let mut bench = Bench::start();
    let events = bench.engine.events();
    bench.play("tone", 1, 1_000, true);
    near(ends(&events, 1, false), PROMPT_MS - 1_000);
    bench.play("tone", 2, 60_000, true);
    near(ends(&events, 2, false), 0);
}

#[test]
fn prompt_that_is_not_there_has_ended() {
    let mut bench = Bench::start();
    let events = bench.engine.events();
    bench.play("no_such", 1, 0, true);
    near(ends(&events, 1, true), 0);
}

#[test]
fn key_stops_the_prompt_at_once_and_is_told_before_its_end() {
    let mut bench = Bench::start();
    let events = bench.engine.events();
    bench.play("tone", 1, 0, true);
    hears(&bench, Some(PROMPT_HZ));
    bench.caller.press('5');
    let key = events.recv_timeout(WITHIN).expect("a key");
    let (number, duration_ms) = (1, 100);
    let expected = Event::Dtmf { call: CALL, leg: LEG, number, digit: '5', duration_ms };
    assert_eq!(key, expected);
    let begun = Instant::now();
    near(ends(&events, 1, false), 0);
    hears(&bench, None);
    assert!(begun.elapsed() < Duration::from_millis(150 + LATE_MS_MAX), "{:?}", begun.elapsed());
}

#[test]
fn key_does_not_stop_an_announcement() {
    let mut bench = Bench::start();
    let events = bench.engine.events();
    let begun = Instant::now();
    bench.play("tone", 1, 0, false);
    hears(&bench, Some(PROMPT_HZ));
    bench.caller.press('5');
    assert!(matches!(events.recv_timeout(WITHIN), Ok(Event::Dtmf { digit: '5', .. })));
    ends(&events, 1, false);
    near(u64::try_from(begun.elapsed().as_millis()).expect("short"), PROMPT_MS);
}
