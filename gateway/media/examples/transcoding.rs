//! What a conversation costs whose legs have no codec in common: a minute of talk, in packets of
//! 20 ms, from each codec to G.711 and back, on one core.
//!
//! ```sh
//! cargo run --release -p tandem-media --example transcoding
//! ```

use std::time::Instant;

use tandem_media::tones::Piece as _;
use tandem_media::transcoding::{SAMPLES_PER_PACKET, Voice};
use tandem_media::{Music, MusicRef};
use tandem_sip::sdp::Codec;

const PACKETS: usize = 3000;
const PACKET_US: f64 = 20_000.0;

fn main() {
    // Music is harder than a voice.
    let music = Music::load(None).expect("a melody of our own");
    let music = music.list(MusicRef::default());
    println!("{:<6} {:>14} {:>14} {:>22}", "codec", "made, us", "read, us", "both, % of a core");
    for codec in [Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus] {
        let mut voice = Voice::new(codec);
        let (mut made_us, mut read_us) = (0.0, 0.0);
        for at in 0..PACKETS {
            let (mut samples, mut payload) = ([0; SAMPLES_PER_PACKET as usize], [0; 1500]);
            music.fill_linear(at as u64 * u64::from(SAMPLES_PER_PACKET), &mut samples);
            let begun = Instant::now();
            let bytes = voice.encode(&samples, &mut payload).expect("a packet");
            made_us += begun.elapsed().as_secs_f64() * 1e6;
            let begun = Instant::now();
            let mut out = [0; SAMPLES_PER_PACKET as usize];
            assert_eq!(voice.decode(&payload[..bytes], &mut out), out.len());
            read_us += begun.elapsed().as_secs_f64() * 1e6;
        }
        let (made_us, read_us) = (made_us / PACKETS as f64, read_us / PACKETS as f64);
        let share = 100.0 * (made_us + read_us) / PACKET_US;
        println!("{:<6} {made_us:>14.2} {read_us:>14.2} {share:>22.3}", codec.name());
    }
}
