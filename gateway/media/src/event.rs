//! What the media plane tells its owner.

use std::path::PathBuf;

use crate::plan::CallKey;
use crate::quality::Quality;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A recording is whole: on disk, its header final.
    Recorded(Recorded),
    /// What there is of the recordings that run, now and then.
    Recording(Vec<Holding>),
    /// A leg's peer has sent nothing for so long. Told once, until it sends again.
    RtpSilence { call: CallKey, leg: u64, since_ms: u64 },
    /// The sequence numbers of a leg's SRTP have gone on by a quarter of a round; both in quarters.
    Rollover { call: CallKey, leg: u64, sent: u32, received: u32 },
    /// A leg was let go: how it was to talk over.
    Quality(Quality),
    /// A key was pressed at a leg's peer (RFC 4733, or tones in its audio): the `number`-th that was told of the leg,
    /// from 1.
    Dtmf { call: CallKey, leg: u64, number: u64, digit: char, duration_ms: u32 },
    /// A prompt was played to its end, or stopped by a key. Told once a play.
    PromptEnded { call: CallKey, leg: u64, play: u64, missing: bool },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    pub call: CallKey,
    pub recording: u64,
    pub duration_ms: u64,
    pub chunks: u32,
    pub gaps: Vec<Gap>,
    /// BLAKE3 of the whole file.
    pub hash: [u8; 32],
    pub path: PathBuf,
    pub pauses: Vec<Gap>,
    pub begun_unix_ms: u64,
}

/// What there is of a recording that is not whole, or is another gateway's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    pub call: CallKey,
    pub recording: u64,
    pub duration_ms: u64,
    pub chunks: u32,
    pub gaps: Vec<Gap>,
    pub pauses: Vec<Gap>,
    pub begun_unix_ms: u64,
    pub state: Held,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// It is being recorded here.
    Running,
    /// All of it is here; BLAKE3 of the file, hex.
    Whole { hash: String },
    /// Who recorded it is gone; BLAKE3 of what is here, hex.
    Cut { hash: String },
}

/// A part of a recording that is silent because it was not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Gap {
    pub at_ms: u64,
    pub len_ms: u64,
}
