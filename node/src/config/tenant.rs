//! The tenant of a configuration file: trunks, queues, agents, numbers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;

use tandem_core::config::{Agent, Config, Number, Queue, Strategy, Target, Trunk, TrunkTls};

use super::reader::{Placed, Reader};

/// The tables that make a tenant; where none of them stands, the demo tenant is served.
const TABLES: [&str; 5] = ["tenant", "trunk", "queue", "agent", "number"];

const CHANNELS_MAX: u64 = 10_000;
const NAME_BYTES_MAX: usize = 64;
const DNS_NAME_BYTES_MAX: usize = 253;
const DAY_MS: u64 = 24 * 3_600_000;
const RING_MS_MIN: u64 = 1_000;
const RING_MS_MAX: u64 = 600_000;
const WAITING_MAX: u64 = 100_000;

const ACW_MS_DEFAULT: u64 = 1_000;
const NO_ANSWER_MS_DEFAULT: u64 = 30_000;
const CALL_MS_MAX_DEFAULT: u64 = 4 * 3_600_000;
const RING_MS_DEFAULT: u64 = 20_000;
const WAITING_DEFAULT: u64 = 1_000;

const A_NAME: &str = "a name of 1 to 64 letters, digits, '-', '_' or '.'";

/// `None` where the file says nothing of a tenant. Mistakes are noted by the reader.
pub fn read(root: &Reader<'_, '_>) -> Option<Config> {
    let mut given = false;
    for table in TABLES {
        given |= root.has(table);
    }
    if !given {
        return None;
    }
    let Some(tenant) = root.required("tenant", root.table("tenant"), "a table: [tenant]") else {
        read_rows(root, "");
        return None;
    };
    let name = tenant.required("name", name(&tenant, "name"), A_NAME);
    let realm = tenant.required(
        "realm",
        tenant.string("realm", "the digest realm, for instance \"demo.tandem\""),
        "the digest realm, for instance \"demo.tandem\"",
    );
    if let Some(realm) = &realm
        && (realm.value.is_empty() || realm.value.contains(['"', '\\', '\r', '\n', ':']))
    {
        tenant.mistake(
            "realm",
            realm.at.clone(),
            format!("is {:?}", realm.value),
            "text without quotes, colons and backslashes",
        );
    }
    let millis = |key, max, default| {
        tenant
            .integer(key, 0..=max, &format!("milliseconds: an integer from 0 to {max}"))
            .unwrap_or(default)
    };
    let acw_ms = millis("acw_ms", DAY_MS, ACW_MS_DEFAULT);
    let no_answer_ms = millis("no_answer_ms", RING_MS_MAX, NO_ANSWER_MS_DEFAULT);
    let call_ms_max = millis("call_ms_max", DAY_MS, CALL_MS_MAX_DEFAULT);
    let tls_verify = tenant.bool("tls_verify", "true or false").unwrap_or(true);
    tenant.finish();
    let realm = realm.map(|realm| realm.value).unwrap_or_default();
    let rows = read_rows(root, &realm);
    Some(Config {
        version: 0,
        tenant: name?.value,
        realm,
        trunks: rows.trunks,
        queues: rows.queues,
        agents: rows.agents,
        numbers: rows.numbers,
        acw_ms,
        no_answer_ms,
        call_ms_max,
        tls_unverified: !tls_verify,
    })
}

struct Rows {
    trunks: Vec<Trunk>,
    queues: Vec<Queue>,
    agents: Vec<Agent>,
    numbers: Vec<Number>,
}

fn read_rows(root: &Reader<'_, '_>, realm: &str) -> Rows {
    let mut names = Names::default();
    let agents: Vec<_> = root
        .tables("agent")
        .into_iter()
        .filter_map(|reader| agent(reader, realm, &mut names))
        .collect();
    let queues: Vec<_> = root
        .tables("queue")
        .into_iter()
        .filter_map(|reader| queue(reader, &agents, &mut names))
        .collect();
    let numbers = root
        .tables("number")
        .into_iter()
        .filter_map(|reader| number(reader, &queues, &mut names))
        .collect();
    let trunks =
        root.tables("trunk").into_iter().filter_map(|reader| trunk(reader, &mut names)).collect();
    Rows { trunks, queues, agents, numbers }
}

