//! The gateway's media plane: RTP in, RTP out, music, ringback, echo, recordings.
//!
//! Reading order: [`plan`] (what is asked), [`engine`] (who asks and is told), `worker` (one
//! thread that carries packets), `leg` and `stream` (one socket's two directions), [`record`].
//!
//! A packet's way is socket → leg → (tap) → leg → socket, all on one thread: no lock, no
//! allocation, no disk. Nothing here decides about calls: [`plan::Plan`]s are decided, replicated
//! and sent by others, and this crate reconciles sockets with them. Media goes on while whoever
//! plans is away.
//!
//! A recording lies in the recordings' folder as `ID.wav` with `ID.manifest` beside it, the id as
//! 16 hexadecimal digits: see [`record::manifest`].

mod codec;
mod detector;
mod dial;
mod dtmf;
pub mod endpoint;
pub mod engine;
pub mod event;
mod g711;
mod leg;
pub mod limits;
pub mod mix;
pub mod music;
mod noise;
mod opus;
pub mod plan;
mod plane;
pub mod ports;
pub mod prompts;
pub mod quality;
mod random;
pub mod record;
mod reorder;
mod rollover;
mod rtcp;
mod rtp;
mod srtp;
pub mod stats;
mod stream;
mod sys;
pub mod tones;
mod wav;
mod worker;

#[cfg(test)]
mod tests;

/// For who measures what it costs.
pub mod transcoding {
    pub use crate::codec::Voice;
    pub use crate::limits::SAMPLES_PER_PACKET;
}

pub use engine::{Applied, Engine, Options, Rest};
pub use event::{Event, Gap, Held, Holding, Recorded};
pub use music::{Music, MusicRef};
pub use plan::{CallKey, Keys, Leg, Plan, Prompt, Recording, Source};
pub use plane::{Common, Plane};
pub use prompts::{PromptRef, Prompts};
pub use quality::Quality;
pub use rollover::Rollover;
pub use stats::{LegState, Stats};
pub use sys::monotonic_ns;
