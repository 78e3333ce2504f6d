//! The header of a recording's file: RIFF/WAVE, PCM, two channels, 8000 Hz, 16 bits.

use super::timeline::FRAME_BYTES;
use crate::limits::SAMPLES_PER_MS;

pub const HEADER_BYTES: u64 = 44;
pub const FRAMES_PER_MS: u64 = SAMPLES_PER_MS as u64;

/// Of so many frames. The sizes stop at what 32 bits can say: 37 h.
pub fn header(frames: u64) -> [u8; HEADER_BYTES as usize] {
    let data = u32::try_from(bytes_of(frames)).unwrap_or(u32::MAX - 36).min(u32::MAX - 36);
    let mut header = [0; HEADER_BYTES as usize];
    header[0..4].copy_from_slice(b"RIFF");
    header[4..8].copy_from_slice(&(data + 36).to_le_bytes());
    header[8..16].copy_from_slice(b"WAVEfmt ");
    header[16..20].copy_from_slice(&16_u32.to_le_bytes());
    header[20..22].copy_from_slice(&1_u16.to_le_bytes());
    header[22..24].copy_from_slice(&2_u16.to_le_bytes());
    header[24..28].copy_from_slice(&8000_u32.to_le_bytes());
    header[28..32].copy_from_slice(&(8000 * FRAME_BYTES as u32).to_le_bytes());
    header[32..34].copy_from_slice(&(FRAME_BYTES as u16).to_le_bytes());
    header[34..36].copy_from_slice(&16_u16.to_le_bytes());
    header[36..40].copy_from_slice(b"data");
    header[40..44].copy_from_slice(&data.to_le_bytes());
    header
}

pub fn bytes_of(frames: u64) -> u64 {
    frames.saturating_mul(FRAME_BYTES as u64)
}
