use proptest::prelude::*;

use super::*;

/// When a test's true time begins, milliseconds since 1970.
const EPOCH_MS: u64 = 1_795_000_000_000;
const MS_PER_H: i64 = 3_600_000;
const S: u64 = 1_000;

/// A machine: its boot clock, and a wall clock that somebody sets.
#[derive(Clone, Copy)]
struct Machine {
    booted_ms: u64,
    ppm: i64,
    wall_ahead_ms: i64,
}

impl Machine {
    fn right() -> Self {
        Self { booted_ms: 77_000, ppm: 0, wall_ahead_ms: 0 }
    }

    fn boot_ns(&self, true_ms: u64) -> u64 {
        (self.booted_ms + true_ms) * PPM.saturating_add_signed(self.ppm)
    }

    fn read(&self, true_ms: u64) -> Reading {
        let wall_ms = (EPOCH_MS + true_ms).saturating_add_signed(self.wall_ahead_ms);
        Reading { boot_ns: self.boot_ns(true_ms), wall_ns: wall_ms * NS_PER_MS }
    }
}

fn told(index: u64, term: u64, after_ms: u64) -> Told {
    Told { index, term, at: Millis(EPOCH_MS + after_ms) }
}

/// Of a leader that knows nothing but its wall clock.
fn leader(machine: &Machine) -> LogTime {
    let mut time = LogTime::new(0);
    assert_eq!(time.on_elected(machine.read(0)), Source::WallClock);
    time
}

/// What the log's time is ahead of true time.
fn wrong_ms(time: &mut LogTime, machine: &Machine, true_ms: u64) -> i64 {
    let at = time.now(machine.read(true_ms)).0;
    difference(at, EPOCH_MS + true_ms)
}

/// A leader looks often.
fn run(time: &mut LogTime, machine: &Machine, from_ms: u64, to_ms: u64) -> i64 {
    for true_ms in (from_ms..to_ms).step_by(500) {
        time.now(machine.read(true_ms));
    }
    wrong_ms(time, machine, to_ms)
}

#[test]
fn leader_goes_on_when_its_wall_clock_is_set() {
    for jump_ms in [MS_PER_H, -MS_PER_H, 3_000, -3_000] {
        let mut machine = Machine::right();
        let mut time = leader(&machine);
        assert_eq!(run(&mut time, &machine, 0, 60 * S), 0);
        machine.wall_ahead_ms = jump_ms;
        assert_eq!(run(&mut time, &machine, 60 * S, 900 * S), 0, "{jump_ms}");
        assert!(matches!(time.wall(), Wall::Apart { .. }));
        assert_eq!(time.wall_ahead_ns(machine.read(900 * S)), Some(jump_ms * 1_000_000));
        // Put right in time, it has moved nothing.
        machine.wall_ahead_ms = 0;
        assert_eq!(run(&mut time, &machine, 900 * S, 2_000 * S), 0);
        assert_eq!(time.wall(), Wall::Near);
    }
}

#[test]
fn leader_follows_a_wall_clock_that_stays_and_no_time_out_is_far_off() {
    let day = 24 * 3_600 * S;
    for jump_ms in [MS_PER_H, -MS_PER_H] {
        let mut machine = Machine::right();
        let mut time = leader(&machine);
        machine.wall_ahead_ms = jump_ms;
        assert_eq!(run(&mut time, &machine, S, 900 * S), 0);
        run(&mut time, &machine, 900 * S, 1_000 * S);
        assert!(matches!(time.wall(), Wall::Followed { .. }));
        let before = wrong_ms(&mut time, &machine, 1_000 * S);
        let off_ms = run(&mut time, &machine, 1_000 * S, 1_020 * S) - before;
        assert_eq!(off_ms.abs(), 800, "of a ring time-out of 20 s");
        assert_eq!(off_ms.signum(), jump_ms.signum());
        assert_ne!(run(&mut time, &machine, 1_020 * S, day), jump_ms);
        assert_eq!(run(&mut time, &machine, day, day + 3 * 3_600 * S), jump_ms);
        assert_eq!(time.wall(), Wall::Near);
    }
}

