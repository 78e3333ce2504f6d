//! What the phones of an agent do, as a colleague's lamp shows it (RFC 4235).

use std::fmt::Write as _;

use tandem_sip::Uri;

use crate::agent::state::Agent;
use crate::call::leg::{Leg, Party, Role, State as LegState};
use crate::call::state::Call;
use crate::draft::Draft;
use crate::ids::{AgentId, CallId, LegId};

/// One leg of the agent's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    pub leg: LegId,
    pub state: LineState,
    /// The agent's phone has placed the call.
    pub initiator: bool,
}

/// The states of RFC 4235 §3.7.1 that a full state can hold; proceeding is told as trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineState {
    Trying,
    Early,
    Confirmed,
}

impl LineState {
    pub const ALL: [Self; 3] = [Self::Trying, Self::Early, Self::Confirmed];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trying => "trying",
            Self::Early => "early",
            Self::Confirmed => "confirmed",
        }
    }
}

impl std::str::FromStr for LineState {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|state| state.as_str() == name).ok_or(())
    }
}

/// All legs of the agent, the first call's before the second's.
pub fn lines(draft: &Draft<'_>, id: &AgentId) -> Vec<Line> {
    legs(draft, id).filter_map(|(call, leg)| line(call, leg)).collect()
}

fn legs<'d>(draft: &'d Draft<'_>, id: &'d AgentId) -> impl Iterator<Item = (&'d Call, &'d Leg)> {
    let of = |agent: &Agent| [agent.call(), agent.second()];
    let calls: [Option<CallId>; 2] = draft.agent(id).map(of).unwrap_or_default();
    let calls = calls.into_iter().flatten().filter_map(|call| draft.call(&call));
    calls.flat_map(move |call| {
        call.legs.iter().filter(move |leg| is_of(call, leg, id)).map(move |leg| (call, leg))
    })
}

/// Whether it is a phone of the agent's.
pub fn is_of(call: &Call, leg: &Leg, id: &AgentId) -> bool {
    match &leg.role {
        Role::Caller => call.calling_agent.as_ref() == Some(id),
        Role::Originator { agent, .. }
        | Role::Agent { agent, .. }
        | Role::Callee { agent, .. }
        | Role::Transferee { who: Party::Colleague(agent), .. } => agent == id,
        Role::Trunk { .. } | Role::Transferee { who: Party::Outside { .. }, .. } => false,
    }
}

/// None where it is over, as far as anybody hears.
pub fn line(call: &Call, leg: &Leg) -> Option<Line> {
    if !call.is_live() {
        return None;
    }
    let rings = || call.legs.iter().any(|other| other.state == LegState::Alerting);
    let state = match leg.state {
        LegState::Trying if rings() => LineState::Early,
        LegState::Trying | LegState::Calling | LegState::Proceeding => LineState::Trying,
        LegState::Alerting => LineState::Early,
        LegState::Answered | LegState::Active => LineState::Confirmed,
        LegState::Cancelling { .. } | LegState::Releasing | LegState::Released => return None,
    };
    Some(Line { leg: leg.id, state, initiator: leg.transaction.is_some() })
}

/// The whole state as a document. Who is at the other end is nobody's business.
pub fn document(draft: &Draft<'_>, id: &AgentId, of: &Uri, version: u32, lines: &[Line]) -> String {
    let entity = Uri::sip(Some(&id.0), &of.host, of.port);
    let mut text = format!(
        "<?xml version=\"1.0\"?>\r\n\
         <dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\" version=\"{version}\" \
         state=\"full\" entity=\"{}\">\r\n",
        escaped(&entity.to_string())
    );
    for line in lines {
        let direction = if line.initiator { "initiator" } else { "recipient" };
        let name = legs(draft, id).find(|(_, leg)| leg.id == line.leg);
        let name = name.and_then(|(_, leg)| pick_up(leg)).unwrap_or_default();
        // Writing to a String can't fail.
        let _ = write!(
            text,
            "<dialog id=\"{}\"{name} direction=\"{direction}\"><state>{}</state></dialog>\r\n",
            line.leg,
            line.state.as_str()
        );
    }
    if lines.is_empty() {
        // Not every phone takes a state without dialogs for the end of the last one.
        let _ = write!(
            text,
            "<dialog id=\"{}\"><state>terminated</state></dialog>\r\n",
            escaped(&id.0)
        );
    }
    text.push_str("</dialog-info>\r\n");
    text
}

/// What rings may be picked up (RFC 3891): its dialog is named as an INVITE with Replaces to us
/// names it. What is talked over is not offered.
fn pick_up(leg: &Leg) -> Option<String> {
    if leg.state != LegState::Alerting {
        return None;
    }
    let (call_id, ours, theirs) =
        (&leg.invite.headers.call_id, &leg.local_tag, leg.rang.last()?.as_str());
    Some(format!(
        " call-id=\"{}\" local-tag=\"{}\" remote-tag=\"{}\"",
        escaped(call_id),
        escaped(ours),
        escaped(theirs)
    ))
}

/// Within an attribute of XML.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            // XML has no place for them.
            c if c.is_control() => {}
            c => safe.push(c),
        }
    }
    safe
}
