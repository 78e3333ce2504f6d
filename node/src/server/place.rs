//! Where a tenant is: a value of the meta shard, and what follows from it for who leads a group. Pure.
//!
//! ```text
//! meta:  s0, epoch 4 ── wish ──▶ s0, epoch 4, to s2 ───────────── decision ──▶ s2, epoch 5
//! s0:    Here ─────────────────▶ Here, copied ──▶ Frozen ────────────────────▶ Gone
//! s2:                            Arriving …       Arriving … whole ──────────▶ Here
//! ```
//! Its rows are copied while it serves, and what has changed meanwhile once it is frozen, so that it stands
//! still for a short time only (as virtual machines move: Clark et al., "Live Migration of Virtual
//! Machines", NSDI 2005).
//!
//! Each step is taken by who leads the group that it is of, from what the meta shard and the group itself
//! say, so that whoever leads next goes on where the last one was. The decision is one entry of the meta
//! shard, put only over the wish: of it and of giving up, which begins the next epoch where the
//! tenant is, one happens.

use prost::Message as _;
use tandem_runtime::tenants::entry::Step;
use tandem_runtime::tenants::standing::{Phase, Standing};

/// Behind it stands the tenant's number, in five digits.
pub const PLACES: &str = "tenant/place/";

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Place {
    #[prost(uint32, tag = "1")]
    pub group: u32,
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// Where it is to be.
    #[prost(uint32, optional, tag = "3")]
    pub to: Option<u32>,
    /// Why its last move was given up.
    #[prost(string, tag = "4")]
    pub given_up: String,
}

pub fn key(tenant: u16) -> String {
    format!("{PLACES}{tenant:05}")
}

impl Place {
    /// What is stored of a tenant, and what that means: the first one is in the first group before
    /// anything was said of it.
    ///
    /// # Errors
    /// A sentence: this build can't read it.
    pub fn read(stored: Option<&[u8]>) -> Result<Self, String> {
        stored.map_or(Ok(Self::default()), |bytes| {
            Self::decode(bytes).map_err(|error| error.to_string())
        })
    }

    pub fn wish(&self, to: u16) -> Self {
        Self { to: Some(to.into()), given_up: String::new(), ..*self }
    }

    pub fn decided(&self, to: u16) -> Self {
        let epoch = self.epoch + 1;
        Self { group: to.into(), epoch, to: None, given_up: String::new() }
    }

    pub fn given_up(&self, why: &str) -> Self {
        Self { group: self.group, epoch: self.epoch + 1, to: None, given_up: why.to_owned() }
    }
}

/// What who leads a group does for a tenant.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    Nothing,
    /// In the group's own log.
    Step(Step),
    /// Its rows to that group, to come there in that epoch, while it serves.
    Copy {
        to: u16,
        epoch: u64,
    },
    /// What the group lacks of them; then the decision.
    Send {
        to: u16,
        epoch: u64,
    },
}

/// What who leads knows besides.
#[derive(Clone, Copy, Debug, Default)]
pub struct Besides {
    /// It has copied the tenant's rows for the next epoch.
    pub copied: bool,
    /// The epoch in which its own replica of another group has the tenant.
    pub elsewhere: Option<u64>,
}

pub fn next(group: u16, standing: Option<Standing>, place: &Place, besides: Besides) -> Next {
    let epoch = place.epoch;
    let to = place.to.and_then(|to| u16::try_from(to).ok());
    let of_group = |number: u32| number == u32::from(group);
    match standing {
        None if of_group(place.group) && epoch == 0 => Next::Step(Step::Open(0)),
        None => Next::Nothing,
        Some(Standing { epoch: since, phase }) if of_group(place.group) => match phase {
            Phase::Here => match to {
                Some(_) if besides.copied => Next::Step(Step::Freeze(epoch)),
                Some(to) => Next::Copy { to, epoch: epoch + 1 },
                None => Next::Nothing,
            },
            Phase::Frozen if since < epoch => Next::Step(Step::Thaw(epoch)),
            Phase::Frozen => to.map_or(Next::Nothing, |to| Next::Send { to, epoch: epoch + 1 }),
            // The decision was of that epoch; a later one began with a move that was given up.
            Phase::Arriving { whole: true, .. } => Next::Step(Step::Open(since)),
            Phase::Arriving { .. } | Phase::Gone => Next::Nothing,
        },
        Some(Standing { epoch: since, phase }) => match phase {
            // Not before they are where they were sent: two replicas on this node have its rows till then.
            Phase::Frozen if epoch > since && besides.elsewhere > Some(since) => {
                Next::Step(Step::Drop(epoch))
            }
            // Its move was given up, or went elsewhere.
            Phase::Arriving { .. } if epoch >= since => Next::Step(Step::Drop(epoch)),
            Phase::Here | Phase::Frozen | Phase::Arriving { .. } | Phase::Gone => Next::Nothing,
        },
    }
}

#[cfg(test)]
mod tests {
    use tandem_runtime::tenants::entry::Import;
    use tandem_runtime::tenants::standing::{Came, after};

    use super::*;

    /// Two groups and the meta shard, each taking steps one at a time. Of the tenant there is a count of
    /// its commands.
    struct Model {
        place: Place,
        groups: [Option<Standing>; 2],
        counts: [u64; 2],
        /// What is copied of it to each, and what it will begin with.
        coming: [u64; 2],
        /// Of who leads each: of which epoch and attempt it has copied.
        copied: [Option<(u64, u64)>; 2],
        attempts: u64,
    }

    impl Model {
        fn new() -> Self {
            Self {
                place: Place::default(),
                groups: [Some(Standing::FIRST), None],
                counts: [0; 2],
                coming: [0; 2],
                copied: [None; 2],
                attempts: 0,
            }
        }