#[test]
fn wall_clock_that_is_set_again_is_waited_for_anew() {
    let mut machine = Machine::right();
    let mut time = leader(&machine);
    machine.wall_ahead_ms = MS_PER_H;
    run(&mut time, &machine, S, 600 * S);
    machine.wall_ahead_ms = -MS_PER_H;
    assert_eq!(run(&mut time, &machine, 600 * S, 1_400 * S), 0);
    let behind = run(&mut time, &machine, 1_400 * S, 1_600 * S);
    assert!((-4_000..-3_000).contains(&behind), "{behind}");
}

#[test]
fn small_difference_is_made_good_without_a_word() {
    for ahead_ms in [-900, -20, 20, 900] {
        let mut machine = Machine::right();
        let mut time = leader(&machine);
        machine.wall_ahead_ms = ahead_ms;
        let soon = run(&mut time, &machine, 0, 10 * S);
        assert!(soon.abs() <= 10, "{soon} in 10 s");
        assert_eq!(run(&mut time, &machine, 10 * S, 3_600 * S), ahead_ms);
        assert_eq!(time.wall(), Wall::Near);
    }
}

#[test]
fn crystal_that_is_off_is_held_by_the_wall_clock() {
    let machine = Machine { ppm: 100, ..Machine::right() };
    let mut time = leader(&machine);
    assert!(run(&mut time, &machine, 0, 24 * 3_600 * S).abs() <= 1);
}

#[test]
fn new_leader_goes_on_where_the_log_was_whatever_its_wall_clock_shows() {
    for wall_ahead_ms in [MS_PER_H, -MS_PER_H] {
        let machine = Machine { wall_ahead_ms, ..Machine::right() };
        let mut time = LogTime::new(0);
        time.on_term(1);
        // Entries are from 2 to 50 ms on their way.
        for (index, late_ms) in [(1, 50), (2, 2), (3, 30), (4, 44)] {
            let true_ms = index * 2_000;
            time.on_applied(told(index, 1, true_ms - late_ms), machine.boot_ns(true_ms));
        }
        time.on_term(2);
        assert_eq!(time.on_elected(machine.read(10_000)), Source::Log);
        let wrong = wrong_ms(&mut time, &machine, 10_000);
        assert!((-50..=-2).contains(&wrong), "{wrong}");
        assert!(wrong_ms(&mut time, &machine, 60_000) - wrong == 0);
    }
}

#[test]
fn replica_that_lagged_knows_the_time_all_the_same() {
    let machine = Machine::right();
    let mut time = LogTime::new(0);
    time.on_term(1);
    for index in 1..=100 {
        time.on_applied(told(index, 1, index * 100 - 2), machine.boot_ns(index * 100));
    }
    // It stands still for 5 s, then has all that it missed at once.
    for index in 101..=149 {
        time.on_applied(told(index, 1, index * 100 - 2), machine.boot_ns(15_000));
    }
    time.on_elected(machine.read(15_000));
    let wrong = wrong_ms(&mut time, &machine, 15_000);
    // The newest that it has is 102 ms old.
    assert!((-102..=0).contains(&wrong), "{wrong}");
}

#[test]
fn replica_hears_that_its_clock_goes_ahead_of_the_leaders() {
    // The leader's time goes slower by 4 %.
    let machine = Machine::right();
    let mut time = LogTime::new(0);
    time.on_term(1);
    for index in 1..=600 {
        let true_ms = index * S;
        time.on_applied(told(index, 1, true_ms * 96 / 100), machine.boot_ns(true_ms));
    }
    time.on_elected(machine.read(600 * S));
    let at = time.now(machine.read(600 * S)).0 - EPOCH_MS;
    // Until it knew the time for sure, 6 s, it did not look whether it is ahead.
    assert!((576 * S - 40..=576 * S + 280).contains(&at), "{at}");
}

