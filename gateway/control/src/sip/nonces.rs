//! Which nonce counts were used (RFC 7616 §3.4): an Authorization that somebody has overheard is
//! good for nothing at the gateway that has taken it. Another gateway knows of none, and needs to
//! know of none to take the next.

use std::num::NonZeroUsize;

use lru::LruCache;

use crate::limits;

/// How far a count may come behind the greatest: requests overtake each other.
const WINDOW: u32 = u64::BITS;
/// When a nonce was made, as its first digits say.
const STAMP_CHARS: usize = 16;

#[derive(Debug)]
pub struct Nonces {
    used: LruCache<String, Counts>,
    /// Of nonces made by then, some were forgotten: what is not known of them counts as used.
    forgotten_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Counts {
    made_ms: u64,
    greatest: u32,
    /// Bit n: the greatest less n was used.
    used: u64,
}

impl Default for Nonces {
    fn default() -> Self {
        Self::with_room(limits::NONCES_MAX)
    }
}

impl Nonces {
    fn with_room(max: usize) -> Self {
        Self {
            used: LruCache::new(NonZeroUsize::new(max).unwrap_or(NonZeroUsize::MIN)),
            forgotten_ms: None,
        }
    }

    pub fn len(&self) -> usize {
        self.used.len()
    }

    pub fn is_empty(&self) -> bool {
        self.used.is_empty()
    }

    /// Uses a count of a nonce of ours; false where that was done before. A peer of RFC 2069 gives
    /// none, and so may use each nonce once.
    pub fn take(&mut self, nonce: &str, count: Option<&str>) -> bool {
        let made_ms = nonce.get(..STAMP_CHARS).and_then(|it| u64::from_str_radix(it, 16).ok());
        let count = match count {
            // Eight digits, no sign.
            Some(text) if text.len() == 8 && text.bytes().all(|it| it.is_ascii_hexdigit()) => {
                u32::from_str_radix(text, 16).ok()
            }
            Some(_) => None,
            None => Some(1),
        };
        let (Some(made_ms), Some(count @ 1..)) = (made_ms, count) else { return false };
        if let Some(counts) = self.used.get_mut(nonce) {
            return counts.take(count);
        }
        if self.forgotten_ms.is_some_and(|forgotten_ms| made_ms <= forgotten_ms) {
            return false;
        }
        let counts = Counts { made_ms, greatest: count, used: 1 };
        if let Some((_, forgotten)) = self.used.push(nonce.to_owned(), counts) {
            self.forgotten_ms = self.forgotten_ms.max(Some(forgotten.made_ms));
        }
        true
    }
}

impl Counts {
    fn take(&mut self, count: u32) -> bool {
        if count > self.greatest {
            self.used = self.used.checked_shl(count - self.greatest).unwrap_or(0) | 1;
            self.greatest = count;
            return true;
        }
        let behind = self.greatest - count;
        if behind >= WINDOW {
            return false;
        }
        let bit = 1 << behind;
        let free = self.used & bit == 0;
        self.used |= bit;
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nonce(made_ms: u64) -> String {
        format!("{made_ms:016x}{:048x}", 0)
    }

    #[test]
    fn count_is_taken_once_in_any_order_within_the_window() {
        let mut nonces = Nonces::default();
        let mut take = |count: u32| nonces.take(&nonce(5), Some(&format!("{count:08x}")));
        assert!(take(1) && take(3) && take(2));
        assert!(!take(1) && !take(2) && !take(3));
        assert!(take(100) && take(37) && !take(36), "too far behind");
        assert!(take(u32::MAX) && !take(100) && take(u32::MAX - 63));
        assert!(!take(0), "counts begin with one");
    }

    #[test]
    fn count_that_is_none_is_refused_and_none_means_once() {
        let mut nonces = Nonces::default();
        for junk in ["", "1", "0000000g", "000000001", "+0000001"] {
            assert!(!nonces.take(&nonce(1), Some(junk)), "{junk}");
        }
        assert!(nonces.take(&nonce(1), None));
        assert!(!nonces.take(&nonce(1), None));
        assert!(!nonces.take(&nonce(1), Some("00000001")));
        assert!(nonces.take(&nonce(1), Some("00000002")));
        assert!(!nonces.take("short", None));
    }

    #[test]
    fn what_was_forgotten_counts_as_used() {
        let mut nonces = Nonces::with_room(2);
        for made_ms in [10, 20, 30] {
            assert!(nonces.take(&nonce(made_ms), None));
        }
        assert_eq!(nonces.len(), 2);
        assert!(!nonces.take(&nonce(10), None), "it was used, and nobody remembers");
        assert!(!nonces.take(&nonce(9), None));
        assert!(nonces.take(&nonce(11), None));
    }
}
