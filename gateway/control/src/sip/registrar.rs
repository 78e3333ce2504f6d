//! Who may register: digest authentication (RFC 3261 §22) without state, so that a nonce given by
//! one gateway is good on any and a refusal never touches the cluster. Pure.

use std::collections::HashMap;
use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tandem_core::config::Config;
use tandem_core::ids::AgentId;
use tandem_sip::digest::{self, Authorization};
use tandem_sip::{Method, Request, Response};

use super::stateless_tag;
use crate::limits;

/// Bytes of the proof in a nonce.
const PROOF_BYTES: usize = 16;
/// Milliseconds and counter, 16 hex digits each, then the proof.
const NONCE_CHARS: usize = 32 + 2 * PROOF_BYTES;
/// What nobody's password gives: an unknown user costs the same time as a known one.
const NOBODY_HA1: &str = "00000000000000000000000000000000";

/// The tenant's part of the routing.
pub struct Registrar {
    realm: String,
    ha1: HashMap<String, String>,
    key: Hmac<Sha256>,
}

impl fmt::Debug for Registrar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registrar").field("realm", &self.realm).finish_non_exhaustive()
    }
}

/// What an Authorization is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Proven(AgentId),
    /// The password is right, the nonce too old, or none of ours.
    Stale,
    /// The password is wrong, or another's.
    Wrong {
        nonce_is_good: bool,
    },
}

/// What a nonce is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nonce {
    Good,
    /// Too old, or none of ours.
    Stale,
}

impl Registrar {
    /// `None` where the key is of no use.
    pub fn new(config: &Config, nonce_key: &[u8]) -> Option<Self> {
        let key = Hmac::<Sha256>::new_from_slice(nonce_key).ok()?;
        let agents = config.agents.iter();
        let ha1 = agents.map(|agent| (agent.id.to_string(), agent.ha1.clone())).collect();
        Some(Self { realm: config.realm.clone(), ha1, key })
    }

    /// The Authorization for our realm, where there is one.
    pub fn claim(&self, request: &Request) -> Option<Authorization> {
        let headers = request.headers.other.iter();
        headers
            .filter(|header| header.name.eq_ignore_ascii_case("Authorization"))
            .filter_map(|header| Authorization::parse(&header.value).ok())
            .find(|authorization| authorization.realm == self.realm)
    }

    /// A user's name that no other tenant has.
    pub fn account(&self, user: &str) -> String {
        format!("{user}@{}", self.realm)
    }

    pub fn knows(&self, user: &str) -> bool {
        self.ha1.contains_key(user)
    }

    pub fn judge(&self, request: &Request, claim: &Authorization, unix_ms: u64) -> Verdict {
        let known = self.ha1.get(&claim.username);
        let ha1 = known.map_or(NOBODY_HA1, String::as_str);
        let verified = digest::verify(request.method.as_str(), ha1, claim);
        // Nobody registers in another's name, and nobody else's name stands as the sender.
        let headers = &request.headers;
        let named = match request.method {
            Method::Register => &headers.to.uri.user,
            _ => &headers.from.uri.user,
        };
        let own = named.as_deref() == Some(claim.username.as_str());
        match (verified && known.is_some() && own, self.nonce(&claim.nonce, unix_ms)) {
            (true, Nonce::Good) => Verdict::Proven(claim.username.as_str().into()),
            (true, Nonce::Stale) => Verdict::Stale,
            (false, nonce) => Verdict::Wrong { nonce_is_good: nonce == Nonce::Good },
        }
    }

    /// A 401. `counter` makes nonces of the same millisecond differ; it needs to be no secret.
    pub fn challenge(
        &self,
        request: &Request,
        unix_ms: u64,
        counter: u64,
        stale: bool,
    ) -> Response {
        let mut response = request.respond(401, None, Some(&stateless_tag(&request.headers)));
        let value = digest::challenge(&self.realm, &self.make_nonce(unix_ms, counter), stale);
        response.headers.push_other("WWW-Authenticate", &value);
        response
    }

    fn proof(&self, stamp: &str) -> Hmac<Sha256> {
        let mut mac = self.key.clone();
        mac.update(self.realm.as_bytes());
        mac.update(&[0]);
        mac.update(stamp.as_bytes());
        mac
    }

    fn make_nonce(&self, unix_ms: u64, counter: u64) -> String {
        let mut nonce = format!("{unix_ms:016x}{counter:016x}");
        let proof = self.proof(&nonce).finalize().into_bytes();
        for byte in proof.iter().take(PROOF_BYTES) {
            nonce.push_str(&format!("{byte:02x}"));
        }
        nonce
    }