/// Names that are taken, a namespace for each kind; agents and numbers share one, for both are
/// dialled.
#[derive(Default)]
struct Names(BTreeMap<(&'static str, String), Range<usize>>);

impl Names {
    fn take(
        &mut self,
        reader: &Reader<'_, '_>,
        kind: &'static str,
        key: &str,
        name: &Placed<String>,
    ) {
        if self.0.insert((kind, name.value.clone()), name.at.clone()).is_some() {
            reader.mistake(
                key,
                name.at.clone(),
                format!("is {:?}, which is taken", name.value),
                "a name that no other has",
            );
        }
    }
}

fn agent(reader: Reader<'_, '_>, realm: &str, names: &mut Names) -> Option<Agent> {
    let id = reader.required("id", name(&reader, "id"), A_NAME);
    let password = reader.string("password", "the SIP password, text");
    let ha1 = reader.string("ha1", "32 hex digits");
    if let Some(ha1) = &ha1
        && !(ha1.value.len() == 32 && ha1.value.bytes().all(|byte| byte.is_ascii_hexdigit()))
    {
        // What stands there may be a password: it is not shown.
        reader.mistake(
            "ha1",
            ha1.at.clone(),
            "is not a digest",
            "32 hex digits: the MD5 of user:realm:password",
        );
    }
    match (&password, &ha1) {
        (Some(password), None) if password.value.is_empty() => {
            reader.mistake("password", password.at.clone(), "is empty", "the SIP password, text");
        }
        (Some(_), None) | (None, Some(_)) => {}
        (Some(password), Some(_)) => reader.mistake(
            "password",
            password.at.clone(),
            "stands beside ha1",
            "one of password and ha1",
        ),
        (None, None) => {
            reader.mistake("password", reader.at(), "is missing", "one of password and ha1");
        }
    }
    if let Some(id) = &id {
        names.take(&reader, "dialled", "id", id);
    }
    reader.finish();
    let id = id?.value;
    let ha1 = match (password, ha1) {
        (Some(password), _) => tandem_sip::digest::ha1(&id, realm, &password.value),
        (None, Some(ha1)) => ha1.value.to_ascii_lowercase(),
        (None, None) => return None,
    };
    Some(Agent { id: id.into(), ha1 })
}

fn queue(reader: Reader<'_, '_>, agents: &[Agent], names: &mut Names) -> Option<Queue> {
    let id = reader.required("name", name(&reader, "name"), A_NAME);
    let longest_idle = "\"longest_idle\"";
    if let Some(strategy) = reader.string("strategy", longest_idle)
        && strategy.value != "longest_idle"
    {
        reader.mistake("strategy", strategy.at, format!("is {:?}", strategy.value), longest_idle);
    }
    let expected = "a list of agents' ids, for instance [\"1001\", \"1002\"]";
    let served_by =
        reader.required("agents", reader.strings("agents", expected), expected).unwrap_or_default();
    for agent in &served_by {
        if !agents.iter().any(|known| *known.id.0 == *agent.value) {
            reader.mistake(
                "agents",
                agent.at.clone(),
                format!("names {:?}, who is not there", agent.value),
                "the id of an [[agent]]",
            );
        }
    }
    let ring_ms_max = reader
        .integer(
            "ring_ms_max",
            RING_MS_MIN..=RING_MS_MAX,
            &format!("milliseconds: an integer from {RING_MS_MIN} to {RING_MS_MAX}"),
        )
        .unwrap_or(RING_MS_DEFAULT);
    let record = reader.bool("record", "true or false").unwrap_or(false);
    let waiting_max = reader
        .integer("waiting_max", 1..=WAITING_MAX, &format!("an integer from 1 to {WAITING_MAX}"))
        .unwrap_or(WAITING_DEFAULT);
    if let Some(id) = &id {
        names.take(&reader, "queue", "name", id);
    }
    reader.finish();
    Some(Queue {
        id: id?.value.into(),
        strategy: Strategy::LongestIdle,
        agents: served_by.into_iter().map(|agent| agent.value.into()).collect(),
        ring_ms_max,
        record,
        waiting_max: u32::try_from(waiting_max).ok()?,
    })
}

fn number(reader: Reader<'_, '_>, queues: &[Queue], names: &mut Names) -> Option<Number> {
    let digits_expected = "what is dialled: 1 to 64 digits, '*', '#' or '+'";
    let digits =
        reader.required("digits", reader.string("digits", digits_expected), digits_expected);
    if let Some(digits) = &digits {
        let dialled = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'*' | b'#' | b'+');
        if digits.value.is_empty()
            || digits.value.len() > NAME_BYTES_MAX
            || !digits.value.bytes().all(dialled)
        {
            reader.mistake(
                "digits",
                digits.at.clone(),
                format!("is {:?}", digits.value),
                digits_expected,
            );
        }
        names.take(&reader, "dialled", "digits", digits);
    }
    let queue = reader.string("queue", "the name of a [[queue]]");
    let echo = reader.bool("echo", "true");
    let target = match (queue, echo) {
        (Some(queue), None | Some(false)) => {
            if !queues.iter().any(|known| *known.id.0 == *queue.value) {
                reader.mistake(
                    "queue",
                    queue.at,
                    format!("names {:?}, which is not there", queue.value),
                    "the name of a [[queue]]",
                );
            }
            Some(Target::Queue(queue.value.into()))
        }
        (None, Some(true)) => Some(Target::Echo),
        (Some(_), Some(true)) => {
            reader.mistake("echo", reader.at(), "stands beside queue", "one of queue and echo");
            None
        }
        (None, None | Some(false)) => {
            reader.mistake("queue", reader.at(), "is missing", "one of queue and echo = true");
            None
        }
    };
    reader.finish();
    Some(Number { digits: digits?.value, target: target? })
}

fn trunk(reader: Reader<'_, '_>, names: &mut Names) -> Option<Trunk> {
    let id = reader.required("name", name(&reader, "name"), A_NAME);
    let expected = format!("an integer from 1 to {CHANNELS_MAX}");
    let channels = reader.required(
        "channels",
        reader.integer("channels", 1..=CHANNELS_MAX, &expected),
        &expected,
    );
    let guard_ms = reader
        .integer("guard_ms", 0..=60_000, "milliseconds: an integer from 0 to 60000")
        .unwrap_or(0);
    let mut sources = Vec::new();
    let expected = "a list of IP addresses; an empty one means any";
    for source in reader.strings("sources", expected).unwrap_or_default() {
        match source.value.parse::<IpAddr>() {
            Ok(address) => sources.push(address),
            Err(_) => {
                reader.mistake("sources", source.at, format!("names {:?}", source.value), expected);
            }
        }
    }
    let tls = TrunkTls {
        client_name: tls_client_name(&reader),
        unverified: !reader.bool("tls_verify", "true or false").unwrap_or(true),
    };
    if let Some(id) = &id {
        names.take(&reader, "trunk", "name", id);
    }
    reader.finish();
    Some(Trunk {
        id: id?.value.into(),
        channels: u16::try_from(channels?).ok()?,
        guard_ms,
        sources,
        tls,
    })
}

/// What a certificate proves: a DNS name, as RFC 5922 §7.1 has it.
fn tls_client_name(reader: &Reader<'_, '_>) -> Option<String> {
    let expected = "a DNS name of the trunk's certificate, for instance \"sbc.example.net\"";
    let name = reader.string("tls_client_name", expected)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.value.is_empty()
        || name.value.len() > DNS_NAME_BYTES_MAX
        || !name.value.bytes().all(plain)
    {
        let is = format!("is {:?}", name.value);
        reader.mistake("tls_client_name", name.at.clone(), is, expected);
    }
    Some(name.value.to_ascii_lowercase())
}

fn name(reader: &Reader<'_, '_>, key: &'static str) -> Option<Placed<String>> {
    let name = reader.string(key, A_NAME)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.value.is_empty() || name.value.len() > NAME_BYTES_MAX || !name.value.bytes().all(plain)
    {
        reader.mistake(key, name.at.clone(), format!("is {:?}", name.value), A_NAME);
    }
    Some(name)
}
