//! The ladder as one page that needs nothing else: arrows above, messages below.

use std::fmt::Write as _;

use super::ladder::Trace;

const COLUMN: usize = 220;
const ROW: usize = 26;
const LEFT: usize = 110;
const TOP: usize = 40;

const STYLE: &str = "body{font:14px system-ui,sans-serif;margin:2em;color:#222}\
svg{font:12px ui-monospace,monospace}line{stroke:#bbb}.m line{stroke:#0550ae}\
.m text{fill:#0550ae}.e{fill:#666}pre{background:#f6f8fa;padding:1em;overflow:auto}\
summary{cursor:pointer;padding:.2em 0}:target{background:#fff8c5}";

pub fn page(trace: &Trace) -> String {
    let parties = trace.parties();
    let call = escape(&trace.call);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>call {call}</title>\
         <style>{STYLE}</style>\n<h1>Call {call}</h1>\n"
    );
    for gateway in &trace.missing {
        let _ = writeln!(page, "<p>{} did not say what it saw.</p>", escape(gateway));
    }
    let middle = |column: usize| LEFT + column * COLUMN + COLUMN / 2;
    let width = middle(parties.len().max(1)) + LEFT;
    let height = TOP + (trace.items.len() + 1) * ROW;
    let _ = writeln!(page, "<svg width=\"{width}\" height=\"{height}\" role=\"img\">");
    let _ = writeln!(
        page,
        "<defs><marker id=\"a\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" \
         markerHeight=\"8\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"#0550ae\"/>\
         </marker></defs>"
    );
    for (column, name) in parties.iter().enumerate() {
        let x = middle(column);
        let _ = writeln!(
            page,
            "<text x=\"{x}\" y=\"16\" text-anchor=\"middle\">{}</text>\
             <line x1=\"{x}\" y1=\"24\" x2=\"{x}\" y2=\"{height}\"/>",
            escape(name)
        );
    }
    for (at, item) in trace.items.iter().enumerate() {
        let y = TOP + (at + 1) * ROW;
        let (time, summary) = (escape(item.time()), escape(&item.summary));
        let _ = write!(page, "<text x=\"4\" y=\"{y}\">{time}</text>");
        match Trace::arrow(&parties, item) {
            Some(arrow) => {
                let (from, to) = (middle(arrow.from), middle(arrow.to));
                let _ = writeln!(
                    page,
                    "<a class=\"m\" href=\"#m{at}\"><line x1=\"{from}\" y1=\"{y}\" x2=\"{to}\" \
                     y2=\"{y}\" marker-end=\"url(#a)\"/><text x=\"{}\" y=\"{}\" \
                     text-anchor=\"middle\">{summary}</text></a>",
                    usize::midpoint(from, to),
                    y - 4
                );
            }
            None => {
                let gateway = escape(&item.gateway);
                let _ = writeln!(
                    page,
                    "<text class=\"e\" x=\"{LEFT}\" y=\"{y}\">{gateway}: {summary}</text>"
                );
            }
        }
    }
    page.push_str("</svg>\n<h2>Messages</h2>\n");
    for (at, item) in trace.items.iter().enumerate() {
        let Some(text) = &item.text else { continue };
        let ends =
            [&item.transport, &item.local, &item.peer].map(|end| end.clone().unwrap_or_default());
        let _ = writeln!(
            page,
            "<details id=\"m{at}\"><summary>{} {} — {}</summary><pre>{}</pre></details>",
            escape(item.time()),
            escape(&item.summary),
            escape(&ends.join(" ")),
            escape(text)
        );
    }
    page.push_str("</html>\n");
    page
}

/// What peers have sent is text here and nothing else.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[test]
fn page_has_every_message_and_nothing_of_a_peer_becomes_markup() {
    let mut trace = super::ladder::example();
    trace.items[0].summary = "INVITE <script>alert(1)</script>".into();
    let page = page(&trace);
    assert!(!page.contains("<script>"), "{page}");
    assert_eq!(page.matches("<details").count(), 4);
    assert_eq!(page.matches("marker-end").count(), 4);
    assert!(page.contains("180 Ringing (INVITE) &lt;&amp;&gt; SIP/2.0"), "{page}");
    assert!(page.contains("gateway-c did not say"), "{page}");
}
