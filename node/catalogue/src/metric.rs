//! What is said of one metric.

use std::fmt;

/// One metric, as `/metrics` exposes it.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub unit: Unit,
    pub labels: &'static [&'static str],
    pub help: &'static str,
    pub alerts: &'static [Alert],
}

/// The kinds of the text exposition. What the sources call a histogram is exposed as a summary:
/// quantiles over the last minute, which need no buckets chosen in advance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Summary,
}

/// Base units only, as Prometheus wants them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A number of things, or a state.
    None,
    Seconds,
    Bytes,
    /// From 0 to 1.
    Ratio,
    /// Seconds since 1970.
    Timestamp,
}

/// When a metric is alarming, and which page says what to do.
#[derive(Clone, Copy, Debug)]
pub struct Alert {
    pub name: &'static str,
    /// PromQL that is true while it is.
    pub expression: &'static str,
    /// How long it must be true: a duration as Prometheus writes it.
    pub lasts: &'static str,
    pub severity: Severity,
    /// One sentence of what is the matter.
    pub summary: &'static str,
    /// What to do: a file of `deploy/runbooks`.
    pub page: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Somebody must be woken: calls are being lost, or the next failure costs calls.
    Page,
    /// Somebody must look within the working day.
    Ticket,
}

impl Metric {
    const fn new(name: &'static str, kind: Kind, unit: Unit, help: &'static str) -> Self {
        Self { name, kind, unit, labels: &[], help, alerts: &[] }
    }

    pub(crate) const fn counter(name: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Counter, Unit::None, help)
    }

    pub(crate) const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Gauge, Unit::None, help)
    }

    pub(crate) const fn summary(name: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Summary, Unit::None, help)
    }

    pub(crate) const fn unit(self, unit: Unit) -> Self {
        Self { unit, ..self }
    }

    pub(crate) const fn labels(self, labels: &'static [&'static str]) -> Self {
        Self { labels, ..self }
    }

    pub(crate) const fn alerts(self, alerts: &'static [Alert]) -> Self {
        Self { alerts, ..self }
    }

    /// The names of the lines that the exposition has of it.
    pub fn lines(&self) -> Vec<String> {
        match self.kind {
            Kind::Counter | Kind::Gauge => vec![self.name.to_owned()],
            Kind::Summary => {
                ["", "_sum", "_count"].iter().map(|end| format!("{}{end}", self.name)).collect()
            }
        }
    }
}

impl Kind {
    /// The word of the exposition's `# TYPE`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Summary => "summary",
        }
    }
}

impl Unit {
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
            Self::Ratio => "ratio",
            Self::Timestamp => "timestamp_seconds",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::Page => "page",
            Self::Ticket => "ticket",
        })
    }
}
