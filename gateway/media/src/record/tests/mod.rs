//! A recording that goes from process to process: two boxes whose disks are folders, without threads or time,
//! but where two threads are the point.

mod random;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};

use crate::event::{Event, Gap, Held, Holding, Recorded};
use crate::limits::CHUNK_FRAMES;
use crate::plan::CallKey;
use crate::record::board::Board;
use crate::record::copies::{Error, Have};
use crate::record::custody::{Custody, Standing, Verdict, copies_in};
use crate::record::manifest::{Manifest, manifest_path, mend, wav_path};
use crate::record::timeline::Chunk;
use crate::record::verify::verify;
use crate::record::writer::{Command, Writer};
use crate::record::{marks, source};

const ID: u64 = 0xa1;
const CALL: CallKey = CallKey { tenant: 3, call: 7 };
const BEGUN_MS: u64 = 1_000_000;
const ORPHANS_AFTER: Duration = Duration::from_secs(60);

/// One life of a gateway's process: dropped, it has been killed.
struct Process {
    dir: PathBuf,
    board: Arc<Board>,
    custody: Arc<Custody>,
    writer: Writer,
    events: Receiver<Event>,
}

impl Process {
    fn start(dir: &Path) -> Self {
        let dir = dir.to_owned();
        let (outbox, events) = unbounded();
        let board = Arc::new(Board::new(true));
        let custody = Arc::new(Custody::new(dir.clone(), Arc::clone(&board)));
        custody.open_copies().expect("a folder");
        let (told, kept) = (Arc::clone(&board), Arc::clone(&custody));
        let writer = Writer::new(dir.clone(), ORPHANS_AFTER, outbox, told, kept);
        writer.find_uncopied();
        Self { dir, board, custody, writer, events }
    }

    /// After so much of the call.
    fn begin(&mut self, after_ms: u64) {
        let unix_ms = BEGUN_MS + after_ms;
        self.writer.handle(Command::Begin { recording: ID, call: CALL, at_ns: 0, unix_ms });
    }

    /// A second from `at_ms` of this life of it on.
    fn chunk(&mut self, at_ms: u64, sample: u8) {
        let chunk = Chunk { at_frame: at_ms * 8, bytes: vec![sample; CHUNK_FRAMES * 4] };
        self.writer.handle(Command::Chunk { recording: ID, chunk, missing_ms: 0 });
    }

    fn seconds(&mut self, samples: impl IntoIterator<Item = u8>) {
        for (second, sample) in samples.into_iter().enumerate() {
            self.chunk(second as u64 * 1_000, sample);
        }
    }

    fn finish(&mut self) -> Recorded {
        self.writer.handle(Command::Finish { recording: ID });
        self.writer.tell();
        match self.events.try_recv() {
            Ok(Event::Recorded(recorded)) => recorded,
            other => panic!("{other:?}"),
        }
    }

