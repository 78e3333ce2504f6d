use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tandem_sip::sdp::Codec;

use crate::dtmf::{Keypad, Press};
use crate::event::{Event, Gap};
use crate::g711::{self, Law};
use crate::limits::{CHUNK_FRAMES, SEQUENCE_DROPOUT_MAX};
use crate::plan::{Error, Leg, Plan, Recording, Source};
use crate::record::board::Board;
use crate::record::custody::Custody;
use crate::record::manifest::{Line, Manifest};
use crate::record::timeline::{Audio, Channel, Chunk, Timeline};
use crate::record::{manifest, writer};
use crate::rtp::{HEADER_BYTES, Header, Order, RtpPacket, Window};
use crate::stream::{Outgoing, Received, TAKEOVER_AHEAD_PACKETS};
use crate::tones::{self, Country, Piece as _};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;

// --- plans --------------------------------------------------------------------------------------

fn leg(leg: u64, port: u16, source: Source) -> Leg {
    Leg {
        leg,
        port,
        remote: None,
        codec: Codec::Pcmu,
        payload: 0,
        telephone_event: Some(101),
        events_wide: false,
        ssrc: leg as u32,
        source,
        role: "",
        keys: None,
    }
}

#[test]
fn plan_that_contradicts_itself_is_refused() {
    let plan = |legs: Vec<Leg>, recording| Plan { call: 1.into(), version: 1, legs, recording };
    let two = vec![leg(1, 20_000, Source::Leg(2)), leg(2, 20_002, Source::Leg(1))];
    assert_eq!(
        plan(
            two.clone(),
            Some(Recording { id: 1, left: 1, right: 2, mixed: false, paused: false })
        )
        .check(),
        Ok(())
    );
    assert_eq!(plan(Vec::new(), None).check(), Ok(()));
    let check = |legs| plan(legs, None).check();
    assert_eq!(
        check(vec![leg(1, 20_000, Source::Leg(3))]),
        Err(Error::UnknownSource { leg: 1, source_leg: 3 })
    );
    assert_eq!(
        check(vec![leg(1, 20_000, Source::Echo), leg(1, 20_002, Source::Echo)]),
        Err(Error::SameLeg(1))
    );
    assert_eq!(
        check(vec![leg(1, 20_000, Source::Echo), leg(2, 20_000, Source::Echo)]),
        Err(Error::SamePort(20_000))
    );
    let unknown =
        plan(two, Some(Recording { id: 1, left: 1, right: 3, mixed: false, paused: false }));
    assert_eq!(unknown.check(), Err(Error::UnknownRecorded(3)));
    let high = Leg { payload: 128, ..leg(1, 20_000, Source::Echo) };
    assert_eq!(check(vec![high]), Err(Error::Payload(128)));
    let many = (0..33).map(|n| leg(n, 20_000 + 2 * n as u16, Source::Echo)).collect();
    assert_eq!(check(many), Err(Error::TooManyLegs(33)));
}

// --- RTP ----------------------------------------------------------------------------------------

#[test]
fn window_tells_next_late_duplicate_and_lost() {
    let mut window = Window::default();
    assert_eq!(window.observe(7, 65_534), Order::Fresh);
    assert_eq!(window.observe(7, 65_535), Order::Ahead { missing: 0 });
    assert_eq!(window.observe(7, 2), Order::Ahead { missing: 2 });
    assert_eq!(window.observe(7, 1), Order::Late);
    assert_eq!(window.observe(7, 1), Order::Duplicate);
    assert_eq!(window.observe(7, 2), Order::Duplicate);
    assert_eq!(window.observe(8, 3), Order::Fresh);
}

#[test]
fn window_takes_a_jump_only_when_a_second_packet_confirms_it() {
    let mut window = Window::default();
    window.observe(7, 100);
    let jump = 100 + SEQUENCE_DROPOUT_MAX + 500;
    assert_eq!(window.observe(7, jump), Order::Astray);
    assert_eq!(window.observe(7, 101), Order::Ahead { missing: 0 });
    assert_eq!(window.observe(7, jump + 1), Order::Astray);
    assert_eq!(window.observe(7, jump + 2), Order::Fresh);
}

fn received(source: usize, sequence: u16, timestamp: u32, order: Order) -> Received {
    Received { source, epoch: 1, sequence, timestamp, clock_khz: 8, marker: false, order }
}

const NEXT: Order = Order::Ahead { missing: 0 };

