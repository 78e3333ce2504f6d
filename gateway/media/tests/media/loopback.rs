//! The media plane over real sockets of the loopback interface.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use audio_codec::{Decoder as _, Encoder as _, pcmu};
use crossbeam_channel::Receiver;
use rtcp_types::prelude::*;
use rtcp_types::{Compound, Packet, ReportBlock, SenderReport};
use tandem_media::endpoint::{Endpoint, EndpointPool};
use tandem_media::event::Recorded;
use tandem_media::tones::{Country, dominant_hz, share_at};
use tandem_media::{
    Applied, CallKey, Common, Engine, Event, Held, Leg, MusicRef, Options, Plan, Quality,
    Recording, Source,
};
use tandem_sip::sdp::Codec;

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const WITHIN: Duration = Duration::from_secs(20);
const CALL: CallKey = CallKey { tenant: 3, call: 7 };
const OTHER: CallKey = CallKey { tenant: 3, call: 8 };
const CALLER: u64 = 1;
const AGENT: u64 = 2;
const CALLER_HZ: u32 = 440;
const AGENT_HZ: u32 = 1000;

struct Bench {
    engine: Engine,
    pool: EndpointPool,
    ports: Vec<u16>,
    dir: tempfile::TempDir,
}

impl Bench {
    fn start() -> Self {
        Self::start_with(|_, _| {})
    }

    fn start_with(change: impl FnOnce(&mut Common, &mut Options)) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mut common = Common::new(dir.path().join("recordings"));
        let mut options = Options::new(LOCAL);
        options.pairs = 8;
        options.workers = 2;
        change(&mut common, &mut options);
        let engine = Engine::start(common, options).expect("the engine starts");
        let ports = engine.ports();
        Self { engine, pool: EndpointPool::start().expect("a thread"), ports, dir }
    }

    fn phone(&self, codec: Codec, port: u16, hz: u32) -> Endpoint {
        let phone = self.pool.open(LOCAL).expect("an endpoint");
        phone.talk(SocketAddr::new(LOCAL, port), codec, hz);
        phone
    }

    fn leg(&self, leg: u64, phone: &Endpoint, source: Source) -> Leg {
        let at = usize::try_from(leg - CALLER).expect("small");
        Leg {
            leg,
            port: self.ports[at],
            remote: Some(phone.address()),
            codec: Codec::Pcmu,
            payload: 0,
            telephone_event: Some(101),
            events_wide: false,
            ssrc: 0x1000 + leg as u32,
            source,
            role: if leg == CALLER { "caller" } else { "agent" },
            keys: None,
        }
    }

    /// A caller and an agent who hear each other.
    fn talk(&self, version: u64, recording: Option<u64>) -> (Endpoint, Endpoint) {
        let caller = self.phone(Codec::Pcmu, self.ports[0], CALLER_HZ);
        let agent = self.phone(Codec::Pcmu, self.ports[1], AGENT_HZ);
        let legs = vec![
            self.leg(CALLER, &caller, Source::Leg(AGENT)),
            self.leg(AGENT, &agent, Source::Leg(CALLER)),
        ];
        let recording = recording.map(|id| Recording {
            id,
            left: CALLER,
            right: AGENT,
            mixed: false,
            paused: false,
        });
        self.apply(version, legs, recording);
        (caller, agent)
    }

    fn apply(&self, version: u64, legs: Vec<Leg>, recording: Option<Recording>) {
        let plan = Plan { call: CALL, version, legs, recording };
        assert_eq!(self.engine.apply(plan).expect("a good plan"), Applied::Now);
    }
}

const ENDED: [Codec; 4] = [Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus];

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

fn hears_packets(phone: &Endpoint, count: u64) {
    until(&format!("{count} packets"), || phone.stats().received >= count);
}

fn recorded(events: &Receiver<Event>) -> Recorded {
    loop {
        match events.recv_timeout(WITHIN).expect("a recording is told") {
            Event::Recorded(recorded) => return recorded,
            Event::Dtmf { .. }
            | Event::PromptEnded { .. }
            | Event::Recording(_)
            | Event::RtpSilence { .. }
            | Event::Rollover { .. }
            | Event::Quality(_) => {}
        }
    }
}

/// Left and right of the file's frames.
fn channels(path: &Path) -> (Vec<i16>, Vec<i16>) {
    let mut reader = hound::WavReader::open(path).expect("a WAV file");
    let spec = reader.spec();
    assert_eq!((spec.channels, spec.sample_rate, spec.bits_per_sample), (2, 8000, 16));
    let samples: Vec<i16> = reader.samples().collect::<Result<_, _>>().expect("samples");
    samples.chunks_exact(2).map(|frame| (frame[0], frame[1])).unzip()
}

#[test]
fn two_legs_hear_each_other_and_lose_nothing() {
    let bench = Bench::start();
    let (caller, agent) = bench.talk(1, None);
    hears(&caller, AGENT_HZ);
    hears(&agent, CALLER_HZ);
    hears_packets(&caller, 50);
    for (phone, ssrc) in [(&caller, 0x1001), (&agent, 0x1002)] {
        let heard = phone.stats();
        assert_eq!((heard.lost, heard.duplicates, heard.odd, heard.streams), (0, 0, 0, 1));
        assert_eq!(heard.ssrc, ssrc);
    }
}

