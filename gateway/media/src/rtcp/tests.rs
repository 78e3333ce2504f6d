use proptest::collection::vec;
use proptest::prelude::*;
use rtcp_types::prelude::*;
use rtcp_types::{Compound, Packet, SdesItem};

use super::packets::{self, Block, Malformed, REPORT_BYTES_MAX, Said};
use super::reception::Reception;
use super::{Moment, Session};
use crate::random::Random;
use crate::rtp::{Order, Window};

const OURS: u32 = 0x0a0b_0c0d;
const THEIRS: u32 = 7;
const NS_PER_MS: u64 = 1_000_000;
/// 2026-11-28T21:00:00Z.
const UNIX_NS: u64 = 1_795_899_600_000_000_000;

fn moment(at_ms: u64) -> Moment {
    Moment {
        now_ns: at_ms * NS_PER_MS,
        unix_ns: UNIX_NS + at_ms * NS_PER_MS,
        ssrc: OURS,
        rtp_timestamp: 8 * at_ms as u32,
    }
}

/// A leg's receiving half.
#[derive(Default)]
struct Ear {
    window: Window,
    reception: Reception,
}

impl Ear {
    fn hear(&mut self, sequence: u16, timestamp: u32, at_ms: u64) {
        let order = self.window.observe(THEIRS, sequence);
        self.reception.on_packet(THEIRS, sequence, order, 8);
        if !matches!(order, Order::Duplicate | Order::Astray) {
            self.reception.on_audio(timestamp, at_ms * NS_PER_MS, 8);
        }
    }
}

#[test]
fn loss_is_counted_since_the_last_report_and_in_all() {
    let mut ear = Ear::default();
    // Ten packets across the end of the circle, of which two are missing.
    for step in [0, 1, 2, 4, 5, 7, 8, 9_u16] {
        ear.hear(65_531_u16.wrapping_add(step), u32::from(step) * 160, u64::from(step) * 20);
    }
    let block = ear.reception.report().expect("a source");
    assert_eq!((block.fraction_lost, block.cumulative_lost), (51, 2), "2 of 10 in 256ths");
    assert_eq!(block.highest_sequence, 65_536 + 4, "one cycle");
    for step in 10..20_u16 {
        ear.hear(65_531_u16.wrapping_add(step), u32::from(step) * 160, u64::from(step) * 20);
    }
    let block = ear.reception.report().expect("a source");
    assert_eq!((block.fraction_lost, block.cumulative_lost), (0, 2));
    assert_eq!((ear.reception.lost(), ear.reception.received), (2, 18));
}

#[test]
fn late_packet_is_no_loss_and_duplicates_make_the_sum_negative() {
    let mut ear = Ear::default();
    for sequence in [10, 12, 11, 12, 12] {
        ear.hear(sequence, u32::from(sequence) * 160, u64::from(sequence) * 20);
    }
    assert_eq!((ear.reception.late, ear.reception.duplicates, ear.reception.lost()), (1, 2, 0));
    let block = ear.reception.report().expect("a source");
    assert_eq!((block.fraction_lost, block.cumulative_lost), (0, -2));
}

#[test]
fn loss_of_an_earlier_source_stays_counted() {
    let mut ear = Ear::default();
    [1, 3, 40_000, 40_001, 40_003].into_iter().for_each(|sequence| ear.hear(sequence, 0, 0));
    // The jump counted once it was confirmed.
    assert_eq!((ear.reception.lost(), ear.reception.received), (2, 4));
}

#[test]
fn jitter_follows_the_formula_of_a_8() {
    let mut ear = Ear::default();
    let mut jitter = 0_i64;
    let arrivals = [0_u64, 25, 40, 60, 93, 100, 120];
    let mut transit = None;
    for (at, arrival_ms) in (0_u16..).zip(arrivals) {
        let timestamp = u32::from(at) * 160;
        ear.hear(at, timestamp, arrival_ms);
        let now = (arrival_ms * 8) as i64 - i64::from(timestamp);
        if let Some(before) = transit.replace(now) {
            jitter += (now - before).abs() - ((jitter + 8) >> 4);
        }
    }
    let block = ear.reception.report().expect("a source");
    assert_eq!(i64::from(block.jitter), jitter >> 4);
    assert!(block.jitter > 0);
    assert!(ear.reception.jitter_us() > 0);
}

#[test]
fn steady_stream_has_no_jitter_and_a_jump_of_its_clock_is_none() {
    let mut ear = Ear::default();
    for at in 0..50_u16 {
        let jump = if at < 25 { 0 } else { 1_000_000 };
        ear.hear(at, jump + u32::from(at) * 160, u64::from(at) * 20);
    }
    assert_eq!(ear.reception.jitter_us(), 0);
}

