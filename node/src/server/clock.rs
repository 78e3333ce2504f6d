//! The clocks of this machine, and fresh randomness.

use std::time::{SystemTime, UNIX_EPOCH};

use tandem_core::log_time::Reading;
use tandem_runtime::Clock;

pub struct SystemClock;

impl Clock for SystemClock {
    fn read(&self) -> Reading {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Reading { boot_ns: boot_ns(), wall_ns: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX) }
    }

    fn seed(&self) -> u64 {
        rand::random()
    }
}

/// Since the machine was started. `Instant` does not count while a machine sleeps.
fn boot_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` lives through the call, which can't fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    let (seconds, ns) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    seconds.unwrap_or(0) * 1_000_000_000 + ns.unwrap_or(0)
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
