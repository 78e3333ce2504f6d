//! The transitions of the canonical state machines, and no other. One entry may make several at
//! once (after-call work is over, so the agent is ready, so a call is offered): the pairs are what
//! one entry may come to.

use std::collections::BTreeMap;

use tandem_core::call::state::Call;
use tandem_core::channel::state::State as ChannelState;
use tandem_core::ids::{AgentId, CallId, ChannelId, EntityId, LegId};
use tandem_core::queue::state::State as EntryState;

use crate::coverage::Coverage;
use crate::violation::Checked;
use crate::watch::Step;

const NONE: &str = "none";
const GONE: &str = "gone";

/// Machine, from, to: every pair that some seed must show.
const EXPECTED: &[(&str, &str, &[&str])] = &[
    ("agent", "logged_out", &["ready", "reserved", "talking"]),
    ("agent", "not_ready", &["ready", "reserved", "logged_out", "talking"]),
    // No trunk takes the call, and it is over as it begins.
    ("agent", "ready", &["reserved", "not_ready", "logged_out", "talking", "acw"]),
    ("agent", "reserved", &["talking", "ready", "not_ready", "logged_out"]),
    ("agent", "talking", &["held", "acw", "ready", "not_ready", "logged_out", "reserved"]),
    ("agent", "held", &["talking", "acw", "ready"]),
    ("agent", "acw", &["ready", "not_ready", "logged_out", "reserved"]),
    ("entry", NONE, &["waiting", "offered"]),
    ("entry", "waiting", &["offered", GONE]),
    ("entry", "offered", &["waiting", GONE]),
    ("call", NONE, &["in_flow", "queued", "dialing", "routing"]),
    ("call", "routing", &["in_flow", "queued", "dialing", "ended", GONE]),
    ("call", "in_flow", &["queued", "dialing", "ended", GONE]),
    ("call", "queued", &["connected", "ended", GONE]),
    ("call", "dialing", &["connected", "in_flow", "ended", GONE, "queued"]),
    ("call", "connected", &["ended", "dialing", "queued", "in_flow", "consulting"]),
    ("call", "consulting", &["connected", "dialing", "conferenced", "ended"]),
    ("call", "conferenced", &["connected", "ended"]),
    ("call", "ended", &[GONE]),
    // One that moves from another call is up.
    ("leg", NONE, &["trying", "answered", "calling", "active"]),
    ("leg", "trying", &["answered", GONE]),
    ("leg", "answered", &["active", "releasing", GONE]),
    ("leg", "active", &["releasing", GONE]),
    ("leg", "calling", &["alerting", "active", "cancelling", GONE]),
    // To `calling`: the agent's next phone rings.
    ("leg", "alerting", &["active", "calling", "cancelling", GONE]),
    ("leg", "cancelling", &["releasing", GONE]),
    ("leg", "releasing", &[GONE]),
    ("channel", NONE, &["seized_in", "seized_out", "active"]),
    ("channel", "seized_in", &["active", "guard", GONE]),
    ("channel", "seized_out", &["active", "guard", GONE]),
    ("channel", "active", &["guard", GONE]),
    ("channel", "guard", &[GONE]),
];

/// Allowed, and too rare or too dependent on the house to be asked of a batch.
const RARE: &[(&str, &str, &[&str])] = &[
    // Asked for while logged out; the desk asks for ready only.
    // Or its phone calls out, and no trunk takes the call.
    ("agent", "logged_out", &["not_ready", "acw"]),
    ("agent", "held", &["not_ready", "logged_out", "reserved"]),
    ("agent", "not_ready", &["acw"]),
    // The gateway reports no 100, so nothing proceeds without alerting.
    ("leg", "calling", &["proceeding", "releasing"]),
    ("leg", "proceeding", &["alerting", "active", "calling", "cancelling", "releasing", GONE]),
    ("leg", "alerting", &["releasing"]),
    ("call", "connected", &[GONE]),
    ("call", "consulting", &[GONE]),
    ("call", "conferenced", &[GONE]),
];

fn pairs(
    list: &'static [(&'static str, &'static str, &'static [&'static str])],
) -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    list.iter().flat_map(|(machine, from, tos)| tos.iter().map(move |to| (*machine, *from, *to)))
}

