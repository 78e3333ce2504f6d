//! Both channels of a recording on one clock: pure, fed with arrival times.

use crate::limits::{
    CHUNK_FRAMES, PIECE_SAMPLES_MAX, RECORDER_LATE_MS_MAX, RECORDER_SKEW_MS_MAX,
    RECORDER_WINDOW_FRAMES, SAMPLES_PER_MS,
};

pub const FRAME_BYTES: usize = 4;
const NS_PER_MS: u64 = 1_000_000;
const SKEW_FRAMES_MAX: u64 = RECORDER_SKEW_MS_MAX * SAMPLES_PER_MS as u64;
const LATE_NS_MAX: u64 = RECORDER_LATE_MS_MAX * NS_PER_MS;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// The caller.
    Left,
    /// The agent.
    Right,
}

/// A second or less of finished audio.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    pub at_frame: u64,
    /// 16-bit little-endian samples, left and right in turn.
    pub bytes: Vec<u8>,
}

/// Frames since the recording began, 8000 a second; what no packet fills is silent.
///
/// A packet lies where its RTP timestamp puts it relative to the packet before, so that jitter
/// doesn't tear the audio; where that strays too far from its time of arrival (another source,
/// another clock), arrival counts.
pub struct Timeline {
    begun_ns: u64,
    /// Frames that have been taken.
    taken: u64,
    window: Vec<[i16; 2]>,
    anchors: [Option<Anchor>; 2],
}

#[derive(Clone, Copy)]
struct Anchor {
    ssrc: u32,
    timestamp: u32,
    frame: u64,
}

/// Audio of one packet, or of a part of it.
pub struct Audio<'a> {
    pub channel: Channel,
    pub arrived_ns: u64,
    pub ssrc: u32,
    pub timestamp: u32,
    pub samples: &'a [i16],
}

impl Timeline {
    pub fn new(begun_ns: u64) -> Self {
        Self {
            begun_ns,
            taken: 0,
            window: vec![[0; 2]; RECORDER_WINDOW_FRAMES],
            anchors: [None; 2],
        }
    }

    /// Whether what arrives at this time has no room until a chunk is taken.
    pub fn is_full(&self, arrived_ns: u64) -> bool {
        let end = self.frame_at(arrived_ns) + SKEW_FRAMES_MAX + PIECE_SAMPLES_MAX as u64;
        end > self.taken + RECORDER_WINDOW_FRAMES as u64
    }

    /// False if it comes too late to be heard: its chunk has been taken.
    pub fn put(&mut self, audio: &Audio<'_>) -> bool {
        assert!(!self.is_full(audio.arrived_ns), "chunks are taken before audio is put");
        let arrival = self.frame_at(audio.arrived_ns);
        let side = match audio.channel {
            Channel::Left => 0,
            Channel::Right => 1,
        };
        let frame = self.anchors[side]
            .filter(|anchor| anchor.ssrc == audio.ssrc)
            .and_then(|anchor| {
                let step = i64::from(audio.timestamp.wrapping_sub(anchor.timestamp) as i32);
                anchor.frame.checked_add_signed(step)
            })
            .filter(|frame| frame.abs_diff(arrival) <= SKEW_FRAMES_MAX)
            .unwrap_or(arrival);
        self.anchors[side] = Some(Anchor { ssrc: audio.ssrc, timestamp: audio.timestamp, frame });
        let mut heard = false;
        for (at, sample) in (frame..).zip(audio.samples.iter().take(PIECE_SAMPLES_MAX)) {
            let Some(within) = at.checked_sub(self.taken) else { continue };
            if let Some(slot) = usize::try_from(within).ok().and_then(|w| self.window.get_mut(w)) {
                slot[side] = *sample;
                heard = true;
            }
        }
        heard
    }

    /// The next chunk, once nothing can be late for it any more.
    pub fn take_due(&mut self, now_ns: u64) -> Option<Chunk> {
        let settled = self.frame_at(now_ns.saturating_sub(LATE_NS_MAX));
        (settled >= self.taken + CHUNK_FRAMES as u64).then(|| self.take(CHUNK_FRAMES))
    }

    /// The next chunk, due or not: there is need for room.
    pub fn take_forced(&mut self) -> Chunk {
        self.take(CHUNK_FRAMES)
    }

    /// What is left up to the end, a chunk at a time.
    pub fn take_rest(&mut self, end_ns: u64) -> Option<Chunk> {
        let left = self.frame_at(end_ns).saturating_sub(self.taken);
        let frames = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_FRAMES);
        (frames > 0).then(|| self.take(frames))
    }

    fn take(&mut self, frames: usize) -> Chunk {
        let mut bytes = Vec::with_capacity(frames * FRAME_BYTES);
        for [left, right] in &self.window[..frames] {
            bytes.extend_from_slice(&left.to_le_bytes());
            bytes.extend_from_slice(&right.to_le_bytes());
        }
        self.window.copy_within(frames.., 0);
        let rest = self.window.len() - frames;
        self.window[rest..].fill([0; 2]);
        let at_frame = self.taken;
        self.taken += frames as u64;
        Chunk { at_frame, bytes }
    }

    pub fn frame_at(&self, at_ns: u64) -> u64 {
        let elapsed_us = at_ns.saturating_sub(self.begun_ns) / 1000;
        elapsed_us * u64::from(SAMPLES_PER_MS) / 1000
    }
}
