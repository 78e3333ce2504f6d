//! The clocks of this machine, and fresh randomness.

use std::time::{SystemTime, UNIX_EPOCH};

use tandem_core::log_time::Reading;
use tandem_runtime::Clock;

pub struct SystemClock;

impl Clock for SystemClock {
    fn read(&self) -> Reading {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Reading {
            boot_ns: tandem_lease::clock::boot_ns(),
            wall_ns: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
        }
    }

    fn seed(&self) -> u64 {
        rand::random()
    }
}

#[test]
fn clocks_are_read_in_nanoseconds() {
    let clock = SystemClock;
    let (one, begun) = (clock.read(), std::time::Instant::now());
    while begun.elapsed().as_millis() < 20 {
        std::thread::yield_now();
    }
    let other = clock.read();
    assert!(other.boot_ns - one.boot_ns >= 20_000_000);
    // Between 2020 and 2100.
    assert!((1_577_836_800..4_102_444_800).contains(&(one.wall_ns / 1_000_000_000)));
}