/// What a batch of seeds must have seen.
pub fn allowed() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    pairs(EXPECTED)
}

#[derive(Debug, Default)]
pub struct Transitions {
    agents: BTreeMap<AgentId, &'static str>,
    calls: BTreeMap<CallId, &'static str>,
    entries: BTreeMap<CallId, &'static str>,
    legs: BTreeMap<CallId, Vec<(LegId, &'static str)>>,
    channels: BTreeMap<ChannelId, &'static str>,
}

/// Counts the pair; a sentence where no table allows it.
fn moved(
    coverage: &mut Coverage,
    machine: &'static str,
    from: &'static str,
    to: &'static str,
) -> Checked {
    if from == to {
        return Ok(());
    }
    coverage.pair(machine, from, to);
    let found = pairs(EXPECTED).chain(pairs(RARE)).any(|pair| pair == (machine, from, to));
    hold!(found, "{machine}: no table knows {from} → {to}");
    Ok(())
}

impl Transitions {
    pub fn after(&mut self, step: &Step<'_>, coverage: &mut Coverage) -> Checked {
        let world = step.world;
        for entity in &step.applied.touched {
            match entity {
                EntityId::Agent(id) => {
                    let now = world.agents.get(id).map_or(GONE, |agent| agent.state_name());
                    if let Some(from) = self.agents.insert(id.clone(), now) {
                        moved(coverage, "agent", from, now)?;
                    }
                }
                EntityId::Call(id) => self.call(*id, world.calls.get(id), step, coverage)?,
                EntityId::Channel(id) => {
                    let now = world.channels.get(id).map_or(GONE, |channel| match channel.state {
                        ChannelState::SeizedIn { .. } => "seized_in",
                        ChannelState::SeizedOut { .. } => "seized_out",
                        ChannelState::Active { .. } => "active",
                        ChannelState::Guard { .. } => "guard",
                    });
                    let from = if now == GONE {
                        self.channels.remove(id)
                    } else {
                        self.channels.insert(id.clone(), now)
                    };
                    if from.is_some() || now != GONE {
                        moved(coverage, "channel", from.unwrap_or(NONE), now)?;
                    }
                }
                EntityId::Queue(_) | EntityId::Gateway(_) => {}
            }
        }
        Ok(())
    }

    fn call(
        &mut self,
        id: CallId,
        call: Option<&Call>,
        step: &Step<'_>,
        coverage: &mut Coverage,
    ) -> Checked {
        let now = call.map_or(GONE, Call::state_name);
        let from = match call {
            Some(_) => self.calls.insert(id, now),
            None => self.calls.remove(&id),
        };
        if from.is_some() || call.is_some() {
            moved(coverage, "call", from.unwrap_or(NONE), now)?;
        }
        let entry = call.and_then(|call| call.queue.as_ref()).and_then(|queue| {
            let queue = step.world.queues.get(queue)?;
            queue.entry(id).map(|entry| match entry.state {
                EntryState::Waiting => "waiting",
                EntryState::Offered { .. } => "offered",
            })
        });
        let from = match entry {
            Some(name) => self.entries.insert(id, name),
            None => self.entries.remove(&id),
        };
        if from.is_some() || entry.is_some() {
            moved(coverage, "entry", from.unwrap_or(NONE), entry.unwrap_or(GONE))?;
        }
        let legs: Vec<(LegId, &'static str)> = call
            .map(|call| {
                let up = call.legs.iter().filter(|leg| leg.state_name() != "released");
                up.map(|leg| (leg.id, leg.state_name())).collect()
            })
            .unwrap_or_default();
        let before = if legs.is_empty() {
            self.legs.remove(&id)
        } else {
            self.legs.insert(id, legs.clone())
        };
        let before = before.unwrap_or_default();
        for (leg, from) in &before {
            let now = legs.iter().find(|(of, _)| of == leg).map_or(GONE, |(_, name)| name);
            moved(coverage, "leg", from, now)?;
        }
        for (leg, now) in &legs {
            if !before.iter().any(|(of, _)| of == leg) {
                moved(coverage, "leg", NONE, now)?;
            }
        }
        Ok(())
    }
}