#[test]
fn report_is_read_by_others_as_it_was_meant() {
    let mut ear = Ear::default();
    [5, 6, 8].into_iter().for_each(|at| ear.hear(at, u32::from(at) * 160, u64::from(at) * 20));
    let mut random = Random::new(1);
    let mut session = Session::new(1.into(), 2, OURS);
    session.begin(5000, 0, &mut random);
    (0..3).for_each(|_| session.on_sent(160));
    let mut out = [0; REPORT_BYTES_MAX];
    let bytes = session.report(&moment(1500), &mut ear.reception, &mut random, &mut out);
    let packets: Vec<Packet<'_>> = Compound::parse(&out[..bytes])
        .expect("a compound")
        .map(|packet| packet.expect("a packet"))
        .collect();
    let [Packet::Sr(report), Packet::Sdes(description)] = &packets[..] else {
        panic!("{packets:?}")
    };
    assert_eq!(report.ssrc(), OURS);
    assert_eq!(report.ntp_timestamp() >> 32, (UNIX_NS / 1_000_000_000) + 1 + 2_208_988_800);
    assert_eq!(report.ntp_timestamp() as u32, 1 << 31, "half a second");
    assert_eq!(
        (report.rtp_timestamp(), report.packet_count(), report.octet_count()),
        (12_000, 3, 480)
    );
    let blocks: Vec<_> = report.report_blocks().collect();
    assert_eq!((blocks.len(), blocks[0].ssrc(), blocks[0].cumulative_lost()), (1, THEIRS, 1));
    assert_eq!((blocks[0].fraction_lost(), blocks[0].extended_sequence_number()), (64, 8));
    let chunk = description.chunks().next().expect("a chunk");
    let item = chunk.items().next().expect("an item");
    assert_eq!((chunk.ssrc(), item.type_(), item.value().len()), (OURS, SdesItem::CNAME, 24));
}

#[test]
fn who_sends_nothing_reports_as_a_receiver_and_leaves_with_a_goodbye() {
    let mut random = Random::new(1);
    let mut session = Session::new(1.into(), 2, OURS);
    let mut reception = Reception::default();
    let mut out = [0; REPORT_BYTES_MAX];
    assert_eq!(session.goodbye(&moment(0), &mut reception, &mut out), None, "never heard of");
    session.on_sent(160);
    let kinds = |out: &[u8]| -> Vec<u8> {
        let packets = Compound::parse(out).expect("a compound");
        packets.map(|packet| packet.expect("a packet").type_()).collect()
    };
    let mut report = |session: &mut Session| {
        let bytes = session.report(&moment(10), &mut Reception::default(), &mut random, &mut out);
        kinds(&out[..bytes])
    };
    assert_eq!(report(&mut session), [200, 202]);
    assert_eq!(report(&mut session), [200, 202], "a sender for one report more");
    assert_eq!(report(&mut session), [201, 202]);
    let mut out = [0; REPORT_BYTES_MAX];
    let bytes = session.goodbye(&moment(20), &mut reception, &mut out).expect("a goodbye");
    assert_eq!(kinds(&out[..bytes]), [201, 202, 203]);
}

#[test]
fn two_sides_measure_their_round_trip() {
    let mut random = Random::new(3);
    let (mut ours, mut theirs) =
        (Session::new(1.into(), 1, OURS), Session::new(1.into(), 2, THEIRS));
    let mut ear = Ear::default();
    ear.hear(1, 160, 0);
    ours.on_sent(160);
    let mut out = [0; REPORT_BYTES_MAX];
    let at = |ms, ssrc| Moment { ssrc, ..moment(ms) };
    // 30 ms there, 700 ms of waiting, 50 ms back.
    let bytes = ours.report(&at(1000, OURS), &mut Reception::default(), &mut random, &mut out);
    theirs.on_datagram(&out[..bytes], &at(1030, THEIRS)).expect("a report");
    let mut of_ours = Reception::default();
    of_ours.on_packet(OURS, 1, Order::Fresh, 8);
    let bytes = theirs.report(&at(1730, THEIRS), &mut of_ours, &mut random, &mut out);
    ours.on_datagram(&out[..bytes], &at(1780, OURS)).expect("a report");
    let round_trip_us = ours.round_trip_us().expect("measured");
    assert!(round_trip_us.abs_diff(80_000) < 100, "{round_trip_us}");
    assert_eq!(theirs.round_trip_us(), None);
}

