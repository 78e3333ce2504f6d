//! Who hears a carrier before it answers hears the party of the newest description and nobody else,
//! goes on hearing it for as long as it rings, and is not answered by that.

use std::collections::BTreeMap;

use tandem_core::Reply;
use tandem_core::call::leg::{Leg, State as LegState};
use tandem_core::call::state::{Call, State};
use tandem_core::command::{Command, GatewayEvent};
use tandem_core::effect::{Body, MediaPlan, Source};
use tandem_core::ids::{CallId, EntityId, LegId};
use tandem_core::rows::CDRS;
use tandem_sip::reliable;

use crate::coverage::Coverage;
use crate::violation::Checked;
use crate::watch::Step;

#[derive(Debug, Default)]
pub struct EarlyMedia {
    heard: BTreeMap<CallId, Heard>,
}

#[derive(Debug)]
struct Heard {
    /// The leg that rings, under the branch of its INVITE.
    leg: LegId,
    branch: String,
    /// What its peers have described, by their tags, the newest last.
    described: Vec<(String, u16)>,
    /// The caller hears it.
    is_heard: bool,
    /// It waits for the answer to its INVITE.
    waits: bool,
}

impl EarlyMedia {
    pub fn after(&mut self, step: &Step<'_>, coverage: &mut Coverage) -> Checked {
        for row in step.applied.rows.iter().filter(|row| row.family == CDRS) {
            let Some(cdr) = crate::inv_records::decoded(row) else { continue };
            let answered =
                cdr.answered_at.or(cdr.connected_at).is_some() || cdr.recording.is_some();
            let waits = self.heard.get(&cdr.call).is_some_and(|heard| heard.waits);
            hold!(!(waits && answered), "the record of {} has an answer that never was", cdr.call);
        }
        self.described(step);
        for effect in &step.applied.effects {
            if let Body::Media(plan) = &effect.body
                && let Some(call) = step.world.calls.get(&plan.call)
            {
                self.planned(call, plan, coverage)?;
            }
        }
        for entity in &step.applied.touched {
            let EntityId::Call(id) = entity else { continue };
            match step.world.calls.get(id) {
                Some(call) => self.call(call)?,
                None => drop(self.heard.remove(id)),
            }
        }
        Ok(())
    }

    /// A provisional response with SDP, to an INVITE that rings.
    fn described(&mut self, step: &Step<'_>) {
        let Command::Gateway(GatewayEvent::Response { branch, response, answer: Some(answer) }) =
            &step.envelope.command
        else {
            return;
        };
        if !response.is_provisional() || step.applied.reply != Reply::Done {
            return;
        }
        let ringing = step.world.calls.values().find_map(|call| {
            let State::Dialing { agent: None, leg } = call.state else { return None };
            Some((call, call.leg(leg).filter(|leg| leg.invite_branch() == branch)?))
        });
        let Some((call, leg)) = ringing else { return };
        let heard = self.heard.entry(call.id).or_insert_with(|| Heard::of(leg));
        if heard.branch != *branch {
            *heard = Heard::of(leg);
        }
        heard.waits = call.caller().is_some_and(|leg| leg.state == LegState::Trying);
        let tag = response.headers.to_tag().unwrap_or_default();
        // What is repeated for want of its PRACK is as if it had not come (RFC 3262 §4).
        let again = reliable::rseq(response).is_some();
        let known = |(at, (known, _)): (usize, &(String, u16))| {
            known == tag && (again || at + 1 == heard.described.len())
        };
        if !heard.described.iter().enumerate().any(known) {
            heard.described.push((tag.to_owned(), answer.port));
        }
    }

    fn planned(&mut self, call: &Call, plan: &MediaPlan, coverage: &mut Coverage) -> Checked {
        let State::Dialing { agent: None, leg: dialed } = call.state else { return Ok(()) };
        let Some(caller) = call.caller() else { return Ok(()) };
        let heard = self.heard.get_mut(&call.id).filter(|heard| heard.leg == dialed);
        let Some(hears) = plan.legs.iter().find(|leg| leg.leg == caller.id) else { return Ok(()) };
        match &hears.source {
            Source::Leg(other) => {
                hold!(*other == dialed, "the caller of {} hears whom it has not called", call.id);
                let port = plan.legs.iter().find(|leg| leg.leg == dialed);
                let port = port.and_then(|leg| leg.remote).map(|remote| remote.port());
                let newest = heard.as_ref().and_then(|heard| Some(heard.described.last()?.1));
                hold!(
                    port.is_some() && port == newest,
                    "the caller of {} hears {port:?}, and {newest:?} was described last",
                    call.id
                );
                if let Some(heard) = heard {
                    heard.is_heard = true;
                    coverage.mark("a carrier is heard before it answers");
                    if heard.described.len() > 1 {
                        coverage.mark("another branch of a carrier is heard");
                    }
                    if caller.is_up() {
                        coverage.mark("who is called from our side hears a carrier");
                    }
                }
            }
            Source::Music(_) => {}
            Source::Ringback(_) => {
                let silenced = heard.is_some_and(|heard| heard.is_heard);
                hold!(!silenced, "the caller of {} hears its carrier no more", call.id);
            }
            Source::Silence | Source::Echo | Source::Mix(_) | Source::Prompt(_) => {
                hold!(false, "the caller of {} hears nobody", call.id);
            }
        }
        let dialed_hears = plan.legs.iter().find(|leg| leg.leg == dialed).map(|leg| &leg.source);
        if let Some(Source::Leg(other)) = dialed_hears {
            hold!(*other == caller.id, "who is called by {} hears somebody else", call.id);
        }
        Ok(())
    }

    /// Whoever only hears is not answered.
    fn call(&mut self, call: &Call) -> Checked {
        let dialing = matches!(call.state, State::Dialing { agent: None, .. });
        if !dialing {
            self.heard.remove(&call.id);
            return Ok(());
        }
        let waits = call.caller().is_some_and(|leg| leg.state == LegState::Trying);
        // Its answer may have waited for a PRACK while it was sent on already (seed 4604).
        if let Some(heard) = self.heard.get_mut(&call.id) {
            heard.waits = waits;
        }
        let answered = call.answered_at.is_some() || call.recording.is_some();
        hold!(!(waits && answered), "call {} is answered before anybody answers", call.id);
        Ok(())
    }
}

impl Heard {
    fn of(leg: &Leg) -> Self {
        let branch = leg.invite_branch().to_owned();
        Self { leg: leg.id, branch, described: Vec::new(), is_heard: false, waits: false }
    }
}