#[test]
fn stream_goes_on_when_music_gives_way_to_a_leg_and_back() {
    let mut stream = Outgoing::new(9, 8, 1000 * SECOND, 0);
    let first = stream.generate(0, SECOND);
    let second = stream.generate(0, SECOND + 20 * MS);
    assert!(first.marker && !second.marker);
    assert_eq!(second.sequence, first.sequence.wrapping_add(1));
    assert_eq!(second.timestamp, first.timestamp.wrapping_add(160));

    let from_leg = received(3, 5000, 77, Order::Fresh);
    let third = stream.relay(8, &from_leg, SECOND + 50 * MS).expect("relayed");
    assert!(third.marker, "the source changed");
    assert_eq!(third.sequence, second.sequence.wrapping_add(1));
    assert_eq!(third.timestamp, second.timestamp.wrapping_add(30 * 8));

    // Loss before us stays visible; timestamps are the sender's steps.
    let skipped = Received { order: Order::Ahead { missing: 1 }, ..received(3, 5002, 397, NEXT) };
    let fourth = stream.relay(8, &skipped, SECOND + 90 * MS).expect("relayed");
    assert!(!fourth.marker);
    assert_eq!(fourth.sequence, third.sequence.wrapping_add(2));
    assert_eq!(fourth.timestamp, third.timestamp.wrapping_add(320));
    let late = stream.relay(8, &received(3, 5001, 237, Order::Late), SECOND + 91 * MS);
    assert_eq!(late.map(|header| header.sequence), Some(third.sequence.wrapping_add(1)));
    // From before this leg was heard.
    assert_eq!(stream.relay(8, &received(3, 4999, 0, Order::Late), SECOND + 92 * MS), None);

    let music = stream.generate(0, SECOND + 110 * MS);
    assert!(music.marker);
    assert_eq!(music.sequence, fourth.sequence.wrapping_add(1));
    assert_eq!(music.timestamp, fourth.timestamp.wrapping_add(160));
}

#[test]
fn stream_closes_over_packets_that_are_not_sent_on() {
    let mut stream = Outgoing::new(9, 8, 0, 0);
    let first = stream.relay(0, &received(1, 10, 0, Order::Fresh), SECOND).expect("relayed");
    stream.leave_out(&received(1, 11, 160, NEXT));
    let next = stream.relay(0, &received(1, 12, 320, NEXT), SECOND).expect("relayed");
    assert_eq!(next.sequence, first.sequence.wrapping_add(1));
}

#[test]
fn time_goes_on_by_the_clock_of_each_leg() {
    for (theirs, ours) in [(8, 48), (48, 8)] {
        let mut stream = Outgoing::new(9, ours, 0, 0);
        let of = |sequence, ms: u32, order| Received {
            clock_khz: theirs,
            ..received(1, sequence, ms.wrapping_mul(theirs).wrapping_sub(90_000), order)
        };
        let first = stream.relay(0, &of(10, 0, Order::Fresh), SECOND).expect("relayed");
        let pause = stream.relay(0, &of(11, 500, NEXT), SECOND).expect("relayed");
        assert_eq!(pause.timestamp.wrapping_sub(first.timestamp), 500 * ours);
        let late = Received { order: Order::Late, ..of(10, 480, NEXT) };
        let late = stream.relay(0, &late, SECOND).expect("relayed");
        assert_eq!(late.timestamp.wrapping_sub(first.timestamp), 480 * ours);
        // For longer than 32 bits of the faster clock tell apart.
        let mut last = pause;
        for hour in 1..30_u32 {
            let at = of(11 + hour as u16, 500_u32.wrapping_add(hour * 3_600_000), NEXT);
            last = stream.relay(0, &at, SECOND).expect("relayed");
        }
        let hours = 29_u32.wrapping_mul(3_600_000).wrapping_mul(ours);
        assert_eq!(last.timestamp.wrapping_sub(pause.timestamp), hours, "{theirs} to {ours}");
    }
}

#[test]
fn stream_that_changes_its_clock_goes_on_from_where_it_was() {
    let mut stream = Outgoing::new(9, 8, 0, 0);
    let first = stream.generate(0, SECOND);
    stream.set_clock(48);
    let second = stream.generate(111, SECOND + 20 * MS);
    assert!(second.marker);
    assert_eq!(second.timestamp.wrapping_sub(first.timestamp), 960);
    assert_eq!(stream.timestamp_at(SECOND + 30 * MS).wrapping_sub(second.timestamp), 480);
}

