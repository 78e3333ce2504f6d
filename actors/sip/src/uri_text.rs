//! URIs and name-addrs to and from text.

use std::fmt;
use std::str::FromStr;

use crate::scan;
use crate::uri::{NameAddr, Param, Scheme, Uri};

/// A URI or name-addr that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a URI: {0:?}")]
pub struct Error(pub String);

impl Uri {
    /// `sip:user@host:port`.
    pub fn sip(user: Option<&str>, host: &str, port: Option<u16>) -> Self {
        Self {
            scheme: Scheme::Sip,
            user: user.map(str::to_owned),
            host: host.to_owned(),
            port,
            params: Vec::new(),
            headers: None,
        }
    }

    #[must_use]
    pub fn with_port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// The value of a parameter: `None` where it is absent, `Some("")` where it has no value.
    pub fn param(&self, name: &str) -> Option<&str> {
        find(&self.params, name)
    }

    /// The host as an address, where it is one. The grammar of RFC 3261 lets three colons stand
    /// before an IPv4 address, and they mean two (RFC 5118 §4.10).
    pub fn ip(&self) -> Option<std::net::IpAddr> {
        let literal = self.host.trim_start_matches('[').trim_end_matches(']');
        literal.parse().or_else(|_| literal.replacen(":::", "::", 1).parse()).ok()
    }
}

impl NameAddr {
    pub fn new(uri: Uri) -> Self {
        Self { display: None, uri, params: Vec::new() }
    }

    pub fn param(&self, name: &str) -> Option<&str> {
        find(&self.params, name)
    }

    pub fn tag(&self) -> Option<&str> {
        self.param("tag").filter(|tag| !tag.is_empty())
    }

    pub fn set_tag(&mut self, tag: &str) {
        self.params.retain(|param| !param.name.eq_ignore_ascii_case("tag"));
        self.params.push(Param { name: "tag".into(), value: Some(tag.to_owned()) });
    }

    /// The same without its tag.
    #[must_use]
    pub fn without_tag(&self) -> Self {
        let mut bare = self.clone();
        bare.params.retain(|param| !param.name.eq_ignore_ascii_case("tag"));
        bare
    }
}

pub(crate) fn find<'a>(params: &'a [Param], name: &str) -> Option<&'a str> {
    params
        .iter()
        .find(|param| param.name.eq_ignore_ascii_case(name))
        .map(|param| param.value.as_deref().unwrap_or(""))
}

pub(crate) fn params(parts: &[&str]) -> Vec<Param> {
    parts
        .iter()
        .filter(|part| !part.is_empty())
        .map(|part| match part.split_once('=') {
            Some((name, value)) => {
                Param { name: name.trim().to_owned(), value: Some(value.trim().to_owned()) }
            }
            None => Param { name: (*part).to_owned(), value: None },
        })
        .collect()
}

/// `host`, `host:port`, `[v6]:port`.
pub(crate) fn host_port(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match text.rfind(']') {
        Some(end) => {
            let rest = &text[end + 1..];
            (&text[..=end], rest.strip_prefix(':').map(str::trim))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host.trim(), Some(port.trim())),
            None => (text, None),
        },
    };
    let host = host.trim();
    let sane = !host.is_empty()
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_[]:%".contains(&byte));
    if !sane {
        return None;
    }
    let port = match port {
        None | Some("") => None,
        Some(port) => Some(u16::try_from(scan::digits(port)?).ok()?),
    };
    Some((host.to_owned(), port))
}

