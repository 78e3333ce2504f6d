//! SIP URIs and name-addrs (RFC 3261 §19.1, §20.10, §25.1).

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    Sip,
    Sips,
    Tel,
    Other(String),
}

/// A `;name=value` parameter. Names compare without case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Param {
    pub name: String,
    pub value: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uri {
    pub scheme: Scheme,
    /// As it came, with a password where it had one.
    pub user: Option<String>,
    /// As it came; an IPv6 literal keeps its brackets. For a scheme that is neither SIP nor
    /// SIPS, everything behind the colon.
    pub host: String,
    pub port: Option<u16>,
    pub params: Vec<Param>,
    /// What stood behind `?`, as it came.
    pub headers: Option<String>,
}

/// `"Display" <uri>;params`, or a bare `uri;params` (RFC 3261 §20.10).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NameAddr {
    pub display: Option<String>,
    pub uri: Uri,
    pub params: Vec<Param>,
}