#[test]
fn legs_of_different_laws_are_transcoded() {
    let bench = Bench::start();
    let caller = bench.phone(Codec::Pcma, bench.ports[0], CALLER_HZ);
    let agent = bench.phone(Codec::Pcmu, bench.ports[1], AGENT_HZ);
    let of_caller =
        Leg { codec: Codec::Pcma, payload: 8, ..bench.leg(CALLER, &caller, Source::Leg(AGENT)) };
    bench.apply(1, vec![of_caller, bench.leg(AGENT, &agent, Source::Leg(CALLER))], None);
    hears(&caller, AGENT_HZ);
    hears(&agent, CALLER_HZ);
}

#[test]
fn each_codec_is_echoed_and_hears_music_and_is_recorded_with_each_other() {
    for codec in ENDED {
        let bench = Bench::start();
        let payload = codec.static_payload();
        let caller = bench.phone(codec, bench.ports[0], CALLER_HZ);
        let leg = |source| Leg { codec, payload, ..bench.leg(CALLER, &caller, source) };
        bench.apply(1, vec![leg(Source::Echo)], None);
        hears(&caller, CALLER_HZ);
        bench.apply(2, vec![leg(Source::Ringback(Country::De))], None);
        hears(&caller, 425);
        let mut version = 2;
        for other in ENDED {
            let agent = bench.phone(other, bench.ports[1], AGENT_HZ);
            version += 1;
            let of_agent = Leg {
                codec: other,
                payload: other.static_payload(),
                ..bench.leg(AGENT, &agent, Source::Leg(CALLER))
            };
            let recording =
                Recording { id: version, left: CALLER, right: AGENT, mixed: false, paused: false };
            bench.apply(version, vec![leg(Source::Leg(AGENT)), of_agent], Some(recording));
            hears(&caller, AGENT_HZ);
            hears(&agent, CALLER_HZ);
            caller.mark();
            hears_packets(&caller, 30);
            let heard = caller.stats();
            assert_eq!((heard.lost, heard.odd, heard.streams), (0, 0, 0), "{codec:?} {other:?}");
            version += 1;
            bench.apply(version, vec![leg(Source::Music(MusicRef::default()))], None);
            let recorded = recorded(&bench.engine.events());
            let (left, right) = channels(&recorded.path);
            let last = |samples: &[i16]| dominant_hz(&samples[..samples.len() - 800]);
            assert_eq!(last(&left), Some(CALLER_HZ), "{codec:?} {other:?}");
            assert_eq!(last(&right), Some(AGENT_HZ), "{codec:?} {other:?}");
        }
    }
}

#[test]
fn stream_goes_on_when_music_gives_way_to_the_agent() {
    let bench = Bench::start();
    let caller = bench.phone(Codec::Pcmu, bench.ports[0], CALLER_HZ);
    bench.apply(1, vec![bench.leg(CALLER, &caller, Source::Music(MusicRef::default()))], None);
    hears_packets(&caller, 20);
    let music = caller.stats();
    let agent = bench.phone(Codec::Pcmu, bench.ports[1], AGENT_HZ);
    let legs = |source| {
        vec![bench.leg(CALLER, &caller, source), bench.leg(AGENT, &agent, Source::Leg(CALLER))]
    };
    bench.apply(2, legs(Source::Leg(AGENT)), None);
    hears(&caller, AGENT_HZ);
    let talk = caller.stats();
    assert_eq!((talk.lost, talk.late, talk.duplicates, talk.odd, talk.streams), (0, 0, 0, 0, 1));
    assert_eq!(talk.ssrc, music.ssrc);
    assert_eq!(talk.markers, music.markers + 1, "one marker where the source changed");
    bench.apply(3, legs(Source::Ringback(Country::De)), None);
    hears(&caller, 425);
    let ringback = caller.stats();
    assert_eq!((ringback.lost, ringback.streams), (0, 1));
    // Time went on as packets did, give or take the moments of change.
    let packets = u64::from(ringback.sequence.wrapping_sub(music.sequence));
    let samples = u64::from(ringback.timestamp.wrapping_sub(music.timestamp));
    assert!(samples >= packets * 160 - 320, "{samples} samples in {packets} packets");
}

#[test]
fn echo_returns_what_it_hears_to_a_peer_behind_nat() {
    let bench = Bench::start();
    let caller = bench.phone(Codec::Pcmu, bench.ports[0], CALLER_HZ);
    // SDP names another port than the packets come from.
    let named = Some(SocketAddr::new(LOCAL, 9));
    let leg = Leg { remote: named, ..bench.leg(CALLER, &caller, Source::Echo) };
    bench.apply(1, vec![leg], None);
    hears(&caller, CALLER_HZ);
    let state = bench.engine.stats().legs[0];
    assert!(state.latched);
    assert_eq!((state.remote, state.ssrc), (Some(caller.address()), 0x1001));
}

