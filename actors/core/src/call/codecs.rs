//! Which codec a leg gets, so that nothing is transcoded that need not be.
//!
//! The order of who calls counts. A caller who was told nothing yet speaks what the called phone
//! has chosen of the caller's own offer; who waits in a queue has been told, and it is the agent's
//! phone that is asked for the caller's codec first.

use std::borrow::Cow;

use tandem_sip::sdp::{self, Agreed, Audio, Codec, Payload, negotiate, negotiate_beside};

use super::inbound::{self, Destination, Refusal};
use super::leg::{Leg, Media};
use super::reliable;
use super::state::Call;
use crate::cdr::Disposition;
use crate::command::Inbound;
use crate::draft::Draft;
use crate::ids::{CallId, LegId};

/// What can be spoken here, too: music, prompts, recordings, and legs without a common codec.
const ENDED: [Codec; 4] = [Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus];
/// What we offer to whoever is called. Opus is among it where the other leg has it: there it is
/// passed on, and else it would cost more than it is worth beside an 8 kHz leg.
const OFFERED: [Codec; 3] = [Codec::Pcmu, Codec::Pcma, Codec::G722];

/// Passed on as it came, or not at all.
pub fn is_only_passed(codec: Codec) -> bool {
    !ENDED.contains(&codec)
}

/// The leg that another one talks with, or shall.
pub struct Other {
    /// By the policy of the leg in question, not of the other.
    allowed: Vec<Codec>,
    codec: Option<Codec>,
    /// What its peer has said that it takes, as far as that still counts.
    payloads: Vec<Payload>,
}

impl Other {
    pub fn of(call: &Call, leg: LegId) -> Self {
        let allowed = call.leg(leg).map(|leg| leg.media.allowed.as_slice());
        Self::from(call.leg_beside(leg).map(|leg| &leg.media)).within(allowed.unwrap_or_default())
    }

    /// For a leg that may speak only these.
    pub fn within(self, allowed: &[Codec]) -> Self {
        Self { allowed: allowed.to_vec(), ..self }
    }

    pub fn of_caller(call: &Call) -> Self {
        Self::from(call.caller().map(|leg| &leg.media))
    }

    fn from(media: Option<&Media>) -> Self {
        let own = |media: &Media| {
            let Media { payload, codec, fmtp, .. } = media;
            vec![Payload { number: *payload, codec: *codec, fmtp: fmtp.clone() }]
        };
        let of = |media: &Media| match &media.open {
            Some(offer) => offer.payloads.clone(),
            None => own(media),
        };
        Self {
            allowed: Vec::new(),
            codec: media.map(|media| media.codec),
            payloads: media.map(of).unwrap_or_default(),
        }
    }

    /// What can be agreed on with the leg that talks with it.
    fn taken(&self) -> Vec<Codec> {
        let passed = self.payloads.iter().map(|payload| payload.codec);
        let passed = passed.filter(|codec| is_only_passed(*codec));
        if self.codec.is_some_and(is_only_passed) {
            return passed.collect();
        }
        ENDED.into_iter().chain(passed).collect()
    }

    /// # Errors
    /// [`sdp::Error::NoCommonCodec`].
    pub fn agree(&self, audio: &Audio) -> Result<Agreed, sdp::Error> {
        negotiate_beside(&within(audio, &self.allowed), &self.taken(), self.codec)
    }

    /// What we offer to a leg that shall talk with it, under numbers of ours.
    pub fn offer(&self) -> Vec<Payload> {
        let mut offered: Vec<Payload> = Vec::new();
        let ours = OFFERED.into_iter().filter(|_| !self.codec.is_some_and(is_only_passed));
        let ours = ours.map(|codec| Payload::new(codec.static_payload(), codec));
        for Payload { codec, fmtp, .. } in self.payloads.iter().cloned().chain(ours) {
            if offered.iter().all(|known| known.codec != codec) {
                offered.push(Payload { number: codec.static_payload(), codec, fmtp });
            }
        }
        keep(&mut offered, &self.allowed);
        offered
    }

    /// What its peer says of a codec, for the leg on our other side to hear.
    fn said(&self, codec: Codec) -> Option<String> {
        self.payloads.iter().find(|payload| payload.codec == codec)?.fmtp.clone()
    }
}

impl Media {
    pub fn agree(&mut self, agreed: &Agreed, other: &Other) {
        self.codec = agreed.codec;
        self.payload = agreed.payload;
        self.fmtp.clone_from(&agreed.fmtp);
        self.said = other.said(agreed.codec);
        self.telephone_event = agreed.telephone_event;
        self.events_wide = agreed.events_wide;
    }

    /// Its open offer is answered with the codec of the leg that it talks with, where there is one
    /// for both.
    fn follow(&mut self, with: &Self) -> bool {
        let other = Other::from(Some(with)).within(&self.allowed);
        let agreed = self.open.as_deref().and_then(|open| other.agree(open).ok());
        agreed.inspect(|agreed| self.agree(agreed, &other)).is_some()
    }
}

/// What is agreed on with a caller before anybody is called. A codec that we can't speak will do
/// where nothing is to be said but by whom the call is for.
///
/// # Errors
/// 488.
pub fn of_caller(
    offer: &Audio,
    destination: &Destination,
    allowed: &[Codec],
) -> Result<Agreed, Refusal> {
    let agreed = match is_direct(destination) {
        true => of_open(offer, allowed),
        false => negotiate(&within(offer, allowed), &ENDED),
    };
    agreed.map_err(|_| Refusal(488, Disposition::Rejected))
}