#[test]
fn stream_begins_anew_when_its_source_does() {
    let mut stream = Outgoing::new(9, 8, 0, 0);
    let first = stream.relay(0, &received(1, 10, 0, Order::Fresh), SECOND).expect("relayed");
    let again = Received { epoch: 2, ..received(1, 60_000, 9, Order::Fresh) };
    let second = stream.relay(0, &again, SECOND + 20 * MS).expect("relayed");
    assert_eq!(second.sequence, first.sequence.wrapping_add(1));
    assert_eq!(second.timestamp, first.timestamp.wrapping_add(160));
    assert!(second.marker);
}

#[test]
fn stream_of_a_taker_over_begins_ahead_of_what_was_sent() {
    let begun = 1_700_000_000 * SECOND;
    let mut before = Outgoing::new(9, 8, begun, 0);
    let mut last = before.generate(0, SECOND);
    for n in 1..5000 {
        last = before.generate(0, SECOND + n * 20 * MS);
    }
    // A peer's clock ran ahead of ours by a second, and nothing was lost while we took over.
    let mut after = Outgoing::new(9, 8, begun + 99 * SECOND, TAKEOVER_AHEAD_PACKETS);
    let first = after.generate(0, SECOND);
    let ahead = first.sequence.wrapping_sub(last.sequence);
    assert!((1..SEQUENCE_DROPOUT_MAX).contains(&ahead), "{ahead}");
    assert!(first.timestamp.wrapping_sub(last.timestamp) < 8000 * 60);
}

#[test]
fn skipped_ticks_move_time_and_not_the_sequence() {
    let mut stream = Outgoing::new(9, 8, 0, 0);
    let first = stream.generate(0, SECOND);
    stream.skip(5);
    let second = stream.generate(0, SECOND);
    assert_eq!(second.sequence, first.sequence.wrapping_add(1));
    assert_eq!(second.timestamp, first.timestamp.wrapping_add(6 * 160));
}

// --- keys ---------------------------------------------------------------------------------------

fn event(number: u8, end: bool, samples: u16) -> [u8; 4] {
    let [high, low] = samples.to_be_bytes();
    [number, 10 | (u8::from(end) << 7), high, low]
}

#[test]
fn keypad_tells_a_key_once_however_often_its_end_comes() {
    let mut keypad = Keypad::default();
    assert_eq!(keypad.on_packet(1, &event(5, false, 160), 8, 0), [None; 2]);
    let five = Press { digit: '5', duration_ms: 100 };
    assert_eq!(keypad.on_packet(1, &event(5, true, 800), 8, 0), [None, Some(five)]);
    assert_eq!(keypad.on_packet(1, &event(5, true, 800), 8, 0), [None; 2]);
    assert_eq!(keypad.on_tick(SECOND), None);
}

#[test]
fn keypad_tells_a_key_whose_end_was_lost() {
    let mut keypad = Keypad::default();
    keypad.on_packet(1, &event(11, false, 480), 8, 0);
    assert_eq!(keypad.on_tick(100 * MS), None);
    let hash = Press { digit: '#', duration_ms: 60 };
    assert_eq!(keypad.on_tick(300 * MS), Some(hash));
    keypad.on_packet(900, &event(1, false, 160), 8, SECOND);
    let one = Press { digit: '1', duration_ms: 20 };
    assert_eq!(keypad.on_packet(1900, &event(2, false, 160), 8, SECOND), [Some(one), None]);
    // The first key again, late.
    assert_eq!(keypad.on_packet(900, &event(1, true, 800), 8, SECOND), [None; 2]);
    assert_eq!(keypad.on_packet(9900, &event(16, true, 800), 8, SECOND), [None; 2]);
}

// --- recording ----------------------------------------------------------------------------------

/// A chunk's frames.
fn frames(bytes: &[u8]) -> Vec<(i16, i16)> {
    let sample = |b: &[u8]| i16::from_le_bytes([b[0], b[1]]);
    bytes.chunks_exact(4).map(|f| (sample(&f[..2]), sample(&f[2..]))).collect()
}

/// A sample that is not silent.
const LOUD: i16 = 32_124;

fn packet(channel: Channel, arrived_ns: u64, timestamp: u32) -> Audio<'static> {
    Audio { channel, arrived_ns, ssrc: 1, timestamp, samples: &[LOUD; 160] }
}

