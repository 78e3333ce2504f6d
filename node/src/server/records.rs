//! Records that are written once: CDRs, read page by page from the rows of state; and how any such page
//! is asked for.

use serde_json::{Value, json};
use tandem_core::ids::CallId;
use tandem_core::view;

use super::views;

/// Rows that one request looks at; where a filter finds nothing among them, the page is empty
/// and its cursor goes on.
pub const ROWS_MAX: usize = 100_000;
/// Legs of one call whose quality is shown.
const LEGS_MAX: usize = 100;
pub const LIMIT_MAX: usize = 1_000;
pub const LIMIT_DEFAULT: usize = 200;

/// The rows of one family.
pub trait Rows {
    /// From the highest key down, those below `before` where it is given, until `visit` says
    /// that it has enough.
    fn scan_down(&self, before: Option<&[u8]>, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool);

    fn get(&self, key: &[u8]) -> Option<Vec<u8>>;
}

/// What a caller asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub sip_call_id: Option<String>,
    pub call: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub since_ms: Option<u64>,
    pub limit: usize,
    /// The key of the last row of the page before.
    pub cursor: Option<Vec<u8>>,
}

impl Asked {
    /// # Errors
    /// In one sentence, what was expected.
    pub fn of<'a>(mut param: impl FnMut(&str) -> Option<&'a String>) -> Result<Self, String> {
        let limit = match param("limit") {
            None => LIMIT_DEFAULT,
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=LIMIT_MAX).contains(limit))
                .ok_or_else(|| format!("limit is {text:?}; expected 1 to {LIMIT_MAX}"))?,
        };
        let cursor = match param("cursor") {
            None => None,
            Some(text) => {
                Some(unhex(text).ok_or_else(|| format!("cursor {text:?} was not given by us"))?)
            }
        };
        let since_ms = match param("since") {
            None => None,
            Some(text) => Some(unix_ms(text).ok_or_else(|| {
                format!("since is {text:?}; expected a time as in 2026-11-24T12:00:00.000Z")
            })?),
        };
        Ok(Self {
            sip_call_id: param("sip_call_id").cloned(),
            call: param("call").cloned(),
            since_ms,
            limit,
            cursor,
        })
    }
}

/// CDRs whose calls ended at `since` or later, the latest first. Keys begin with the time of the
/// end in milliseconds. What is reported of their legs later than they are written is joined to
/// them.
pub fn cdrs(
    rows: &dyn Rows,
    qualities: &dyn Rows,
    asked: &Asked,
    view: impl Fn(&[u8]) -> Option<view::Cdr>,
) -> Value {
    let since = asked.since_ms.unwrap_or(0).to_be_bytes();
    let earlier = |key: &[u8]| key < since.as_slice();
    page(rows, asked, earlier, |bytes| {
        let cdr = view(bytes)?;
        let wanted = is(&asked.sip_call_id, &cdr.sip_call_id) && is(&asked.call, &cdr.call);
        wanted.then(|| {
            let legs = quality(qualities, &cdr.call);
            let mut item = serde_json::to_value(cdr).unwrap_or_default();
            if let (Some(item), false) = (item.as_object_mut(), legs.is_empty()) {
                item.insert("quality".to_owned(), legs.into());
            }
            item
        })
    })
}

/// How a call's legs were; none before it is reported.
fn quality(rows: &dyn Rows, call: &str) -> Vec<Value> {
    let Ok(call) = call.parse::<CallId>() else { return Vec::new() };
    let prefix = call.0.to_be_bytes();
    let behind = call.0.checked_add(1).map(u64::to_be_bytes);
    let mut legs = Vec::new();
    rows.scan_down(behind.as_ref().map(<[u8; 8]>::as_slice), &mut |key, value| {
        let of_call = key.starts_with(&prefix) && legs.len() < LEGS_MAX;
        if of_call {
            legs.extend(views::quality(value));
        }
        of_call
    });
    // In the order of their keys.
    legs.reverse();
    legs
}

pub fn is(wanted: &Option<String>, value: &str) -> bool {
    wanted.as_deref().is_none_or(|wanted| wanted == value)
}

