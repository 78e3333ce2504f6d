//! Chance, drawn for each thing by itself: by what it is, not by when the run comes to it. So a
//! call or a fault that is left out moves nobody else's draws, and what is left meets the same
//! delays and losses as before, until it would have met what is gone. Shrinking lives on this.
//!
//! What a caller or a command brings about is named (`names`) and counted: its third sending is the
//! third wherever it falls. What a fault brings about is named by its owner and the moment.

use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::random::Random;

/// What is drawn for. No two share a draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum For {
    Packet,
    Command,
    Commit,
    Up,
    Down,
    Connect,
    Clock,
    FirstLeader,
    Election,
    StepDown,
    Lag,
    Storing,
    Death,
    Snapshot,
    Break,
    Patience,
    Desk,
    Ringing,
    Talking,
    Branch,
    Lease,
    Drift,
    Replaced,
    PastCheck,
    Key,
    Transfer,
    Pause,
    Consult,
    Second,
    PickUp,
    Watching,
}

#[derive(Debug)]
pub struct Draws {
    seed: u64,
    counted: BTreeMap<(For, u64), u32>,
}

impl Draws {
    pub fn new(seed: u64) -> Self {
        Self { seed, counted: BTreeMap::new() }
    }

    /// Always the same for one owner.
    pub fn at(&self, what: For, owner: u64) -> Random {
        self.keyed(what, owner, 0)
    }

    /// Another each time that the same thing comes.
    pub fn next(&mut self, what: For, name: u64) -> Random {
        let count = self.counted.entry((what, name)).or_default();
        *count += 1;
        let nth = u64::from(*count);
        self.keyed(what, name, nth)
    }

    fn keyed(&self, what: For, name: u64, nth: u64) -> Random {
        let key = [what as u64, name, nth];
        let mut digest = Digest::default();
        digest.number(self.seed);
        key.into_iter().for_each(|number| digest.number(number));
        Random::stream(digest.value(), what as u64)
    }
}

#[test]
fn draws_of_one_thing_do_not_move_with_those_of_another() {
    let (mut whole, mut less) = (Draws::new(3), Draws::new(3));
    for name in 0..5 {
        whole.next(For::Packet, name);
    }
    let again = whole.next(For::Packet, 4).draw();
    less.next(For::Packet, 4);
    assert_eq!(less.next(For::Packet, 4).draw(), again);
    assert_ne!(less.next(For::Packet, 4).draw(), again);
    assert_eq!(whole.at(For::Desk, 9).draw(), less.at(For::Desk, 9).draw());
    assert_ne!(whole.at(For::Desk, 9).draw(), Draws::new(4).at(For::Desk, 9).draw());
    assert_ne!(whole.at(For::Desk, 9).draw(), whole.at(For::Clock, 9).draw());
}
