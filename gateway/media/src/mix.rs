//! A conference: each party hears the sum of some others (the mix-minus, or N-1 mix).
//!
//! What a party says comes in packets by its clock and the network's mood; a mix is made every 20 ms
//! by ours. In between stands the party's [`Playout`]. Pure: fed with timestamps and turns.

use crate::limits::{
    PLAYOUT_AHEAD_MS, PLAYOUT_DEPTH_MS_MAX, PLAYOUT_SPARE_MS, PLAYOUT_TURNS, SAMPLES_PER_MS,
    SAMPLES_PER_PACKET,
};

const FRAME: usize = SAMPLES_PER_PACKET as usize;
const RING: usize = PLAYOUT_DEPTH_MS_MAX * SAMPLES_PER_MS as usize;
const AHEAD: u32 = PLAYOUT_AHEAD_MS * SAMPLES_PER_MS;
const SPARE: i32 = PLAYOUT_SPARE_MS * SAMPLES_PER_MS as i32;

/// What one mix is made of: 20 ms of a party.
pub type Frame = [i16; FRAME];

/// The jitter buffer of one party: samples by their timestamps of 8 kHz in, 20 ms a turn out.
pub struct Playout {
    ring: Box<[i16; RING]>,
    /// The timestamp whose turn is next; None until something has come.
    next: Option<u32>,
    /// Behind the newest sample.
    end: u32,
    /// The least that was left to play in the turns counted.
    least: i32,
    turns: u32,
    frame: Frame,
}

impl Default for Playout {
    fn default() -> Self {
        let ring = Box::new([0; RING]);
        Self { ring, next: None, end: 0, least: i32::MAX, turns: 0, frame: [0; FRAME] }
    }
}

impl Playout {
    /// A packet's samples, in the order sent.
    pub fn push(&mut self, timestamp: u32, samples: &[i16]) {
        let ahead = self.next.map(|next| timestamp.wrapping_sub(next) as i32);
        let room = RING as i32 - samples.len() as i32;
        if !ahead.is_some_and(|ahead| (0..=room).contains(&ahead)) {
            // The first, another clock, or one that came when its turn was over: what is said from
            // here on comes a little later.
            self.ring.fill(0);
            self.next = Some(timestamp.wrapping_sub(AHEAD));
            (self.least, self.turns) = (i32::MAX, 0);
        }
        let samples = &samples[..samples.len().min(RING - AHEAD as usize)];
        for (at, sample) in samples.iter().enumerate() {
            self.ring[(timestamp as usize + at) % RING] = *sample;
        }
        self.end = timestamp.wrapping_add(samples.len() as u32);
    }

    /// Goes on by 20 ms; they are [`frame`](Self::frame) then.
    pub fn turn(&mut self) {
        let Some(next) = self.next else { return };
        self.take(next);
        self.turns += 1;
        self.least = self.least.min(self.depth());
        if self.turns < PLAYOUT_TURNS {
            return;
        }
        // A whole second with more in hand than jitter needs: the party's clock is faster than ours,
        // or its network has calmed down.
        let spare = std::mem::replace(&mut self.least, i32::MAX) > SPARE;
        self.turns = 0;
        if let Some(next) = self.next.filter(|_| spare) {
            self.take(next);
        }
    }

    /// What is heard of the party now: silence where nothing has come in time.
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// Samples that have come and were not played.
    fn depth(&self) -> i32 {
        self.next.map_or(0, |next| self.end.wrapping_sub(next) as i32)
    }

    fn take(&mut self, next: u32) {
        for (at, to) in self.frame.iter_mut().enumerate() {
            let place = &mut self.ring[(next as usize + at) % RING];
            *to = std::mem::take(place);
        }
        self.next = Some(next.wrapping_add(SAMPLES_PER_PACKET));
    }
}

/// The sum of all, and where it is too loud the loudest there is. One party alone is heard bit by bit
/// as it came.
pub fn sum<'f>(parties: impl Iterator<Item = &'f Frame>) -> Frame {
    let mut total = [0_i32; FRAME];
    for frame in parties {
        for (total, sample) in total.iter_mut().zip(frame) {
            *total += i32::from(*sample);
        }
    }
    total.map(|total| total.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16)
}

