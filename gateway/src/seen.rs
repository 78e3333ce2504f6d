//! The cluster's state as a node told it last: what can be shown, with its age, while no node can tell.

use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;

/// How old it is, milliseconds.
const AGE: &str = "age_ms";

#[derive(Debug, Default)]
pub struct Seen(Mutex<Option<(Value, Instant)>>);

impl Seen {
    pub fn note(&self, told: Value, now: Instant) {
        *self.0.lock() = Some((told, now));
    }

    /// Older by what has passed since.
    pub fn at(&self, now: Instant) -> Option<Value> {
        let (mut told, at) = self.0.lock().clone()?;
        let since_ms = u64::try_from(now.saturating_duration_since(at).as_millis()).ok()?;
        let age_ms = told[AGE].as_u64().unwrap_or_default();
        told[AGE] = age_ms.saturating_add(since_ms).into();
        Some(told)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_told_is_shown_with_its_age() {
        let seen = Seen::default();
        let now = Instant::now();
        assert_eq!(seen.at(now), None);
        seen.note(json!({"failure_tolerance": 1, "age_ms": 40}), now);
        let later = now + Duration::from_millis(700);
        assert_eq!(seen.at(later), Some(json!({"failure_tolerance": 1, "age_ms": 740})));
        assert_eq!(seen.at(now), Some(json!({"failure_tolerance": 1, "age_ms": 40})));
        seen.note(json!({"failure_tolerance": 0, "age_ms": 0}), later);
        assert_eq!(seen.at(later), Some(json!({"failure_tolerance": 0, "age_ms": 0})));
    }
}
