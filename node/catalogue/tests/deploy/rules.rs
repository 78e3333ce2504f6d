use std::fmt::Write as _;

use tandem_catalogue::{Alert, Metric};

pub fn alerts() -> impl Iterator<Item = (&'static Metric, &'static Alert)> {
    tandem_catalogue::all().flat_map(|metric| metric.alerts.iter().map(move |it| (metric, it)))
}

/// A JSON string is a YAML scalar, too.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string")
}

pub fn rules() -> String {
    let mut text = String::from(
        "# Made from the catalogue (node/catalogue): change it there.\ngroups:\n  - name: tandem\n    rules:\n",
    );
    for (_, alert) in alerts() {
        let _ = write!(
            text,
            "      - alert: {}\n        expr: {}\n        for: {}\n        labels:\n          severity: {}\n        \
             annotations:\n          summary: {}\n          runbook: {}\n",
            alert.name,
            quoted(alert.expression),
            alert.lasts,
            alert.severity,
            quoted(alert.summary),
            quoted(&format!("deploy/runbooks/{}", alert.page)),
        );
    }
    text
}
