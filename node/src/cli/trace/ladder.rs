//! A trace as the API gives it, and who stands where in its ladder.

use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
pub struct Trace {
    pub call: String,
    pub items: Vec<Item>,
    /// Gateways that did not say.
    pub missing: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Item {
    pub at: String,
    /// Microseconds since the Unix epoch.
    pub at_us: u64,
    pub gateway: String,
    pub direction: Option<Direction>,
    pub transport: Option<String>,
    pub local: Option<String>,
    pub peer: Option<String>,
    pub summary: String,
    pub text: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    Received,
    Sent,
}

/// A message between two parties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrow {
    pub from: usize,
    pub to: usize,
}

impl Item {
    /// `12:00:00.123`.
    pub fn time(&self) -> &str {
        self.at.split(['T', 'Z']).nth(1).unwrap_or(&self.at)
    }

    /// Gateway and peer of a message, and which way it went.
    fn ends(&self) -> Option<(&str, &str, Direction)> {
        Some((&self.gateway, self.peer.as_deref()?, self.direction?))
    }
}

impl Trace {
    /// The columns: who spoke first, the gateways, then the other peers, each as it appears.
    pub fn parties(&self) -> Vec<String> {
        let mut gateways: Vec<&str> = Vec::new();
        let mut peers: Vec<&str> = Vec::new();
        for (gateway, peer, _) in self.items.iter().filter_map(Item::ends) {
            for (seen, name) in [(&mut gateways, gateway), (&mut peers, peer)] {
                if !seen.contains(&name) {
                    seen.push(name);
                }
            }
        }
        let others = peers.split_off(peers.len().min(1));
        let all = peers.into_iter().chain(gateways).chain(others);
        all.map(str::to_owned).collect()
    }

    /// `None` for what is no message.
    pub fn arrow(parties: &[String], item: &Item) -> Option<Arrow> {
        let (gateway, peer, direction) = item.ends()?;
        let place = |name: &str| parties.iter().position(|party| party == name);
        let (gateway, peer) = (place(gateway)?, place(peer)?);
        Some(match direction {
            Direction::Received => Arrow { from: peer, to: gateway },
            Direction::Sent => Arrow { from: gateway, to: peer },
        })
    }
}

#[cfg(test)]
pub fn example() -> Trace {
    let item = |at_ms: u64, gateway: &str, direction: &str, peer: &str, summary: &str| {
        serde_json::json!({
            "at": format!("2026-11-28T12:00:00.{at_ms:03}Z"), "at_us": 1_000 * at_ms,
            "gateway": gateway, "kind": "sip", "direction": direction, "transport": "UDP",
            "local": "127.0.0.10:5060", "peer": peer, "sip_call_id": "c1", "summary": summary,
            "text": format!("{summary} <&> SIP/2.0\r\nCall-ID: c1\r\n\r\n"),
        })
    };
    let caller = "192.0.2.1:5060";
    let agent = "192.0.2.7:40001";
    let trace = serde_json::json!({
        "call": "00000000000000a1",
        "items": [
            item(1, "gateway-a", "received", caller, "INVITE 4001"),
            item(3, "gateway-a", "sent", caller, "100 Trying (INVITE)"),
            {"at": "2026-11-28T12:00:00.004Z", "at_us": 4_000, "gateway": "gateway-a",
             "kind": "event", "direction": null, "transport": null, "local": null, "peer": null,
             "sip_call_id": null, "summary": "media version 1: music", "text": null},
            item(5, "gateway-b", "sent", agent, "INVITE 1001"),
            item(9, "gateway-b", "received", agent, "180 Ringing (INVITE)"),
        ],
        "missing": ["gateway-c"],
    });
    serde_json::from_value(trace).expect("a trace")
}

#[test]
fn caller_stands_left_then_the_gateways_then_the_others() {
    let trace = example();
    let parties = trace.parties();
    assert_eq!(parties, ["192.0.2.1:5060", "gateway-a", "gateway-b", "192.0.2.7:40001"]);
    let arrows: Vec<_> = trace.items.iter().map(|item| Trace::arrow(&parties, item)).collect();
    assert_eq!(arrows[0], Some(Arrow { from: 0, to: 1 }));
    assert_eq!(arrows[1], Some(Arrow { from: 1, to: 0 }));
    assert_eq!(arrows[2], None);
    assert_eq!(arrows[4], Some(Arrow { from: 3, to: 2 }));
}
