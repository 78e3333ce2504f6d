//! What a trunk says of calls outward, and the routes that lead to it.

use tandem_core::config::Trunk;
use tandem_core::limits::{DIGITS_MAX, PEERS_MAX, REWRITES_MAX, ROUTE_TRUNKS_MAX};
use tandem_core::trunk::numbers::{Incoming, Rewrite};
use tandem_core::trunk::outward::{Credentials, Outward, Peer, Registration, Route};

use tandem_sip::sdp::Codec;

use super::reader::{Placed, Reader};

const PRIORITY_DEFAULT: u64 = 1;
const WEIGHT_DEFAULT: u64 = 10;
const CALLS_PER_SECOND_MAX: u64 = 1_000;
const REPLY_MS_MIN: u64 = 500;
const REPLY_MS_MAX: u64 = 32_000;
const REPLY_MS_DEFAULT: u64 = 4_000;
const NO_ANSWER_MS_MIN: u64 = 1_000;
const NO_ANSWER_MS_MAX: u64 = 600_000;
const NO_ANSWER_MS_DEFAULT: u64 = 60_000;
const OPTIONS_S_MAX: u64 = 3_600;
const REGISTER_S_MIN: u64 = 60;
const REGISTER_S_MAX: u64 = 86_400;
const REGISTER_S_DEFAULT: u64 = 3_600;

const CODECS: &str =
    "a list of \"PCMU\", \"PCMA\", \"G722\", \"opus\" and \"G729\", the best first";
/// A name is looked up by nobody: what is decided must be the same on every replica.
const PEERS: &str = "a list of IP addresses with ports, for instance \
                     [\"192.0.2.7:5060\", \"192.0.2.8:5061;transport=tls\"]";
const NUMBER: &str = "digits, with a '+' in front or without";
const TRUNKS: &str = "a list of names of [[trunk]]s with peers";
/// Of no use where nothing goes out.
const WITH_PEERS: [&str; 12] = [
    "priority",
    "weight",
    "calls_per_second",
    "reply_ms",
    "no_answer_ms",
    "caller_id",
    "hide_caller",
    "called_out",
    "calling_out",
    "auth_user",
    "options_s",
    "register",
];
const AUTH: &str = "auth_user and auth_realm with auth_password, or with auth_ha1_md5 and \
                    auth_ha1_sha256 instead of it";
const REGISTER: &str = "a user and a domain that the carrier knows, for instance \
                        \"4930100@carrier.example\"";
const REGISTRAR: &str = "an IP address with a port, for instance \"192.0.2.7:5060\"";
const REWRITES: &str = "beginnings of numbers, each with what stands there instead, \
                        for instance { \"00\" = \"+\", \"0\" = \"+49\" }";

pub fn read(reader: &Reader<'_, '_>) -> Option<Outward> {
    let given = reader.strings("peers", PEERS);
    let number = |key, range: std::ops::RangeInclusive<u64>, default| {
        let expected = format!("an integer from {} to {}", range.start(), range.end());
        reader.integer(key, range, &expected).unwrap_or(default)
    };
    let small = |key, range, default| u16::try_from(number(key, range, default)).unwrap_or(0);
    let priority = small("priority", 0..=u16::MAX.into(), PRIORITY_DEFAULT);
    let weight = small("weight", 0..=u16::MAX.into(), WEIGHT_DEFAULT);
    let calls_per_second = small("calls_per_second", 0..=CALLS_PER_SECOND_MAX, 0);
    let reply_ms = number("reply_ms", REPLY_MS_MIN..=REPLY_MS_MAX, REPLY_MS_DEFAULT);
    let no_answer_ms =
        number("no_answer_ms", NO_ANSWER_MS_MIN..=NO_ANSWER_MS_MAX, NO_ANSWER_MS_DEFAULT);
    let caller_id = reader.string("caller_id", NUMBER);
    if let Some(number) = caller_id.as_ref().filter(|number| !is_number(&number.value)) {
        let is = format!("is {:?}", number.value);
        reader.mistake("caller_id", number.at.clone(), is, NUMBER);
    }
    let hide_caller = reader.bool("hide_caller", "true or false").unwrap_or(false);
    let called = rewrites(reader, "called_out");
    let calling = rewrites(reader, "calling_out");
    let credentials = credentials(reader);
    let options_s = small("options_s", 0..=OPTIONS_S_MAX, 0);
    let Some(given) = given else {
        registration(reader, &[]);
        if let Some(key) = WITH_PEERS.into_iter().find(|key| reader.has(key)) {
            reader.mistake(key, reader.at(), "stands there without peers", PEERS);
        }
        return None;
    };
    if given.is_empty() || given.len() > PEERS_MAX {
        let is = format!("has {} of them", given.len());
        reader.mistake("peers", reader.at(), is, format!("1 to {PEERS_MAX} peers"));
    }
    let mut peers: Vec<Peer> = Vec::new();
    for Placed { value, at } in given {
        match value.parse::<Peer>() {
            Ok(peer) if peers.iter().any(|known| known.address == peer.address) => {
                reader.mistake("peers", at, format!("names {value:?} twice"), PEERS);
            }
            Ok(peer) => peers.push(peer),
            Err(()) => reader.mistake("peers", at, format!("names {value:?}"), PEERS),
        }
    }
    let register = registration(reader, &peers);
    let caller_id = caller_id.map(|number| number.value);
    Some(Outward {
        peers,
        priority,
        weight,
        calls_per_second,
        reply_ms,
        no_answer_ms,
        caller_id,
        hide_caller,
        called,
        calling,
        credentials,
        options_s,
        register,
    })
}