#[test]
fn timeline_keeps_both_channels_in_step_and_fills_loss_with_silence() {
    let mut timeline = Timeline::new(SECOND);
    for n in 0..50_u32 {
        let jitter = u64::from(n % 3) * MS;
        let at = SECOND + u64::from(n) * 20 * MS + jitter;
        if n != 7 {
            assert!(timeline.put(&packet(Channel::Left, at, 1000 + n * 160)));
        }
        if n >= 25 {
            assert!(timeline.put(&packet(Channel::Right, at, n * 160)));
        }
    }
    assert_eq!(timeline.take_due(2 * SECOND), None);
    let chunk = timeline.take_due(2 * SECOND + 300 * MS).expect("a second is settled");
    assert_eq!((chunk.at_frame, chunk.bytes.len()), (0, CHUNK_FRAMES * 4));
    let loud = LOUD;
    for (at, (left, right)) in frames(&chunk.bytes).into_iter().enumerate() {
        let lost = (7 * 160..8 * 160).contains(&at);
        assert_eq!(left, if lost { 0 } else { loud }, "left at {at}");
        // Its first packet was a millisecond late: 25 % 3.
        assert_eq!(right, if at >= 4008 { loud } else { 0 }, "right at {at}");
    }
}

#[test]
fn timeline_follows_arrival_when_the_rtp_clock_jumps() {
    let mut timeline = Timeline::new(0);
    timeline.put(&packet(Channel::Left, 0, 0));
    timeline.put(&packet(Channel::Left, 500 * MS, 999_999));
    let bytes = timeline.take_rest(SECOND).expect("a second").bytes;
    let loud: Vec<usize> =
        frames(&bytes).iter().enumerate().filter(|(_, f)| f.0 != 0).map(|(at, _)| at).collect();
    assert_eq!(loud, (0..160).chain(4000..4160).collect::<Vec<_>>());
}

#[test]
fn timeline_refuses_what_comes_after_its_chunk_was_taken() {
    let mut timeline = Timeline::new(0);
    timeline.put(&packet(Channel::Left, 980 * MS, 160));
    assert!(timeline.take_due(SECOND + 300 * MS).is_some());
    assert!(!timeline.put(&packet(Channel::Left, 990 * MS, 0)));
    assert_eq!(timeline.take_rest(SECOND), None);
    assert_eq!(timeline.take_rest(SECOND + 10 * MS).map(|chunk| chunk.bytes.len()), Some(80 * 4));
}

#[test]
fn timeline_makes_room_by_chunks_when_audio_waited_long() {
    let mut timeline = Timeline::new(0);
    let late = 10 * SECOND;
    let mut forced = 0;
    while timeline.is_full(late) {
        timeline.take_forced();
        forced += 1;
    }
    assert!((7..=9).contains(&forced), "{forced}");
    assert!(timeline.put(&packet(Channel::Right, late, 0)));
}

#[test]
fn manifest_reads_back_what_was_written_and_stops_at_a_torn_line() {
    let hash = blake3::hash(b"audio").to_hex().to_string();
    let lines = [
        Line::Begun { recording: "00000000000000ff".into(), call: 7, unix_ms: 123, tenant: 0 },
        Line::Chunk { at_frame: 0, frames: 8000, blake3: hash.clone() },
        Line::Gap(Gap { at_ms: 1000, len_ms: 500 }),
        Line::Chunk { at_frame: 12_000, frames: 8000, blake3: hash },
    ];
    let mut bytes = Vec::new();
    for line in &lines {
        bytes.extend(serde_json::to_vec(line).expect("a line is JSON"));
        bytes.push(b'\n');
    }
    let whole = bytes.len() as u64;
    let expected = Manifest {
        call: Some(7.into()),
        begun_unix_ms: Some(123),
        frames: 20_000,
        chunks: 2,
        gaps: vec![Gap { at_ms: 1000, len_ms: 500 }],
        bytes: whole,
        ..Manifest::default()
    };
    assert_eq!(Manifest::parse(&bytes), expected);
    bytes.extend(b"{\"chunk\":{\"at_fr");
    assert_eq!(Manifest::parse(&bytes), expected);
}

