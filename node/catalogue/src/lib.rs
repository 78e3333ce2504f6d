//! Every metric that a process of Tandem exposes: what it is, what it counts, and when it is alarming.
//!
//! One list, so that `/metrics`, the documents for operators and the alert rules can't differ.
//! Tests hold it equal to the sources and to what running processes expose.

mod list;
mod metric;

pub use metric::{Alert, Kind, Metric, Severity, Unit};

/// The whole list, by area and in the order in which operators read it.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    list::AREAS.iter().flat_map(|area| area.metrics)
}

/// The list by area: a title, and its metrics.
pub fn areas() -> impl Iterator<Item = (&'static str, &'static [Metric])> {
    list::AREAS.iter().map(|area| (area.title, area.metrics))
}

pub fn find(name: &str) -> Option<&'static Metric> {
    all().find(|metric| metric.name == name)
}

#[cfg(test)]
mod tests;
