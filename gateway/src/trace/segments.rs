//! Files of frames, the oldest dropped first. A name says when the file was begun.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tandem_core::ids::CallId;

use super::record::{Record, dialog_hash, frames, read};

/// A segment is closed when it has so much, or a quarter of the budget where that is less.
pub const SEGMENT_BYTES_MAX: u64 = 16 << 20;
/// What a dialog says before the cluster knows its call, and after the call's end.
const MARGIN_US: u64 = 40_000_000;
/// Records of one call that are shown; the later ones are left out.
pub const RECORDS_OF_A_CALL_MAX: usize = 20_000;

const SUFFIX: &str = "trace";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// When it was begun, milliseconds since the Unix epoch.
    pub begun_ms: u64,
    pub path: PathBuf,
    pub bytes: u64,
}

pub fn path_of(dir: &Path, begun_ms: u64) -> PathBuf {
    dir.join(format!("{begun_ms:016x}.{SUFFIX}"))
}

/// The segments of a folder, oldest first.
///
/// # Errors
/// Where the folder can't be read.
pub fn list(dir: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        let named = path.extension().is_some_and(|suffix| suffix == SUFFIX);
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let begun = stem.and_then(|stem| u64::from_str_radix(stem, 16).ok());
        if let (true, Some(begun_ms)) = (named, begun) {
            segments.push(Segment { begun_ms, bytes: entry.metadata()?.len(), path });
        }
    }
    segments.sort_by_key(|segment| segment.begun_ms);
    Ok(segments)
}

/// What is known of a call, in the order of time: first which dialogs are the call's and when it
/// lived, then what those dialogs said.
///
/// # Errors
/// Where a segment can't be read. One that was dropped meanwhile is no error.
pub fn search(segments: &[Segment], call: CallId) -> io::Result<Vec<Record>> {
    let mut dialogs = BTreeSet::new();
    let mut lived: Option<(u64, u64)> = None;
    for segment in segments {
        let Some(bytes) = contents(segment)? else { continue };
        for (names, body) in frames(&bytes).filter(|(names, _)| names.call == call.0) {
            let Some(record) = read(names, body) else { continue };
            dialogs.extend(record.call_id().map(dialog_hash));
            let (first, last) = lived.unwrap_or((names.at_us, names.at_us));
            lived = Some((first.min(names.at_us), last.max(names.at_us)));
        }
    }
    let Some((first, last)) = lived else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    let window = first.saturating_sub(MARGIN_US)..=last.saturating_add(MARGIN_US);
    for (at, segment) in segments.iter().enumerate() {
        let next_ms = segments.get(at + 1).map_or(u64::MAX, |next| next.begun_ms);
        let over = next_ms.saturating_mul(1_000) < *window.start();
        if over || segment.begun_ms.saturating_mul(1_000) > *window.end() {
            continue;
        }
        let Some(bytes) = contents(segment)? else { continue };
        let said = frames(&bytes).filter(|(names, _)| {
            let of_call = names.call == call.0;
            let of_dialog = names.call == 0 && dialogs.contains(&names.dialog);
            (of_call || of_dialog) && window.contains(&names.at_us)
        });
        found.extend(said.filter_map(|(names, body)| read(names, body)));
    }
    // What happened within one microsecond stays as it was written.
    found.sort_by_key(|record| record.at_us);
    found.truncate(RECORDS_OF_A_CALL_MAX);
    Ok(found)
}

fn contents(segment: &Segment) -> io::Result<Option<Vec<u8>>> {
    match fs::read(&segment.path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