#[test]
fn cluster_that_starts_goes_on_by_the_wall_clock() {
    // All processes were dead for two hours; the log ended at index 40.
    let machine = Machine::right();
    let away_ms = 2 * 3_600 * S;
    let mut time = LogTime::new(40);
    time.on_restored(Millis(EPOCH_MS + 1_000), machine.boot_ns(away_ms));
    time.on_term(3);
    for index in 20..=40 {
        time.on_applied(told(index, 3, 1_000 + index), machine.boot_ns(away_ms + 5));
    }
    // What the other node alone had is of the old term, too.
    time.on_term(4);
    time.on_applied(told(41, 3, 1_100), machine.boot_ns(away_ms + 9));
    assert_eq!(time.wall_ahead_ns(machine.read(away_ms + 9)), None);
    assert_eq!(time.on_elected(machine.read(away_ms + 10)), Source::WallClock);
    assert_eq!(wrong_ms(&mut time, &machine, away_ms + 10), 0);
}

#[test]
fn cluster_that_starts_with_a_wall_clock_behind_never_goes_back() {
    let machine = Machine { wall_ahead_ms: -MS_PER_H, ..Machine::right() };
    let mut time = LogTime::new(40);
    time.on_restored(Millis(EPOCH_MS), machine.boot_ns(5_000));
    assert_eq!(time.on_elected(machine.read(5_000)), Source::WallClock);
    assert_eq!(time.now(machine.read(5_000)), Millis(EPOCH_MS));
    assert_eq!(time.now(machine.read(65_000)), Millis(EPOCH_MS + 60_000));
    assert!(matches!(time.wall(), Wall::Apart { .. }));
}

#[test]
fn replica_that_catches_up_knows_the_time_by_the_newest_entry() {
    let machine = Machine { wall_ahead_ms: MS_PER_H, ..Machine::right() };
    let mut time = LogTime::new(40);
    time.on_restored(Millis(EPOCH_MS), machine.boot_ns(7_200 * S));
    time.on_term(3);
    // Two hours of entries in a second, then those that are new.
    for index in 41..=7_238 {
        time.on_applied(told(index, 3, (index - 41) * S), machine.boot_ns(7_201 * S));
    }
    let mut early = time.clone();
    for (index, at_ms) in [(7_239, 7_203 * S), (7_240, 7_208 * S)] {
        time.on_applied(told(index, 3, at_ms - 4), machine.boot_ns(at_ms));
    }
    assert_eq!(time.on_elected(machine.read(7_210 * S)), Source::Log);
    assert_eq!(wrong_ms(&mut time, &machine, 7_210 * S), -4);
    // Whoever has to lead before it has heard a new one is wrong by the leader's pause at most.
    assert_eq!(early.on_elected(machine.read(7_202 * S)), Source::Log);
    let wrong = wrong_ms(&mut early, &machine, 7_202 * S);
    assert!((0..=6_000).contains(&wrong), "{wrong}");
}

#[test]
fn replica_that_has_heard_old_entries_alone_is_put_right_by_a_wall_clock_that_can_be_right() {
    for (wall_ahead_ms, wrong_ms_wanted) in [(0, 0), (-MS_PER_H, -2_400), (MS_PER_H, 3_600)] {
        let machine = Machine { wall_ahead_ms, ..Machine::right() };
        let mut time = LogTime::new(40);
        time.on_term(3);
        // The leader was elected 2.4 s before this process began, and has been idle since.
        time.on_applied(told(41, 3, 10_000 - 2_400), machine.boot_ns(10_000));
        assert_eq!(time.on_elected(machine.read(11_000)), Source::Log);
        assert_eq!(wrong_ms(&mut time, &machine, 11_000), wrong_ms_wanted);
    }
}

#[test]
fn deposed_leader_keeps_the_time() {
    let mut machine = Machine::right();
    let mut time = leader(&machine);
    run(&mut time, &machine, 0, 10 * S);
    time.on_deposed(machine.boot_ns(10 * S));
    machine.wall_ahead_ms = -MS_PER_H;
    assert_eq!(time.on_elected(machine.read(30 * S)), Source::Log);
    assert_eq!(wrong_ms(&mut time, &machine, 30 * S), 0);
}