/// Down to the first key that is `beyond` what was asked for.
fn page(
    rows: &dyn Rows,
    asked: &Asked,
    beyond: impl Fn(&[u8]) -> bool,
    item: impl Fn(&[u8]) -> Option<Value>,
) -> Value {
    let mut items = Vec::new();
    let mut seen = 0_usize;
    let mut last = Vec::new();
    let mut more = false;
    rows.scan_down(asked.cursor.as_deref(), &mut |key, value| {
        if beyond(key) {
            return false;
        }
        if items.len() == asked.limit || seen == ROWS_MAX {
            more = true;
            return false;
        }
        seen += 1;
        last = key.to_vec();
        items.extend(item(value));
        true
    });
    json!({"items": items, "next": more.then(|| hex(&last))})
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    let pairs = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap_or("?"));
    pairs.map(|pair| u8::from_str_radix(pair, 16).ok()).collect()
}

/// RFC 3339 in UTC or with an offset.
fn unix_ms(text: &str) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let digits = text.get(range)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let sign = |at: usize, wanted: &[u8]| {
        text.as_bytes().get(at).filter(|byte| wanted.contains(byte)).copied()
    };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    sign(4, b"-")?;
    sign(7, b"-")?;
    sign(10, b"Tt ")?;
    sign(13, b":")?;
    sign(16, b":")?;
    let in_range = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !in_range {
        return None;
    }
    let rest = text.get(19..)?;
    let zone_at = rest.find(['Z', 'z', '+', '-', ' '])?;
    let fraction = rest.get(..zone_at)?;
    let millis = match fraction.strip_prefix('.') {
        None if fraction.is_empty() => 0,
        Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{digits:0<3}").get(..3)?.parse::<i64>().ok()?
        }
        None | Some(_) => return None,
    };
    let zone = rest.get(zone_at..)?;
    let offset_min = match zone.as_bytes() {
        b"Z" | b"z" => 0,
        // A '+' in a query that nobody escaped arrives as a space.
        [sign @ (b'+' | b'-' | b' '), _, _, b':', _, _] => {
            let (hours, minutes) = (zone.get(1..3)?, zone.get(4..6)?);
            let offset = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
            if *sign == b'-' { -offset } else { offset }
        }
        _ => return None,
    };
    let seconds =
        days(year, month, day) * 86_400 + hour * 3_600 + (minute - offset_min) * 60 + second;
    u64::try_from(seconds * 1_000 + millis).ok()
}

