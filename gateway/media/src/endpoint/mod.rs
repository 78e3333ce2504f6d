//! Lightweight RTP endpoints: the ears and mouths of test phones, the demo and benchmarks.
//!
//! ```no_run
//! # use tandem_media::endpoint::{EndpointPool, Error};
//! # use tandem_sip::sdp::Codec;
//! # fn main() -> Result<(), Error> {
//! let pool = EndpointPool::start()?;
//! let phone = pool.open([127, 0, 0, 1].into())?;
//! phone.talk(([127, 0, 0, 1], 20_000).into(), Codec::Pcmu, 440);
//! phone.mark();
//! // … later:
//! let stats = phone.stats();
//! println!("longest gap {} ms, hears {:?} Hz", stats.spacing_ms_max, phone.heard_hz(200));
//! # Ok(()) }
//! ```

mod listening;
mod pool;
mod talking;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tandem_sip::sdp::Codec;

pub use listening::Heard;
pub use pool::EndpointPool;
use pool::{Line, Shared};

use crate::plan::Keys;
use crate::srtp::Armour;
use crate::{sys, tones};

/// What endpoints use for telephone-event, sent and received.
pub const TELEPHONE_EVENT: u8 = 101;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no RTP endpoint can be opened on {address}: {error}")]
    Open { address: IpAddr, error: std::io::Error },
    #[error("the endpoints' thread can't be started: {0}")]
    Thread(std::io::Error),
}

/// A socket that sends a tone and measures what it receives; it stops when it is dropped.
pub struct Endpoint {
    shared: Arc<Shared>,
    line: Arc<Line>,
    /// Its place in the pool.
    at: usize,
}

impl Endpoint {
    pub fn port(&self) -> u16 {
        self.line.address.port()
    }

    pub fn address(&self) -> SocketAddr {
        self.line.address
    }

    /// Sends a tone from now on, a packet each 20 ms, with the codec's static payload type.
    pub fn talk(&self, remote: SocketAddr, codec: Codec, tone_hz: u32) {
        let tone = self.shared.tone(tone_hz);
        self.line.state.lock().talking.talk(remote, codec, tone);
    }

    /// From now on what is sent is protected (SRTP), and nothing else is heard.
    pub fn protect(&self, keys: &Keys) {
        self.line.state.lock().armour = Armour::new(Some(keys), 0, 0);
    }

    /// Sends nothing any more.
    pub fn hush(&self) {
        self.line.state.lock().talking.hush();
    }

    /// Presses a key (RFC 4733), 100 ms long, once those before are sent. False if there is no
    /// such key.
    pub fn press(&self, digit: char) -> bool {
        self.line.state.lock().talking.press(digit)
    }

    /// Hides the time of sending in each packet's audio, for [`Self::take_delays_us`] of who
    /// receives it.
    pub fn probe(&self) {
        self.line.state.lock().talking.probe();
    }

    /// From now on counts and spacing start anew.
    pub fn mark(&self) {
        self.line.state.lock().listening.mark(sys::realtime_ns());
    }

    /// Since the mark.
    pub fn stats(&self) -> Heard {
        self.line.state.lock().listening.heard(sys::realtime_ns())
    }

    /// Packets sent since the endpoint was opened.
    pub fn sent(&self) -> u64 {
        self.line.state.lock().talking.sent()
    }

    /// The tone that was received in the last so many milliseconds (at most 200), to 5 Hz.
    pub fn heard_hz(&self, last_ms: u32) -> Option<u32> {
        let samples = self.line.state.lock().listening.last_samples(last_ms);
        tones::dominant_hz(&samples)
    }

    /// The share of one frequency in what was heard last, 0 to 1.
    pub fn heard_share(&self, hz: u32, last_ms: u32) -> f64 {
        let samples = self.line.state.lock().listening.last_samples(last_ms);
        tones::share_at(&samples, f64::from(hz))
    }

    /// How loud the last so many milliseconds were that came (at most 1000): the root mean square of
    /// the samples, 0 for silence.
    pub fn heard_level(&self, last_ms: u32) -> f64 {
        let samples = self.line.state.lock().listening.last_samples(last_ms);
        let power: f64 = samples.iter().map(|sample| f64::from(*sample).powi(2)).sum();
        (power / samples.len().max(1) as f64).sqrt()
    }

    /// From the probes' sending to the kernel's receiving, since the mark.
    pub fn take_delays_us(&self) -> Vec<u32> {
        self.line.state.lock().listening.take_delays_us()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.shared.close(self.at);
    }
}