#[test]
fn third_source_is_dropped_and_counted() {
    let bench = Bench::start();
    let (caller, agent) = bench.talk(1, None);
    hears(&agent, CALLER_HZ);
    let heard = agent.stats().streams;
    // One from the peer's own address after the leg was latched, one from elsewhere.
    let near = bench.phone(Codec::Pcmu, bench.ports[0], 3000);
    let far = UdpSocket::bind("127.0.0.9:0").expect("a socket");
    let mut rtp = [0_u8; 172];
    rtp[0] = 0x80;
    far.send_to(&rtp, (LOCAL, bench.ports[0])).expect("sent");
    until("strangers are counted", || {
        near.sent() > 20 && bench.engine.stats().totals.dropped_stranger > 20
    });
    assert_eq!(agent.heard_hz(200), Some(CALLER_HZ));
    assert_eq!(agent.stats().streams, heard);
    let state = bench.engine.stats().legs.into_iter().find(|leg| leg.leg == CALLER);
    assert_eq!(state.and_then(|leg| leg.remote), Some(caller.address()));
}

#[test]
fn noise_on_all_ports_is_dropped_and_the_talk_goes_on() {
    let bench = Bench::start();
    let (caller, agent) = bench.talk(1, None);
    hears(&agent, CALLER_HZ);
    caller.hush();
    // From the very address of the caller's side, so that it is looked at.
    let plan_of_noise = UdpSocket::bind((LOCAL, 0)).expect("a socket");
    let mut legs = vec![
        bench.leg(CALLER, &caller, Source::Leg(AGENT)),
        bench.leg(AGENT, &agent, Source::Leg(CALLER)),
    ];
    legs[0].remote = Some(plan_of_noise.local_addr().expect("an address"));
    bench.apply(2, legs.clone(), None);
    let mut noise = 0x1234_5678_u32;
    for size in 0..400_usize {
        let datagram: Vec<u8> = (0..size * 4)
            .map(|_| {
                noise ^= noise << 13;
                noise ^= noise >> 17;
                noise ^= noise << 5;
                noise as u8
            })
            .collect();
        for port in [bench.ports[0], bench.ports[0] + 1] {
            plan_of_noise.send_to(&datagram, (LOCAL, port)).expect("sent");
        }
    }
    until("noise is counted", || bench.engine.stats().totals.dropped_malformed > 50);
    until("so is that for RTCP", || bench.engine.stats().totals.rtcp_dropped_malformed > 50);
    caller.talk(SocketAddr::new(LOCAL, bench.ports[0]), Codec::Pcmu, CALLER_HZ);
    legs[0].remote = Some(caller.address());
    bench.apply(3, legs, None);
    agent.mark();
    hears(&agent, CALLER_HZ);
    hears(&caller, AGENT_HZ);
}

#[test]
fn recording_has_the_caller_left_and_the_agent_right_and_the_whole_talk() {
    let bench = Bench::start();
    let events = bench.engine.events();
    let (caller, agent) = bench.talk(1, Some(0xabc));
    let begun = Instant::now();
    hears(&caller, AGENT_HZ);
    hears_packets(&agent, 120);
    // Readable while it grows.
    let path = bench.dir.path().join("recordings/0000000000000abc.wav");
    until("a second is on disk", || {
        hound::WavReader::open(&path).is_ok_and(|reader| reader.duration() >= 8000)
    });
    let talked = begun.elapsed();
    bench.apply(2, Vec::new(), None);
    let recorded = recorded(&events);
    assert_eq!((recorded.call, recorded.recording), (CALL, 0xabc));
    assert_eq!(recorded.path, path);
    assert_eq!(recorded.gaps, []);
    let off_by = u128::from(recorded.duration_ms).abs_diff(talked.as_millis());
    assert!(off_by < 100, "{} ms of {talked:?}", recorded.duration_ms);
    let (left, right) = channels(&path);
    assert_eq!(left.len() as u64 / 8, recorded.duration_ms);
    let middle = 4000..left.len() - 4000;
    for (samples, hz) in [(&left, CALLER_HZ), (&right, AGENT_HZ)] {
        let share = tandem_media::tones::share_at(&samples[middle.clone()], f64::from(hz));
        assert!(share > 0.9, "{hz} Hz has {share} of the power");
    }
    let bytes = std::fs::read(&path).expect("the file");
    assert_eq!(*blake3::hash(&bytes).as_bytes(), recorded.hash);
}

#[test]
fn recording_goes_on_after_a_pause_and_marks_it() {
    let bench = Bench::start();
    let events = bench.engine.events();
    let (caller, agent) = bench.talk(1, Some(5));
    hears_packets(&caller, 60);
    let legs = || {
        vec![
            bench.leg(CALLER, &caller, Source::Leg(AGENT)),
            bench.leg(AGENT, &agent, Source::Leg(CALLER)),
        ]
    };
    bench.apply(2, legs(), None);
    let first = recorded(&events);
    let heard = caller.stats().received;
    hears_packets(&caller, heard + 30);
    bench.apply(
        3,
        legs(),
        Some(Recording { id: 5, left: CALLER, right: AGENT, mixed: false, paused: false }),
    );
    hears_packets(&caller, heard + 80);
    bench.apply(4, Vec::new(), None);
    let second = recorded(&events);
    assert_eq!(first.gaps, []);
    let [gap] = second.gaps[..] else { panic!("one gap, not {:?}", second.gaps) };
    assert_eq!(gap.at_ms, first.duration_ms);
    assert!((500..5000).contains(&gap.len_ms), "{gap:?}");
    assert!(second.duration_ms > gap.at_ms + gap.len_ms + 500, "{second:?}");
    let (left, _) = channels(&second.path);
    let (from, to) = (gap.at_ms as usize * 8 + 8, (gap.at_ms + gap.len_ms) as usize * 8 - 8);
    assert!(left[from..to].iter().all(|sample| *sample == 0), "the gap is silent");
    let after = &left[to + 1600..];
    assert!(tandem_media::tones::share_at(after, f64::from(CALLER_HZ)) > 0.8);
}