        /// Whether it was taken, now or before.
        fn step(&mut self, group: u16, step: &Step, count: u64) -> bool {
            let at = usize::from(group);
            match after(self.groups[at], step) {
                Ok(Came::To(next)) => {
                    match step {
                        // The last part says what has changed: all is as in the frozen one.
                        Step::Import(_) => self.coming[at] = count,
                        Step::Open(_) => self.counts[at] = self.coming[at],
                        Step::Freeze(_) | Step::Thaw(_) | Step::Drop(_) => {}
                    }
                    self.groups[at] = Some(next);
                    true
                }
                Ok(Came::Again) => true,
                Err(_) => false,
            }
        }

        fn import(&mut self, to: u16, import: Import, count: u64) -> bool {
            self.step(to, &Step::Import(import), count)
        }

        /// What the leader of a group does, who knows this of the meta shard; it may die in the middle.
        fn lead(&mut self, group: u16, known: &Place, dies: bool) {
            let at = usize::from(group);
            let count = self.counts[at];
            let copied = self.copied[at].filter(|(epoch, _)| *epoch == known.epoch + 1);
            let part = |epoch, attempt, part, last| Import {
                epoch,
                part,
                last,
                rows: Vec::new(),
                attempt,
            };
            let other = self.groups[1 - at].filter(|other| other.phase == Phase::Here);
            let elsewhere = other.map(|other| other.epoch);
            let besides = Besides { copied: copied.is_some(), elsewhere };
            match next(group, self.groups[at], known, besides) {
                Next::Nothing => {}
                Next::Step(step) => {
                    self.step(group, &step, count);
                }
                Next::Copy { to, epoch } => {
                    self.attempts += 1;
                    let attempt = self.attempts;
                    let taken = self.import(to, part(epoch, attempt, 0, false), count);
                    if taken && !dies && self.import(to, part(epoch, attempt, 1, false), count) {
                        self.copied[at] = Some((epoch, attempt));
                    }
                }
                Next::Send { to, epoch } => {
                    let taken = if let Some((_, attempt)) = copied {
                        self.import(to, part(epoch, attempt, 2, true), count)
                    } else {
                        self.attempts += 1;
                        let attempt = self.attempts;
                        let taken = self.import(to, part(epoch, attempt, 0, false), count);
                        taken && !dies && self.import(to, part(epoch, attempt, 1, true), count)
                    };
                    if taken && !dies && self.place == *known {
                        self.place = known.decided(to);
                    }
                }
            }
            if dies {
                self.copied[at] = None;
            }
        }

        fn serving(&self) -> Vec<usize> {
            let is_here =
                |at: &usize| self.groups[*at].is_some_and(|standing| standing.phase == Phase::Here);
            (0..2).filter(is_here).collect()
        }

        fn settle(&mut self) {
            for _ in 0..8 {
                for group in [0, 1] {
                    let known = self.place.clone();
                    self.lead(group, &known, false);
                }
            }
        }
    }

    /// Leaders that know old news and die in the middle, and operators who change their minds: never do two
    /// groups serve the tenant, in the end the one does that is named, and no command is lost.
    #[test]
    fn tenant_is_served_by_one_group_whatever_happens_between_the_steps() {
        let mut random: u64 = 7;
        let mut draw = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        };
        let (mut moves, mut whole) = (0, 0);
        for _ in 0..20_000 {
            let mut model = Model::new();
            let mut heard = [Place::default(), Place::default()];
            let mut commands = 0;
            for _ in 0..draw(80) {
                let group = u16::try_from(draw(2)).unwrap();
                match draw(10) {
                    0 if model.place.to.is_none() => {
                        let to = u16::from(model.place.group == 0);
                        model.place = model.place.wish(to);
                    }
                    1 if model.place.to.is_some() && draw(2) == 0 => {
                        model.place = model.place.given_up("late");
                    }
                    2 | 3 => heard[usize::from(group)] = model.place.clone(),
                    4 => {
                        for at in model.serving() {
                            commands += 1;
                            model.counts[at] += 1;
                        }
                    }
                    _ => {
                        let known = heard[usize::from(group)].clone();
                        model.lead(group, &known, draw(4) == 0);
                    }
                }
                assert!(model.serving().len() <= 1, "{:?} {:?}", model.place, model.groups);
                for at in model.serving() {
                    assert_eq!(model.counts[at], commands, "{:?} {:?}", model.place, model.groups);
                }
                let is_whole = |standing: &Option<Standing>| {
                    let phase = standing.map(|standing| standing.phase);
                    matches!(phase, Some(Phase::Arriving { whole: true, .. }))
                };
                whole += usize::from(model.groups.iter().any(is_whole));
            }
            model.settle();
            assert_eq!(model.place.to, None, "{:?} {:?}", model.place, model.groups);
            let named = usize::try_from(model.place.group).unwrap();
            assert_eq!(model.serving(), [named], "{:?} {:?}", model.place, model.groups);
            assert_eq!(model.counts[named], commands);
            moves += model.place.epoch;
        }
        assert!(moves > 20_000 && whole > 1_000, "{moves} epochs, {whole} times whole");
    }

    #[test]
    fn tenant_that_is_new_begins_where_it_is_put() {
        let place = Place { group: 3, ..Place::default() };
        let next = |group, place: &Place| next(group, None, place, Besides::default());
        assert_eq!(next(3, &place), Next::Step(Step::Open(0)));
        assert_eq!(next(2, &place), Next::Nothing);
        let later = Place { epoch: 1, ..place.clone() };
        assert_eq!(next(3, &later), Next::Nothing);
    }
}
