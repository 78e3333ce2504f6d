//! What a conference costs: a minute of so many who all speak, G.711 and Opus, on one core.
//!
//! ```sh
//! cargo run --release -p tandem-media --example mixing
//! ```

use std::time::Instant;

use tandem_media::mix::{Frame, Playout, sum};
use tandem_media::tones::Piece as _;
use tandem_media::transcoding::{SAMPLES_PER_PACKET, Voice};
use tandem_media::{Music, MusicRef};
use tandem_sip::sdp::Codec;

const TURNS: u32 = 3000;
const TURN_US: f64 = 20_000.0;

fn main() {
    let music = Music::load(None).expect("a melody of our own");
    let music = music.list(MusicRef::default());
    println!("{:<6} {:>8} {:>14} {:>16}", "codec", "parties", "a turn, us", "% of a core");
    for codec in [Codec::Pcmu, Codec::Opus] {
        for parties in [3, 8, 30] {
            let mut samples = [0; SAMPLES_PER_PACKET as usize];
            music.fill_linear(0, &mut samples);
            let mut payload = [0; 1500];
            let bytes = Voice::new(codec).encode(&samples, &mut payload).expect("a packet");
            let mut rooms: Vec<(Voice, Playout)> =
                (0..parties).map(|_| (Voice::new(codec), Playout::default())).collect();
            let begun = Instant::now();
            for turn in 0..TURNS {
                for (voice, playout) in &mut rooms {
                    let mut heard = [0; SAMPLES_PER_PACKET as usize];
                    let count = voice.decode(&payload[..bytes], &mut heard);
                    playout.push(turn * SAMPLES_PER_PACKET, &heard[..count]);
                    playout.turn();
                }
                let frames: Vec<Frame> =
                    rooms.iter().map(|(_, playout)| *playout.frame()).collect();
                for (at, (voice, _)) in rooms.iter_mut().enumerate() {
                    let others = frames.iter().enumerate().filter(|(other, _)| *other != at);
                    let mixed = sum(others.map(|(_, frame)| frame));
                    voice.encode(&mixed, &mut [0; 1500]).expect("a packet");
                }
            }
            let turn_us = begun.elapsed().as_secs_f64() * 1e6 / f64::from(TURNS);
            println!(
                "{:<6} {parties:>8} {turn_us:>14.1} {:>16.2}",
                codec.name(),
                100.0 * turn_us / TURN_US
            );
        }
    }
}
