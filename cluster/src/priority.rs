//! Consensus goes before all other work: an election that load made is an outage.

use std::sync::Once;

const ROUND_ROBIN_PRIORITY: i32 = 5;
const NICE: i32 = -15;

/// Raises the calling thread: `SCHED_RR` where that is allowed, else nice. Children of the thread
/// begin as usual.
pub fn raise() {
    static TOLD: Once = Once::new();
    // SAFETY: sched_param is plain numbers; zero is a valid value of each.
    let mut param: libc::sched_param = unsafe { std::mem::zeroed() };
    param.sched_priority = ROUND_ROBIN_PRIORITY;
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // SAFETY: sched_setscheduler(2) on the calling thread with a valid pointer.
    if unsafe { libc::sched_setscheduler(0, policy, &raw const param) } == 0 {
        return;
    }
    // SAFETY: setpriority(2) takes plain numbers; 0 is the calling thread.
    let nice = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
    TOLD.call_once(|| {
        let how = if nice == 0 { "nice" } else { "no priority at all" };
        tracing::warn!("SCHED_RR is not allowed: consensus runs with {how}");
    });
}