impl FromStr for Uri {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error(text.chars().take(128).collect());
        let (scheme, rest) = text.trim().split_once(':').ok_or_else(bad)?;
        if !scan::is_token(scheme) {
            return Err(bad());
        }
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "sip" => Scheme::Sip,
            "sips" => Scheme::Sips,
            "tel" => Scheme::Tel,
            _ => Scheme::Other(scheme.to_owned()),
        };
        let rest = rest.trim();
        if rest.is_empty() || rest.contains(['\r', '\n', '<', '>', '"']) {
            return Err(bad());
        }
        if matches!(scheme, Scheme::Tel | Scheme::Other(_)) {
            let opaque = Self {
                scheme,
                user: None,
                host: rest.to_owned(),
                port: None,
                params: Vec::new(),
                headers: None,
            };
            return Ok(opaque);
        }
        // A user part may hold ';' and '?', but no '@' (RFC 3261 §25.1). Phones write one there
        // all the same, so what ends the user is the last '@' before the headers; a '@' within
        // the headers (`?Replaces=a@b`) says nothing about the user.
        let (userinfo, rest) = match rest.find('@') {
            Some(first) => {
                let headers = rest[first..].find('?').map_or(rest.len(), |mark| first + mark);
                let at = rest[..headers].rfind('@').unwrap_or(first);
                (Some(&rest[..at]), &rest[at + 1..])
            }
            None => (None, rest),
        };
        if userinfo.is_some_and(|user| user.contains(char::is_whitespace)) {
            return Err(bad());
        }
        let (rest, headers) = match rest.split_once('?') {
            Some((rest, headers)) => (rest, Some(headers.to_owned())),
            None => (rest, None),
        };
        let mut parts = rest.split(';').map(str::trim);
        let (host, port) = host_port(parts.next().unwrap_or_default()).ok_or_else(bad)?;
        let params = params(&parts.collect::<Vec<_>>());
        // It may become a request-URI, where white space would end it.
        let spaced = params.iter().any(|param| {
            let value = param.value.as_deref().unwrap_or("");
            param.name.contains(char::is_whitespace) || value.contains(char::is_whitespace)
        });
        if spaced || headers.as_deref().is_some_and(|it| it.contains(char::is_whitespace)) {
            return Err(bad());
        }
        let user = userinfo.map(str::to_owned);
        Ok(Self { scheme, user, host, port, params, headers })
    }
}

impl FromStr for NameAddr {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let bad = || Error(text.chars().take(128).collect());
        // Only what stands outside quotes opens the URI.
        let open = outside_quotes(text, '<');
        let (display, uri, rest) = match open {
            Some(open) => {
                let close = text[open..].find('>').ok_or_else(bad)? + open;
                (text[..open].trim(), &text[open + 1..close], &text[close + 1..])
            }
            None => {
                // Without brackets, parameters are the header's (RFC 3261 §20.10).
                let end = text.find(';').unwrap_or(text.len());
                // A URI with headers must stand in brackets (§20).
                if text[..end].contains('?') {
                    return Err(bad());
                }
                ("", &text[..end], &text[end..])
            }
        };
        let uri = uri.trim().parse()?;
        let mut parts = scan::split_closed(rest, ';').ok_or_else(bad)?;
        if !parts.is_empty() {
            parts.remove(0);
        }
        let display = match display {
            "" => None,
            quoted if quoted.len() >= 2 && quoted.starts_with('"') && quoted.ends_with('"') => {
                Some(unescape(&quoted[1..quoted.len() - 1]))
            }
            plain => Some(plain.to_owned()),
        };
        Ok(Self { display, uri, params: params(&parts) })
    }
}

fn outside_quotes(text: &str, wanted: char) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
            continue;
        }
        match c {
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c == wanted && !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut escaped = false;
    for c in text.chars() {
        if c == '\\' && !escaped {
            escaped = true;
        } else {
            escaped = false;
            plain.push(c);
        }
    }
    plain
}

fn write_params(f: &mut fmt::Formatter<'_>, params: &[Param]) -> fmt::Result {
    for param in params {
        match &param.value {
            Some(value) => write!(f, ";{}={value}", param.name)?,
            None => write!(f, ";{}", param.name)?,
        }
    }
    Ok(())
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scheme {
            Scheme::Sip => f.write_str("sip:")?,
            Scheme::Sips => f.write_str("sips:")?,
            Scheme::Tel => f.write_str("tel:")?,
            Scheme::Other(other) => write!(f, "{other}:")?,
        }
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        f.write_str(&self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        write_params(f, &self.params)?;
        if let Some(headers) = &self.headers {
            write!(f, "?{headers}")?;
        }
        Ok(())
    }
}

impl fmt::Display for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(display) = &self.display {
            f.write_str("\"")?;
            for c in display.chars() {
                if matches!(c, '"' | '\\') {
                    f.write_str("\\")?;
                }
                write!(f, "{c}")?;
            }
            f.write_str("\" ")?;
        }
        write!(f, "<{}>", self.uri)?;
        write_params(f, &self.params)
    }
}
