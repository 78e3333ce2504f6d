//! G.711 by tables, built once: the hot path looks bytes up and allocates nothing.

use std::sync::LazyLock;

use audio_codec::{Decoder as _, Encoder as _, pcma, pcmu};
use tandem_sip::sdp::Codec;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    Mu,
    A,
}

impl Law {
    /// None of another codec.
    pub fn of(codec: Codec) -> Option<Self> {
        match codec {
            Codec::Pcmu => Some(Self::Mu),
            Codec::Pcma => Some(Self::A),
            Codec::G722 | Codec::Opus | Codec::G729 => None,
        }
    }
}

pub struct Tables {
    ulaw_linear: [i16; 256],
    alaw_linear: [i16; 256],
    ulaw_alaw: [u8; 256],
    alaw_ulaw: [u8; 256],
}

static TABLES: LazyLock<Tables> = LazyLock::new(Tables::build);

impl Tables {
    fn build() -> Self {
        let mut codes = [0_u8; 256];
        for (code, at) in codes.iter_mut().zip(0..=255) {
            *code = at;
        }
        let mut tables = Self {
            ulaw_linear: [0; 256],
            alaw_linear: [0; 256],
            ulaw_alaw: [0; 256],
            alaw_ulaw: [0; 256],
        };
        let done = [
            pcmu::PcmuDecoder::new().decode_into(&codes, &mut tables.ulaw_linear),
            pcma::PcmaDecoder::new().decode_into(&codes, &mut tables.alaw_linear),
            pcma::PcmaEncoder::new().encode_into(&tables.ulaw_linear, &mut tables.ulaw_alaw),
            pcmu::PcmuEncoder::new().encode_into(&tables.alaw_linear, &mut tables.alaw_ulaw),
        ];
        assert!(done.iter().all(|count| matches!(count, Ok(256))), "G.711 maps code by code");
        tables
    }
}

/// The samples of each code.
pub fn linear(law: Law) -> &'static [i16; 256] {
    match law {
        Law::Mu => &TABLES.ulaw_linear,
        Law::A => &TABLES.alaw_linear,
    }
}

/// The code table from one law to another; none where they are the same.
pub fn transcode(from: Law, to: Law) -> Option<&'static [u8; 256]> {
    match (from, to) {
        (Law::Mu, Law::A) => Some(&TABLES.ulaw_alaw),
        (Law::A, Law::Mu) => Some(&TABLES.alaw_ulaw),
        (Law::Mu, Law::Mu) | (Law::A, Law::A) => None,
    }
}

/// Not for the hot path: it allocates.
pub fn encode(law: Law, samples: &[i16]) -> Vec<u8> {
    let mut codes = vec![0; samples.len()];
    let done = match law {
        Law::Mu => pcmu::PcmuEncoder::new().encode_into(samples, &mut codes),
        Law::A => pcma::PcmaEncoder::new().encode_into(samples, &mut codes),
    };
    assert!(done.is_ok_and(|count| count == samples.len()), "G.711 makes one byte of a sample");
    codes
}

/// The code of silence.
pub fn silence(law: Law) -> u8 {
    match law {
        Law::Mu => 0xff,
        Law::A => 0xd5,
    }
}
