//! The log's time goes with true time, whatever wall clocks are set and whoever takes over.

use tandem_sip::Millis;

use crate::limits::{DRIFT_PPM_MAX, EPOCH_MS, LOG_TIME_MS_MAX, PPM};
use crate::violation::Checked;

/// `misled_ms` is how far the wall clock was off by which a leader began when nobody else had been
/// running.
pub fn gives(at: Millis, now: u64, misled_ms: u64) -> Checked {
    let off_ms = at.0.abs_diff(EPOCH_MS + now);
    let may_ms = LOG_TIME_MS_MAX + now * DRIFT_PPM_MAX / PPM + misled_ms;
    hold!(off_ms <= may_ms, "the log's time is {off_ms} ms off, {may_ms} ms is the most");
    Ok(())
}
