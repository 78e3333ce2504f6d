use proptest::prelude::*;

use super::*;

const SIZE: u16 = 4;

/// Tenants that use blocks of one pool, and leaders that die in the middle of a step.
struct Model {
    /// How much each block has of each tenant in use.
    used: Vec<BTreeMap<u16, u16>>,
    worlds: Vec<BTreeSet<u16>>,
    owns: Option<Owns>,
    blocks: u16,
}

impl Model {
    /// The first one was alone until now.
    fn new(tenants: usize, blocks: u16) -> Self {
        let mut worlds = vec![BTreeSet::new(); tenants];
        let unused = (0..blocks).map(|block| (block, Use { size: SIZE, used: 0 })).collect();
        worlds[0] = kept(&unused);
        Self { used: vec![BTreeMap::new(); tenants], worlds, owns: None, blocks }
    }

    fn seen_by(&self, me: usize) -> BTreeMap<u16, Use> {
        let used = |block| self.used[me].get(&block).copied().unwrap_or_default();
        (0..self.blocks).map(|block| (block, Use { size: SIZE, used: used(block) })).collect()
    }

    fn next(&self, me: usize) -> Next {
        let view = View {
            me: me as u16,
            sharers: self.worlds.len(),
            founds: me == 0,
            blocks: &self.seen_by(me),
            owns: self.owns.as_ref(),
            leased: &self.worlds[me],
        };
        next(&view)
    }

    /// False where there is nothing to do.
    fn step(&mut self, me: usize, dies: bool) -> bool {
        match self.next(me) {
            Next::Nothing => return false,
            Next::Found(owns) | Next::Take(owns) => self.owns = Some(owns),
            Next::Use(mine) => self.worlds[me] = mine,
            Next::Give { kept, then } => {
                let lost = self.worlds[me].difference(&kept);
                let in_use = lost.into_iter().any(|block| self.used[me].contains_key(block));
                assert!(!in_use, "a block in use is given back");
                self.worlds[me] = kept;
                if !dies {
                    self.owns = Some(then);
                }
            }
        }
        true
    }

    /// One more is in use, where the world has room for it.
    fn seize(&mut self, me: usize) -> bool {
        let free = |block: &&u16| self.used[me].get(block).is_none_or(|used| *used < SIZE);
        let Some(block) = self.worlds[me].iter().find(free).copied() else { return false };
        *self.used[me].entry(block).or_default() += 1;
        true
    }

    fn release(&mut self, me: usize, at: usize) {
        let blocks: Vec<u16> = self.used[me].keys().copied().collect();
        let Some(block) = blocks.get(at % blocks.len().max(1)) else { return };
        let used = self.used[me].get_mut(block).expect("a block");
        *used -= 1;
        if *used == 0 {
            self.used[me].remove(block);
        }
    }

    fn check(&self) {
        let mut seen = BTreeSet::new();
        for (me, world) in self.worlds.iter().enumerate() {
            for block in world {
                assert!(seen.insert(*block), "two worlds use block {block}");
                let owner = self.owns.as_ref().map(|owns| owns.get(block).copied());
                assert!(
                    owner.is_none_or(|of| of == Some(me as u16)),
                    "{me} uses another's {block}"
                );
            }
            assert!(self.used[me].keys().all(|block| world.contains(block)));
        }
    }

    /// Until nobody has anything to do.
    fn settle(&mut self) {
        for _ in 0..1_000 {
            let did: Vec<bool> = (0..self.worlds.len()).map(|me| self.step(me, false)).collect();
            self.check();
            if !did.contains(&true) {
                return;
            }
        }
        panic!("blocks go back and forth: {:?} {:?} {:?}", self.worlds, self.used, self.owns);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn no_two_use_the_same_block_and_all_comes_to_rest(
        tenants in 2..5_usize,
        blocks in 1..12_u16,
        acts in prop::collection::vec((0..4_usize, 0..4_u8, any::<usize>(), any::<bool>()), 0..120),
    ) {
        let mut model = Model::new(tenants, blocks);
        model.check();
        for (me, act, at, dies) in acts {
            let me = me % tenants;
            match act {
                0 => { model.step(me, dies); }
                1 | 2 => { model.seize(me); }
                _ => model.release(me, at),
            }
            model.check();
        }
        model.settle();
        // Where there is a block for each, nobody who asks is left without one for good.
        for me in 0..tenants {
            while !model.used[me].is_empty() {
                model.release(me, 0);
            }
        }
        model.settle();
        if usize::from(blocks) >= tenants {
            for (me, world) in model.worlds.iter().enumerate() {
                prop_assert!(!world.is_empty(), "tenant {me} has none of {blocks}: {:?}", model.owns);
            }
        }
    }
}

#[test]
fn who_needs_more_takes_half_of_what_is_free_and_who_needs_less_gives_it_back() {
    let mut model = Model::new(2, 16);
    model.settle();
    let sizes = |model: &Model| model.worlds.iter().map(BTreeSet::len).collect::<Vec<_>>();
    assert_eq!(sizes(&model), [8, 4], "half was kept, and half of the rest is taken");
    // The second one has a busy hour.
    while model.seize(1) {
        model.settle();
    }
    assert_eq!(model.used[1].values().sum::<u16>(), 12 * SIZE + 3 * SIZE, "{:?}", sizes(&model));
    assert_eq!(sizes(&model), [1, 15]);
    // It is over; now the first one has its own.
    while !model.used[1].is_empty() {
        model.release(1, 0);
    }
    while model.seize(0) {
        model.settle();
    }
    assert_eq!(sizes(&model), [15, 1]);
}

#[test]
fn pool_that_is_stored_is_read_again_and_what_is_not_a_pool_is_told() {
    let owns = Owns::from([(312, 0), (313, 7), (1_023, 7)]);
    assert_eq!(read(&write(&owns)), Some(owns));
    assert_eq!(read(&write(&Owns::new())), Some(Owns::new()));
    assert_eq!(read(b"\xff\xff"), None);
}

#[test]
fn block_of_a_gateway_that_has_it_no_more_is_given_up() {
    let blocks = BTreeMap::from([(1, Use { size: SIZE, used: 0 })]);
    let owns = Owns::from([(1, 3), (9, 3), (8, 4)]);
    let leased = BTreeSet::from([1, 9]);
    let view = View {
        me: 3,
        sharers: 2,
        founds: false,
        blocks: &blocks,
        owns: Some(&owns),
        leased: &leased,
    };
    let then = Owns::from([(1, 3), (8, 4)]);
    assert_eq!(next(&view), Next::Give { kept: BTreeSet::from([1]), then });
}