#[test]
fn recording_goes_on_without_a_gap_when_another_agent_is_its_right_channel() {
    const OTHER: u64 = 3;
    const OTHER_HZ: u32 = 1600;
    let bench = Bench::start();
    let events = bench.engine.events();
    let (caller, agent) = bench.talk(1, Some(9));
    hears_packets(&caller, 60);
    let with = |right| Some(Recording { id: 9, left: CALLER, right, mixed: false, paused: false });
    // The agent sends the caller on, and hangs up.
    let caller_hears = |source| bench.leg(CALLER, &caller, source);
    let legs = vec![
        caller_hears(Source::Ringback(Country::De)),
        bench.leg(AGENT, &agent, Source::Silence),
    ];
    bench.apply(2, legs, with(AGENT));
    bench.apply(3, vec![caller_hears(Source::Music(MusicRef::default()))], with(CALLER));
    let other = bench.phone(Codec::Pcmu, bench.ports[2], OTHER_HZ);
    let legs =
        vec![caller_hears(Source::Leg(OTHER)), bench.leg(OTHER, &other, Source::Leg(CALLER))];
    bench.apply(4, legs, with(OTHER));
    hears(&caller, OTHER_HZ);
    hears_packets(&other, 80);
    bench.apply(5, Vec::new(), None);
    let recorded = recorded(&events);
    assert_eq!((recorded.recording, &recorded.gaps[..]), (9, &[][..]));
    let (left, right) = channels(&recorded.path);
    let share = |samples: &[i16], hz: u32| tandem_media::tones::share_at(samples, f64::from(hz));
    assert!(share(&left[4000..left.len() - 4000], CALLER_HZ) > 0.8);
    assert!(share(&right[2000..6000], AGENT_HZ) > 0.8);
    assert!(share(&right[right.len() - 6000..right.len() - 2000], OTHER_HZ) > 0.8);
    assert!(events.try_recv().is_err(), "one recording");
}

#[test]
fn recording_that_a_crash_left_is_finished_when_nobody_goes_on_with_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let recordings = dir.path().join("recordings");
    let bench = Bench::start_with(|common, _| common.recordings_dir = recordings.clone());
    let (caller, _agent) = bench.talk(1, Some(8));
    let (wav, manifest) =
        (recordings.join("0000000000000008.wav"), recordings.join("0000000000000008.manifest"));
    hears_packets(&caller, 20);
    until("a chunk is vouched for", || {
        std::fs::read_to_string(&manifest).is_ok_and(|text| text.contains("chunk"))
    });
    // What a killed gateway leaves behind: copies, for this one goes on.
    let left = dir.path().join("left");
    std::fs::create_dir(&left).expect("a folder");
    for file in [&wav, &manifest] {
        std::fs::copy(file, left.join(file.file_name().expect("a name"))).expect("a copy");
    }
    let next = Bench::start_with(|common, _| {
        common.recordings_dir = left;
        common.orphan_ms_max = 0;
    });
    let told = next.engine.events().recv_timeout(WITHIN).expect("what is left is told");
    let Event::Recording(held) = told else { panic!("{told:?}") };
    let [held] = &held[..] else { panic!("{held:?}") };
    assert_eq!((held.call, held.recording, &held.gaps[..]), (CALL, 8, &[][..]));
    assert!(held.duration_ms >= 1000, "{held:?}");
    let path = dir.path().join("left/0000000000000008.wav");
    let hash = blake3::hash(&std::fs::read(&path).expect("a file")).to_hex().to_string();
    assert_eq!(held.state, Held::Whole { hash });
    assert_eq!(channels(&path).0.len() as u64 / 8, held.duration_ms);
}

#[test]
fn shutdown_finishes_recordings() {
    let bench = Bench::start();
    let (caller, _agent) = bench.talk(1, Some(6));
    hears_packets(&caller, 20);
    let events = bench.engine.shutdown();
    let recorded = recorded(&events);
    assert_eq!(recorded.recording, 6);
    assert!(recorded.duration_ms >= 300, "{recorded:?}");
    assert_eq!(channels(&recorded.path).0.len() as u64 / 8, recorded.duration_ms);
}

#[test]
fn key_is_relayed_and_told_once() {
    let bench = Bench::start();
    let events = bench.engine.events();
    let (caller, agent) = bench.talk(1, None);
    hears(&agent, CALLER_HZ);
    assert!(caller.press('7') && caller.press('#'));
    for (number, digit) in [(1, '7'), (2, '#')] {
        let event = events.recv_timeout(WITHIN).expect("a key");
        let duration_ms = 100;
        assert_eq!(event, Event::Dtmf { call: CALL, leg: CALLER, number, digit, duration_ms });
    }
    until("the agent's phone has both", || agent.stats().telephone_events == 16);
    assert_eq!(agent.stats().lost, 0);
    assert!(events.try_recv().is_err());
}