#[test]
fn nonsense_round_trips_are_not_measured() {
    let mut session = Session::new(1.into(), 1, OURS);
    let report = |last_sr, delay| {
        let block = Block { ssrc: OURS, last_sr, delay_since_last_sr: delay, ..Block::default() };
        let cname = &[b'x'; packets::CNAME_BYTES];
        let mut out = [0; REPORT_BYTES_MAX];
        let report =
            packets::Report { ssrc: THEIRS, sender: None, block: Some(block), cname, bye: false };
        let bytes = report.write(&mut out);
        out[..bytes].to_vec()
    };
    let now = packets::middle(packets::ntp(moment(0).unix_ns));
    for (last_sr, delay) in [(0, 0), (now.wrapping_add(700), 0), (now, u32::MAX / 2), (1, 1)] {
        session.on_datagram(&report(last_sr, delay), &moment(0)).expect("well formed");
    }
    assert_eq!(session.round_trip_us(), None);
    session.on_datagram(&report(now, 1), &moment(0)).expect("well formed");
    assert_eq!(session.round_trip_us(), Some(0), "rounded below none");
}

#[test]
fn reports_are_spread_as_6_3_1_says() {
    let mut random = Random::new(42);
    let mut session = Session::new(1.into(), 1, OURS);
    let mut reception = Reception::default();
    let mut out = [0; REPORT_BYTES_MAX];
    session.begin(5000, 0, &mut random);
    assert!(!session.is_due(1000 * NS_PER_MS) && session.is_due(3100 * NS_PER_MS), "half at first");
    let (mut total, mut least, mut most) = (0, u64::MAX, 0);
    for _ in 0..1000 {
        let (mut before, mut after) = (0, 20_000);
        session.report(&moment(0), &mut reception, &mut random, &mut out);
        while after - before > 1 {
            let middle = u64::midpoint(before, after);
            if session.is_due(middle * NS_PER_MS) { after = middle } else { before = middle }
        }
        (total, least, most) = (total + after, least.min(after), most.max(after));
    }
    assert!(least >= 2052 && most <= 6157, "{least}–{most}");
    assert!((total / 1000).abs_diff(4104) < 150, "{}", total / 1000);
}

#[test]
fn what_begins_with_no_report_is_malformed() {
    let read = |bytes: &[u8]| packets::read(bytes, |_| {});
    assert_eq!(read(&[]), Err(Malformed));
    assert_eq!(read(&[0x81, 203, 0, 1, 0, 0, 0, 1]), Err(Malformed), "a bare goodbye");
    assert_eq!(read(&[0x80, 201, 0, 1, 0, 0, 0, 1]), Ok(()));
    assert_eq!(read(&[0xa0, 201, 0, 1, 0, 0, 0, 4]), Err(Malformed), "padded");
    assert_eq!(read(&[0x80, 201, 0, 9, 0, 0, 0, 1]), Err(Malformed), "cut off");
    assert!(packets::is_rtcp(&[0x80, 201]) && !packets::is_rtcp(&[0x80, 0]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// Of noise, and of good reports with bytes turned.
    #[test]
    fn hostile_rtcp_harms_nobody(
        kind in 192..224_u8,
        noise in vec(any::<u8>(), 0..200),
        turns in vec((any::<usize>(), any::<u8>()), 0..6),
        cut in any::<usize>(),
    ) {
        let mut session = Session::new(1.into(), 1, OURS);
        let mut bytes = vec![0x81, kind];
        bytes.extend(&noise);
        let _ = session.on_datagram(&bytes, &moment(5));
        let length = (noise.len() / 4) as u16;
        if let Some(place) = bytes.get_mut(2..4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        let _ = session.on_datagram(&bytes, &moment(5));

        let mut random = Random::new(1);
        let mut ear = Ear::default();
        ear.hear(1, 0, 0);
        session.on_sent(160);
        let mut out = [0; REPORT_BYTES_MAX];
        let end = session.goodbye(&moment(6), &mut ear.reception, &mut out).unwrap_or(0);
        let mut good = out[..end].to_vec();
        for (at, to) in turns {
            let at = at % good.len();
            good[at] = to;
        }
        good.truncate(1 + cut % good.len());
        let _ = session.on_datagram(&good, &moment(7));
        prop_assert!(session.round_trip_us().is_none_or(|us| us <= 10_000_000));
        session.report(&moment(8), &mut ear.reception, &mut random, &mut out);
    }

    /// Whatever comes in whatever order, loss and what is received make up what was sent.
    #[test]
    fn counts_add_up(sequences in vec(0..400_u16, 1..300)) {
        let mut ear = Ear::default();
        sequences.iter().for_each(|sequence| ear.hear(*sequence, 0, 0));
        let sent = u64::from(sequences.iter().max().unwrap() - sequences[0]) + 1;
        prop_assert!(ear.reception.lost() + ear.reception.received >= sent);
        let block = ear.reception.report().unwrap();
        prop_assert_eq!(block.ssrc, THEIRS);
        let _ = Said::Block(block);
    }
}
