//! A phone of an agent, as it has registered (RFC 3261 §10, RFC 5626 §6).

use std::cmp::Reverse;
use std::net::SocketAddr;

use tandem_sip::{Carrier, Millis, NameAddr, Param, Uri};

use crate::ids::GatewayId;
use crate::limits;

/// What a Contact without one counts as: thousandths.
pub const Q_DEFAULT: u16 = 1_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Tells it from the agent's others; one that began later has a greater one.
    pub id: u64,
    pub contact: Uri,
    /// Where the REGISTER came from: requests go there (RFC 5626 §5.3), and what comes from there
    /// is the agent's.
    pub source: SocketAddr,
    /// What the contact is reached over.
    pub carrier: Carrier,
    pub gateway: GatewayId,
    pub expires_at: Millis,
    /// The log index of the last refresh.
    pub since_index: u64,
    /// Of the last REGISTER: an earlier one of the same phone comes too late.
    pub call_id: String,
    pub cseq: u32,
    /// How much the phone wants to be called, in thousandths (RFC 3261 §20.10).
    pub q: u16,
    /// Where it tells of itself which phone it is, and which of its flows.
    pub outbound: Option<Outbound>,
    /// The way to it, the next hop first (RFC 3327).
    pub path: Vec<NameAddr>,
}

/// What tells a phone's flows apart, whatever their addresses are (RFC 5626 §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// `<urn:uuid:…>` as it came.
    pub instance: String,
    /// From 1.
    pub reg_id: u32,
}

/// The name of the binding that the `place`-th contact of a REGISTER begins.
pub fn id_at(index: u64, place: u64) -> u64 {
    index * limits::CONTACTS_PER_INDEX + place
}

impl Registration {
    /// Whether a Contact is this one's: by what the phone calls itself, where both say it.
    pub fn is(&self, contact: &Uri, outbound: Option<&Outbound>) -> bool {
        match (&self.outbound, outbound) {
            (Some(own), Some(other)) => own == other,
            (_, _) => is_same(&self.contact, contact),
        }
    }

    /// Whether nothing else leads to it than the connection that it has opened.
    pub fn is_flow(&self) -> bool {
        match self.carrier {
            Carrier::Ws { .. } | Carrier::Wss { .. } => true,
            Carrier::Tcp { connection } | Carrier::Tls { connection } => {
                self.outbound.is_some() && connection.is_some()
            }
            Carrier::Udp => false,
        }
    }

    /// As a 200 lists it.
    pub fn listed(&self, now: Millis) -> NameAddr {
        let mut contact = NameAddr::new(self.contact.clone());
        let mut put = |name: &str, value: String| {
            contact.params.push(Param { name: name.into(), value: Some(value) });
        };
        put("expires", (self.expires_at.since(now) / 1_000).to_string());
        if self.q != Q_DEFAULT {
            put("q", format!("0.{:03}", self.q));
        }
        if let Some(Outbound { instance, reg_id }) = &self.outbound {
            put("+sip.instance", instance.clone());
            put("reg-id", reg_id.to_string());
        }
        contact
    }
}

/// By their parameters nobody tells phones apart.
pub fn is_same(contact: &Uri, other: &Uri) -> bool {
    (&contact.user, &contact.host, contact.port) == (&other.user, &other.host, other.port)
}

/// Whom a call rings first: the highest q, then the one that began last. Not the one that has
/// refreshed last: a phone that was left switched on takes no calls away from where the agent is.
pub fn sort(bindings: &mut [Registration]) {
    bindings.sort_by_key(|it| (Reverse(it.q), Reverse(it.id)));
}

/// Thousandths; what can't be read is as if it were not there.
pub fn q_of(contact: &NameAddr) -> u16 {
    let read = |text: &str| {
        let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
        let digits = rest.len() <= 3 && rest.bytes().all(|byte| byte.is_ascii_digit());
        let thousandths: u16 = format!("{rest:0<3}").parse().ok().filter(|_| digits)?;
        match whole {
            "0" => Some(thousandths),
            "1" if thousandths == 0 => Some(Q_DEFAULT),
            _ => None,
        }
    };
    contact.param("q").and_then(read).unwrap_or(Q_DEFAULT)
}

/// None where the Contact does not say both.
pub fn outbound_of(contact: &NameAddr) -> Option<Outbound> {
    let instance = contact.param("+sip.instance").filter(|it| !it.is_empty())?.to_owned();
    let reg_id = contact.param("reg-id")?.parse().ok().filter(|reg_id| *reg_id > 0)?;
    Some(Outbound { instance, reg_id })
}