#[test]
fn silent_peer_is_told_once() {
    let bench = Bench::start_with(|_, options| options.rtp_silence_ms_max = 200);
    let caller = bench.phone(Codec::Pcmu, bench.ports[0], CALLER_HZ);
    bench.apply(1, vec![bench.leg(CALLER, &caller, Source::Music(MusicRef::default()))], None);
    hears_packets(&caller, 30);
    let events = bench.engine.events();
    caller.hush();
    match events.recv_timeout(WITHIN).expect("silence is told") {
        Event::RtpSilence { call: CALL, leg: CALLER, since_ms } => assert!(since_ms >= 200),
        other => panic!("{other:?}"),
    }
    let heard = caller.stats().received;
    hears_packets(&caller, heard + 30);
    assert!(events.try_recv().is_err(), "told once");
}

#[test]
fn older_and_equal_plans_change_nothing() {
    let bench = Bench::start();
    let caller = bench.phone(Codec::Pcmu, bench.ports[0], CALLER_HZ);
    let plan = |version, source| Plan {
        call: CALL,
        version,
        legs: vec![bench.leg(CALLER, &caller, source)],
        recording: None,
    };
    let release = |version| Plan { call: CALL, version, legs: Vec::new(), recording: None };
    let apply = |plan| bench.engine.apply(plan).expect("a good plan");
    assert_eq!(apply(plan(5, Source::Echo)), Applied::Now);
    assert_eq!(apply(plan(5, Source::Music(MusicRef::default()))), Applied::Before);
    assert_eq!(apply(plan(4, Source::Music(MusicRef::default()))), Applied::Before);
    assert_eq!(apply(release(3)), Applied::Before);
    hears(&caller, CALLER_HZ);
    assert_eq!(apply(release(6)), Applied::Now);
    assert_eq!(apply(plan(5, Source::Echo)), Applied::Before, "a released call stays so");
    until("the leg is gone", || bench.engine.stats().legs.is_empty());
}

#[test]
fn ports_are_free_after_release_and_go_to_whom_they_are_granted_next() {
    let bench = Bench::start();
    assert_eq!(bench.engine.stats().ports_free, 8);
    let (caller, _agent) = bench.talk(1, None);
    assert_eq!(bench.engine.stats().ports_free, 6);
    // The port was granted to another call before this one's release was told.
    let next = bench.phone(Codec::Pcmu, bench.ports[0], 700);
    let plan = |call, version, legs| Plan { call, version, legs, recording: None };
    let legs = vec![bench.leg(CALLER, &next, Source::Echo)];
    bench.engine.apply(plan(OTHER, 1, legs)).expect("a good plan");
    caller.hush();
    hears(&next, 700);
    bench.apply(2, Vec::new(), None);
    until("the first call is gone", || bench.engine.stats().legs.len() == 1);
    assert_eq!(bench.engine.stats().ports_free, 7);
    next.mark();
    hears_packets(&next, 10);
    bench.engine.apply(plan(OTHER, 2, Vec::new())).expect("a good plan");
    until("all ports are free", || bench.engine.stats().ports_free == 8);
    until("all legs are gone", || bench.engine.stats().legs.is_empty());
}

#[test]
fn plan_with_a_port_of_nobody_is_refused_and_changes_nothing() {
    let bench = Bench::start();
    let caller = bench.phone(Codec::Pcmu, bench.ports[0], CALLER_HZ);
    let odd = Leg { port: 20_001, ..bench.leg(CALLER, &caller, Source::Echo) };
    let plan = Plan { call: CALL, version: 1, legs: vec![odd], recording: None };
    assert!(bench.engine.apply(plan).is_err());
    bench.apply(1, vec![bench.leg(CALLER, &caller, Source::Echo)], None);
    hears(&caller, CALLER_HZ);
}

#[test]
fn busy_ports_are_left_out() {
    let bench = Bench::start();
    let busy: Vec<u16> = bench.ports.clone();
    let other = Bench::start();
    assert!(other.ports.iter().all(|port| !busy.contains(port)));
    let dir = tempfile::tempdir().expect("a folder");
    let common = Common::new(dir.path().into());
    let mut options = Options::new(LOCAL);
    options.pairs = 2;
    options.ports = busy[0]..=busy[0] + 1;
    let refused = Engine::start(common, options).err().map(|error| error.to_string());
    assert!(refused.is_some_and(|text| text.starts_with("only 0 of 2 pairs")));
}

#[test]
fn another_engine_takes_over_a_leg_and_its_stream_goes_on_ahead() {
    let first = Bench::start();
    let caller = first.phone(Codec::Pcmu, first.ports[0], CALLER_HZ);
    let leg = first.leg(CALLER, &caller, Source::Music(MusicRef::default()));
    first.apply(1, vec![leg.clone()], None);
    hears_packets(&caller, 50);
    let before = caller.stats();
    // The first still has its sockets: the newest bind gets the packets.
    let second = Bench::start();
    let legs = vec![Leg { source: Source::Echo, ..leg }];
    second.apply(2, legs, None);
    first.apply(2, Vec::new(), None);
    hears(&caller, CALLER_HZ);
    let after = caller.stats();
    assert_eq!(after.ssrc, before.ssrc);
    assert_eq!((after.streams, after.odd), (1, 0), "one sequence to the peer");
    let ahead = after.sequence.wrapping_sub(before.sequence);
    assert!(ahead < 3000, "{ahead}");
}

