//! The randomness of one command: splitmix64 (Steele, Lea, Flood 2014) from its seed.

pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn hex(&mut self) -> String {
        self.hex_after("")
    }

    /// Sixteen hexadecimal digits behind `prefix`.
    pub fn hex_after(&mut self, prefix: &str) -> String {
        const DIGITS: [u8; 16] = *b"0123456789abcdef";
        let mut text = String::with_capacity(prefix.len() + 16);
        text.push_str(prefix);
        let value = self.next();
        text.extend((0..16).rev().map(|at| char::from(DIGITS[(value >> (4 * at) & 15) as usize])));
        text
    }
}
