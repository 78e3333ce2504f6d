//! SRTP of a leg (RFC 3711) with the keys that SDP carries (RFC 4568).
//!
//! Our key of a leg follows from a secret of the tenant and the leg's name: every replica knows it,
//! nobody else can, and whoever answers again answers the same.

use tandem_sip::Carrier;
use tandem_sip::sdp::Audio;
use tandem_sip::srtp::{Crypto, Key, Suite};

use crate::config::OfferSrtp;
use crate::draft::Draft;
use crate::effect::Rollover;
use crate::ids::LegId;

/// RFC 4568 §6.2: what everybody has.
const SUITE: Suite = Suite::AesCm128HmacSha1_80;
/// Of the one key that we offer.
const TAG: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    /// Of the line of `a=crypto` that was agreed on.
    pub tag: u32,
    pub suite: Suite,
    /// Protects what we send.
    pub ours: Key,
    /// Protects what the peer sends; none until it has answered.
    pub theirs: Option<Key>,
    /// In the clear the two would not talk.
    pub required: bool,
    /// What a gateway has told of both.
    pub rollover: Rollover,
}

impl Protection {
    /// Of those directions whose key stays when the peer sends this one.
    fn kept(&self, crypto: &Crypto) -> Rollover {
        let Rollover { sent, received } = self.rollover;
        let same_suite = self.suite == crypto.suite;
        let same_key = same_suite && self.theirs.as_ref() == Some(&crypto.key);
        Rollover {
            sent: if same_suite { sent } else { 0 },
            received: if same_key { received } else { 0 },
        }
    }

    /// Never back: what is told late is of no use.
    pub fn on_rollover(&mut self, told: Rollover) {
        let Rollover { sent, received } = &mut self.rollover;
        *sent = told.sent.max(*sent);
        *received = told.received.max(*received);
    }

    /// Our `a=crypto`.
    pub fn line(&self) -> Crypto {
        Crypto { tag: self.tag, suite: self.suite, key: self.ours.clone() }
    }
}

/// The offer wants what we can't give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unprotected;

/// What an offer of the peer's makes of the leg. What began protected stays so: a leg is not taken
/// into the clear by whoever can write an SDP.
pub fn of_offer(
    draft: &Draft<'_>,
    leg: LegId,
    offer: &Audio,
    before: Option<&Protection>,
) -> Result<Option<Protection>, Unprotected> {
    let Some((crypto, secret)) = offer.crypto.first().zip(secret(draft)) else {
        return if offer.secure || before.is_some() { Err(Unprotected) } else { Ok(None) };
    };
    Ok(Some(Protection {
        tag: crypto.tag,
        suite: crypto.suite,
        ours: key(secret, crypto.suite, leg),
        theirs: Some(crypto.key.clone()),
        required: offer.secure,
        rollover: before.map_or_else(Rollover::default, |before| before.kept(crypto)),
    }))
}

/// What we offer a peer. A key goes only over what nobody else reads (RFC 4568 §8.1).
pub fn offered(draft: &Draft<'_>, leg: LegId, carrier: Carrier) -> Option<Protection> {
    let required = match draft.config()?.srtp.offer {
        OfferSrtp::Never => return None,
        OfferSrtp::Welcome => false,
        OfferSrtp::Required => true,
    };
    let secret = secret(draft).filter(|_| carrier.is_secure())?;
    let ours = key(secret, SUITE, leg);
    let rollover = Rollover::default();
    Some(Protection { tag: TAG, suite: SUITE, ours, theirs: None, required, rollover })
}

/// What the peer's answer makes of what we have offered.
pub fn of_answer(
    offered: Option<Protection>,
    answer: &Audio,
) -> Result<Option<Protection>, Unprotected> {
    let Some(offered) = offered else {
        return if answer.secure { Err(Unprotected) } else { Ok(None) };
    };
    let same = |crypto: &&Crypto| crypto.tag == offered.tag && crypto.suite == offered.suite;
    match answer.crypto.iter().find(same) {
        Some(crypto) if answer.secure == offered.required => {
            Ok(Some(Protection { theirs: Some(crypto.key.clone()), ..offered }))
        }
        // A key was welcome, and the peer has none.
        None if !offered.required && !answer.secure && offered.theirs.is_none() => Ok(None),
        Some(_) | None => Err(Unprotected),
    }
}

fn secret<'d>(draft: &'d Draft<'_>) -> Option<&'d [u8]> {
    let secret = draft.config()?.srtp.secret.bytes();
    (!secret.is_empty()).then_some(secret)
}

fn key(secret: &[u8], suite: Suite, leg: LegId) -> Key {
    Key::derive(secret, suite, &leg.0.to_be_bytes())
}