    /// A minute after its start.
    fn after_a_minute(&mut self) -> Vec<Holding> {
        self.writer.finish_orphans(Instant::now() + ORPHANS_AFTER + Duration::from_secs(1));
        self.writer.tell();
        self.events
            .try_iter()
            .flat_map(|event| match event {
                Event::Recording(held) => held,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn standing(&self) -> Standing {
        let Manifest { frames, sealed, .. } = own(&self.dir);
        Standing { frames, sealed }
    }

    /// As the sender does: all that the other has not.
    fn copy_to(&self, other: &Self) -> Result<(), Error> {
        self.copy_some_to(other, usize::MAX)
    }

    fn copy_some_to(&self, other: &Self, lines: usize) -> Result<(), Error> {
        let mut have = other.custody.have(ID, self.standing())?;
        let mut known = have.marks.clone();
        known.push(marks::Mark { bytes: have.place.bytes, hash: have.hash });
        let common = marks::common(&self.dir, ID, &known).expect("the disk");
        if let Some(mark) = common.filter(|mark| mark.bytes < have.place.bytes) {
            have = other.custody.cut_back(ID, &mark, self.standing())?;
        }
        let from = common.map_or(0, |_| have.place.bytes);
        let items = source::read(&self.dir, ID, from, u64::MAX, usize::MAX).expect("the disk");
        for item in items.into_iter().take(lines) {
            other.custody.put(ID, item.at, &item.line, &item.audio)?;
        }
        Ok(())
    }
}

fn own(dir: &Path) -> Manifest {
    Manifest::read(&manifest_path(dir, ID)).expect("the disk")
}

fn copy(dir: &Path) -> Manifest {
    own(&copies_in(dir))
}

fn aside(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir.join("aside")).into_iter().flatten();
    entries.map(|entry| entry.expect("the disk").path()).collect()
}

/// Of each second its first byte.
fn heard(dir: &Path) -> Vec<u8> {
    let wav = std::fs::read(wav_path(dir, ID)).expect("a file");
    wav[44..].chunks(CHUNK_FRAMES * 4).map(|second| second[0]).collect()
}

fn assert_good(dir: &Path) {
    let verdict = verify(dir, ID).expect("the disk").expect("it is there");
    assert!(verdict.is_good() && verdict.manifest.sealed, "{verdict:?}");
}

struct Boxes {
    a: tempfile::TempDir,
    b: tempfile::TempDir,
}

impl Boxes {
    fn new() -> Self {
        let dir = || tempfile::tempdir().expect("a folder");
        Self { a: dir(), b: dir() }
    }

    fn start(&self) -> (Process, Process) {
        (Process::start(self.a.path()), Process::start(self.b.path()))
    }
}

/// gateway-a has recorded four seconds and is dead; of these gateway-b has the first three.
fn died(boxes: &Boxes) -> Process {
    let (mut a, b) = boxes.start();
    a.begin(0);
    a.seconds(1..=3);
    a.copy_to(&b).expect("it is taken");
    for (_, synced) in b.custody.sync() {
        synced.expect("it is synced");
    }
    a.chunk(3_000, 4);
    b
}

#[test]
fn recording_goes_on_from_the_copy_with_a_gap_that_says_how_long_nobody_recorded() {
    let boxes = Boxes::new();
    let mut b = died(&boxes);
    b.begin(4_500);
    b.seconds([5, 6]);
    assert_eq!(copy(&b.dir).bytes, 0, "the copy is the recording now");
    let recorded = b.finish();
    assert_eq!((recorded.call, recorded.recording, recorded.duration_ms), (CALL, ID, 6_500));
    assert_eq!(recorded.gaps, [Gap { at_ms: 3_000, len_ms: 1_500 }]);
    assert_eq!(recorded.begun_unix_ms, BEGUN_MS);
    assert_good(&b.dir);
    assert_eq!(heard(&b.dir)[..4], [1, 2, 3, 0]);
    assert_eq!(b.board.behind().len(), 1, "it is to be copied");
}

#[test]
fn copy_that_a_restart_closed_and_a_power_cut_tore_is_gone_on_with_after_its_last_whole_chunk() {
    let boxes = Boxes::new();
    drop(died(&boxes));
    let copies = copies_in(boxes.b.path());
    for (path, by) in [(wav_path(&copies, ID), 8), (manifest_path(&copies, ID), 9)] {
        let file = std::fs::OpenOptions::new().write(true).open(path).expect("a file");
        file.set_len(file.metadata().expect("a file").len() - by).expect("the disk");
    }
    let mut b = Process::start(boxes.b.path());
    b.begin(4_000);
    b.seconds([5]);
    let recorded = b.finish();
    assert_eq!(recorded.gaps, [Gap { at_ms: 2_000, len_ms: 2_000 }]);
    assert_good(&b.dir);
    assert_eq!(heard(&b.dir), [1, 2, 0, 0, 5]);
}

#[test]
fn keeper_takes_nothing_more_of_what_goes_on_here_and_tells_nothing_of_it() {
    let boxes = Boxes::new();
    let (mut a, mut b) = boxes.start();
    a.begin(0);
    a.seconds(1..=3);
    a.copy_to(&b).expect("it is taken");
    // It is taken over while the keeper awaits the disk.
    b.begin(4_000);
    let before = own(&b.dir);
    a.chunk(3_000, 4);
    let put = b.custody.put(ID, before.bytes, b"{}\n", b"");
    assert!(matches!(put, Err(Error::Busy)), "{put:?}");
    let refused = a.copy_to(&b);
    assert!(matches!(refused, Err(Error::Busy)), "{refused:?}");
    assert!(b.custody.sync().is_empty());
    assert_eq!(b.custody.cut(ID).expect("the disk"), None);
    assert_eq!(own(&b.dir), before);
    b.seconds([5]);
    b.finish();
    // Nor when it is over: there is more of it here.
    assert!(matches!(a.copy_to(&b), Err(Error::Ours)));
    assert_eq!(copy(&b.dir).bytes, 0);
    assert_eq!(b.custody.cut(ID).expect("the disk"), None);
}

#[test]
fn sync_that_was_under_way_when_it_was_taken_over_promises_nothing() {
    // Each time another of the two threads is first.
    for round in 0..40 {
        let boxes = Boxes::new();
        let (mut a, mut b) = boxes.start();
        a.begin(0);
        a.seconds(1..=20);
        let items = source::read(&a.dir, ID, 0, u64::MAX, usize::MAX).expect("the disk");
        b.custody.have(ID, a.standing()).expect("the disk");
        let custody = Arc::clone(&b.custody);
        let keeper = std::thread::spawn(move || {
            let mut accepted = 0;
            for item in items {
                match custody.put(ID, item.at, &item.line, &item.audio) {
                    Ok(()) => accepted += 1,
                    Err(Error::Busy) => break,
                    Err(error) => panic!("{error}"),
                }
                if accepted % 3 == 0 {
                    for (_, synced) in custody.sync() {
                        assert!(matches!(synced, Ok(_) | Err(Error::Busy)), "{synced:?}");
                    }
                }
            }
            accepted
        });
        for _ in 0..round * 200 {
            std::hint::spin_loop();
        }
        b.begin(30_000);
        b.seconds([99]);
        let accepted: u32 = keeper.join().expect("the keeper");
        let recorded = b.finish();
        // Its first line says that it has begun; what was taken is there, and nothing came after it.
        assert_eq!(recorded.chunks, accepted.saturating_sub(1) + 1);
        assert_good(&b.dir);
        assert_eq!(copy(&b.dir).bytes, 0);
    }
}

#[test]
fn first_process_comes_back_while_it_runs_elsewhere_and_has_the_whole_copy_in_the_end() {
    let boxes = Boxes::new();
    let mut b = died(&boxes);
    b.begin(5_000);
    b.seconds([6]);
    let mut a = Process::start(boxes.a.path());
    assert_eq!((own(&a.dir).frames, a.board.behind().len()), (4 * 8_000, 1));
    b.copy_to(&a).expect("it runs there");
    // What lies here is the copy's beginning, and nobody's to send or to seal.
    assert_eq!((own(&a.dir).bytes, a.board.behind().len()), (0, 0));
    assert_eq!(a.after_a_minute(), []);
    // The second that died with it lies aside, by itself.
    let left = aside(&copies_in(&a.dir));
    assert_eq!(left.len(), 2, "{left:?}");
    let wav = left.iter().find(|path| path.extension().is_some_and(|it| it == "wav"));
    let wav = std::fs::read(wav.expect("its audio")).expect("a file");
    assert_eq!((wav.len(), wav[44]), (44 + CHUNK_FRAMES * 4, 4));
    b.chunk(1_000, 7);
    let recorded = b.finish();
    b.copy_to(&a).expect("all of it");
    let synced = a.custody.sync().remove(0).1.expect("it is synced");
    let Held::Whole { hash } = synced.whole.expect("it is whole").state else { panic!() };
    assert_eq!(hash, blake3::Hash::from_bytes(recorded.hash).to_hex().as_str());
    for path in [wav_path, manifest_path] {
        let (ours, theirs) = (path(&copies_in(&a.dir), ID), path(&b.dir, ID));
        assert!(std::fs::read(ours).expect("a file") == std::fs::read(theirs).expect("a file"));
    }
    assert!(aside(&a.dir).is_empty());
}

#[test]
fn part_whose_end_a_power_cut_tore_gives_way_as_far_as_it_is_there() {
    let boxes = Boxes::new();
    let mut b = died(&boxes);
    // Of the third second, too, of which the other has all.
    let file = std::fs::OpenOptions::new().write(true).open(wav_path(boxes.a.path(), ID));
    let length = 44 + (2 * CHUNK_FRAMES + 100) as u64 * 4;
    file.expect("a file").set_len(length).expect("the disk");
    b.begin(5_000);
    b.seconds([6]);
    b.finish();
    let a = Process::start(boxes.a.path());
    b.copy_to(&a).expect("there is more of it there");
    assert_eq!(copy(&a.dir), own(&b.dir));
    assert_good(&copies_in(&a.dir));
}

#[test]
fn first_process_comes_back_when_it_was_sealed_elsewhere_and_gives_way_whoever_asks_first() {
    for first_asks in [true, false] {
        let boxes = Boxes::new();
        let mut b = died(&boxes);
        b.begin(5_000);
        b.seconds([6]);
        b.finish();
        let mut a = Process::start(boxes.a.path());
        if first_asks {
            assert!(matches!(a.copy_to(&b), Err(Error::Ours)));
            a.custody.yield_to_other(ID).expect("the disk");
            assert_eq!(own(&a.dir).bytes, 0);
        }
        b.copy_to(&a).expect("there is more of it there");
        a.custody.sync().remove(0).1.expect("it is synced").whole.expect("it is whole");
        assert_eq!(a.after_a_minute(), []);
        assert_eq!(copy(&a.dir), own(&b.dir));
    }
}

#[test]
fn recording_that_nobody_goes_on_with_is_sealed_and_told_as_what_there_is_here() {
    let boxes = Boxes::new();
    drop(died(&boxes));
    let mut a = Process::start(boxes.a.path());
    assert_eq!(a.after_a_minute().len(), 1);
    assert_good(&a.dir);
    // Once.
    assert_eq!(a.after_a_minute(), []);
    let behind = a.board.behind();
    assert!(behind.len() == 1 && behind[0].1.sealed, "{behind:?}");
}

#[test]
fn line_that_returns_finds_what_was_recorded_meanwhile_in_the_copies() {
    let boxes = Boxes::new();
    let mut b = died(&boxes);
    b.begin(5_000);
    b.seconds([6, 7]);
    let a = Process::start(boxes.a.path());
    b.copy_to(&a).expect("it runs there");
    b.chunk(2_000, 8);
    // gateway-b is killed, and so was gateway-a before it could say what it has.
    drop(b);
    drop(a);
    let mut a = Process::start(boxes.a.path());
    a.begin(9_000);
    a.seconds([10]);
    let recorded = a.finish();
    assert_eq!(heard(&a.dir), [1, 2, 3, 0, 0, 6, 7, 0, 0, 10]);
    let gaps = [Gap { at_ms: 3_000, len_ms: 2_000 }, Gap { at_ms: 7_000, len_ms: 2_000 }];
    assert_eq!(recorded.gaps, gaps);
    assert_good(&a.dir);
    // And gateway-b, when it is back, has no more than a part of it.
    let mut b = Process::start(boxes.b.path());
    a.copy_to(&b).expect("there is more of it there");
    assert_eq!((copy(&b.dir), b.after_a_minute()), (own(&a.dir), vec![]));
}

#[test]
fn both_processes_die_and_the_one_with_more_is_copied_and_never_the_one_with_less() {
    let boxes = Boxes::new();
    let mut b = died(&boxes);
    b.begin(5_000);
    b.seconds([6, 7]);
    drop(b);
    let (mut a, mut b) = boxes.start();
    assert!(matches!(a.copy_to(&b), Err(Error::Ours)));
    b.copy_to(&a).expect("there is more of it there");
    assert_eq!((a.after_a_minute(), b.after_a_minute().len()), (vec![], 1));
    b.copy_to(&a).expect("the seal");
    assert_eq!(copy(&a.dir), own(&b.dir));
    assert_good(&copies_in(&a.dir));
}

#[test]
fn abandoned_recording_is_left_open_and_is_an_orphan_a_minute_later_if_nobody_goes_on() {
    let boxes = Boxes::new();
    let (mut a, b) = boxes.start();
    a.begin(0);
    a.seconds([1, 2]);
    a.after_a_minute();
    a.writer.handle(Command::Abandon { recording: ID });
    a.writer.tell();
    assert!(a.events.try_recv().is_err() && !own(&a.dir).sealed);
    a.writer.finish_orphans(Instant::now());
    assert!(!own(&a.dir).sealed, "it waits for who has the line by now");
    a.copy_to(&b).expect("its end, for who goes on");
    assert_eq!(a.after_a_minute().len(), 1);
    assert_good(&a.dir);
}

#[test]
fn abandoned_recording_gives_way_to_who_has_the_line_and_is_gone_on_with_when_that_returns() {
    let boxes = Boxes::new();
    let (mut a, mut b) = boxes.start();
    a.begin(0);
    a.seconds([1, 2]);
    a.copy_to(&b).expect("it is taken");
    // Both have it for a moment: neither gives way, and nothing is lost by it.
    b.begin(2_000);
    assert!(matches!(a.copy_to(&b), Err(Error::Ours)));
    assert!(matches!(b.copy_to(&a), Err(Error::Ours)));
    a.custody.yield_to_other(ID).expect("it runs");
    assert_eq!(own(&a.dir).chunks, 2);
    a.writer.handle(Command::Abandon { recording: ID });
    b.seconds([3]);
    b.copy_to(&a).expect("it runs there");
    assert_eq!(a.after_a_minute(), []);
    b.writer.handle(Command::Abandon { recording: ID });
    a.begin(3_000);
    a.seconds([4]);
    let recorded = a.finish();
    assert_eq!((heard(&a.dir), recorded.gaps), (vec![1, 2, 3, 4], vec![]));
}

#[test]
fn recording_that_was_paused_when_its_process_died_is_resumed_where_it_goes_on() {
    let boxes = Boxes::new();
    let (mut a, mut b) = boxes.start();
    a.begin(0);
    a.seconds([1]);
    a.writer.handle(Command::Pause { recording: ID, at_frame: 8_000, paused: true });
    a.chunk(1_000, 0);
    a.copy_to(&b).expect("it is taken");
    drop(a);
    b.begin(3_000);
    b.writer.handle(Command::Pause { recording: ID, at_frame: 0, paused: false });
    b.seconds([4]);
    assert_eq!(b.finish().pauses, [Gap { at_ms: 1_000, len_ms: 2_000 }]);
}

#[test]
fn copy_that_is_the_beginning_of_what_lies_here_is_not_kept_twice() {
    let boxes = Boxes::new();
    drop(died(&boxes));
    let copies = copies_in(boxes.b.path());
    // A copy that was moved, and came to be there a second time.
    for path in [wav_path, manifest_path] {
        std::fs::copy(path(boxes.a.path(), ID), path(boxes.b.path(), ID)).expect("the disk");
    }
    assert!(copy(boxes.b.path()).bytes > 0);
    let mut b = Process::start(boxes.b.path());
    b.begin(4_000);
    b.seconds([5]);
    assert_eq!((copy(&b.dir).bytes, b.finish().gaps), (0, vec![]));
    assert_eq!(heard(&b.dir), [1, 2, 3, 4, 5]);
    assert!(!wav_path(&copies, ID).exists());
}

#[test]
fn move_between_the_folders_that_a_crash_cut_in_two_is_done_to_its_end() {
    let cut_in_two = |from: &Path, to: &Path| {
        std::fs::rename(wav_path(from, ID), wav_path(to, ID)).expect("the disk");
    };
    // It was being taken over, and its process dies before it has.
    let boxes = Boxes::new();
    drop(died(&boxes));
    cut_in_two(&copies_in(boxes.b.path()), boxes.b.path());
    let mut b = Process::start(boxes.b.path());
    assert!(b.custody.unsealed().expect("the disk").is_empty());
    b.begin(3_000);
    b.seconds([4]);
    b.finish();
    assert_eq!(heard(&b.dir), [1, 2, 3, 4]);
    // It was becoming a copy.
    let boxes = Boxes::new();
    drop(died(&boxes));
    let a = boxes.a.path();
    std::fs::create_dir_all(copies_in(a)).expect("a folder");
    cut_in_two(a, &copies_in(a));
    let mut a = Process::start(a);
    a.begin(4_000);
    a.seconds([5]);
    a.finish();
    assert_eq!(heard(&a.dir), [1, 2, 3, 4, 5]);
    // Nothing of a whole one is touched.
    mend(&a.dir, &copies_in(&a.dir), ID).expect("the disk");
    assert_good(&a.dir);
}

#[test]
fn marks_find_where_two_manifests_part_and_nothing_else() {
    let boxes = Boxes::new();
    let mut b = died(&boxes);
    let common = own(&copies_in(&b.dir)).bytes;
    b.begin(4_000);
    b.seconds([5]);
    let known = marks::last(boxes.a.path(), ID).expect("the disk");
    assert_eq!(known[0].bytes, own(boxes.a.path()).bytes);
    let found = marks::common(&b.dir, ID, &known).expect("the disk").expect("the beginning");
    assert_eq!(found.bytes, common);
    let other = marks::Mark { bytes: common, hash: [0; 32] };
    assert_eq!(marks::common(&b.dir, ID, &[other]).expect("the disk"), None);
    let within = marks::Mark { bytes: common - 1, ..found };
    for wrong in [other, within] {
        let cut = marks::cut_back(boxes.a.path(), ID, &wrong, b.standing());
        assert!(matches!(cut, Err(Error::Another)), "{cut:?}");
    }
    assert_eq!(own(boxes.a.path()).chunks, 4);
}

#[test]
fn part_that_is_being_sealed_takes_nothing_from_who_has_more() {
    let boxes = Boxes::new();
    let mut b = died(&boxes);
    b.begin(5_000);
    b.seconds([6, 7]);
    drop(b);
    let (a, b) = boxes.start();
    assert!(a.custody.hold(ID).expect("the disk"));
    let asked = b.copy_to(&a);
    assert!(matches!(asked, Err(Error::Busy)), "{asked:?}");
    a.custody.leave(ID);
    b.copy_to(&a).expect("there is more of it there");
    assert!(!a.custody.hold(ID).expect("the disk"), "it is a copy by now");
}

#[test]
fn who_has_more_goes_on_and_nothing_sealed_gives_way_to_what_is_not() {
    let open = |frames| Standing { frames, sealed: false };
    let sealed = |frames| Standing { frames, sealed: true };
    for (ours, runs, theirs, expected) in [
        (open(2), false, open(3), Verdict::Take),
        (open(2), false, open(2), Verdict::Ours),
        (open(3), false, open(2), Verdict::Ours),
        // One that runs gets longer: both know who has more in a moment.
        (open(2), true, open(3), Verdict::Wait),
        (open(3), true, open(2), Verdict::Ours),
        (open(3), true, sealed(2), Verdict::Wait),
        (open(2), true, sealed(3), Verdict::Wait),
        // What a crash has left open is sealed soon, or gives way by itself.
        (open(3), false, sealed(2), Verdict::Wait),
        (open(2), false, sealed(2), Verdict::Take),
        (open(2), false, sealed(3), Verdict::Take),
        // The beginning of a talk that was sent on, and went on elsewhere.
        (sealed(2), false, open(3), Verdict::Take),
        (sealed(3), false, open(2), Verdict::Ours),
        (sealed(2), false, sealed(3), Verdict::Take),
        (sealed(2), false, sealed(2), Verdict::Ours),
    ] {
        assert_eq!(ours.judge(runs, theirs), expected, "{ours:?} {runs} {theirs:?}");
    }
}

#[test]
fn process_that_stood_still_and_recorded_silence_for_longer_takes_nothing_from_the_sealed_one() {
    let boxes = Boxes::new();
    let (mut a, mut b) = boxes.start();
    a.begin(0);
    a.seconds(1..=3);
    a.copy_to(&b).expect("it is taken");
    b.begin(4_000);
    b.seconds([5]);
    b.finish();
    let whole = own(&b.dir);
    // It has its line no more and does not know it yet.
    for second in 3..9 {
        a.chunk(second * 1_000, 0);
    }
    assert!(matches!(b.copy_to(&a), Err(Error::Busy)));
    assert!(matches!(a.copy_to(&b), Err(Error::Ours)));
    a.writer.handle(Command::Abandon { recording: ID });
    assert!(matches!(b.copy_to(&a), Err(Error::Busy)));
    assert!(matches!(a.copy_to(&b), Err(Error::Ours)));
    assert_eq!(own(&b.dir), whole);
    // So it gives way, as its sender does when it is told so.
    a.custody.yield_to_other(ID).expect("the disk");
    b.copy_to(&a).expect("the whole");
    assert_eq!((copy(&a.dir), a.after_a_minute()), (whole, vec![]));
    assert_good(&copies_in(&a.dir));
}

#[test]
fn sealed_beginning_of_which_the_copy_lacked_the_end_gives_way_to_the_longer_sealed_one() {
    let boxes = Boxes::new();
    let (mut a, mut b) = boxes.start();
    a.begin(0);
    a.seconds(1..=3);
    a.copy_to(&b).expect("it is taken");
    a.chunk(3_000, 4);
    a.finish();
    b.begin(6_000);
    b.seconds([7, 8]);
    // While it runs there, what is whole here stays so.
    let sealed = own(&a.dir);
    assert!(matches!(b.copy_to(&a), Err(Error::Ours)));
    assert_eq!(own(&a.dir), sealed);
    b.finish();
    b.copy_to(&a).expect("it is longer, and sealed");
    assert_eq!((own(&a.dir).bytes, copy(&a.dir)), (0, own(&b.dir)));
    assert_eq!(aside(&copies_in(&a.dir)).len(), 2);
}

#[test]
fn question_of_an_older_sender_is_answered_where_there_is_no_part_of_it_here() {
    let boxes = Boxes::new();
    let (mut a, b) = boxes.start();
    let Have { place, .. } = b.custody.have(ID, Standing::default()).expect("nothing yet");
    assert_eq!(place.bytes, 0);
    a.begin(0);
    a.seconds([1]);
    a.writer.handle(Command::Abandon { recording: ID });
    assert!(matches!(a.custody.have(ID, Standing::default()), Err(Error::Ours)));
    assert_eq!(own(&a.dir).chunks, 1);
}
