//! `CLOCK_BOOTTIME`: time that never jumps and counts while the machine sleeps.

/// Nanoseconds since the machine was started.
pub fn boot_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` lives through the call, which can't fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    let (seconds, ns) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    seconds.unwrap_or(0) * 1_000_000_000 + ns.unwrap_or(0)
}

/// Milliseconds since the machine was started.
pub fn boot_ms() -> u64 {
    boot_ns() / 1_000_000
}
