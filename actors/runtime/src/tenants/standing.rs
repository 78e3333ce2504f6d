//! How a tenant stands in one group. Pure: each replica of the group steps alike.
//!
//! ```text
//!            Import … Import (last)          Open
//! (not here) ───────▶ Arriving ───────▶ whole ───▶ Here ──Freeze──▶ Frozen ──Drop──▶ Gone
//!     └──────────────────── Open(0) ───────────────▲ ▲────Thaw──────┘                 │
//!                 ◀──────────────────────── Import (later epoch) ─────────────────────┘
//! ```
//! Who sends begins an attempt of its own, and one of before is forgotten. But what is whole is so for good:
//! its last part was made of a tenant that was frozen already, and the tenant may be said to be here by now.
//!
//! Where a tenant is, the meta shard says, with an epoch that grows by one with each move, and with each
//! that is given up. Positions and terms of an epoch are all greater than those of the one before, so
//! that they grow through all moves, though logs of groups count each for itself.

use prost::Message as _;

use super::entry::Step;

/// Bits of a log index or term below the epoch: enough for 3 years of 10,000 entries a second.
const EPOCH_SHIFT: u32 = 40;
/// A tenant moves no more often.
pub const EPOCH_MAX: u64 = 1 << 16;

/// A log index or term of a group in an epoch, as the world and the gateways know it.
pub fn in_epoch(epoch: u64, number: u64) -> u64 {
    epoch << EPOCH_SHIFT | number
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub epoch: u64,
    pub phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Here,
    /// It takes no commands: its rows are read.
    Frozen,
    /// So many parts of an attempt are here.
    Arriving {
        attempt: u64,
        parts: u32,
        whole: bool,
    },
    Gone,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{step} of epoch {epoch} does not fit a tenant that is {now}")]
pub struct Misfit {
    step: &'static str,
    epoch: u64,
    now: String,
}

/// What a step comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// It was taken before.
    Again,
    To(Standing),
}

