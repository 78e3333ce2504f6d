//! A copy becomes its original byte by byte, whatever is cut, torn, late, repeated or damaged on the
//! way: both sides ask, and neither guesses.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use tandem_media::record::copies::{Copies, Error};
use tandem_media::record::manifest::{Line, Manifest, manifest_path, wav_path};
use tandem_media::record::verify::verify;
use tandem_media::record::{source, wav};
use tandem_media::{Gap, Held};

const ID: u64 = 0xa1;
const FRAMES: u64 = 8;

/// A sealed recording of so many tiny chunks, with a gap and a pause.
fn original(dir: &Path, chunks: u64) {
    let mut audio = Vec::new();
    let mut lines =
        vec![Line::Begun { recording: format!("{ID:016x}"), call: 7, unix_ms: 5, tenant: 0 }];
    for chunk in 0..chunks {
        if chunk == 2 {
            // A chunk that never came: silence.
            lines.push(Line::Gap(Gap { at_ms: audio.len() as u64 / 32, len_ms: 1 }));
            audio.extend([0; FRAMES as usize * 4]);
        }
        if chunk == 3 {
            lines.push(Line::Paused { at_ms: 3 });
            lines.push(Line::Resumed { at_ms: 4 });
        }
        let bytes = vec![chunk as u8 + 1; FRAMES as usize * 4];
        let at_frame = audio.len() as u64 / 4;
        let blake3 = blake3::hash(&bytes).to_hex().to_string();
        lines.push(Line::Chunk { at_frame, frames: FRAMES, blake3 });
        audio.extend(bytes);
    }
    let mut file = wav::header(audio.len() as u64 / 4).to_vec();
    file.extend(audio);
    let blake3 = blake3::hash(&file).to_hex().to_string();
    lines.push(Line::Sealed { duration_ms: file.len() as u64 / 32, blake3 });
    let text: String =
        lines.iter().map(|line| serde_json::to_string(line).expect("JSON") + "\n").collect();
    fs::write(wav_path(dir, ID), file).expect("the original");
    fs::write(manifest_path(dir, ID), text).expect("the original");
}

#[derive(Clone, Debug)]
enum Act {
    /// The next lines come.
    Send(usize),
    Sync,
    /// The process dies; a power cut takes so many bytes of what was not synced.
    Crash {
        manifest: u64,
        audio: u64,
    },
    /// A line that came before comes again.
    Again,
    /// The next line's audio is not what it says.
    Damage,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (1..4_usize).prop_map(Act::Send),
        2 => Just(Act::Sync),
        2 => (0..200_u64, 0..80_u64).prop_map(|(manifest, audio)| Act::Crash { manifest, audio }),
        1 => Just(Act::Again),
        1 => Just(Act::Damage),
    ]
}

fn cut(path: &Path, by: u64, least: u64) {
    let Ok(file) = fs::OpenOptions::new().write(true).open(path) else { return };
    let length = file.metadata().expect("a file").len();
    if length > least {
        file.set_len(length.saturating_sub(by).max(least)).expect("a file");
    }
}

/// Where the copy is, checked as a sender does: it is the beginning of the original.
fn asked(copies: &mut Copies, from: &Path) -> u64 {
    let have = copies.have(ID).expect("the disk");
    let known = source::prefix_hash(from, ID, have.place.bytes).expect("the disk");
    assert_eq!(known, Some(have.hash), "the copy is not the beginning of the original");
    have.place.bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn copy_becomes_the_original_whatever_happens(
        chunks in 0..8_u64,
        acts in proptest::collection::vec(act(), 0..24),
    ) {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        original(from.path(), chunks);
        let all = fs::metadata(manifest_path(from.path(), ID)).unwrap().len();
        let open = || Copies::open(to.path().into()).unwrap();
        let mut copies = open();
        let (mut synced, mut synced_audio) = (0, 0);
        for act in acts {
            let at = asked(&mut copies, from.path());
            prop_assert!(at >= synced, "what was synced is gone");
            let next = source::read(from.path(), ID, at, all, usize::MAX).unwrap();
            match act {
                Act::Send(lines) => {
                    for item in next.iter().take(lines) {
                        copies.put(ID, item.at, &item.line, &item.audio).unwrap();
                    }
                }
                Act::Sync => {
                    for (_, done) in copies.sync() {
                        let place = done.unwrap().place;
                        (synced, synced_audio) = (place.bytes, wav::bytes_of(place.frames));
                    }
                }
                Act::Crash { manifest, audio } => {
                    drop(copies);
                    cut(&manifest_path(to.path(), ID), manifest, synced);
                    cut(&wav_path(to.path(), ID), audio, wav::HEADER_BYTES + synced_audio);
                    copies = open();
                }
                Act::Again => {
                    let first = source::read(from.path(), ID, 0, all, 1).unwrap().remove(0);
                    if let Some(second) =
                        source::read(from.path(), ID, first.line.len() as u64, all, 1).unwrap().first()
                        && at > second.at
                    {
                        let put = copies.put(ID, second.at, &second.line, &second.audio);
                        let refused = matches!(put, Err(Error::NotNext { .. }));
                        prop_assert!(refused, "{put:?}");
                    }
                }
                Act::Damage => {
                    if let Some(item) = next.first().filter(|item| !item.audio.is_empty()) {
                        let mut audio = item.audio.clone();
                        audio[3] ^= 1;
                        let put = copies.put(ID, item.at, &item.line, &audio);
                        let refused = matches!(put, Err(Error::Damaged));
                        prop_assert!(refused, "{put:?}");
                    }
                }
            }
        }
        let at = asked(&mut copies, from.path());
        for item in source::read(from.path(), ID, at, all, usize::MAX).unwrap() {
            copies.put(ID, item.at, &item.line, &item.audio).unwrap();
        }
        for (_, done) in copies.sync() {
            let whole = done.unwrap().whole.expect("it is whole");
            let is_whole = matches!(whole.state, Held::Whole { .. });
            prop_assert!(is_whole);
        }
        for path in [wav_path, manifest_path] {
            let (ours, theirs) = (path(from.path(), ID), path(to.path(), ID));
            prop_assert!(fs::read(ours).unwrap() == fs::read(theirs).unwrap(), "they differ");
        }
        prop_assert!(verify(to.path(), ID).unwrap().unwrap().is_good());
        prop_assert!(!to.path().join("aside").exists());
    }
}

