//! Bugs that are put in on purpose, so that it is known that the simulator finds such bugs. Each
//! is realised in the simulator: around the core's decision, in the node's model or around the
//! gateway's code. They work only where the crate's feature `plants` is on.

use std::fmt;
use std::str::FromStr;

macro_rules! plants {
    ($($variant:ident $name:literal $what:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Plant {
            $(#[doc = $what] $variant,)*
        }

        impl Plant {
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            pub fn what(self) -> &'static str {
                match self {
                    $(Self::$variant => $what,)*
                }
            }
        }
    };
}

plants! {
    AnswerBeforeCommit "answer-before-commit"
        "the leader performs effects when it proposes, not when their entry is stored",
    SkipFencing "skip-fencing"
        "the gateway obeys whoever speaks, whatever the term",
    SendTwiceOnLeaderChange "send-twice-on-leader-change"
        "a new leader composes the undone requests anew, with branches of its own",
    ResendAfterProvisional "resend-after-provisional"
        "an INVITE stays to be sent again after a committed provisional answer",
    ForgetDeadline "forget-deadline-on-rehydration"
        "a new leader knows no deadline of before its election",
    LosePlace "lose-place-on-ring-out"
        "a caller whose offer rang out goes to the end of the queue",
    CdrTwice "cdr-twice"
        "a call's record is written again when its last leg is gone",
    FreePortTwice "free-port-twice"
        "a port that was given back stays with its leg and is given back again",
    ApplyDroppedWrites "apply-after-dropped-write-set"
        "one replica keeps what a command decided before it panicked",
    OfferToNotReady "offer-to-not-ready"
        "the queue takes an agent who is not ready for one who is",
    IgnoreLateCancel "ignore-late-cancel"
        "a 200 that crosses its CANCEL is dropped: no ACK, no BYE",
    TrustLocalClock "trust-local-clock"
        "a command's time is its proposer's wall clock, even where that goes back",
    BelieveWallClock "believe-wall-clock"
        "the log's time follows the leader's wall clock at once, wherever that is set",
    TwoServers "two-servers-of-a-vip"
        "a stopped gateway is replaced without being killed",
    IgnoreLease "ignore-lease"
        "a gateway that was stopped goes on as if it held its VIP's lease",
    LeaseFromGrant "lease-from-grant"
        "a gateway counts its lease from when it hears of it, not from when it asked",
    NoDriftMargin "no-drift-margin"
        "the leader's lease lasts no longer than the holder's, whatever the clocks' rates",
    SkipOutbox "skip-outbox-on-election"
        "a new leader does not perform what was left undone",
    AcceptBeforeCommit "accept-before-commit"
        "a gateway is told that its event counts before the event is committed",
    AcceptForAnotherLife "accept-for-another-life"
        "a gateway takes what was said of an earlier life's event for its own",
    DeadlineEarly "deadline-early"
        "the leader proposes deadlines half a second before they are due, and nobody looks",
    BreakOrder "serve-the-last-first"
        "the queue offers the caller who came last",
    ForgetDone "forget-done"
        "acknowledgements of effects are lost with a leader and never asked for again",
    StrayTooEarly "stray-noted-too-early"
        "a gateway's new life takes note of a 200 before it can tell anybody of it",
    ForgetOwed "forget-what-is-owed"
        "a gateway's new life does not repeat what its last life sent and nobody acknowledged",
    EventBeforeLogin "login-counts-when-sent"
        "a gateway takes its login for counted as soon as it is sent",
    ForgetRefused "forget-the-refused"
        "a refused INVITE that a gateway's new life brings again is taken for a new call",
    CountKeyTwice "count-a-key-twice"
        "a key that a gateway repeats to a new leader counts again",
    PromptAgain "prompt-begins-again"
        "a gateway's new life plays a prompt from its beginning, not from where it is by now",
    ForgetInterDigit "forget-inter-digit-deadline"
        "a caller who has pressed some of several digits is waited for without an end",
    ForgetKey "forget-key-on-leader-change"
        "a new leader takes a repeated request for a new one",
    KeepTransferor "keep-the-transferor"
        "who has sent a caller on stays in the call",
    OverhearConsult "overhear-the-consultation"
        "the caller hears the agent who asks a colleague",
    KeepColleague "keep-the-colleague"
        "a colleague who is no longer asked stays in the call",
    HearYourself "hear-yourself"
        "who speaks in a conference hears the own voice in it",
    ForgetHold "forget-the-hold"
        "what a carrier's switch said of when it may be asked again is not kept",
    IgnorePace "ignore-the-pace"
        "a trunk outward gets calls as fast as they come",
    ForgetJoined "forget-the-joined"
        "a colleague to whom a caller was joined is taken for one of the second call still",
    KeepRinging "keep-ringing"
        "the phone whose call another has picked up is not cancelled",
    AskOnce "ask-once"
        "a gateway brings an event to each leader once, though nothing was said to it",
    ForgetPrack "forget-the-prack"
        "a new leader waits again for a PRACK that came before its election",
    AnswerByAnnouncement "answer-by-announcement"
        "whose carrier is heard counts as answered by it",
    ForgetLamp "forget-the-lamp"
        "who watches a colleague is told when it subscribes, and of no call",
    ChangeAnswer "change-the-200"
        "a repeated 200 is composed anew, with another session version",
}

impl fmt::Display for Plant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no planted bug {0:?}; --list-plants names them")]
pub struct Unknown(pub String);

impl FromStr for Plant {
    type Err = Unknown;

    fn from_str(name: &str) -> Result<Self, Unknown> {
        Self::ALL
            .iter()
            .copied()
            .find(|plant| plant.name() == name)
            .ok_or_else(|| Unknown(name.to_owned()))
    }
}

#[test]
fn every_plant_is_found_by_its_name() {
    for plant in Plant::ALL {
        assert_eq!(plant.name().parse(), Ok(*plant));
    }
    assert!("answer-never".parse::<Plant>().is_err());
}