/// # Errors
/// Where the step is not for who stands so.
pub fn after(now: Option<Standing>, step: &Step) -> Result<Came, Misfit> {
    let (name, epoch) = match step {
        Step::Freeze(epoch) => ("Freeze", *epoch),
        Step::Thaw(epoch) => ("Thaw", *epoch),
        Step::Import(import) => ("Import", import.epoch),
        Step::Open(epoch) => ("Open", *epoch),
        Step::Drop(epoch) => ("Drop", *epoch),
    };
    let to = |phase| Ok(Came::To(Standing { epoch, phase }));
    let misfit = || {
        let now = now.map_or_else(|| "not here".to_owned(), |now| format!("{now:?}"));
        Err(Misfit { step: name, epoch, now })
    };
    if epoch > EPOCH_MAX {
        return misfit();
    }
    let (before, phase) = (now.map(|now| now.epoch), now.map(|now| now.phase));
    let (same, later) = (before == Some(epoch), before.is_none_or(|before| epoch > before));
    match (step, phase) {
        (Step::Freeze(_), Some(Phase::Here)) if same || later => to(Phase::Frozen),
        (Step::Freeze(_), Some(Phase::Frozen)) if same => Ok(Came::Again),
        (Step::Thaw(_), Some(Phase::Frozen)) if later => to(Phase::Here),
        (Step::Thaw(_), Some(Phase::Here)) if same => Ok(Came::Again),
        (Step::Import(_), Some(Phase::Arriving { whole: true, .. } | Phase::Here)) if same => {
            Ok(Came::Again)
        }
        (Step::Import(import), Some(Phase::Arriving { attempt, parts, .. }))
            if same && import.attempt == attempt =>
        {
            if import.part < parts {
                Ok(Came::Again)
            } else if import.part == parts {
                to(Phase::Arriving { attempt, parts: parts + 1, whole: import.last })
            } else {
                misfit()
            }
        }
        (Step::Import(import), None | Some(Phase::Gone | Phase::Arriving { .. })) => {
            let known = match phase {
                Some(Phase::Arriving { attempt, .. }) => Some(attempt),
                _ => None,
            };
            let newer = same && known.is_some_and(|known| import.attempt > known);
            if import.part > 0 || !(later || newer) {
                return misfit();
            }
            let attempt = import.attempt;
            to(Phase::Arriving { attempt, parts: 1, whole: import.last })
        }
        (Step::Open(0), None) => to(Phase::Here),
        (Step::Open(_), Some(Phase::Arriving { whole: true, .. })) if same => to(Phase::Here),
        (Step::Open(_), Some(Phase::Here)) if same => Ok(Came::Again),
        (Step::Drop(_), Some(Phase::Frozen)) if later => to(Phase::Gone),
        (Step::Drop(_), Some(Phase::Arriving { .. })) if same || later => to(Phase::Gone),
        (Step::Drop(_), Some(Phase::Gone)) if same => Ok(Came::Again),
        _ => misfit(),
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Encoded {
    #[prost(uint64, tag = "1")]
    epoch: u64,
    #[prost(uint32, tag = "2")]
    phase: u32,
    #[prost(uint32, tag = "3")]
    parts: u32,
    #[prost(bool, tag = "4")]
    whole: bool,
    #[prost(uint64, tag = "5")]
    attempt: u64,
}

const HERE: u32 = 1;
const FROZEN: u32 = 2;
const ARRIVING: u32 = 3;
const GONE: u32 = 4;

impl Standing {
    pub const FIRST: Self = Self { epoch: 0, phase: Phase::Here };

    pub fn encode(&self) -> Vec<u8> {
        let encoded = |phase| Encoded { epoch: self.epoch, phase, ..Encoded::default() };
        match self.phase {
            Phase::Here => encoded(HERE),
            Phase::Frozen => encoded(FROZEN),
            Phase::Arriving { attempt, parts, whole } => {
                Encoded { attempt, parts, whole, ..encoded(ARRIVING) }
            }
            Phase::Gone => encoded(GONE),
        }
        .encode_to_vec()
    }

    /// # Errors
    /// A sentence: this build can't read it.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let encoded = Encoded::decode(bytes).map_err(|error| error.to_string())?;
        let Encoded { epoch, phase, parts, whole, attempt } = encoded;
        let phase = match phase {
            HERE => Phase::Here,
            FROZEN => Phase::Frozen,
            ARRIVING => Phase::Arriving { attempt, parts, whole },
            GONE => Phase::Gone,
            other => return Err(format!("phase {other} of a tenant is not known to this build")),
        };
        Ok(Self { epoch, phase })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::entry::Import;
    use super::*;

    fn import(epoch: u64, part: u32, last: bool) -> Step {
        import_of(1, epoch, part, last)
    }

    fn import_of(attempt: u64, epoch: u64, part: u32, last: bool) -> Step {
        Step::Import(Import { epoch, part, last, rows: Vec::new(), attempt })
    }

    fn walk(steps: &[Step]) -> Option<Standing> {
        steps.iter().fold(None, |now, step| match after(now, step) {
            Ok(Came::To(next)) => Some(next),
            Ok(Came::Again) => now,
            Err(misfit) => panic!("{misfit}"),
        })
    }

    #[test]
    fn tenant_comes_goes_and_comes_back() {
        let late = import(1, 0, false);
        let comes = [late.clone(), import(1, 1, true), late.clone(), Step::Open(1), late];
        assert_eq!(walk(&comes), Some(Standing { epoch: 1, phase: Phase::Here }));
        let goes = [Step::Open(0), Step::Freeze(0), Step::Freeze(0), Step::Drop(1)];
        assert_eq!(walk(&goes), Some(Standing { epoch: 1, phase: Phase::Gone }));
        let back = [&goes[..], &[import(2, 0, true), Step::Open(2), Step::Open(2)]].concat();
        assert_eq!(walk(&back), Some(Standing { epoch: 2, phase: Phase::Here }));
    }

    #[test]
    fn move_that_is_given_up_leaves_it_where_it_was_and_may_be_tried_again() {
        let source = [Step::Open(0), Step::Freeze(0), Step::Thaw(1), Step::Freeze(1)];
        assert_eq!(walk(&source), Some(Standing { epoch: 1, phase: Phase::Frozen }));
        // Given up before it was frozen.
        let source = [Step::Open(0), Step::Freeze(1)];
        assert_eq!(walk(&source), Some(Standing { epoch: 1, phase: Phase::Frozen }));
        let target = [import(1, 0, false), Step::Drop(1), import(2, 0, true), Step::Open(2)];
        assert_eq!(walk(&target), Some(Standing { epoch: 2, phase: Phase::Here }));
        // What comes late of the first attempt does nothing.
        let arriving = walk(&target[..3]);
        assert!(after(arriving, &import(1, 1, true)).is_err());
        assert!(after(arriving, &Step::Open(1)).is_err());
    }

    #[test]
    fn attempts_do_not_mix_and_what_is_whole_stays_so() {
        let steps =
            [import_of(4, 1, 0, false), import_of(4, 1, 1, false), import_of(5, 1, 0, false)];
        let arriving = |parts, whole| Phase::Arriving { attempt: 5, parts, whole };
        assert_eq!(walk(&steps), Some(Standing { epoch: 1, phase: arriving(1, false) }));
        assert!(after(walk(&steps), &import_of(4, 1, 2, true)).is_err());
        let whole = [&steps[..], &[import_of(5, 1, 1, true), import_of(6, 1, 0, false)]].concat();
        assert_eq!(walk(&whole), Some(Standing { epoch: 1, phase: arriving(2, true) }));
    }

    #[test]
    fn step_that_does_not_fit_is_refused() {
        let part = |parts, whole| {
            Some(Standing { epoch: 1, phase: Phase::Arriving { attempt: 1, parts, whole } })
        };
        let here = Some(Standing { epoch: 1, phase: Phase::Here });
        for (now, step) in [
            (None, Step::Open(1)),
            (None, import(1, 1, false)),
            (part(1, false), Step::Open(1)),
            (part(1, false), import(1, 2, false)),
            (part(1, false), import_of(0, 1, 1, false)),
            (part(1, false), import_of(2, 1, 1, false)),
            (here, import(2, 0, true)),
            (here, Step::Drop(2)),
            (here, Step::Freeze(0)),
            (Some(Standing { epoch: 1, phase: Phase::Frozen }), Step::Drop(1)),
            (Some(Standing { epoch: 1, phase: Phase::Gone }), Step::Open(1)),
            (here, Step::Freeze(EPOCH_MAX + 1)),
        ] {
            assert!(after(now, &step).is_err(), "{now:?} {step:?}");
        }
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..4_u64).prop_map(Step::Freeze),
            (0..4_u64).prop_map(Step::Thaw),
            (0..3_u64, 0..4_u64, 0..3_u32, any::<bool>())
                .prop_map(|(attempt, e, part, last)| import_of(attempt, e, part, last)),
            (0..4_u64).prop_map(Step::Open),
            (0..4_u64).prop_map(Step::Drop),
        ]
    }

    proptest! {
        /// An epoch never goes back, and no step twice in a row does anything the second time but
        /// a further part.
        #[test]
        fn epochs_only_grow_and_steps_are_idempotent(
            steps in proptest::collection::vec(any_step(), 0..40)
        ) {
            let mut now = None;
            for step in steps {
                let Ok(Came::To(next)) = after(now, &step) else { continue };
                prop_assert!(now.is_none_or(|now: Standing| now.epoch <= next.epoch));
                prop_assert_eq!(Standing::decode(&next.encode()), Ok(next));
                now = Some(next);
                match after(now, &step) {
                    Ok(Came::To(again)) => prop_assert_eq!(again, next),
                    Ok(Came::Again) | Err(_) => {}
                }
            }
        }
    }

    /// What is on disks stays readable: these bytes never change.
    #[test]
    fn standings_are_read_as_they_were_written_once() {
        let cases: [(Standing, &[u8]); 4] = [
            (Standing::FIRST, b"\x10\x01"),
            (Standing { epoch: 2, phase: Phase::Frozen }, b"\x08\x02\x10\x02"),
            (
                Standing { epoch: 3, phase: Phase::Arriving { attempt: 5, parts: 4, whole: true } },
                b"\x08\x03\x10\x03\x18\x04\x20\x01\x28\x05",
            ),
            (Standing { epoch: 1, phase: Phase::Gone }, b"\x08\x01\x10\x04"),
        ];
        for (standing, bytes) in cases {
            assert_eq!(standing.encode(), bytes, "{standing:?}");
            assert_eq!(Standing::decode(bytes), Ok(standing));
        }
        assert!(Standing::decode(b"\x10\x09").unwrap_err().contains("phase 9"));
    }

    #[test]
    fn positions_of_a_later_epoch_are_greater_and_those_of_the_first_are_the_logs_own() {
        assert_eq!(in_epoch(0, 77), 77);
        assert!(in_epoch(1, 1) > in_epoch(0, (1 << EPOCH_SHIFT) - 1));
        // The names of bindings are a position and four bits more.
        assert!(in_epoch(EPOCH_MAX, 1).checked_mul(16).is_some());
    }
}