#[test]
fn writer_marks_chunks_that_never_came_and_audio_that_was_missed() {
    let dir = tempfile::tempdir().expect("a folder");
    let (events, told) = crossbeam_channel::bounded(4);
    let (commands, inbox) = crossbeam_channel::bounded(8);
    let chunk = |at_frame, missing_ms| {
        let bytes = vec![0x11; CHUNK_FRAMES * 4];
        writer::Command::Chunk { recording: 9, chunk: Chunk { at_frame, bytes }, missing_ms }
    };
    for command in [
        writer::Command::Begin { recording: 9, call: 7.into(), at_ns: 0, unix_ms: 1000 },
        chunk(0, 0),
        chunk(2 * CHUNK_FRAMES as u64, 40),
        writer::Command::Finish { recording: 9 },
    ] {
        commands.send(command).expect("room");
    }
    drop(commands);
    let board = Arc::new(Board::new(false));
    let custody = Arc::new(Custody::new(dir.path().into(), Arc::clone(&board)));
    writer::Writer::new(dir.path().into(), Duration::from_secs(60), events, board, custody)
        .run(&inbox);
    let Ok(Event::Recorded(recorded)) = told.try_recv() else { panic!("nothing was told") };
    assert_eq!((recorded.duration_ms, recorded.chunks), (3000, 2));
    let gaps = [Gap { at_ms: 1000, len_ms: 1000 }, Gap { at_ms: 2000, len_ms: 40 }];
    assert_eq!(recorded.gaps, gaps);
    let wav = hound::WavReader::open(&recorded.path).expect("a WAV file");
    let samples: Vec<i16> = wav.into_samples().collect::<Result<_, _>>().expect("samples");
    let second = 2 * CHUNK_FRAMES;
    assert_eq!(samples.len(), 3 * second);
    let silent = |range: std::ops::Range<usize>| samples[range].iter().all(|s| *s == 0);
    assert!(silent(second..2 * second) && !silent(0..second) && !silent(2 * second..3 * second));
    assert_eq!(manifest::unsealed(dir.path()).expect("a folder"), []);
}

// --- audio --------------------------------------------------------------------------------------

#[test]
fn goertzel_names_the_tone_and_nothing_in_silence() {
    let wave = |codec, hz| {
        let mut codes = vec![0; 1600];
        tones::sine(hz, 8000.0).fill(codec, 0, &mut codes);
        codes.iter().map(|code| g711::linear(codec)[usize::from(*code)]).collect::<Vec<_>>()
    };
    for hz in [300, 425, 440, 1050, 3395] {
        assert_eq!(tones::dominant_hz(&wave(Law::Mu, hz)), Some(hz));
        assert_eq!(tones::dominant_hz(&wave(Law::A, hz)), Some(hz));
    }
    assert_eq!(tones::dominant_hz(&[0; 1600]), None);
}

#[test]
fn transcoding_keeps_each_code_close() {
    for (from, to) in [(Law::Mu, Law::A), (Law::A, Law::Mu)] {
        let table = g711::transcode(from, to).expect("the laws differ");
        for code in 0..=255_u8 {
            let before = i32::from(g711::linear(from)[usize::from(code)]);
            let after = i32::from(g711::linear(to)[usize::from(table[usize::from(code)])]);
            assert!((before - after).abs() <= before.abs() / 16 + 16, "{before} became {after}");
        }
    }
    for codec in [Law::Mu, Law::A] {
        let silence = g711::linear(codec)[usize::from(g711::silence(codec))];
        assert!(silence.abs() <= 8, "{codec:?} is silent at {silence}");
    }
}

#[test]
fn ringback_of_each_country_has_its_tones_and_goes_on_and_off_as_there() {
    // What there is of each frequency, and the seconds on and off.
    let of = |country: Country| match country {
        Country::Cn => (vec![450.0], vec![(1.0, 4.0)]),
        Country::De => (vec![425.0], vec![(1.0, 4.0)]),
        Country::Fr => (vec![440.0], vec![(1.5, 3.5)]),
        Country::Gb => (vec![400.0, 450.0], vec![(0.4, 0.2), (0.4, 2.0)]),
        Country::Jp => (vec![384.0, 400.0, 416.0], vec![(1.0, 2.0)]),
        Country::Us => (vec![440.0, 480.0], vec![(2.0, 4.0)]),
    };
    let ringback = tones::Ringback::new();
    for country in Country::ALL {
        let (tones, cadence) = of(country);
        let ringback = ringback.of(country);
        let mut codes = vec![0; ringback.samples()];
        // From its second round on.
        ringback.fill(Law::A, codes.len() as u64, &mut codes);
        let samples: Vec<i16> =
            codes.iter().map(|code| g711::linear(Law::A)[usize::from(*code)]).collect();
        let mut rest = samples.as_slice();
        for (on, off) in cadence {
            let (sound, after) = rest.split_at((on * 8000.0) as usize);
            let shares: Vec<f64> = tones.iter().map(|hz| tones::share_at(sound, *hz)).collect();
            let even = 1.0 / shares.len() as f64;
            assert!(
                shares.iter().all(|share| (share - even).abs() < 0.05),
                "{country:?} {shares:?}"
            );
            let (silence, after) = after.split_at((off * 8000.0) as usize);
            assert!(silence.iter().all(|sample| sample.abs() <= 8), "{country:?}");
            rest = after;
        }
        assert!(rest.is_empty(), "{country:?}");
    }
}

