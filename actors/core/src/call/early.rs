//! The called phone's side of RFC 3262: what it says reliably before it answers is acknowledged,
//! in order, and its early description is kept for the answer.

use tandem_sip::dialog::Dialog;
use tandem_sip::sdp::Audio;
use tandem_sip::{Method, Response, reliable};

use super::codecs::Other;
use super::leg::{Leg, Media};
use super::outbound::take_answer;
use crate::draft::Draft;
use crate::ids::{CallId, LegId};
use crate::limits;

/// A dialog that a reliable 1xx has made; each branch of a fork makes one (RFC 3261 §12.1).
#[derive(Clone, Debug, PartialEq)]
pub struct Early {
    pub dialog: Dialog,
    /// Of the last response that was taken (§4).
    pub rseq: u32,
    /// The Via branch of its PRACK, until that is answered.
    pub prack_branch: Option<String>,
    /// The leg's media as its answer wants it: a later one says nothing (RFC 3261 §13.2.1).
    pub media: Option<Media>,
}

/// What a provisional response is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    Yes,
    /// It came before, or before its turn: it is as if it had not come (§4).
    No,
}

/// Acknowledges a response that wants it.
pub fn on_provisional(
    draft: &mut Draft<'_>,
    id: CallId,
    leg_id: LegId,
    response: &Response,
    answer: Option<&Audio>,
) -> Taken {
    let Some(rseq) = reliable::rseq(response) else { return Taken::Yes };
    let Some(call) = draft.call(&id) else { return Taken::No };
    let Some(leg) = call.leg(leg_id) else { return Taken::No };
    let other = Other::of(call, leg_id);
    let tag = response.headers.to_tag().unwrap_or_default();
    let mut early = match of_tag(leg, tag) {
        Some(early) if early.rseq.checked_add(1) == Some(rseq) => early.clone(),
        Some(_) => return Taken::No,
        None if leg.early.len() >= limits::EARLY_DIALOGS_MAX => return Taken::No,
        None => match Dialog::as_uac(&leg.invite, response) {
            Ok(dialog) => Early { dialog, rseq, prack_branch: None, media: None },
            // Nobody can be told that it came: it is a plain one.
            Err(_) => return Taken::Yes,
        },
    };
    if let (None, Some(answer)) = (&early.media, answer) {
        let mut media = leg.media.clone();
        early.media = take_answer(&mut media, answer, &other).then_some(media);
    }
    let leg = leg.clone();
    let via = draft.via(&leg.gateway, leg.carrier);
    let mut prack = early.dialog.request(Method::Prack, via, None);
    let rack = format!("{rseq} {} INVITE", leg.invite.headers.cseq.number);
    prack.headers.push_other("RAck", &rack);
    early.rseq = rseq;
    early.prack_branch = Some(prack.headers.branch().to_owned());
    if let Some(leg) = draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id)) {
        leg.early.retain(|known| known.dialog.remote_tag != early.dialog.remote_tag);
        leg.early.push(early);
    }
    draft.send(id, &leg, prack);
    Taken::Yes
}

/// A phone rings: under the tag that it gives, another may pick the call up.
pub fn on_rang(draft: &mut Draft<'_>, id: CallId, leg_id: LegId, response: &Response) {
    // RFC 3261 §12.1: 100 makes no dialog.
    let Some(tag) = response.headers.to_tag().filter(|_| response.status > 100) else { return };
    let news = draft.call(&id).and_then(|call| call.leg(leg_id)).is_some_and(|leg| {
        leg.agent().is_some()
            && leg.rang.len() < limits::EARLY_DIALOGS_MAX
            && !leg.rang.iter().any(|known| known == tag)
    });
    if let Some(leg) = draft.call_mut(&id).filter(|_| news).and_then(|call| call.leg_mut(leg_id)) {
        leg.rang.push(tag.to_owned());
    }
}

pub fn of_tag<'l>(leg: &'l Leg, tag: &str) -> Option<&'l Early> {
    leg.early.iter().find(|early| early.dialog.remote_tag == tag)
}

pub fn is_prack(leg: &Leg, branch: &str) -> bool {
    leg.early.iter().any(|early| early.prack_branch.as_deref() == Some(branch))
}

/// The PRACK was answered, or never will be: the phone that lacks it says so by repeating itself.
pub fn on_prack_over(draft: &mut Draft<'_>, id: CallId, leg_id: LegId, branch: &str) {
    let Some(leg) = draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id)) else { return };
    for early in &mut leg.early {
        if early.prack_branch.as_deref() == Some(branch) {
            early.prack_branch = None;
        }
    }
}