/// Of an offer whose answer waits for another party's.
fn of_open(offer: &Audio, allowed: &[Codec]) -> Result<Agreed, sdp::Error> {
    let offer = within(offer, allowed);
    negotiate(&offer, &ENDED).or_else(|_| negotiate(&offer, &[Codec::G729]))
}

/// What is agreed on with a phone that takes the place of another one beside `other`.
///
/// # Errors
/// 488.
pub fn of_successor(offer: Option<&Audio>, other: &Other) -> Result<Agreed, Refusal> {
    let agreed = match offer {
        Some(offer) => other.agree(offer).ok(),
        // What it will answer to our offer is not known yet.
        None => Some(inbound::unsaid()).filter(|_| !other.codec.is_some_and(is_only_passed)),
    };
    agreed.ok_or(Refusal(488, Disposition::Rejected))
}

/// What is agreed on with a caller who offers nothing, until the ACK says otherwise.
///
/// # Errors
/// 488: what is allowed can't be spoken here.
pub fn of_silent_caller(allowed: &[Codec]) -> Result<Agreed, Refusal> {
    let mut ours: Vec<Payload> =
        OFFERED.iter().map(|codec| Payload::new(codec.static_payload(), *codec)).collect();
    keep(&mut ours, allowed);
    let first = ours.first().ok_or(Refusal(488, Disposition::Rejected))?;
    Ok(Agreed { codec: first.codec, payload: first.number, ..inbound::unsaid() })
}

/// The description as if its peer knew no more than is allowed, and liked that best which is said
/// first.
fn within<'a>(audio: &'a Audio, allowed: &[Codec]) -> Cow<'a, Audio> {
    if allowed.is_empty() {
        return Cow::Borrowed(audio);
    }
    let mut kept = audio.clone();
    keep(&mut kept.payloads, allowed);
    Cow::Owned(kept)
}

fn keep(payloads: &mut Vec<Payload>, allowed: &[Codec]) {
    let place = |payload: &Payload| allowed.iter().position(|codec| *codec == payload.codec);
    if !allowed.is_empty() {
        payloads.retain(|payload| place(payload).is_some());
        payloads.sort_by_key(place);
    }
}

/// Can two legs talk that were not asked for each other's codec?
pub fn can_talk(one: &Media, other: &Media) -> bool {
    one.codec == other.codec || ![one, other].iter().any(|media| is_only_passed(media.codec))
}

/// The offer, where its answer can wait for that of whom the call is for.
pub fn open(invite: &Inbound, destination: &Destination) -> Option<Box<Audio>> {
    // A 180 that is said reliably has our answer (RFC 3262 §5).
    let waits = is_direct(destination) && !reliable::is_told(&invite.request);
    invite.offer.clone().filter(|_| waits).map(Box::new)
}

/// The caller, who was told nothing yet, speaks what was agreed on with whom it called. Who was told
/// of early media has our answer: the 200 says the same again (RFC 3261 §13.2.1).
pub fn settle(draft: &mut Draft<'_>, id: CallId, with: LegId) {
    let Some(call) = draft.call(&id) else { return };
    let with = call.leg(with).map(|leg| leg.media.clone());
    let caller = call.caller().map(|leg| leg.id);
    let leg = caller.and_then(|caller| draft.call_mut(&id)?.leg_mut(caller));
    if let Some((leg, with)) = leg.zip(with)
        && leg.media.open.is_some()
        && (leg.previewed || leg.media.follow(&with))
    {
        leg.media.open = None;
    }
}

/// The caller shall hear a party before that answers, and speaks what was agreed on with it. False
/// where it can't; where it is told already, nothing changes.
pub fn preview(draft: &mut Draft<'_>, id: CallId, with: &Media) -> bool {
    let caller = draft.call(&id).and_then(Call::caller);
    let Some(caller) = caller.filter(|leg| leg.media.open.is_some() && !leg.previewed) else {
        return caller.is_some_and(|leg| can_talk(&leg.media, with));
    };
    let caller = caller.id;
    let leg = draft.call_mut(&id).and_then(|call| call.leg_mut(caller));
    leg.is_some_and(|leg| leg.media.follow(with))
}

/// What the caller was told of early media was a preview: where the party that answers can't talk
/// so, its offer is as open as before, and the next answer to it another one.
pub fn reopen(draft: &mut Draft<'_>, id: CallId) -> bool {
    let caller = draft.call(&id).and_then(Call::caller);
    let Some(caller) = caller.filter(|leg| leg.previewed).map(|leg| leg.id) else { return false };
    let leg = draft.call_mut(&id).and_then(|call| call.leg_mut(caller));
    let Some(leg) = leg else { return false };
    let agreed = leg.media.open.as_deref().and_then(|open| of_open(open, &leg.media.allowed).ok());
    let Some(agreed) = agreed else { return false };
    leg.media.agree(&agreed, &Other::from(None));
    leg.media.session_version += 1;
    leg.previewed = false;
    true
}

/// Can a call that talks already be sent there? Not where we had to speak what we can't.
///
/// # Errors
/// 488.
pub fn suits(draft: &Draft<'_>, id: CallId, destination: &Destination) -> Result<(), Refusal> {
    let caller = draft.call(&id).and_then(Call::caller);
    let only_passed = caller.is_some_and(|leg: &Leg| is_only_passed(leg.media.codec));
    if only_passed && !is_direct(destination) {
        return Err(Refusal(488, Disposition::Rejected));
    }
    Ok(())
}

fn is_direct(destination: &Destination) -> bool {
    match destination {
        Destination::Extension(_) | Destination::Outside(_) => true,
        Destination::Queue(_) | Destination::Echo | Destination::Flow(_) => false,
    }
}