#[derive(Clone, Debug)]
enum Happens {
    Wait(u64),
    SetWall(usize, i64),
    Lead(usize),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => (1_u64..20_000).prop_map(Happens::Wait),
        1 => (0..2_usize, -2 * MS_PER_H..2 * MS_PER_H).prop_map(|(n, ms)| Happens::SetWall(n, ms)),
        1 => (0..2_usize).prop_map(Happens::Lead),
    ]
}

proptest! {
    /// Two machines, of which one leads; entries take from 1 to 40 ms to the other. Wall clocks are
    /// set as anybody likes, for less than the time in which they are believed.
    #[test]
    fn log_goes_with_true_time_whoever_leads_and_whatever_clocks_are_set(
        ppm in (-100_i64..100, -100_i64..100),
        story in proptest::collection::vec(happens(), 1..40),
    ) {
        let mut machines = [
            Machine { ppm: ppm.0, ..Machine::right() },
            Machine { ppm: ppm.1, booted_ms: 9_000_000, ..Machine::right() },
        ];
        let mut times = [LogTime::new(0), LogTime::new(0)];
        let (mut leads, mut term, mut index, mut now) = (0, 1, 8, 8 * S);
        times[0].on_elected(machines[0].read(0));
        times[1].on_term(term);
        let mut last = Millis(0);
        for index in 1..=8 {
            last = times[0].now(machines[0].read(index * S));
            times[1].on_applied(Told { index, term, at: last }, machines[1].boot_ns(index * S + 1));
        }
        let mut takeovers = 0;
        for event in story {
            match event {
                Happens::SetWall(n, ms) => machines[n].wall_ahead_ms = ms,
                Happens::Lead(n) if n != leads => {
                    times[leads].on_deposed(machines[leads].boot_ns(now));
                    leads = n;
                    term += 1;
                    takeovers += 1;
                    times[n].on_elected(machines[n].read(now));
                }
                Happens::Lead(_) => {}
                Happens::Wait(ms) => {
                    let until = now + ms;
                    while now < until {
                        let at = times[leads].now(machines[leads].read(now));
                        prop_assert!(last <= at, "back from {last:?} to {at:?}");
                        last = at;
                        index += 1;
                        let follower = &mut times[1 - leads];
                        let there = now + 1 + (index * 7) % 40;
                        follower.on_term(term);
                        follower.on_applied(Told { index, term, at }, machines[1 - leads].boot_ns(there));
                        now += 500;
                    }
                }
            }
            // A takeover costs no more than the slowest entry's way; crystals drift.
            let wrong = difference(last.0, EPOCH_MS + now);
            let may = 600 + takeovers * 41 + i64::try_from(now / 10_000).unwrap_or(i64::MAX);
            prop_assert!(wrong.abs() <= may, "{wrong} ms after {now} ms and {takeovers} takeovers");
        }
    }

    /// However seldom it is looked at, and wherever the wall clock is.
    #[test]
    fn leaders_time_never_goes_back_and_is_never_faster_or_slower_than_it_may(
        looks in proptest::collection::vec((0_u64..2_000_000, -2 * MS_PER_H..2 * MS_PER_H), 1..200),
        steady in any::<bool>(),
    ) {
        let mut machine = Machine::right();
        let mut time = leader(&machine);
        let (mut now, mut last) = (0, time.now(machine.read(0)).0);
        for (wait_ms, ahead_ms) in looks {
            machine.wall_ahead_ms = if steady { MS_PER_H } else { ahead_ms };
            let soonest = time.reaches_ns(Millis(last + wait_ms), machine.boot_ns(now));
            now += wait_ms;
            let at = time.now(machine.read(now)).0;
            let elapsed_ms = at - last;
            let off_ms = elapsed_ms.abs_diff(wait_ms);
            prop_assert!(off_ms <= wait_ms * SLEW_PPM_MAX / PPM + 1, "{elapsed_ms} in {wait_ms}");
            if at >= last + wait_ms {
                prop_assert!(soonest <= machine.boot_ns(now));
            }
            last = at;
        }
    }
}
