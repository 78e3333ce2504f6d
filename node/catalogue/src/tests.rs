use std::collections::BTreeSet;

use super::*;

#[test]
fn each_name_is_there_once_and_speaks_prometheus() {
    let mut seen = BTreeSet::new();
    for metric in all() {
        let name = metric.name;
        assert!(seen.insert(name), "{name} is listed twice");
        let known = name.starts_with("tandem_") || name.starts_with("process_");
        let plain = name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        assert!(known && plain, "{name} is no name of ours");
        assert!(metric.help.ends_with('.') && metric.help.len() > 12, "{name} wants a sentence");
    }
}

#[test]
fn name_tells_kind_and_unit() {
    for metric in all() {
        let Metric { name, kind, unit, .. } = metric;
        assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "_total of {name}");
        let stem = name.strip_suffix("_total").unwrap_or(name);
        let stem = stem.strip_suffix("_max").unwrap_or(stem);
        let told = [Unit::Timestamp, Unit::Seconds, Unit::Bytes, Unit::Ratio]
            .into_iter()
            .find(|unit| stem.ends_with(&format!("_{}", unit.word())))
            .unwrap_or(Unit::None);
        assert_eq!(told, *unit, "unit of {name}");
        for foreign in ["milliseconds", "ms", "us", "percent", "kb", "mb", "minutes"] {
            assert!(!name.split('_').any(|word| word == foreign), "{name} is in {foreign}");
        }
    }
}

#[test]
fn alert_has_a_name_of_its_own_and_asks_its_own_metric() {
    let mut seen = BTreeSet::new();
    for metric in all() {
        for alert in metric.alerts {
            assert!(seen.insert(alert.name), "{} is there twice", alert.name);
            assert!(alert.expression.contains(metric.name), "{} asks another metric", alert.name);
            assert!(alert.summary.ends_with('.'), "{} wants a sentence", alert.name);
        }
    }
    assert!(seen.len() > 10);
}
