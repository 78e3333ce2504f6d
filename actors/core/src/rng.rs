//! The randomness of one command: splitmix64 (Steele, Lea, Flood 2014) from its seed.

pub struct Rng {
    state: u64,
    /// Whose texts these are.
    tenant: u16,
}

/// Of a branch of ours (RFC 3261 §8.1.1.7).
pub(crate) const COOKIE: &str = "z9hG4bK";
/// No hexadecimal digit: what the first tenant draws has none.
const MARK: char = 't';
const MARK_DIGITS: usize = 4;

/// Whose tag, branch or Call-ID this is, where it is one of ours: gateways send what comes in on a dialog
/// to the tenant that it names.
pub fn tenant_of(text: &str) -> u16 {
    let drawn = text.strip_prefix(COOKIE).unwrap_or(text);
    let digits = drawn.strip_prefix(MARK).and_then(|rest| rest.get(..MARK_DIGITS));
    digits.and_then(|digits| u16::from_str_radix(digits, 16).ok()).unwrap_or_default()
}

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self::of_tenant(seed, 0)
    }

    /// Its texts name the tenant, but those of the first one.
    pub fn of_tenant(seed: u64, tenant: u16) -> Self {
        Self { state: seed, tenant }
    }

    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn hex(&mut self) -> String {
        self.hex_after("")
    }

    /// Sixteen hexadecimal digits behind `prefix` and the tenant's mark.
    pub fn hex_after(&mut self, prefix: &str) -> String {
        const DIGITS: [u8; 16] = *b"0123456789abcdef";
        let mut text = String::with_capacity(prefix.len() + 1 + MARK_DIGITS + 16);
        text.push_str(prefix);
        if self.tenant != 0 {
            text.push_str(&format!("{MARK}{:04x}", self.tenant));
        }
        let value = self.next();
        text.extend((0..16).rev().map(|at| char::from(DIGITS[(value >> (4 * at) & 15) as usize])));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_a_tenant_name_it_and_those_of_the_first_are_as_they_were() {
        for tenant in [0, 1, 0x1f, u16::MAX] {
            let mut rng = Rng::of_tenant(7, tenant);
            assert_eq!(tenant_of(&rng.hex()), tenant);
            let branch = rng.hex_after(COOKIE);
            assert!(branch.starts_with(COOKIE));
            assert_eq!(tenant_of(&branch), tenant);
        }
        assert_eq!(Rng::of_tenant(7, 0).hex().len(), 16);
        for peers in ["", "t", "tag", "t12", "t12\u{e9}", "z9hG4bK", "z9hG4bKt"] {
            assert_eq!(tenant_of(peers), 0, "{peers}");
        }
    }
}