/// What is registered of us, where the registrar is, and the first peer is it where nothing is said.
fn registration(reader: &Reader<'_, '_>, peers: &[Peer]) -> Option<Registration> {
    let of_record = reader.string("register", REGISTER);
    let registrar = reader.string("registrar", REGISTRAR);
    let expected = format!("an integer from {REGISTER_S_MIN} to {REGISTER_S_MAX}");
    let expires_s = reader.integer("register_s", REGISTER_S_MIN..=REGISTER_S_MAX, &expected);
    let Some(of_record) = of_record else {
        for key in ["registrar", "register_s"].into_iter().filter(|key| reader.has(key)) {
            reader.mistake(key, reader.at(), "stands there without register", REGISTER);
        }
        return None;
    };
    let uri = format!("sip:{}", of_record.value).parse::<tandem_sip::Uri>().ok();
    let usable = |uri: &tandem_sip::Uri| {
        uri.port.is_none() && uri.params.is_empty() && uri.headers.is_none()
    };
    let user = uri.filter(usable).and_then(|uri| Some((uri.user?, uri.host)));
    if user.is_none() {
        let is = format!("is {:?}", of_record.value);
        reader.mistake("register", of_record.at, is, REGISTER);
    }
    let registrar = match registrar {
        None => peers.first().copied(),
        Some(Placed { value, at }) => match value.parse::<Peer>() {
            Ok(peer) => Some(peer),
            Err(()) => {
                reader.mistake("registrar", at, format!("is {value:?}"), REGISTRAR);
                None
            }
        },
    };
    let expires_s = u32::try_from(expires_s.unwrap_or(REGISTER_S_DEFAULT)).ok()?;
    let (user, domain) = user?;
    Some(Registration { user, domain, registrar: registrar?, expires_s })
}

/// A password, or what is made of it. Neither is ever shown.
fn credentials(reader: &Reader<'_, '_>) -> Option<Credentials> {
    let text = |key, expected| {
        let value = reader.string(key, expected)?;
        if value.value.is_empty() || value.value.contains(['"', '\\', '\r', '\n', ':']) {
            let problem = "is empty, or has quotes, colons or backslashes";
            reader.mistake(key, value.at, problem, expected);
        }
        Some(value.value)
    };
    let digest = |key, digits: usize| {
        let expected = format!("{digits} hex digits");
        let value = reader.string(key, &expected)?;
        let is_hex = value.value.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hex || value.value.len() != digits {
            reader.mistake(key, value.at, "is not a digest", expected);
        }
        Some(value.value.to_ascii_lowercase())
    };
    let user = text("auth_user", "the name that the carrier knows us by");
    let realm = text("auth_realm", "the realm of the carrier's challenge");
    let password = reader.string("auth_password", "the password").map(|it| it.value);
    let ha1_md5 = digest("auth_ha1_md5", 32);
    let ha1_sha256 = digest("auth_ha1_sha256", 64);
    let missing = |key| {
        reader.mistake(key, reader.at(), "is missing", AUTH);
    };
    match (user, realm) {
        (None, None) => {
            if password.is_some() || ha1_md5.is_some() || ha1_sha256.is_some() {
                missing("auth_user");
            }
            None
        }
        (None, Some(_)) => {
            missing("auth_user");
            None
        }
        (Some(_), None) => {
            missing("auth_realm");
            None
        }
        (Some(user), Some(realm)) => match (password, ha1_md5, ha1_sha256) {
            (Some(password), None, None) => Some(Credentials::new(&user, &realm, &password)),
            (None, None, None) => {
                missing("auth_password");
                None
            }
            (Some(_), _, _) => {
                let is = "stands beside what is made of it";
                reader.mistake("auth_password", reader.at(), is, AUTH);
                None
            }
            (None, md5, sha256) => Some(Credentials {
                user,
                realm,
                ha1_md5: md5.unwrap_or_default(),
                ha1_sha256: sha256.unwrap_or_default(),
            }),
        },
    }
}

