//! Where a tenant is: a value of the meta shard, and what follows from it for who leads a group. Pure.
//!
//! ```text
//! meta:    s0, epoch 4 ── wish ──▶ s0, epoch 4, to s2 ── decision ──▶ s2, epoch 5
//! s0:      Here ─────────────────▶ Frozen ──────────────────────────▶ Gone
//! s2:                              Arriving … whole ────────────────▶ Here
//! ```
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
    /// Its rows to that group, in that epoch; then the decision.
    Send {
        to: u16,
        epoch: u64,
    },
}

pub fn next(group: u16, standing: Option<Standing>, place: &Place) -> Next {
    let epoch = place.epoch;
    let of_group = |number: u32| number == u32::from(group);
    match standing {
        None if of_group(place.group) && epoch == 0 => Next::Step(Step::Open(0)),
        None => Next::Nothing,
        Some(Standing { epoch: since, phase }) if of_group(place.group) => match phase {
            Phase::Here if place.to.is_some() => Next::Step(Step::Freeze(epoch)),
            Phase::Frozen if since < epoch => Next::Step(Step::Thaw(epoch)),
            Phase::Frozen => match place.to.map(u16::try_from) {
                Some(Ok(to)) => Next::Send { to, epoch: epoch + 1 },
                Some(Err(_)) | None => Next::Nothing,
            },
            // The decision was of that epoch; a later one began with a move that was given up.
            Phase::Arriving { whole: true, .. } => Next::Step(Step::Open(since)),
            Phase::Here | Phase::Arriving { .. } | Phase::Gone => Next::Nothing,
        },
        Some(Standing { epoch: since, phase }) => match phase {
            Phase::Frozen if epoch > since => Next::Step(Step::Drop(epoch)),
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

    /// Two groups and the meta shard, each taking steps one at a time.
    #[derive(Clone)]
    struct Model {
        place: Place,
        groups: [Option<Standing>; 2],
    }

    impl Model {
        fn new() -> Self {
            Self { place: Place::default(), groups: [Some(Standing::FIRST), None] }
        }

        fn step(&mut self, group: u16, step: &Step) {
            let standing = &mut self.groups[usize::from(group)];
            if let Ok(Came::To(next)) = after(*standing, step) {
                *standing = Some(next);
            }
        }

        /// What the leader of a group does, who knows this of the meta shard.
        fn lead(&mut self, group: u16, known: &Place, cut: bool) {
            match next(group, self.groups[usize::from(group)], known) {
                Next::Nothing => {}
                Next::Step(step) => self.step(group, &step),
                Next::Send { to, epoch } => {
                    for part in 0..3 {
                        if cut && part == 2 {
                            return;
                        }
                        let rows = Vec::new();
                        let import = Import { epoch, part, last: part == 2, rows };
                        self.step(to, &Step::Import(import));
                    }
                    let arrived = Phase::Arriving { parts: 3, whole: true };
                    let there = self.groups[usize::from(to)];
                    // As the machine answers: all is there, in this epoch.
                    if there == Some(Standing { epoch, phase: arrived }) && self.place == *known {
                        self.place = known.decided(to);
                    }
                }
            }
        }

        fn serving(&self) -> usize {
            let is_here = |standing: &&Option<Standing>| {
                standing.is_some_and(|standing| standing.phase == Phase::Here)
            };
            self.groups.iter().filter(is_here).count()
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

    /// Leaders that know old news, that die in the middle of sending, and operators who change their
    /// minds: never do two groups serve the tenant, and in the end the one does that is named.
    #[test]
    fn tenant_is_served_by_one_group_whatever_happens_between_the_steps() {
        let mut random: u64 = 7;
        let mut draw = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        };
        let mut moves = 0;
        for _ in 0..5_000 {
            let mut model = Model::new();
            let mut heard = [Place::default(), Place::default()];
            for _ in 0..draw(60) {
                let group = u16::try_from(draw(2)).unwrap();
                match draw(8) {
                    0 if model.place.to.is_none() => {
                        let to = u16::from(model.place.group == 0);
                        model.place = model.place.wish(to);
                    }
                    1 if model.place.to.is_some() => model.place = model.place.given_up("late"),
                    2 | 3 => heard[usize::from(group)] = model.place.clone(),
                    _ => {
                        let known = heard[usize::from(group)].clone();
                        model.lead(group, &known, draw(3) == 0);
                    }
                }
                assert!(model.serving() <= 1, "{:?} {:?}", model.place, model.groups);
            }
            model.settle();
            assert_eq!(model.place.to, None, "{:?} {:?}", model.place, model.groups);
            let here = model.groups[usize::try_from(model.place.group).unwrap()].unwrap();
            assert_eq!(here.phase, Phase::Here, "{:?} {:?}", model.place, model.groups);
            assert_eq!(model.serving(), 1);
            moves += model.place.epoch;
        }
        assert!(moves > 5_000, "{moves} epochs");
    }

    #[test]
    fn tenant_that_is_new_begins_where_it_is_put() {
        let place = Place { group: 3, ..Place::default() };
        assert_eq!(next(3, None, &place), Next::Step(Step::Open(0)));
        assert_eq!(next(2, None, &place), Next::Nothing);
        let later = Place { epoch: 1, ..place };
        assert_eq!(next(3, None, &later), Next::Nothing);
    }
}
