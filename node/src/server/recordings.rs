//! Recordings: the row of each, with those behind it that say what single gateways have of it.

use serde_json::{Value, json};
use tandem_core::cdr::Manifest;
use tandem_core::ids::RecordingId;
use tandem_core::{query, rows, time};
use tandem_sip::Millis;

use super::records::{Asked, ROWS_MAX, Rows, hex, is};
use super::views;

/// Bytes of the key of a recording's own row; those behind it are longer.
const KEY_BYTES: usize = 8;
/// Gateways of one recording that are looked at.
const HOLDINGS_MAX: usize = 100;

/// A page of recordings, by their ids.
pub fn list(rows: &dyn Rows, asked: &Asked) -> Value {
    let since = asked.since_ms.map(|since| time::rfc3339(Millis(since)));
    let (mut items, mut seen) = (Vec::new(), 0_usize);
    let mut holdings = Vec::new();
    let mut last = Vec::new();
    let mut more = false;
    rows.scan_down(asked.cursor.as_deref(), &mut |key, value| {
        if items.len() == asked.limit || seen == ROWS_MAX {
            more = true;
            return false;
        }
        seen += 1;
        let manifest = decode(value);
        if key.len() > KEY_BYTES {
            if holdings.len() < HOLDINGS_MAX {
                holdings.extend(manifest);
            }
            return true;
        }
        last = key.to_vec();
        let behind = std::mem::take(&mut holdings);
        let shown = manifest.map(|manifest| query::show_manifest(&manifest, &behind));
        let wanted = shown.filter(|shown| {
            is(&asked.call, &shown.call)
                && since.as_ref().is_none_or(|since| shown.began_at.as_ref() >= Some(since))
        });
        items.extend(wanted.and_then(|shown| serde_json::to_value(shown).ok()));
        true
    });
    json!({"items": items, "next": more.then(|| hex(&last))})
}

/// One recording; the key of its row is its id.
pub fn one(rows: &dyn Rows, id: RecordingId) -> Option<Value> {
    let key = id.0.to_be_bytes();
    let manifest = decode(&rows.get(&key)?)?;
    let behind = id.0.checked_add(1).map(u64::to_be_bytes);
    let mut holdings = Vec::new();
    rows.scan_down(behind.as_ref().map(<[u8; KEY_BYTES]>::as_slice), &mut |found, value| {
        let of_recording = found.starts_with(&key) && found.len() > KEY_BYTES;
        if of_recording {
            holdings.extend(decode(value));
        }
        of_recording && holdings.len() < HOLDINGS_MAX
    });
    serde_json::to_value(query::show_manifest(&manifest, &holdings)).ok()
}

fn decode(row: &[u8]) -> Option<Manifest> {
    rows::decode_manifest(row).inspect_err(views::unreadable).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ops::Bound;

    use tandem_core::command::{Command, Envelope, GatewayEvent, Login, Origin, Recorded};
    use tandem_core::ids::CallId;
    use tandem_core::world::{Meta, World};

    use super::*;
    use crate::server::records::unhex;

    struct Memory(BTreeMap<Vec<u8>, Vec<u8>>);

    impl Rows for Memory {
        fn scan_down(&self, before: Option<&[u8]>, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) {
            let below = before.map_or(Bound::Unbounded, |key| Bound::Excluded(key.to_vec()));
            for (key, value) in self.0.range((Bound::Unbounded, below)).rev() {
                if !visit(key, value) {
                    return;
                }
            }
        }

        fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
            self.0.get(key).cloned()
        }
    }

    /// Three recordings of gw-a, each whole at gw-b, too, but the last.
    fn rows() -> Memory {
        let (mut world, mut rows) = (World::new(0), BTreeMap::new());
        let mut apply = |index: u64, gateway: &str, sequence, event| {
            let at = Millis(index);
            let meta = Meta { at, seed: index, version: 1, shard: 0, index, term: 1 };
            let origin = Some(Origin { gateway: gateway.into(), incarnation: 1, sequence });
            let command = Command::Gateway(event);
            let done = Vec::new();
            let envelope = Envelope { at, seed: index, version: 1, origin, done, command };
            for row in world.apply(&meta, &envelope).rows {
                if row.family == tandem_core::rows::RECORDINGS {
                    rows.extend(row.value.map(|value| (row.key, value)));
                }
            }
        };
        for (index, name) in [(1, "gw-a"), (2, "gw-b")] {
            let vip = "127.0.0.1:5060".parse().unwrap();
            apply(index, name, 1, GatewayEvent::Login(Login { vip, ports: Vec::new() }));
        }
        for id in 1..=3_u64 {
            let (call, recording, hash) = (CallId(id), RecordingId(id), format!("{id}"));
            let began_at = Some(Millis(1_000 * id));
            let recorded = Recorded {
                call,
                recording,
                duration_ms: 9_000,
                chunks: 9,
                gaps: Vec::new(),
                hash: hash.clone(),
                bytes: 44,
                pauses: Vec::new(),
                began_at,
                holder: "".into(),
            };
            apply(2 * id + 1, "gw-a", id + 1, GatewayEvent::Recorded(recorded));
            if id < 3 {
                let new = Manifest::new(recording, call, "gw-b".into(), Millis(0));
                let whole = Manifest { sealed: true, hash, ..new };
                apply(2 * id + 2, "gw-b", id + 1, GatewayEvent::Holdings(vec![whole]));
            }
        }
        Memory(rows)
    }

    fn shown(page: &Value) -> Vec<(u64, usize)> {
        let items = page["items"].as_array().unwrap();
        let id = |item: &Value| item["id"].as_str().unwrap().parse::<RecordingId>().unwrap().0;
        items.iter().map(|item| (id(item), item["copies"].as_array().unwrap().len())).collect()
    }

    #[test]
    fn page_has_each_recording_once_with_its_copies_and_goes_on_at_the_cursor() {
        let rows = rows();
        let mut asked = Asked { limit: 2, ..Asked::default() };
        let first = list(&rows, &asked);
        assert_eq!(shown(&first), [(3, 1), (2, 2)]);
        asked.cursor = unhex(first["next"].as_str().unwrap());
        let rest = list(&rows, &asked);
        assert_eq!((shown(&rest), &rest["next"]), (vec![(1, 2)], &Value::Null));
    }

    #[test]
    fn list_is_of_the_call_and_the_time_that_were_asked_for() {
        let rows = rows();
        let call = Some(CallId(2).to_string());
        let asked = Asked { limit: 9, call, ..Asked::default() };
        assert_eq!(shown(&list(&rows, &asked)), [(2, 2)]);
        let asked = Asked { limit: 9, since_ms: Some(2_000), ..Asked::default() };
        assert_eq!(shown(&list(&rows, &asked)), [(3, 1), (2, 2)]);
    }

    #[test]
    fn one_recording_has_its_own_copies_alone() {
        let rows = rows();
        let found = one(&rows, RecordingId(1)).unwrap();
        assert_eq!(found["copies"], json!(["gw-a", "gw-b"]));
        assert_eq!(found["began_at"], "1970-01-01T00:00:01.000Z");
        assert_eq!(one(&rows, RecordingId(3)).unwrap()["copies"], json!(["gw-a"]));
        assert_eq!(one(&rows, RecordingId(4)), None);
    }
}