/// What is spoken with the trunk, the best first.
pub fn codecs(reader: &Reader<'_, '_>) -> Vec<Codec> {
    let mut codecs = Vec::new();
    let given = reader.strings("codecs", CODECS);
    if given.as_ref().is_some_and(Vec::is_empty) {
        reader.mistake("codecs", reader.at(), "names none", CODECS);
    }
    for Placed { value, at } in given.unwrap_or_default() {
        match tandem_sip::wire::codec(&value) {
            Ok(codec) if codecs.contains(&codec) => {
                reader.mistake("codecs", at, format!("names {value:?} twice"), CODECS);
            }
            Ok(codec) => codecs.push(codec),
            Err(_) => reader.mistake("codecs", at, format!("names {value:?}"), CODECS),
        }
    }
    codecs
}

pub fn incoming(reader: &Reader<'_, '_>) -> Incoming {
    Incoming { called: rewrites(reader, "called_in"), calling: rewrites(reader, "calling_in") }
}

fn rewrites(reader: &Reader<'_, '_>, key: &'static str) -> Vec<Rewrite> {
    let given = reader.texts(key, REWRITES).unwrap_or_default();
    if given.len() > REWRITES_MAX {
        let is = format!("has {} of them", given.len());
        reader.mistake(key, reader.at(), is, format!("at most {REWRITES_MAX}"));
    }
    let mut rules = Vec::new();
    for (from, to) in given {
        for part in [&from, &to] {
            let usable = part.value.is_empty() || part.value == "+" || is_number(&part.value);
            if !usable {
                let is = format!("has {:?}", part.value);
                reader.mistake(key, part.at.clone(), is, REWRITES);
            }
        }
        rules.push(Rewrite { from: from.value, to: to.value });
    }
    rules
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or(text);
    (1..=DIGITS_MAX).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
}

pub fn routes(root: &Reader<'_, '_>, trunks: &[Trunk]) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::new();
    for reader in root.tables("route") {
        let read = route(&reader, trunks);
        let taken = read.as_ref().filter(|(route, _)| is_taken(&routes, route));
        if let Some((route, prefix)) = taken {
            let is = format!("is {:?}, which has a route", route.prefix);
            reader.mistake("prefix", prefix.at.clone(), is, "a prefix that no other route has");
        }
        reader.finish();
        routes.extend(read.map(|(route, _)| route));
    }
    routes
}

fn is_taken(routes: &[Route], route: &Route) -> bool {
    routes.iter().any(|known| known.prefix == route.prefix)
}

fn route(reader: &Reader<'_, '_>, trunks: &[Trunk]) -> Option<(Route, Placed<String>)> {
    let prefix = reader.required("prefix", reader.string("prefix", NUMBER), NUMBER);
    let named = reader.required("trunks", reader.strings("trunks", TRUNKS), TRUNKS);
    let (prefix, named) = (prefix?, named?);
    if prefix.value != "+" && !is_number(&prefix.value) {
        reader.mistake("prefix", prefix.at.clone(), format!("is {:?}", prefix.value), NUMBER);
    }
    if named.is_empty() || named.len() > ROUTE_TRUNKS_MAX {
        let is = format!("has {} of them", named.len());
        reader.mistake("trunks", reader.at(), is, format!("1 to {ROUTE_TRUNKS_MAX} trunks"));
    }
    for name in &named {
        match trunks.iter().find(|trunk| *trunk.id.0 == *name.value) {
            None => {
                let is = format!("names {:?}, which is not there", name.value);
                reader.mistake("trunks", name.at.clone(), is, TRUNKS);
            }
            Some(trunk) if trunk.out.is_none() => {
                let is = format!("names {:?}, which has no peers", name.value);
                reader.mistake("trunks", name.at.clone(), is, TRUNKS);
            }
            Some(_) => {}
        }
    }
    let trunks = named.into_iter().map(|name| name.value.into()).collect();
    Some((Route { prefix: prefix.value.clone(), trunks }, prefix))
}
