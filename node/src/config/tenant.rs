//! The tenant of a configuration file: trunks, queues, agents, numbers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use tandem_core::config::{Agent, Config, Number, Queue, Srtp, Strategy, Target, Trunk, TrunkTls};
use tandem_core::ivr::flow::Flow;
use tandem_core::limits::{
    SESSION_EXPIRES_S_DEFAULT, SESSION_EXPIRES_S_MAX, SESSION_EXPIRES_S_MIN,
};
use tandem_core::trunk::outward::Route;

use super::flow::{self, Known};
use super::outward;
use super::reader::{Placed, Reader};
use super::sounds;

/// The tables that make a tenant; where none of them stands, the demo tenant is served.
const TABLES: [&str; 7] = ["tenant", "trunk", "route", "queue", "agent", "number", "flow"];

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

pub const A_NAME: &str = "a name of 1 to 64 letters, digits, '-', '_' or '.'";

/// SRTP that phones are offered.
const COUNTRY: &str = "\"cn\", \"de\", \"fr\", \"gb\", \"jp\" or \"us\"";
const OFFER_SRTP: &str = "\"never\", \"welcome\" or \"required\"";

/// `None` where the file says nothing of a tenant. Mistakes are noted by the reader. `sounds` are
/// the names of what can be played, where the file can know them.
pub fn read(root: &Reader<'_, '_>, sounds: &sounds::Names) -> Option<Config> {
    let mut given = false;
    for table in TABLES {
        given |= root.has(table);
    }
    if !given {
        return None;
    }
    let Some(tenant) = root.required("tenant", root.table("tenant"), "a table: [tenant]") else {
        read_rows(root, "", sounds);
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
    let session_expires_s = session_expires(&tenant);
    let tls_verify = tenant.bool("tls_verify", "true or false").unwrap_or(true);
    let offer = tenant.parsed("srtp", OFFER_SRTP).map(|offer| offer.value).unwrap_or_default();
    let country = tenant.parsed("country", COUNTRY).map(|known| known.value).unwrap_or_default();
    tenant.finish();
    let realm = realm.map(|realm| realm.value).unwrap_or_default();
    let rows = read_rows(root, &realm, sounds);
    Some(Config {
        version: 0,
        tenant: name?.value,
        realm,
        trunks: rows.trunks,
        queues: rows.queues,
        agents: rows.agents,
        numbers: rows.numbers,
        routes: rows.routes,
        acw_ms,
        no_answer_ms,
        call_ms_max,
        session_expires_s,
        tls_unverified: !tls_verify,
        srtp: Srtp { offer, ..Srtp::default() },
        country,
        flows: rows.flows,
        retired: Vec::new(),
    })
}

/// Seconds (RFC 4028); 0 asks for no timer.
fn session_expires(tenant: &Reader<'_, '_>) -> u32 {
    const EXPECTED: &str = "seconds: an integer from 90 to 86400, or 0 for no session timer";
    let seconds = tenant.integer("session_expires_s", 0..=SESSION_EXPIRES_S_MAX.into(), EXPECTED);
    let seconds = seconds.and_then(|seconds| u32::try_from(seconds).ok());
    if let Some(seconds @ 1..SESSION_EXPIRES_S_MIN) = seconds {
        tenant.mistake("session_expires_s", tenant.at(), format!("is {seconds}"), EXPECTED);
    }
    seconds.unwrap_or(SESSION_EXPIRES_S_DEFAULT)
}

struct Rows {
    trunks: Vec<Trunk>,
    queues: Vec<Queue>,
    agents: Vec<Agent>,
    numbers: Vec<Number>,
    routes: Vec<Route>,
    flows: Vec<Arc<Flow>>,
}

fn read_rows(root: &Reader<'_, '_>, realm: &str, sounds: &sounds::Names) -> Rows {
    let mut names = Names::default();
    let agents: Vec<_> = root
        .tables("agent")
        .into_iter()
        .filter_map(|reader| agent(reader, realm, &mut names))
        .collect();
    let queues: Vec<_> = root
        .tables("queue")
        .into_iter()
        .filter_map(|reader| queue(reader, &agents, sounds.music.as_deref(), &mut names))
        .collect();
    let known = Known { agents: &agents, queues: &queues, prompts: sounds.prompts.as_deref() };
    let mut flows = Vec::new();
    // Flows that a mistake left out are there for the numbers that name them.
    let mut named = Vec::new();
    for reader in root.tables("flow") {
        named.extend(reader.string("name", A_NAME).map(|name| name.value));
        let at = reader.at();
        let Some((name, flow)) = flow::flow(reader, &known) else { continue };
        if flow::find(&flows, &name.value).is_some() {
            let problem = format!("is {:?}, which is taken", name.value);
            root.mistake("flow.name", at, problem, "a name that no other flow has");
        }
        flows.push(Arc::new(flow));
    }
    let numbers = root
        .tables("number")
        .into_iter()
        .filter_map(|reader| number(reader, &known, &named, &mut flows, &mut names))
        .collect();
    let trunks: Vec<_> =
        root.tables("trunk").into_iter().filter_map(|reader| trunk(reader, &mut names)).collect();
    let routes = outward::routes(root, &trunks);
    Rows { trunks, queues, agents, numbers, routes, flows }
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

fn queue(
    reader: Reader<'_, '_>,
    agents: &[Agent],
    lists: Option<&[String]>,
    names: &mut Names,
) -> Option<Queue> {
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
    let a_list = "the name of a folder in that of [music]";
    let music = reader.string("music", a_list);
    if let (Some(music), Some(lists)) = (&music, lists)
        && !lists.contains(&music.value)
    {
        let problem = format!("names {:?}, which is not there", music.value);
        reader.mistake("music", music.at.clone(), problem, a_list);
    }
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
        music: music.map(|list| list.value.into()),
    })
}

