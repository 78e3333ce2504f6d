//! A carrier that wants to know who calls: its challenge is answered once, and what follows in the
//! dialog proves it, too (RFC 3261 §22, RFC 8760).
//!
//! Nothing is kept for it but the INVITE that was accepted: its Authorization says how. Where the
//! carrier challenges again within the dialog, for its nonce has grown old, what answers that is kept
//! with the leg.

use std::sync::Arc;

use tandem_sip::digest::{Authorization, Challenger, is_stale};
use tandem_sip::{Method, Request, Response};

use super::leg::{Leg, Proof};
use super::outbound;
use crate::config::Config;
use crate::draft::Draft;
use crate::ids::{CallId, LegId};
use crate::trunk::outward::Credentials;

fn of_leg<'c>(config: &'c Config, leg: &Leg) -> Option<&'c Credentials> {
    let trunk = config.trunk(&leg.channel()?.trunk)?;
    trunk.out.as_ref()?.credentials.as_ref()
}

/// The INVITE is sent again with an answer to the challenge. False where there is none: the trunk
/// has no credentials of that realm, or they were refused.
pub fn on_challenged(
    draft: &mut Draft<'_>,
    id: CallId,
    leg_id: LegId,
    response: &Response,
) -> bool {
    let Some(challenger) = Challenger::of_status(response.status) else { return false };
    let authorization = challenger.answered_in();
    let Some(leg) = draft.call(&id).and_then(|call| call.leg(leg_id)) else { return false };
    let credentials = draft.config().and_then(|config| of_leg(config, leg)).cloned();
    let Some(credentials) = credentials else { return false };
    // Once more where only the nonce was too old (RFC 7616 §3.3), and no more often than that.
    let answered = leg.invite.headers.other(authorization).is_some();
    if answered && leg.invite.headers.cseq.number > INVITES_MAX {
        return false;
    }
    let challenges = challenger.challenges(&response.headers);
    let mut challenges = challenges.filter(|challenge| !answered || is_stale(challenge));
    let uri = leg.invite.uri.to_string();
    let cnonce = draft.rng.hex();
    let answer = challenges.find_map(|challenge| {
        credentials.answer(challenge, Method::Invite.as_str(), &uri, &cnonce)
    });
    let Some(answer) = answer else { return false };
    outbound::invite_again(draft, id, leg_id, |headers| {
        headers.remove_other(authorization);
        headers.push_other(authorization, &answer);
    })
}

/// A request of ours within the dialog is challenged: the next one shall answer that. False where it
/// can't, or where this one has answered a challenge already.
pub fn on_challenged_within(
    draft: &mut Draft<'_>,
    id: CallId,
    leg_id: LegId,
    response: &Response,
) -> bool {
    let Some(challenger) = Challenger::of_status(response.status) else { return false };
    let Some(leg) = draft.call(&id).and_then(|call| call.leg(leg_id)) else { return false };
    let credentials = draft.config().and_then(|config| of_leg(config, leg)).cloned();
    let Some((credentials, dialog)) = credentials.zip(leg.dialog.as_ref()) else { return false };
    let (proxy, cseq) = (challenger == Challenger::Proxy, &response.headers.cseq);
    if leg.proofs.iter().any(|proof| proof.proxy == proxy && proof.cseq == cseq.number) {
        return false;
    }
    let (uri, next) = (dialog.remote_target.to_string(), dialog.local_cseq + 1);
    let cnonce = draft.rng.hex();
    let answer = challenger
        .challenges(&response.headers)
        .find_map(|challenge| credentials.answer(challenge, cseq.method.as_str(), &uri, &cnonce));
    let Some(value) = answer else { return false };
    let Some(leg) = draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id)) else { return false };
    leg.proofs.retain(|proof| proof.proxy != proxy);
    leg.proofs.push(Proof { proxy, value, cseq: next });
    true
}

/// INVITEs of one leg: the first, one that answers a proxy, one that answers the server, and one
/// for a nonce that was too old.
const INVITES_MAX: u32 = 4;

/// Adds to a request of the leg's dialog what its INVITE was accepted with. An ACK has just that
/// (RFC 3261 §22.1); a CANCEL is never challenged (§22.1).
pub fn sign(config: &Config, leg: &Leg, request: &mut Arc<Request>) {
    if request.method == Method::Cancel || request.headers.to_tag().is_none() {
        return;
    }
    let Some(credentials) = of_leg(config, leg) else { return };
    for challenger in Challenger::ALL {
        let name = challenger.answered_in();
        let proxy = challenger == Challenger::Proxy;
        let newer = leg.proofs.iter().find(|proof| proof.proxy == proxy);
        if let Some(Proof { value, cseq, .. }) = newer
            && request.headers.cseq.number >= *cseq
        {
            if let Some(value) = signed(credentials, value, *cseq, request) {
                Arc::make_mut(request).headers.push_other(name, &value);
            }
            continue;
        }
        let Some(accepted) = leg.invite.headers.other(name) else { continue };
        let value = if request.method == Method::Ack
            && request.headers.cseq.number == leg.invite.headers.cseq.number
        {
            Some(accepted.to_owned())
        } else {
            signed(credentials, accepted, leg.invite.headers.cseq.number, request)
        };
        if let Some(value) = value {
            Arc::make_mut(request).headers.push_other(name, &value);
        }
    }
}

/// The nonce counts as the dialog does: each request has a CSeq of its own, so no count is used
/// twice, whoever leads.
fn signed(
    credentials: &Credentials,
    accepted: &str,
    first: u32,
    request: &Request,
) -> Option<String> {
    let known = Authorization::parse(accepted).ok()?;
    let sent = request.headers.cseq.number.checked_sub(first)?;
    let uri = request.uri.to_string();
    known.again(request.method.as_str(), &uri, sent.checked_add(1)?, |algorithm| {
        credentials.ha1(algorithm)
    })
}