    fn nonce(&self, nonce: &str, unix_ms: u64) -> Nonce {
        let judge = || {
            if nonce.len() != NONCE_CHARS || !nonce.is_ascii() {
                return None;
            }
            let (stamp, proof) = nonce.split_at(32);
            let proof: Option<Vec<u8>> = (0..PROOF_BYTES)
                .map(|at| u8::from_str_radix(&proof[2 * at..2 * at + 2], 16).ok())
                .collect();
            self.proof(stamp).verify_truncated_left(&proof?).ok()?;
            let made_ms = u64::from_str_radix(&stamp[..16], 16).ok()?;
            // Another gateway's clock may be ahead of ours.
            Some(unix_ms.abs_diff(made_ms) <= limits::NONCE_MS_MAX)
        };
        if judge() == Some(true) { Nonce::Good } else { Nonce::Stale }
    }
}

#[cfg(test)]
mod tests {
    use tandem_core::demo::demo_config;
    use tandem_sip::Message;

    use super::*;

    fn register(user: &str, authorization: Option<&str>) -> Request {
        let authorization =
            authorization.map(|value| format!("Authorization: {value}\r\n")).unwrap_or_default();
        let text = format!(
            "REGISTER sip:demo SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKa\r\n\
             From: <sip:{user}@demo>;tag=1\r\nTo: <sip:{user}@demo>\r\nCall-ID: c\r\n\
             CSeq: 1 REGISTER\r\n{authorization}Contact: <sip:{user}@127.0.0.1>\r\n\r\n"
        );
        match tandem_sip::parse(text.as_bytes()).unwrap() {
            Message::Request(request) => request,
            Message::Response(_) => panic!("a response"),
        }
    }

    fn registrar() -> Registrar {
        Registrar::new(&demo_config(), &[7; 32]).unwrap()
    }

    /// The verdict on an Authorization of the user's own making.
    fn judge(registrar: &Registrar, to: &str, value: &str, unix_ms: u64) -> Option<Verdict> {
        let request = register(to, Some(value));
        let claim = registrar.claim(&request)?;
        Some(registrar.judge(&request, &claim, unix_ms))
    }

    /// The WWW-Authenticate.
    fn challenged(registrar: &Registrar, unix_ms: u64, stale: bool) -> String {
        let response = registrar.challenge(&register("1001", None), unix_ms, 1, stale);
        assert_eq!(response.status, 401);
        response.headers.other("WWW-Authenticate").unwrap().to_owned()
    }

    fn answer(challenge: &str, user: &str, password: &str) -> String {
        digest::answer(challenge, user, password, "REGISTER", "sip:demo", "cnonce").unwrap()
    }

    const WRONG: Option<Verdict> = Some(Verdict::Wrong { nonce_is_good: true });

    #[test]
    fn agent_is_challenged_then_proven_on_any_gateway() {
        let challenge = challenged(&registrar(), 1_000, false);
        assert!(!challenge.contains("stale"));
        assert!(challenged(&registrar(), 1_000, true).contains("stale=true"));
        let value = answer(&challenge, "1001", "tandem-1001");
        let proven = Some(Verdict::Proven("1001".into()));
        assert_eq!(judge(&registrar(), "1001", &value, 2_000), proven, "other gateway");
    }

    #[test]
    fn password_that_is_wrong_or_anothers_proves_nothing() {
        let registrar = registrar();
        let challenge = challenged(&registrar, 1_000, false);
        for (user, to, password) in
            [("1001", "1001", "guessed"), ("9999", "9999", "x"), ("1002", "1001", "tandem-1002")]
        {
            let value = answer(&challenge, user, password);
            assert_eq!(judge(&registrar, to, &value, 2_000), WRONG, "{user} as {to}");
        }
        assert!(registrar.knows("1001") && !registrar.knows("9999"));
    }

    #[test]
    fn nonce_that_is_old_or_not_ours_is_told_from_a_wrong_password() {
        let registrar = registrar();
        let challenge = challenged(&registrar, 1_000, false);
        let value = answer(&challenge, "1001", "tandem-1001");
        let late = 1_001 + limits::NONCE_MS_MAX;
        assert_eq!(judge(&registrar, "1001", &value, late), Some(Verdict::Stale));
        let foreign = Registrar::new(&demo_config(), &[8; 32]).unwrap();
        assert_eq!(judge(&foreign, "1001", &value, 2_000), Some(Verdict::Stale));
        let wrong = answer(&challenge, "1001", "guessed");
        let old = Some(Verdict::Wrong { nonce_is_good: false });
        assert_eq!(judge(&registrar, "1001", &wrong, late), old);
        for junk in ["Basic x", "Digest", "Digest realm=\"demo.tandem\"", "Digest nonce=\u{fc}"] {
            assert_eq!(judge(&registrar, "1001", junk, 1), None, "{junk}");
        }
    }
}