// Timestamps wrap at 2^32; places in the ring must, too.
const _: () = assert!(RING.is_power_of_two());
const _: () = assert!(AHEAD as usize + FRAME < RING);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Packets of 20 ms that count their samples, so that each tells its place.
    fn packet(number: u32) -> (u32, Frame) {
        let timestamp = number.wrapping_mul(SAMPLES_PER_PACKET);
        (
            timestamp,
            std::array::from_fn(|at| (timestamp.wrapping_add(at as u32) & 0x3fff) as i16 + 1),
        )
    }

    fn push(playout: &mut Playout, number: u32) {
        let (timestamp, samples) = packet(number);
        playout.push(timestamp, &samples);
    }

    fn turn(playout: &mut Playout) -> Frame {
        playout.turn();
        *playout.frame()
    }

    const SILENT: Frame = [0; FRAME];

    #[test]
    fn what_comes_evenly_is_played_whole_a_little_later() {
        let mut playout = Playout::default();
        assert_eq!(turn(&mut playout), SILENT, "nobody has spoken");
        // Through the end of the clock's circle, too.
        let first = u32::MAX / SAMPLES_PER_PACKET - 20;
        let heard: Vec<Frame> = (first..first + 40)
            .map(|number| {
                push(&mut playout, number);
                turn(&mut playout)
            })
            .collect();
        let late = (AHEAD / SAMPLES_PER_PACKET) as usize;
        assert_eq!(heard[..late], vec![SILENT; late]);
        for (at, frame) in heard[late..].iter().enumerate() {
            assert_eq!(*frame, packet(first + at as u32).1, "{at}");
        }
    }

    #[test]
    fn a_lost_packet_is_silent_and_costs_no_time() {
        let mut playout = Playout::default();
        let heard: Vec<Frame> = (0..10)
            .map(|number| {
                if number != 4 {
                    push(&mut playout, number);
                }
                turn(&mut playout)
            })
            .collect();
        assert_eq!(heard[5], packet(3).1);
        assert_eq!(heard[6], SILENT);
        assert_eq!(heard[7], packet(5).1);
    }

    #[test]
    fn who_was_silent_is_heard_from_the_first_sample() {
        let mut playout = Playout::default();
        push(&mut playout, 0);
        for _ in 0..500 {
            playout.turn();
        }
        // Its clock went on meanwhile (silence suppression), or stood still (hold).
        for number in [500, 1] {
            push(&mut playout, number);
            let heard: Vec<Frame> = (0..3).map(|_| turn(&mut playout)).collect();
            assert!(heard.contains(&packet(number).1), "{number}");
        }
    }

    #[test]
    fn jitter_leaves_no_hole_once_it_is_known() {
        let (mut playout, mut random) = (Playout::default(), Random::new(7));
        // Each packet comes up to 60 ms late, never before one of before.
        let (mut due, mut newest) = (Vec::new(), 0);
        for number in 0..500_u32 {
            newest = newest.max(u64::from(number) * 20 + random.next() % 60);
            due.push((newest, number));
        }
        let mut holes = 0;
        let mut waiting = due.iter().peekable();
        for tick in 0..500_u64 {
            while let Some((_, number)) = waiting.next_if(|(at, _)| *at <= tick * 20) {
                push(&mut playout, *number);
            }
            let silent = turn(&mut playout) == SILENT;
            holes += usize::from(silent && tick > 100);
        }
        assert!(holes < 10, "{holes} holes");
    }

    #[test]
    fn a_faster_clock_is_kept_up_with() {
        let mut playout = Playout::default();
        let mut number = 0;
        for turns in 0..20_000 {
            // One packet in two hundred too many: half a per cent, ten times what clocks are off.
            for _ in 0..1 + u32::from(turns % 200 == 0) {
                push(&mut playout, number);
                number += 1;
            }
            playout.turn();
            assert!(playout.depth() <= SPARE + 4 * FRAME as i32, "{}", playout.depth());
        }
    }

    #[test]
    fn packets_of_any_size_and_clock_are_survived() {
        let (mut playout, mut random) = (Playout::default(), Random::new(3));
        let samples = [7; 1500];
        for _ in 0..20_000 {
            let length = random.next() as usize % samples.len();
            playout.push(random.next() as u32, &samples[..length]);
            playout.turn();
        }
    }

    #[test]
    fn one_alone_is_heard_bit_by_bit_and_all_together_no_louder_than_can_be() {
        let (quiet, loud): (Frame, Frame) = ([0; FRAME], [i16::MAX; FRAME]);
        let voice: Frame = std::array::from_fn(|at| at as i16 * 100 - 8000);
        assert_eq!(sum([&quiet, &voice].into_iter()), voice);
        assert_eq!(sum(std::iter::empty()), quiet);
        assert_eq!(sum([&loud, &loud].into_iter()), loud);
        assert_eq!(sum([&[i16::MIN; FRAME], &loud].into_iter()), [-1; FRAME]);
    }
}