/// A peer whose RTP and RTCP ports are in our hands.
struct RawPeer {
    rtp: UdpSocket,
    rtcp: UdpSocket,
    to: u16,
}

impl RawPeer {
    const SSRC: u32 = 0xfeed;

    fn of(to: u16) -> Self {
        let pair = || {
            let rtp = UdpSocket::bind((LOCAL, 0)).expect("a port");
            let after = rtp.local_addr().expect("an address").port().checked_add(1)?;
            Some((rtp, UdpSocket::bind((LOCAL, after)).ok()?))
        };
        let (rtp, rtcp) = (0..100).find_map(|_| pair()).expect("two ports in a row");
        rtcp.set_read_timeout(Some(WITHIN)).expect("a time-out");
        Self { rtp, rtcp, to }
    }

    fn address(&self) -> SocketAddr {
        self.rtp.local_addr().expect("an address")
    }

    fn talk(&self, sequence: u16) {
        self.send(sequence, 0, &[0xff; 160]);
    }

    fn send(&self, sequence: u16, payload_type: u8, payload: &[u8]) {
        self.send_at(sequence, u32::from(sequence) * 160, payload_type, payload);
    }

    fn send_at(&self, sequence: u16, timestamp: u32, payload_type: u8, payload: &[u8]) {
        let mut packet = [0; 12].to_vec();
        packet.extend_from_slice(payload);
        packet[..2].copy_from_slice(&[0x80, payload_type]);
        packet[2..4].copy_from_slice(&sequence.to_be_bytes());
        packet[4..8].copy_from_slice(&timestamp.to_be_bytes());
        packet[8..12].copy_from_slice(&Self::SSRC.to_be_bytes());
        self.rtp.send_to(&packet, (LOCAL, self.to)).expect("sent");
    }

    /// The next compound.
    fn report(&self, buffer: &mut [u8; 512]) -> usize {
        self.rtcp.recv_from(buffer).expect("a report").0
    }

    /// Answers a report at once, and begins a round trip of its own.
    fn answer(&self, report: &SenderReport<'_>) {
        let block = ReportBlock::builder(report.ssrc())
            .last_sender_report_timestamp((report.ntp_timestamp() >> 16) as u32);
        let answer = SenderReport::builder(Self::SSRC)
            .ntp_timestamp(0x0001_2345_6789_abcd)
            .add_report_block(block);
        let mut bytes = [0; 128];
        let end = Compound::builder().add_packet(answer).write_into(&mut bytes).expect("room");
        self.rtcp.send_to(&bytes[..end], (LOCAL, self.to + 1)).expect("sent");
    }
}

fn packets(compound: &[u8]) -> Vec<Packet<'_>> {
    Compound::parse(compound).expect("a compound").map(|packet| packet.expect("whole")).collect()
}

#[test]
fn leg_reports_by_rtcp_and_says_goodbye_and_its_quality_is_told() {
    let bench = Bench::start_with(|_, options| options.rtcp_interval_ms = 100);
    let events = bench.engine.events();
    let peer = RawPeer::of(bench.ports[0]);
    let somebody = bench.pool.open(LOCAL).expect("an endpoint");
    let leg = Leg {
        remote: Some(peer.address()),
        ..bench.leg(CALLER, &somebody, Source::Music(MusicRef::default()))
    };
    bench.apply(1, vec![leg], None);
    until("the leg is served", || bench.engine.stats().legs.len() == 1);
    // Of ten packets the fourth is lost.
    (0..10).filter(|at| *at != 3).for_each(|at| peer.talk(65_530_u16.wrapping_add(at)));
    let mut buffer = [0; 512];
    // The first that has seen all of them.
    let highest = loop {
        let end = peer.report(&mut buffer);
        let packets = packets(&buffer[..end]);
        let [Packet::Sr(report), Packet::Sdes(_)] = &packets[..] else { panic!("{packets:?}") };
        assert_eq!(report.ssrc(), 0x1001);
        assert!(report.packet_count() > 0 && report.octet_count() == 160 * report.packet_count());
        let Some(block) = report.report_blocks().next() else { continue };
        assert_eq!(block.ssrc(), RawPeer::SSRC);
        peer.answer(report);
        if block.extended_sequence_number() == 65_536 + 3 {
            break block.cumulative_lost();
        }
    };
    assert_eq!(highest, 1);
    // A stranger's report is dropped and counted, and no third source is reported to.
    let stranger = UdpSocket::bind((LOCAL, 0)).expect("a port");
    stranger.send_to(&[0x80, 201, 0, 1, 0, 0, 0, 1], (LOCAL, peer.to + 1)).expect("sent");
    peer.rtcp.send_to(&[1, 2, 3], (LOCAL, peer.to + 1)).expect("sent");
    until("both are dropped", || {
        let totals = bench.engine.stats().totals;
        (totals.rtcp_dropped_stranger, totals.rtcp_dropped_malformed) == (1, 1)
    });
    // Our report names the peer's.
    loop {
        let end = peer.report(&mut buffer);
        let packets = packets(&buffer[..end]);
        let Some(Packet::Sr(report)) = packets.first() else { panic!("{packets:?}") };
        let block = report.report_blocks().next().expect("a block");
        if block.last_sender_report_timestamp() != 0 {
            assert_eq!(block.last_sender_report_timestamp(), 0x2345_6789);
            assert!(block.delay_since_last_sender_report_timestamp() < 5 * 65_536);
            break;
        }
    }
    until("the round trip is known", || {
        bench.engine.stats().legs.iter().all(|leg| leg.round_trip_us.is_some())
    });
    bench.apply(2, Vec::new(), None);
    loop {
        let end = peer.report(&mut buffer);
        if let [Packet::Sr(_), Packet::Sdes(_), Packet::Bye(_)] = packets(&buffer[..end])[..] {
            break;
        }
    }
    let Event::Quality(quality) = events.recv_timeout(WITHIN).expect("a quality") else {
        panic!("an event of another kind")
    };
    let Quality { call, leg, role, packets_received, packets_lost, .. } = quality;
    assert_eq!((call, leg, role), (CALL, CALLER, "caller"));
    assert_eq!((packets_received, packets_lost), (9, 1));
    assert!(quality.packets_sent > 0 && quality.round_trip_us.is_some_and(|us| us < 2_000_000));
    // A tenth of G.711 without concealment is hard to follow.
    assert!(quality.mos_x100.is_some_and(|mos| (100..200).contains(&mos)), "{quality:?}");
}