/// Days from 1970-01-01 (Hinnant, `days_from_civil`).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ops::Bound;

    use super::*;

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

    /// Five CDRs, a second apart.
    fn memory() -> Memory {
        let row = |at: u64| {
            let mut key = (at * 1_000).to_be_bytes().to_vec();
            key.extend(at.to_be_bytes());
            (key, vec![u8::try_from(at).unwrap()])
        };
        Memory((1..=5).map(row).collect())
    }

    fn view(bytes: &[u8]) -> Option<view::Cdr> {
        let at = bytes[0];
        Some(view::Cdr {
            id: at.to_string(),
            call: at.to_string(),
            sip_call_id: format!("sip-{at}"),
            from: String::new(),
            to: String::new(),
            trunk: None,
            channel: None,
            started_at: String::new(),
            answered_at: None,
            queued_at: None,
            connected_at: None,
            ended_at: String::new(),
            wait_ms: None,
            talk_ms: None,
            queue: None,
            agent: None,
            disposition: String::new(),
            hung_up_by: String::new(),
            cause: String::new(),
            q850: None,
            takeovers: 0,
            recording: None,
            flow: None,
            flow_path: None,
            transfers: Vec::new(),
            asserted_from: None,
            diverted_from: None,
            direction: "internal".into(),
            outward: None,
            joined: None,
        })
    }

    fn none() -> Memory {
        Memory(BTreeMap::new())
    }

    fn ids(page: &Value) -> String {
        page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect()
    }

    #[test]
    fn records_go_on_at_the_cursor_when_a_page_is_full() {
        let mut asked = Asked { limit: 2, ..Asked::default() };
        let mut pages = Vec::new();
        loop {
            let page = cdrs(&memory(), &none(), &asked, view);
            pages.push(ids(&page));
            let Some(next) = page["next"].as_str() else { break };
            asked.cursor = unhex(next);
        }
        assert_eq!(pages, ["54", "32", "1"]);
    }

    #[test]
    fn records_are_those_that_a_filter_names() {
        let asked =
            Asked { sip_call_id: Some("sip-4".into()), limit: LIMIT_MAX, ..Asked::default() };
        assert_eq!(ids(&cdrs(&memory(), &none(), &asked, view)), "4");
        let asked = Asked { since_ms: Some(3_000), limit: LIMIT_MAX, ..Asked::default() };
        assert_eq!(ids(&cdrs(&memory(), &none(), &asked, view)), "543");
    }

    /// Through the core: its rows are what is joined.
    #[test]
    fn cdr_shows_the_quality_of_its_own_legs_once_it_is_reported() {
        use tandem_core::cdr::Side;
        use tandem_core::command::{Command, Envelope, GatewayEvent, Login, Origin, Quality};
        use tandem_core::world::{Meta, World};

        let (mut world, mut rows) = (World::new(0), BTreeMap::new());
        let mut apply = |index: u64, event| {
            let at = tandem_sip::Millis(index);
            let meta = Meta { at, seed: index, version: 1, shard: 0, index, term: 1 };
            let origin = Origin { gateway: "gw-a".into(), incarnation: 1, sequence: index };
            let command = Command::Gateway(event);
            let (origin, done) = (Some(origin), Vec::new());
            let envelope = Envelope { at, seed: index, version: 1, origin, done, command };
            let applied = world.apply(&meta, &envelope).rows;
            let kept = applied.into_iter().filter(|row| row.family == tandem_core::rows::QUALITIES);
            rows.extend(kept.filter_map(|row| Some((row.key, row.value?))));
        };
        let ports = Vec::new();
        apply(1, GatewayEvent::Login(Login { vip: "127.0.0.1:5060".parse().unwrap(), ports }));
        let quality = |call: u64, leg: u64, role| Quality {
            call: CallId(call),
            leg: tandem_core::ids::LegId(leg),
            role: Some(role),
            codec: tandem_sip::sdp::Codec::Pcma,
            packets_sent: 100,
            packets_received: 90,
            packets_lost: 10,
            packets_late: 1,
            packets_duplicate: 2,
            jitter_us: 1_500,
            round_trip_us: (leg == 1).then_some(20_000),
            mos_x100: Some(410),
        };
        let legs = [(3, 9, Side::Caller), (4, 2, Side::Agent), (4, 1, Side::Caller)];
        for (index, (call, leg, role)) in (2..).zip(legs) {
            apply(index, GatewayEvent::Quality(quality(call, leg, role)));
        }
        let view = |bytes: &[u8]| {
            let cdr = view(bytes)?;
            let call = CallId(cdr.call.parse().ok()?).to_string();
            Some(view::Cdr { call, ..cdr })
        };
        let asked = Asked { limit: LIMIT_MAX, ..Asked::default() };
        let page = cdrs(&memory(), &Memory(rows), &asked, view);
        let item = |at: usize| &page["items"][at];
        let expected = json!({
            "role": "caller", "gateway": "gw-a", "codec": "PCMA",
            "packets_sent": 100, "packets_received": 90, "packets_lost": 10, "packets_late": 1,
            "packets_duplicate": 2, "jitter_ms": 1.5, "rtt_ms": 20.0, "mos": 4.1,
        });
        assert_eq!(item(1)["quality"][0], expected);
        assert_eq!(item(1)["quality"][1]["role"], "agent");
        assert_eq!(item(1)["quality"][1]["rtt_ms"], Value::Null);
        assert_eq!(item(1)["quality"].as_array().map(Vec::len), Some(2), "its own alone");
        assert_eq!(item(2)["quality"].as_array().map(Vec::len), Some(1));
        assert!(item(0).get("quality").is_none(), "absent until it is reported");
    }

    #[test]
    fn since_is_read_as_rfc_3339() {
        assert_eq!(unix_ms("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(unix_ms("2000-02-29T00:00:00.123Z"), Some(951_782_400_123));
        assert_eq!(unix_ms("2026-11-24T12:59:59.999+01:00"), Some(1_795_521_599_999));
        for wrong in
            ["", "yesterday", "2026-13-01T00:00:00Z", "2026-11-24T00:00:00", "2026-11-24T0:00:00Z"]
        {
            assert_eq!(unix_ms(wrong), None, "{wrong}");
        }
    }
}
