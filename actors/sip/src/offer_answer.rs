//! Who has offered, and what both sides agreed on last (RFC 3264, RFC 3261 §14, RFC 3311 §5.2).
//!
//! One of these goes with each dialog. It knows no message: whether an offer came in an INVITE, an
//! UPDATE or a 200 is the caller's business, and so is the text.

use crate::sdp::Audio;

/// The upper bound of the wait after a 491, for the side that chose the Call-ID (RFC 3261 §14.1).
const GLARE_OWNER_MS: std::ops::RangeInclusive<u64> = 2_100..=4_000;
/// The same for the other side.
const GLARE_OTHER_MS: std::ops::RangeInclusive<u64> = 0..=2_000;
/// Both are drawn in units of this.
const GLARE_STEP_MS: u64 = 10;

/// ```text
///          ┌──offer of ours──▶ Offered ──answer, or refused──┐
/// Stable ──┤                                                 ├──▶ Stable
///          └──offer of theirs─▶ Asked ───answer, or refused──┘
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfferAnswer {
    pub state: State,
    /// Ours and theirs, as last agreed on.
    pub agreed: Option<Agreed>,
    /// What we last described, even where it was refused: a version is never used twice
    /// (RFC 3264 §8).
    pub described: Option<Audio>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    #[default]
    Stable,
    /// Ours waits for the peer's answer.
    Offered { local: Audio },
    /// The peer's waits for ours.
    Asked { remote: Audio },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    pub local: Audio,
    pub remote: Audio,
}

/// Why an offer or an answer is out of place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The peer's offer met ours under way: 491.
    #[error("an offer of ours is under way")]
    Glare,
    /// A second offer before the first was answered: 500 with Retry-After.
    #[error("an offer of the peer's is not answered yet")]
    Unanswered,
    #[error("there is no offer to answer")]
    NoOffer,
}

impl Error {
    /// The answer to a request of the peer's that carried it.
    pub fn status(self) -> u16 {
        match self {
            Self::Glare => 491,
            Self::Unanswered => 500,
            Self::NoOffer => 400,
        }
    }
}

impl OfferAnswer {
    /// We offer. Gives what to send: the same session, one version on where anything changed.
    ///
    /// # Errors
    /// Where an offer of either side is under way; it is tried again later.
    pub fn offer(&mut self, local: Audio) -> Result<Audio, Error> {
        match &self.state {
            State::Stable => {
                let local = self.describe(local);
                self.state = State::Offered { local: local.clone() };
                Ok(local)
            }
            State::Offered { .. } => Err(Error::Glare),
            State::Asked { .. } => Err(Error::Unanswered),
        }
    }

    /// The peer offers.
    ///
    /// # Errors
    /// [`Error::Glare`] or [`Error::Unanswered`]; what is under way goes on.
    pub fn on_offer(&mut self, remote: Audio) -> Result<(), Error> {
        match &self.state {
            State::Stable => {
                self.state = State::Asked { remote };
                Ok(())
            }
            State::Offered { .. } => Err(Error::Glare),
            State::Asked { .. } => Err(Error::Unanswered),
        }
    }

    /// We answer. Gives what to send, as [`OfferAnswer::offer`] does.
    ///
    /// # Errors
    /// [`Error::NoOffer`].
    pub fn answer(&mut self, local: Audio) -> Result<Audio, Error> {
        match std::mem::take(&mut self.state) {
            State::Asked { remote } => {
                let local = self.describe(local);
                self.agreed = Some(Agreed { local: local.clone(), remote });
                Ok(local)
            }
            other @ (State::Stable | State::Offered { .. }) => {
                self.state = other;
                Err(Error::NoOffer)
            }
        }
    }

    /// The peer answers. The same answer again, as in a 200 behind a 183, changes nothing.
    ///
    /// # Errors
    /// [`Error::NoOffer`].
    pub fn on_answer(&mut self, remote: Audio) -> Result<(), Error> {
        match std::mem::take(&mut self.state) {
            State::Offered { local } => {
                self.agreed = Some(Agreed { local, remote });
                Ok(())
            }
            State::Stable if self.agreed.as_ref().is_some_and(|last| last.remote == remote) => {
                Ok(())
            }
            other @ (State::Stable | State::Asked { .. }) => {
                self.state = other;
                Err(Error::NoOffer)
            }
        }
    }

    /// The offer under way was refused, by either side: what was agreed on before holds
    /// (RFC 3261 §14.1, RFC 3311 §5.1).
    pub fn on_refused(&mut self) {
        self.state = State::Stable;
    }

