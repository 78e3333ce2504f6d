//! A conference over real sockets of the loopback interface: each party hears the others, whatever
//! codec each has, and nobody hears himself.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tandem_media::endpoint::{Endpoint, EndpointPool};
use tandem_media::tones::share_at;
use tandem_media::{Common, Engine, Event, Leg, Options, Plan, Recording, Source};
use tandem_sip::sdp::Codec;

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const WITHIN: Duration = Duration::from_secs(20);
const LAST_MS: u32 = 400;

struct Party {
    phone: Endpoint,
    codec: Codec,
    hz: u32,
}

struct Room {
    engine: Engine,
    parties: Vec<Party>,
    version: u64,
    _dir: tempfile::TempDir,
    _pool: EndpointPool,
}

impl Room {
    /// Each party speaks a tone of its own.
    fn open(parties: &[(Codec, u32)]) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let common = Common::new(dir.path().into());
        let mut options = Options::new(LOCAL);
        options.pairs = parties.len();
        let engine = Engine::start(common, options).expect("the engine starts");
        let pool = EndpointPool::start().expect("a thread");
        let open = |(codec, hz): &(Codec, u32), port: u16| {
            let phone = pool.open(LOCAL).expect("an endpoint");
            phone.talk(SocketAddr::new(LOCAL, port), *codec, *hz);
            Party { phone, codec: *codec, hz: *hz }
        };
        let parties = parties.iter().zip(engine.ports()).map(|(is, port)| open(is, port)).collect();
        Self { engine, parties, version: 0, _dir: dir, _pool: pool }
    }

    /// Those of `present` hear each other.
    fn join(&mut self, present: &[usize], recording: Option<Recording>) {
        let ports = self.engine.ports();
        let leg = |at: usize| {
            let Party { phone, codec, .. } = &self.parties[at];
            let others = present.iter().filter(|other| **other != at);
            Leg {
                leg: at as u64,
                port: ports[at],
                remote: Some(phone.address()),
                codec: *codec,
                payload: codec.static_payload(),
                telephone_event: Some(101),
                events_wide: false,
                ssrc: 1 + at as u32,
                source: Source::Mix(others.map(|at| *at as u64).collect()),
                role: "",
                keys: None,
            }
        };
        let legs = present.iter().map(|at| leg(*at)).collect();
        self.version += 1;
        let plan = Plan { call: 1.into(), version: self.version, legs, recording };
        self.engine.apply(plan).expect("a good plan");
    }

    fn hears_packets(&self, at: usize, count: u64) {
        let (begun, phone) = (Instant::now(), &self.parties[at].phone);
        let wanted = phone.stats().received + count;
        while phone.stats().received < wanted {
            assert!(begun.elapsed() < WITHIN, "{at} hears nothing");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Until this party hears those, each as loud as the other, and nobody else.
    fn hears(&self, at: usize, others: &[usize]) {
        let begun = Instant::now();
        loop {
            let share =
                |other: usize| self.parties[at].phone.heard_share(self.parties[other].hz, LAST_MS);
            let shares: Vec<f64> = (0..self.parties.len()).map(share).collect();
            let fair = 1.0 / others.len() as f64;
            let good =
                shares.iter().enumerate().all(|(other, share)| match others.contains(&other) {
                    true => (share - fair).abs() < 0.2 * fair,
                    false => *share < 0.03,
                });
            if good {
                return;
            }
            assert!(begun.elapsed() < WITHIN, "{at} hears {shares:.2?}, not {others:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn three_of_three_codecs_hear_each_other_and_not_themselves() {
    let mut room = Room::open(&[(Codec::Pcma, 500), (Codec::G722, 900), (Codec::Opus, 1500)]);
    room.join(&[0, 1, 2], None);
    for (at, others) in [(0, [1, 2]), (1, [0, 2]), (2, [0, 1])] {
        room.hears(at, &others);
    }
    // One leaves.
    room.join(&[0, 2], None);
    room.hears(0, &[2]);
    room.hears(2, &[0]);
}

#[test]
fn thirty_in_a_room_are_heard_by_each() {
    // The lines of a window of 400 ms are 2.5 Hz apart, so these don't leak into each other; and so
    // quiet that their sum is not cut.
    let tones: Vec<(Codec, u32)> = (0..30).map(|at| (Codec::Pcmu, 400 + 50 * at)).collect();
    let mut room = Room::open(&tones);
    for party in &room.parties[6..] {
        party.phone.hush();
    }
    let all: Vec<usize> = (0..30).collect();
    room.join(&all, None);
    let speak: Vec<usize> = (0..6).collect();
    for at in 0..30 {
        let others: Vec<usize> = speak.iter().copied().filter(|other| *other != at).collect();
        room.hears(at, &others);
    }
}

#[test]
fn recording_of_a_conference_has_the_others_on_its_right() {
    let mut room = Room::open(&[(Codec::Pcmu, 500), (Codec::Pcma, 900), (Codec::Pcmu, 1500)]);
    let events = room.engine.events();
    let recording = Recording { id: 4, left: 0, right: 1, mixed: true, paused: false };
    room.join(&[0, 1, 2], Some(recording));
    room.hears(0, &[1, 2]);
    room.hears_packets(0, 60);
    // Two are left, and talk as two do.
    room.join(&[0, 1], Some(Recording { mixed: false, ..recording }));
    room.hears(0, &[1]);
    room.version += 1;
    let over = Plan { call: 1.into(), version: room.version, legs: Vec::new(), recording: None };
    room.engine.apply(over).expect("a good plan");
    let recorded = loop {
        if let Event::Recorded(recorded) = events.recv_timeout(WITHIN).expect("it is told") {
            break recorded;
        }
    };
    assert_eq!(recorded.gaps, []);
    let mut reader = hound::WavReader::open(&recorded.path).expect("a WAV file");
    let samples: Vec<i16> = reader.samples().collect::<Result<_, _>>().expect("samples");
    let (left, right): (Vec<i16>, Vec<i16>) =
        samples.chunks_exact(2).map(|two| (two[0], two[1])).unzip();
    let middle = 4000..8000;
    assert!(share_at(&left[middle.clone()], 500.0) > 0.9, "the left is who called, alone");
    for hz in [900.0, 1500.0] {
        let share = share_at(&right[middle.clone()], hz);
        assert!((0.4..0.6).contains(&share), "{hz}: {share}");
    }
}