#[test]
fn key_of_a_phone_without_telephone_event_is_heard_in_its_tones() {
    let bench = Bench::start();
    let peer = RawPeer::of(bench.ports[0]);
    let somebody = bench.pool.open(LOCAL).expect("an endpoint");
    let leg = Leg {
        remote: Some(peer.address()),
        telephone_event: None,
        ..bench.leg(CALLER, &somebody, Source::Music(MusicRef::default()))
    };
    bench.apply(1, vec![leg], None);
    until("the leg is served", || bench.engine.stats().legs.len() == 1);
    let wave = |at: usize, hz: f64| (std::f64::consts::TAU * hz * at as f64 / 8000.0).sin();
    // The tones of 5, for 160 ms, with silence around.
    let five = |at: usize| (3000.0 * (wave(at, 770.0) + wave(at, 1336.0))) as i16;
    let samples: Vec<i16> =
        (0..2560).map(|at| if (320..1600).contains(&at) { five(at) } else { 0 }).collect();
    for (sequence, samples) in (0..).zip(samples.chunks_exact(160)) {
        let mut codes = [0; 160];
        pcmu::PcmuEncoder::new().encode_into(samples, &mut codes).expect("a code for each");
        peer.send(sequence, 0, &codes);
    }
    let event = bench.engine.events().recv_timeout(WITHIN).expect("a key");
    let Event::Dtmf { call: CALL, leg: CALLER, digit: '5', duration_ms, number: 1 } = event else {
        panic!("{event:?}")
    };
    assert!((125..=165).contains(&duration_ms), "{duration_ms}");
}

#[test]
fn key_of_one_peer_is_dialled_in_tones_to_another_that_knows_no_events() {
    let bench = Bench::start();
    let peer = RawPeer::of(bench.ports[0]);
    let deaf = RawPeer::of(bench.ports[1]);
    let somebody = bench.pool.open(LOCAL).expect("an endpoint");
    let of_peer = bench.leg(CALLER, &somebody, Source::Leg(AGENT));
    let of_deaf = bench.leg(AGENT, &somebody, Source::Leg(CALLER));
    let legs = vec![
        Leg { remote: Some(peer.address()), ..of_peer },
        Leg { remote: Some(deaf.address()), telephone_event: None, ..of_deaf },
    ];
    bench.apply(1, legs, None);
    until("the legs are served", || bench.engine.stats().legs.len() == 2);
    peer.talk(0);
    // Five, for 40 ms; then it speaks on.
    for (sequence, ended, lasts) in [(1, 0, 160_u16), (2, 0, 320), (3, 0x80, 320), (4, 0x80, 320)] {
        let [high, low] = lasts.to_be_bytes();
        peer.send_at(sequence, 160, 101, &[5, 10 | ended, high, low]);
    }
    deaf.rtp.set_read_timeout(Some(WITHIN)).expect("a time-out");
    let (mut tones, mut sequences, mut said) = (Vec::new(), Vec::new(), 5);
    let mut buffer = [0; 1500];
    // The first is the peer's; the key has four packets and a pause of three.
    while sequences.len() < 10 {
        let end = deaf.rtp.recv(&mut buffer).expect("a packet");
        let packet = &buffer[..end];
        assert_eq!((packet[1] & 0x7f, end), (0, 172), "audio and nothing else");
        sequences.push(u16::from_be_bytes([packet[2], packet[3]]));
        if (2..=5).contains(&sequences.len()) {
            let mut samples = vec![0; 160];
            pcmu::PcmuDecoder::new().decode_into(&packet[12..], &mut samples).expect("samples");
            tones.extend(samples);
        }
        if sequences.len() >= 8 {
            peer.talk(said);
            said += 1;
        }
    }
    for hz in [770.0, 1336.0] {
        let share = share_at(&tones, hz);
        assert!((0.3..0.7).contains(&share), "{hz} Hz: {share}");
    }
    let steps = sequences.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]));
    assert!(steps.clone().all(|step| step == 1), "{:?}", steps.collect::<Vec<_>>());
}

