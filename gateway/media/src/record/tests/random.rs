//! A line that goes to and fro between two processes that die, come back and copy as chance has it. In the end
//! both boxes have the same recording, whole: what was said last, and of all before what the one who went on had.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const SECONDS_MAX: u64 = 200;

#[derive(Clone, Copy, Debug)]
enum Act {
    /// A second of the call: recorded by who has the line.
    Talk,
    /// So many lines go to the other box.
    Copy {
        from: usize,
        lines: usize,
    },
    Kill(usize),
    Start(usize),
    /// The line goes to this process, which begins at once; the other does not know it yet.
    Take(usize),
    /// It knows now that it has lost its line.
    Notice(usize),
    Minute(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let at = 0..2_usize;
    prop_oneof![
        8 => Just(Act::Talk),
        6 => (at.clone(), 1..6_usize).prop_map(|(from, lines)| Act::Copy { from, lines }),
        2 => at.clone().prop_map(Act::Kill),
        3 => at.clone().prop_map(Act::Start),
        3 => at.clone().prop_map(Act::Take),
        2 => at.clone().prop_map(Act::Notice),
        1 => at.prop_map(Act::Minute),
    ]
}

struct House {
    boxes: Boxes,
    lives: [Option<Process>; 2],
    /// Whose the line is, and since which second.
    line: Option<(usize, u64)>,
    /// Who has lost it and records on, silent by its lease.
    stale: [bool; 2],
    now: u64,
    said: BTreeMap<u64, u8>,
}

impl House {
    fn new() -> Self {
        let boxes = Boxes::new();
        let (a, b) = boxes.start();
        let mut house = Self {
            boxes,
            lives: [Some(a), Some(b)],
            line: None,
            stale: [false; 2],
            now: 0,
            said: BTreeMap::new(),
        };
        house.take(0);
        house.talk();
        // Without any of it there, it would begin anew: that is another recording.
        house.copy(0, usize::MAX);
        house
    }

    fn dir(&self, at: usize) -> PathBuf {
        [&self.boxes.a, &self.boxes.b][at].path().to_owned()
    }

    fn talk(&mut self) {
        let second = self.now;
        self.now += 1;
        let Some((at, since)) = self.line else { return };
        let sample = u8::try_from(second % 250).expect("small") + 1;
        if let Some(life) = &mut self.lives[at] {
            life.chunk((second - since) * 1_000, sample);
            self.said.insert(second, sample);
        }
    }

    fn take(&mut self, at: usize) {
        if self.line.is_some_and(|(has, _)| has == at) || self.stale[at] {
            return;
        }
        let (own_dir, now) = (self.dir(at), self.now);
        let Some(life) = &mut self.lives[at] else { return };
        let had = own(&own_dir).frames.max(copy(&own_dir).frames);
        life.begin(now * 1_000);
        assert!(own(&own_dir).frames >= had, "it had more");
        if let Some((before, _)) = self.line {
            self.stale[before] = true;
        }
        self.line = Some((at, now));
    }

    fn notice(&mut self, at: usize) {
        if std::mem::take(&mut self.stale[at])
            && let Some(life) = &mut self.lives[at]
        {
            life.writer.handle(Command::Abandon { recording: ID });
        }
    }

    fn kill(&mut self, at: usize) {
        self.lives[at] = None;
        self.stale[at] = false;
        self.line = self.line.filter(|(has, _)| *has != at);
    }

    fn start(&mut self, at: usize) {
        if self.lives[at].is_none() {
            self.lives[at] = Some(Process::start(&self.dir(at)));
        }
    }

    /// As the sender does, also with what it is answered.
    fn copy(&self, from: usize, lines: usize) {
        let [Some(ours), Some(theirs)] = [&self.lives[from], &self.lives[1 - from]] else { return };
        if own(&ours.dir).bytes == 0 {
            return;
        }
        match ours.copy_some_to(theirs, lines) {
            Ok(()) | Err(Error::Busy) => {}
            Err(Error::Ours) => {
                let runs = self.stale[from] || self.line.is_some_and(|(has, _)| has == from);
                if !runs {
                    ours.custody.yield_to_other(ID).expect("the disk");
                }
            }
            Err(error) => panic!("{error}"),
        }
        for (_, synced) in theirs.custody.sync() {
            synced.expect("it is synced");
        }
    }

    fn perform(&mut self, act: Act) {
        match act {
            Act::Talk => self.talk(),
            Act::Copy { from, lines } => self.copy(from, lines),
            Act::Kill(at) => self.kill(at),
            Act::Start(at) => self.start(at),
            Act::Take(at) => self.take(at),
            Act::Notice(at) => self.notice(at),
            Act::Minute(at) => {
                if let Some(life) = &mut self.lives[at] {
                    life.after_a_minute();
                }
            }
        }
    }

    /// All live, and copy until nothing changes.
    fn settle(&mut self) {
        for at in [0, 1] {
            self.start(at);
            self.notice(at);
        }
        if let Some((at, _)) = self.line {
            // The one that goes on has more than any other, then.
            self.talk();
            if let Some(life) = &mut self.lives[at] {
                life.finish();
            }
            self.line = None;
        }
        for _ in 0..3 {
            for from in [0, 1] {
                self.copy(from, usize::MAX);
            }
        }
        for at in [0, 1] {
            self.perform(Act::Minute(at));
        }
        for _ in 0..3 {
            for from in [0, 1] {
                self.copy(from, usize::MAX);
            }
        }
    }

    /// Where a box has it.
    fn found(&self, at: usize) -> PathBuf {
        let dir = self.dir(at);
        if own(&dir).bytes > 0 { dir } else { copies_in(&dir) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn recording_is_the_same_on_both_boxes_whoever_died_and_went_on(
        acts in proptest::collection::vec(act(), 0..40),
    ) {
        let mut house = House::new();
        for act in acts {
            if house.now < SECONDS_MAX {
                house.perform(act);
            }
        }
        let last_run = house.line;
        house.settle();
        let [first, second] = [0, 1].map(|at| house.found(at));
        for dir in [&first, &second] {
            assert_good(dir);
        }
        prop_assert_eq!(own(&first), own(&second));
        let heard = heard(&first);
        for (second, sample) in heard.iter().enumerate() {
            let said = house.said.get(&(second as u64)).copied();
            prop_assert!(*sample == 0 || Some(*sample) == said, "{second}: {heard:?}");
        }
        if let Some((_, since)) = last_run {
            let told = &heard[usize::try_from(since).expect("small")..];
            let said: Vec<u8> = house.said.range(since..).map(|(_, sample)| *sample).collect();
            prop_assert_eq!(told, said);
        }
    }
}
