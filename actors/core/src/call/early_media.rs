//! What a carrier lets be heard before anybody answers: an announcement, its own ringing tone, a
//! machine that asks for keys.
//!
//! ```text
//! a 18x with SDP ──▶ the caller hears that party: 183 with our answer, or at once where it is up
//!   │ another one (a fork, RFC 3261 §13.2.2.4) ──▶ the caller hears the newer, and is told nothing
//!   ▼ 200 ──▶ what the 200 says counts: the SDP of an unreliable 18x was a preview (RFC 6337 §3.1.1)
//! ```
//! The call is not answered by it: it goes on being dialled, and nothing of it is recorded.

use tandem_sip::Response;
use tandem_sip::sdp::{Audio, Direction};

use super::codecs::{self, Other};
use super::early;
use super::leg::{Leg, Media, State as LegState};
use super::outbound::take_answer;
use super::reliable;
use super::state::{Call, State};
use crate::draft::Draft;
use crate::ids::{CallId, LegId};

/// The early dialog of a leg that its caller hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EarlyMedia {
    /// The peer's tag in it.
    pub tag: String,
    /// The leg's media as that dialog has it; the leg's own stays as it was offered.
    pub media: Media,
}

/// Takes the description that a provisional response has. True where the caller hears another party
/// by it; false too where it can't be used: then the call rings on.
pub fn on_described(
    draft: &mut Draft<'_>,
    id: CallId,
    leg_id: LegId,
    response: &Response,
    answer: Option<&Audio>,
) -> bool {
    let Some(answer) = answer else { return false };
    let Some(call) = draft.call(&id) else { return false };
    let Some(leg) = call.leg(leg_id).filter(|leg| leg.channel().is_some()) else { return false };
    let dialing = call.state == State::Dialing { agent: None, leg: leg_id };
    if !dialing || !call.caller().is_some_and(can_hear) {
        return false;
    }
    let tag = response.headers.to_tag().unwrap_or_default().to_owned();
    // The first description of a dialog is its answer (RFC 3261 §13.2.1).
    if leg.early_media.as_ref().is_some_and(|known| known.tag == tag) {
        return false;
    }
    let media = match early::of_tag(leg, &tag).and_then(|early| early.media.clone()) {
        Some(agreed) => Some(agreed),
        None => {
            let mut media = leg.media.clone();
            take_answer(&mut media, answer, &Other::of(call, leg_id)).then_some(media)
        }
    };
    let speaks = match answer.direction {
        Direction::SendRecv | Direction::SendOnly => true,
        Direction::RecvOnly | Direction::Inactive => false,
    };
    let Some(media) = media.filter(|media| speaks && media.remote.is_some()) else { return false };
    if !codecs::preview(draft, id, &media) {
        return false;
    }
    if let Some(leg) = draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id)) {
        leg.early_media = Some(Box::new(EarlyMedia { tag, media }));
    }
    true
}

/// Knows the caller where to listen before the answer, or can it be told? Who has made no offer
/// could only be given one of ours, which has to be reliable (RFC 3262 §5).
fn can_hear(caller: &Leg) -> bool {
    let told = caller.reliable.is_some() || reliable::is_told(&caller.invite);
    let offered = caller.invite.headers.content_type.is_some();
    caller.is_up() || (caller.state == LegState::Trying && (told || offered))
}

/// The caller and the party that it hears before the answer.
pub fn pair(call: &Call, dialed: LegId) -> Option<(&Leg, &Leg)> {
    let dialed = call.leg(dialed).filter(|leg| leg.early_media.is_some())?;
    Some((call.caller()?, dialed))
}