#[test]
fn silence_of_a_peer_is_recorded_as_noise_of_the_level_that_it_gives() {
    let bench = Bench::start();
    let peer = RawPeer::of(bench.ports[0]);
    let agent = bench.phone(Codec::Pcmu, bench.ports[1], AGENT_HZ);
    let of_peer = bench.leg(CALLER, &agent, Source::Leg(AGENT));
    let legs = vec![
        Leg { remote: Some(peer.address()), ..of_peer },
        bench.leg(AGENT, &agent, Source::Leg(CALLER)),
    ];
    let recording = Recording { id: 9, left: CALLER, right: AGENT, mixed: false, paused: false };
    bench.apply(1, legs, Some(recording));
    until("the legs are served", || bench.engine.stats().legs.len() == 2);
    peer.talk(0);
    // −30 dBov, for a second; then it speaks, from 120 ms ago on, and says nothing.
    peer.send(1, 13, &[30]);
    std::thread::sleep(Duration::from_millis(1000));
    (2..12).for_each(|at: u16| peer.send_at(at, 6_720 + u32::from(at) * 160, 0, &[0xff; 160]));
    hears_packets(&agent, 11);
    bench.apply(2, Vec::new(), None);
    let (left, _) = channels(&recorded(&bench.engine.events()).path);
    let level = |samples: &[i16]| {
        let power: f64 = samples.iter().map(|sample| f64::from(*sample).powi(2)).sum();
        (power / samples.len() as f64).sqrt()
    };
    // From its first sample on, without a hole.
    let begun = left.iter().position(|sample| sample.abs() > 100).expect("noise");
    for piece in left[begun..begun + 6_000].chunks_exact(200) {
        let heard = level(piece);
        assert!((heard / 1036.0 - 1.0).abs() < 0.3, "{heard}");
    }
    assert!(level(&left[left.len() - 400..]) < 10.0, "it ends when the peer speaks");
}

/// Each fifth packet comes behind the one after it: who hears samples of it hears them in order, and
/// who hears it as it is does not wait.
#[test]
fn overtaken_packets_are_put_in_order_where_they_are_transcoded_and_relayed_at_once() {
    for (codec, late) in [(Codec::G722, 0), (Codec::Pcmu, 10)] {
        let bench = Bench::start();
        let peer = RawPeer::of(bench.ports[0]);
        let agent = bench.phone(Codec::Pcmu, bench.ports[1], AGENT_HZ);
        let (remote, payload) = (Some(peer.address()), codec.static_payload());
        let of_peer = bench.leg(CALLER, &agent, Source::Leg(AGENT));
        let legs = vec![
            Leg { remote, codec, payload, ..of_peer },
            bench.leg(AGENT, &agent, Source::Leg(CALLER)),
        ];
        bench.apply(1, legs, None);
        until("the legs are served", || bench.engine.stats().legs.len() == 2);
        for sequence in 0..50 {
            let sequence = match sequence % 5 {
                3 => sequence + 1,
                4 => sequence - 1,
                _ => sequence,
            };
            peer.send(sequence, payload, &[0x7f; 160]);
        }
        hears_packets(&agent, 50);
        let heard = agent.stats();
        assert_eq!((heard.lost, heard.late, heard.streams), (0, late, 1), "{codec:?}");
        let totals = bench.engine.stats().totals;
        assert_eq!((totals.late, totals.too_late), (10, 0));
        // One that never comes holds up the others for a moment only, and is too late then.
        peer.send(51, payload, &[0x7f; 160]);
        peer.send(52, payload, &[0x7f; 160]);
        hears_packets(&agent, 52);
        peer.send(50, payload, &[0x7f; 160]);
        let too_late = u64::from(codec == Codec::G722);
        until("it has come", || {
            let totals = bench.engine.stats().totals;
            (totals.late, totals.too_late, agent.stats().lost) == (11, too_late, too_late)
        });
    }
}

#[test]
fn comfort_noise_keeps_a_peer_alive_and_is_not_sent_on() {
    let bench = Bench::start_with(|_, options| options.rtp_silence_ms_max = 400);
    let peer = RawPeer::of(bench.ports[0]);
    let agent = bench.phone(Codec::Pcmu, bench.ports[1], AGENT_HZ);
    let legs = vec![
        Leg { remote: Some(peer.address()), ..bench.leg(CALLER, &agent, Source::Leg(AGENT)) },
        bench.leg(AGENT, &agent, Source::Leg(CALLER)),
    ];
    bench.apply(1, legs, None);
    until("the legs are served", || bench.engine.stats().legs.len() == 2);
    peer.talk(1);
    hears_packets(&agent, 1);
    // A second of nothing but comfort noise, then talk goes on.
    for sequence in 2..12 {
        peer.send(sequence, 13, &[60]);
        std::thread::sleep(Duration::from_millis(100));
    }
    peer.talk(12);
    hears_packets(&agent, 2);
    let heard = agent.stats();
    assert_eq!((heard.received, heard.lost, heard.streams), (2, 0, 1));
    assert!(bench.engine.events().try_recv().is_err(), "nobody is silent");
    let totals = bench.engine.stats().totals;
    assert_eq!((totals.dropped(), totals.packets_in >= 12), (0, true));
}
