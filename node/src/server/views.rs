//! Reads from the world, as the API shows them: which things, in which order, how many.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};
use tandem_core::cdr::{LegQuality, Side};
use tandem_core::ids::{AgentId, CallId, QueueId, TrunkId};
use tandem_core::world::World;
use tandem_core::{query, rows, view};

use super::records::{LIMIT_DEFAULT, LIMIT_MAX};

type Params = BTreeMap<String, String>;

/// Nothing where the one thing that was asked for is not there.
///
/// # Errors
/// In one sentence, what is wrong with the question.
pub fn of(world: &World, kind: &str, params: &Params) -> Result<Option<Value>, String> {
    let name = params.get("name").map(String::as_str).unwrap_or_default();
    let is = |key: &str, value: &str| params.get(key).is_none_or(|wanted| wanted == value);
    let list = match kind {
        "calls" => {
            let calls = query::calls(world).into_iter().filter(|call| {
                is("state", &call.state)
                    && (params.get("sip_call_id").is_none()
                        || call.legs.iter().any(|leg| is("sip_call_id", &leg.sip_call_id)))
            });
            page(
                calls.collect(),
                |call: &view::Call| format!("{} {}", call.started_at, call.id),
                params,
            )?
        }
        "queues" => page(query::queues(world), |queue| queue.name.clone(), params)?,
        "agents" => page(query::agents(world), |agent| agent.id.clone(), params)?,
        "trunks" => page(query::trunks(world), |trunk| trunk.name.clone(), params)?,
        "channels" => match query::channels(world, &TrunkId::from(name)) {
            Some(channels) => page(channels, |channel| format!("{:05}", channel.number), params)?,
            None => return Ok(None),
        },
        "call" => {
            let id = name.parse::<CallId>().ok();
            return Ok(id.and_then(|id| query::call(world, id)).and_then(json_of));
        }
        "queue" => return Ok(query::queue(world, &QueueId::from(name)).and_then(json_of)),
        "agent" => return Ok(query::agent(world, &AgentId::from(name)).and_then(json_of)),
        other => return Err(format!("there is no kind {other:?}")),
    };
    Ok(Some(list))
}

fn json_of<T: Serialize>(item: T) -> Option<Value> {
    serde_json::to_value(item).ok()
}

/// A row of the family of CDRs.
pub fn cdr(row: &[u8]) -> Option<view::Cdr> {
    rows::decode_cdr(row).inspect_err(unreadable).ok().map(|cdr| query::show_cdr(&cdr))
}

/// A row of the family of qualities.
pub fn quality(row: &[u8]) -> Option<Value> {
    let known = rows::decode_quality(row).inspect_err(unreadable).ok()?;
    let LegQuality { gateway, quality, .. } = known;
    let ms = |us: u32| f64::from(us) / 1_000.0;
    Some(json!({
        "role": quality.role.map(Side::as_str),
        "gateway": gateway.to_string(),
        "codec": quality.codec.name(),
        "packets_sent": quality.packets_sent,
        "packets_received": quality.packets_received,
        "packets_lost": quality.packets_lost,
        "packets_late": quality.packets_late,
        "packets_duplicate": quality.packets_duplicate,
        "jitter_ms": ms(quality.jitter_us),
        "rtt_ms": quality.round_trip_us.map(ms),
        "mos": quality.mos_x100.map(|mos| f64::from(mos) / 100.0),
    }))
}

pub fn unreadable(error: &tandem_core::wire::Error) {
    tracing::error!(%error, "TD0202 a record can't be read");
    metrics::counter!("tandem_records_unreadable_total").increment(1);
}

/// Items in the order of their keys, those above the cursor, as many as fit.
fn page<T: Serialize>(
    mut items: Vec<T>,
    key: impl Fn(&T) -> String,
    params: &Params,
) -> Result<Value, String> {
    let limit = match params.get("limit") {
        None => LIMIT_DEFAULT,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=LIMIT_MAX).contains(limit))
            .ok_or_else(|| format!("limit is {text:?}; expected 1 to {LIMIT_MAX}"))?,
    };
    items.sort_by_key(&key);
    if let Some(cursor) = params.get("cursor") {
        let after = super::records::unhex(cursor)
            .ok_or_else(|| format!("cursor {cursor:?} was not given by us"))?;
        items.retain(|item| key(item).as_bytes() > after.as_slice());
    }
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|item| super::records::hex(key(item).as_bytes()));
    Ok(json!({"items": items, "next": next}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_ends_without_cursor_when_all_were_given() {
        let items = || vec!["c", "a", "b"];
        let key = |item: &&str| (*item).to_owned();
        let mut params = Params::from([("limit".to_owned(), "2".to_owned())]);
        let first = page(items(), key, &params).unwrap();
        assert_eq!(first["items"], json!(["a", "b"]));
        params.insert("cursor".into(), first["next"].as_str().unwrap().into());
        let second = page(items(), key, &params).unwrap();
        assert_eq!(second, json!({"items": ["c"], "next": null}));
    }

    #[test]
    fn page_refuses_a_cursor_that_is_not_ours() {
        let params = Params::from([("cursor".to_owned(), "zz".to_owned())]);
        let refused = page(vec!["a"], |item| (*item).to_owned(), &params);
        assert!(refused.unwrap_err().contains("was not given by us"));
    }
}
