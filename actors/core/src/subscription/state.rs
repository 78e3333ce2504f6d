use std::net::SocketAddr;
use std::sync::Arc;

use tandem_sip::dialog::Dialog;
use tandem_sip::{Carrier, Millis};

use super::lamp::Line;
use crate::ids::{AgentId, GatewayId, SubscriptionId};

#[derive(Clone, Debug, PartialEq)]
pub struct Subscription {
    pub id: SubscriptionId,
    /// Whose phone wants to know: who has proven the password.
    pub subscriber: AgentId,
    pub package: Package,
    /// Repeated in each NOTIFY (RFC 6665 §8.2.1).
    pub event_id: Option<String>,
    /// Whose socket the dialog uses.
    pub gateway: GatewayId,
    /// Where the SUBSCRIBE came from: NOTIFYs go there.
    pub peer: SocketAddr,
    pub carrier: Carrier,
    /// Shared by all copies, until one has a request of its own.
    pub dialog: Arc<Dialog>,
    pub state: State,
}

/// ```text
/// Active ⇄ refreshed
///   │ taken back, not refreshed, a fetch: the last NOTIFY is made
///   ▼
/// Over ──a while──▶ forgotten
/// Active ──its NOTIFY was not taken, its flow broke──▶ forgotten
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Active {
        expires_at: Millis,
    },
    /// Until the last NOTIFY is given up.
    Over {
        until: Millis,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Package {
    Dialog(Watched),
    MessageSummary,
}

/// A colleague whose dialogs are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    pub agent: AgentId,
    /// Of the next document (RFC 4235 §4.3).
    pub version: u32,
    /// What the last one said.
    pub told: Vec<Line>,
}

impl Subscription {
    pub fn is_active(&self) -> bool {
        matches!(self.state, State::Active { .. })
    }

    /// Whose dialogs it tells.
    pub fn watched(&self) -> Option<&AgentId> {
        match &self.package {
            Package::Dialog(watched) => Some(&watched.agent),
            Package::MessageSummary => None,
        }
    }

    /// When it ends, or is forgotten.
    pub fn due_at(&self) -> Millis {
        match self.state {
            State::Active { expires_at } => expires_at,
            State::Over { until } => until,
        }
    }
}

impl Package {
    pub const DIALOG: &str = "dialog";
    pub const MESSAGE_SUMMARY: &str = "message-summary";
    pub const NAMES: [&str; 2] = [Self::DIALOG, Self::MESSAGE_SUMMARY];

    pub fn name(&self) -> &'static str {
        match self {
            Self::Dialog(_) => Self::DIALOG,
            Self::MessageSummary => Self::MESSAGE_SUMMARY,
        }
    }

    /// Of what it tells (RFC 4235 §3.5, RFC 3842 §3.4).
    pub fn content_type(name: &str) -> &'static str {
        if name == Self::MESSAGE_SUMMARY {
            "application/simple-message-summary"
        } else {
            "application/dialog-info+xml"
        }
    }
}