    fn describe(&mut self, mut audio: Audio) -> Audio {
        if let Some(last) = &self.described {
            audio.session_id = last.session_id;
            audio.session_version = last.session_version;
            if audio != *last {
                audio.session_version = last.session_version.saturating_add(1);
            }
        }
        self.described = Some(audio.clone());
        audio
    }
}

/// How long to wait before an offer that met a 491 is tried again (RFC 3261 §14.1). `random` is any
/// number: the draw is the caller's.
pub fn retry_after_glare_ms(chose_call_id: bool, random: u64) -> u64 {
    let range = if chose_call_id { GLARE_OWNER_MS } else { GLARE_OTHER_MS };
    let steps = (range.end() - range.start()) / GLARE_STEP_MS + 1;
    range.start() + random % steps * GLARE_STEP_MS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdp::{Codec, Direction, offer};

    fn audio(port: u16) -> Audio {
        offer([127, 0, 0, 1].into(), port, &[Codec::Pcma], 7)
    }

    #[test]
    fn offer_of_ours_is_agreed_on_when_answered() {
        let mut exchange = OfferAnswer::default();
        let sent = exchange.offer(audio(4_000)).unwrap();
        assert_eq!(sent.session_version, 1);
        exchange.on_answer(audio(5_000)).unwrap();
        assert_eq!(exchange.agreed, Some(Agreed { local: sent, remote: audio(5_000) }));
        assert_eq!(exchange.state, State::Stable);
        assert_eq!(exchange.on_answer(audio(5_000)), Ok(()), "the 200 repeats the 183's");
        assert_eq!(exchange.on_answer(audio(5_002)), Err(Error::NoOffer));
    }

    #[test]
    fn offer_of_theirs_meets_ours_with_491_and_ours_goes_on() {
        let mut exchange = OfferAnswer::default();
        exchange.offer(audio(4_000)).unwrap();
        assert_eq!(exchange.on_offer(audio(5_000)).map_err(Error::status), Err(491));
        assert_eq!(exchange.on_answer(audio(5_000)), Ok(()));
    }

    #[test]
    fn second_offer_of_theirs_before_an_answer_is_500() {
        let mut exchange = OfferAnswer::default();
        exchange.on_offer(audio(5_000)).unwrap();
        assert_eq!(exchange.on_offer(audio(5_002)).map_err(Error::status), Err(500));
        assert_eq!(exchange.offer(audio(4_000)), Err(Error::Unanswered));
        assert_eq!(exchange.answer(audio(4_000)).map(|sent| sent.port), Ok(4_000));
        assert_eq!(exchange.agreed.map(|agreed| agreed.remote.port), Some(5_000));
    }

    #[test]
    fn refused_offer_leaves_what_was_agreed_on_and_its_version_is_not_used_again() {
        let mut exchange = OfferAnswer::default();
        exchange.on_offer(audio(5_000)).unwrap();
        exchange.answer(audio(4_000)).unwrap();
        let before = exchange.agreed.clone();
        let hold = Audio { direction: Direction::SendOnly, ..audio(4_000) };
        assert_eq!(exchange.offer(hold).unwrap().session_version, 2);
        exchange.on_refused();
        assert_eq!((exchange.agreed.clone(), &exchange.state), (before, &State::Stable));
        let moved = exchange.offer(audio(4_002)).unwrap();
        assert_eq!((moved.session_id, moved.session_version), (7, 3));
    }

    #[test]
    fn unchanged_description_keeps_its_version() {
        let mut exchange = OfferAnswer::default();
        exchange.on_offer(audio(5_000)).unwrap();
        exchange.answer(audio(4_000)).unwrap();
        exchange.on_offer(audio(5_000)).unwrap();
        assert_eq!(exchange.answer(audio(4_000)).unwrap().session_version, 1);
    }

    #[test]
    fn answer_without_an_offer_is_refused() {
        assert_eq!(OfferAnswer::default().answer(audio(4_000)), Err(Error::NoOffer));
        assert_eq!(OfferAnswer::default().on_answer(audio(4_000)), Err(Error::NoOffer));
    }

    #[test]
    fn glare_wait_is_longer_for_who_chose_the_call_id() {
        for random in [0, 1, 190, 191, 200, 201, u64::MAX] {
            let (owner, other) =
                (retry_after_glare_ms(true, random), retry_after_glare_ms(false, random));
            assert!((2_100..=4_000).contains(&owner) && owner % 10 == 0, "{owner}");
            assert!((0..=2_000).contains(&other) && other % 10 == 0, "{other}");
        }
    }
}