#[test]
fn tones_of_busy_and_congestion_are_those_of_each_country_and_as_long() {
    // Hertz, milliseconds on and off of busy and of congestion.
    let of = |country: Country| match country {
        Country::Cn => (vec![450.0], vec![350, 350], vec![700, 700]),
        Country::De => (vec![425.0], vec![480, 480], vec![240, 240]),
        Country::Fr => (vec![440.0], vec![500, 500], vec![250, 250]),
        Country::Gb => (vec![400.0], vec![375, 375], vec![400, 350, 225, 525]),
        Country::Jp => (vec![400.0], vec![500, 500], vec![500, 500]),
        Country::Us => (vec![480.0, 620.0], vec![500, 500], vec![250, 250]),
    };
    let clips: BTreeMap<String, Vec<i16>> = tones::clips().collect();
    for country in Country::ALL {
        let (tones, busy, congestion) = of(country);
        for (name, cadence) in [("busy", busy), ("congestion", congestion)] {
            let name = format!("tone-{name}-{}", country.code());
            let clip = &clips[&name];
            assert_eq!(clip.len(), 4 * 8000, "{name}");
            let mut rest = clip.as_slice();
            for (n, ms) in cadence.iter().enumerate() {
                let (part, after) = rest.split_at(ms * 8);
                let shares = tones.iter().map(|hz| tones::share_at(part, *hz));
                let right = if n % 2 == 0 {
                    let even = 1.0 / tones.len() as f64;
                    shares.into_iter().all(|share| (share - even).abs() < 0.05)
                } else {
                    part.iter().all(|sample| *sample == 0)
                };
                assert!(right, "{name}: part {n}");
                rest = after;
            }
        }
    }
}

// --- whatever comes -----------------------------------------------------------------------------

proptest! {
    #[test]
    fn any_datagram_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut window = Window::default();
        let mut keypad = Keypad::default();
        let mut stream = Outgoing::new(1, 8, 0, 0);
        // The same with a valid version, so that more than the first check is reached.
        let mut versioned = bytes.clone();
        if let Some(first) = versioned.first_mut() {
            *first = (*first & 0x3f) | 0x80;
        }
        for datagram in [bytes, versioned] {
            let Ok(packet) = RtpPacket::parse(&datagram) else { continue };
            let order = window.observe(packet.ssrc(), packet.sequence_number());
            keypad.on_packet(packet.timestamp(), packet.payload(), 8, 0);
            stream.relay(0, &received(0, packet.sequence_number(), packet.timestamp(), order), 0);
        }
    }

    #[test]
    fn any_timestamps_leave_the_timeline_whole(
        packets in proptest::collection::vec((0_u64..5_000, any::<u32>(), any::<bool>()), 0..200),
    ) {
        let mut timeline = Timeline::new(0);
        let mut frames = 0;
        for (at_ms, timestamp, left) in packets {
            let channel = if left { Channel::Left } else { Channel::Right };
            while timeline.is_full(at_ms * MS) {
                frames += timeline.take_forced().bytes.len() / 4;
            }
            timeline.put(&packet(channel, at_ms * MS, timestamp));
        }
        while let Some(chunk) = timeline.take_rest(6 * SECOND) {
            frames += chunk.bytes.len() / 4;
        }
        prop_assert_eq!(frames, 48_000);
    }

    #[test]
    fn any_manifest_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let manifest = Manifest::parse(&bytes);
        prop_assert!(manifest.bytes <= bytes.len() as u64);
    }

    #[test]
    fn a_written_header_reads_back(
        marker in any::<bool>(), payload in 0_u8..128, sequence in any::<u16>(),
        timestamp in any::<u32>(), ssrc in any::<u32>(),
    ) {
        let mut bytes = [0; HEADER_BYTES + 1];
        Header { marker, payload, sequence, timestamp, ssrc }.write(&mut bytes);
        let packet = RtpPacket::parse(&bytes).expect("valid");
        prop_assert_eq!(
            (packet.marker_bit(), packet.payload_type(), packet.sequence_number()),
            (marker, payload, sequence)
        );
        prop_assert_eq!((packet.timestamp(), packet.ssrc()), (timestamp, ssrc));
    }
}
