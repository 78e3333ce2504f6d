use std::fmt::Write as _;

pub fn metrics() -> String {
    let mut text = String::from(
        "# Metrics\n\n<!-- Made from the catalogue (node/catalogue): change it there. -->\n\n\
         Every process has them under `/metrics`. A summary has `quantile`, `_sum` and `_count`.\n\n\
         *Calls preserved ÷ calls at risk*, the figure by which Tandem wants to be judged, is\n\n\
         ```\n1 - sum(increase(tandem_calls_lost_total[30d])) / sum(increase(tandem_calls_at_risk_total[30d]))\n```\n",
    );
    for (title, metrics) in tandem_catalogue::areas() {
        let _ =
            write!(text, "\n## {title}\n\n| name | kind | unit | labels | what it is | alerts |\n");
        text.push_str("| --- | --- | --- | --- | --- | --- |\n");
        for metric in metrics {
            let links =
                metric.alerts.iter().map(|it| format!("[{}](runbooks/{})", it.name, it.page));
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} | {} | {} |",
                metric.name,
                metric.kind.word(),
                metric.unit.word(),
                metric.labels.join(", "),
                metric.help,
                links.collect::<Vec<_>>().join(", "),
            );
        }
    }
    text
}