fn number(
    reader: Reader<'_, '_>,
    known: &Known<'_>,
    named: &[String],
    flows: &mut Vec<Arc<Flow>>,
    names: &mut Names,
) -> Option<Number> {
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
    let target = target(&reader, known, named, flows);
    reader.finish();
    Some(Number { digits: digits?.value, target: target? })
}

/// Where a number leads: to one of several kinds of place.
fn target(
    reader: &Reader<'_, '_>,
    known: &Known<'_>,
    named: &[String],
    flows: &mut Vec<Arc<Flow>>,
) -> Option<Target> {
    let one_of = "one of queue, flow, announcement and echo = true";
    let queue = reader.string("queue", "the name of a [[queue]]");
    let flow = reader.string("flow", "the name of a [[flow]]");
    let announcement = reader.string("announcement", "the name of a prompt");
    let echo = reader.bool("echo", "true").filter(|echo| *echo);
    let given = [queue.is_some(), flow.is_some(), announcement.is_some(), echo.is_some()];
    match given.iter().filter(|given| **given).count() {
        0 => reader.mistake("queue", reader.at(), "is missing", one_of),
        1 => {}
        count => reader.mistake("queue", reader.at(), format!("is one of {count}"), one_of),
    }
    let not_there = |key, name: &Placed<String>, expected: &str| {
        let problem = format!("names {:?}, which is not there", name.value);
        reader.mistake(key, name.at.clone(), problem, expected);
    };
    if let Some(queue) = queue {
        if !known.queues.iter().any(|known| *known.id.0 == *queue.value) {
            not_there("queue", &queue, "the name of a [[queue]]");
        }
        return Some(Target::Queue(queue.value.into()));
    }
    if let Some(flow) = flow {
        if !named.contains(&flow.value) {
            not_there("flow", &flow, "the name of a [[flow]]");
        }
        return Some(Target::Flow(flow.value.into()));
    }
    if let Some(prompt) = announcement {
        flow::check_prompt(reader, "announcement", &prompt, known.prompts);
        let flow = flow::announcement(&prompt.value);
        let name = flow.name.clone();
        if flow::find(flows, &name.0).is_none() {
            flows.push(Arc::new(flow));
        }
        return Some(Target::Flow(name));
    }
    echo.map(|_| Target::Echo)
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
    let out = outward::read(&reader);
    let incoming = outward::incoming(&reader);
    let codecs = outward::codecs(&reader);
    let shared = reader.bool("shared", "true or false").unwrap_or(false);
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
        out,
        incoming,
        codecs,
        shared,
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

pub fn name(reader: &Reader<'_, '_>, key: &'static str) -> Option<Placed<String>> {
    let name = reader.string(key, A_NAME)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.value.is_empty() || name.value.len() > NAME_BYTES_MAX || !name.value.bytes().all(plain)
    {
        reader.mistake(key, name.at.clone(), format!("is {:?}", name.value), A_NAME);
    }
    Some(name)
}