#[test]
fn copy_of_another_recording_is_put_aside_and_not_lost() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    original(from.path(), 3);
    let mut copies = Copies::open(to.path().into()).unwrap();
    let all = fs::metadata(manifest_path(from.path(), ID)).unwrap().len();
    let items = source::read(from.path(), ID, 0, all, usize::MAX).unwrap();
    copies.put(ID, 0, &items[0].line, &items[0].audio).unwrap();
    copies.sync();
    copies.put(ID, 0, &items[0].line, &items[0].audio).unwrap();
    assert_eq!(copies.have(ID).unwrap().place.bytes, items[0].line.len() as u64);
    assert_eq!(fs::read_dir(to.path().join("aside")).unwrap().count(), 2);
}

#[test]
fn copy_that_nobody_goes_on_with_ends_with_its_last_whole_chunk() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    original(from.path(), 3);
    let mut copies = Copies::open(to.path().into()).unwrap();
    let all = fs::metadata(manifest_path(from.path(), ID)).unwrap().len();
    for item in source::read(from.path(), ID, 0, all, usize::MAX).unwrap().iter().take(3) {
        copies.put(ID, item.at, &item.line, &item.audio).unwrap();
    }
    copies.sync();
    let cut = copies.cut(ID).unwrap().expect("two chunks");
    let Held::Cut { hash } = cut.state else { panic!("{cut:?}") };
    assert_eq!((cut.chunks, cut.call), (2, 7.into()));
    assert_eq!(hash, blake3::hash(&fs::read(wav_path(to.path(), ID)).unwrap()).to_hex().as_str());
    // It goes on all the same when somebody does.
    let bytes = copies.have(ID).unwrap().place.bytes;
    for item in source::read(from.path(), ID, bytes, all, usize::MAX).unwrap() {
        copies.put(ID, item.at, &item.line, &item.audio).unwrap();
    }
    assert!(copies.sync().remove(0).1.unwrap().whole.is_some());
}

#[test]
fn flipped_byte_is_found_with_its_chunk_and_a_cut_file_with_all_that_is_missing() {
    let from = tempfile::tempdir().unwrap();
    original(from.path(), 4);
    assert!(verify(from.path(), ID).unwrap().unwrap().is_good());
    let path = wav_path(from.path(), ID);
    let whole = fs::read(&path).unwrap();
    let mut bytes = whole.clone();
    // The header is no chunk's, but the sealed file's.
    bytes[4] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let verdict = verify(from.path(), ID).unwrap().unwrap();
    assert!(verdict.wrong_hash && verdict.damaged.is_empty());
    bytes[44 + 40] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let damaged = verify(from.path(), ID).unwrap().unwrap().damaged;
    assert_eq!(damaged.iter().map(|of| of.chunk).collect::<Vec<_>>(), [2]);
    fs::write(&path, &whole[..whole.len() - 40]).unwrap();
    let damaged = verify(from.path(), ID).unwrap().unwrap().damaged;
    assert_eq!(damaged.iter().map(|of| of.chunk).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(Manifest::read(&manifest_path(from.path(), ID)).unwrap().chunks, 4);
    assert_eq!(verify(from.path(), 0xb2).unwrap(), None);
}
