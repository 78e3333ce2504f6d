//! Data folders that a node must not work on: each is refused in one sentence that says which and
//! why, and nothing in it is changed. What can be made again from the log is.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::common::{Cluster, Stopped};

/// The log's segments, oldest first.
fn segments(log: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    found.sort();
    found
}

#[track_caller]
fn refused(cluster: &Stopped, before: &str, why: &[&str]) {
    let (code, said) = cluster.fails_to_start(before);
    assert_eq!(code, Some(1), "{said}");
    for words in why {
        assert!(said.contains(words), "{words:?} is not in {said:?}");
    }
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
}

#[test]
fn node_refuses_a_data_folder_that_is_not_its_own() {
    let cluster = Cluster::start(41, &[]).into_folder();
    let mark = cluster.path("data/node-b/DATA_FORMAT");
    let text = fs::read_to_string(&mark).unwrap();

    fs::write(&mark, text.replace("version 4", "version 99")).unwrap();
    refused(&cluster, "", &["data/node-b", "has format version 99; this build knows 4"]);

    let id = text.lines().find_map(|line| line.strip_prefix("cluster ")).unwrap();
    fs::write(&mark, text.replace(id, "another")).unwrap();
    refused(&cluster, "", &["data/node-b", "belongs to cluster another, not", id]);

    fs::write(&mark, text.replace("node node-b", "node node-a")).unwrap();
    refused(&cluster, "", &["data/node-b", "belongs to node node-a, not node-b"]);

    // Nothing was lost by it.
    fs::write(&mark, text).unwrap();
    assert_eq!(cluster.start().stop(), Some(0));
}

#[test]
fn node_refuses_a_disk_that_is_read_only_or_full() {
    let cluster = Cluster::start(42, &[]).into_folder();
    let data = cluster.path("data/node-a");
    let data = data.to_str().unwrap();
    let read_only = format!("mount --bind {data} {data}; mount -o remount,bind,ro {data}; ");
    refused(&cluster, &read_only, &["data/node-a", "Read-only file system"]);
    // Empty, and too small for a first segment.
    let full = format!("mount -t tmpfs -o size=1m none {data}; ");
    refused(&cluster, &full, &["data/node-a", "No space left on device"]);
    assert_eq!(cluster.start().stop(), Some(0));
}

#[test]
fn node_stops_when_its_log_is_corrupt_in_the_middle_and_cuts_a_torn_end() {
    let cluster = Cluster::start(43, &[]).into_folder();
    let log = cluster.path("data/node-a/log");
    let path = segments(&log).first().expect("a segment").clone();
    let segment = File::options().read(true).write(true).open(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    let records: Vec<_> = (4096..bytes.len() - 4)
        .step_by(8)
        .filter(|at| &bytes[*at..*at + 4] == b"TDRC")
        .map(|at| at as u64)
        .collect();
    assert!(records.len() > 10, "{} records", records.len());

    // A byte in the payload of one in the middle.
    let at = records[records.len() / 2] + 48;
    let byte = bytes[usize::try_from(at).unwrap()];
    segment.write_all_at(&[byte ^ 0x40], at).unwrap();
    refused(&cluster, "", &["data/node-a/log", "is corrupt at byte"]);
    segment.write_all_at(&[byte], at).unwrap();

    // The beginning of a record behind the last one, as a power loss leaves it.
    let last = *records.last().unwrap();
    let mut torn = bytes[usize::try_from(records[0]).unwrap()..][..40].to_vec();
    torn[24..32].copy_from_slice(&u64::MAX.to_le_bytes());
    let len =
        u32::from_le_bytes(bytes[usize::try_from(last).unwrap() + 8..][..4].try_into().unwrap());
    let end = (last + 48 + u64::from(len)).next_multiple_of(8);
    segment.write_all_at(&torn, end).unwrap();
    assert_eq!(cluster.start().stop(), Some(0));
}

#[test]
fn node_refuses_a_folder_that_lost_its_log_and_makes_a_damaged_state_again() {
    let cluster = Cluster::start(193, &[]).into_folder();
    let (log, kept) = (cluster.path("data/node-a/log"), cluster.path("log-of-node-a"));
    fs::rename(&log, &kept).unwrap();
    refused(&cluster, "", &["TD0424", "data/node-a", "had a log, which is gone"]);
    fs::rename(&kept, &log).unwrap();

    let state = cluster.path("data/node-a/state");
    let full = format!("mount -t tmpfs -o size=16k none {}; ", state.display());
    refused(&cluster, &full, &["data/node-a/state", "No space left on device"]);

    let files = fs::read_dir(&state).unwrap().map(|file| file.unwrap().path());
    let is_manifest = |path: &PathBuf| path.to_string_lossy().contains("MANIFEST");
    for manifest in files.filter(is_manifest) {
        fs::remove_file(manifest).unwrap();
    }
    let cluster = cluster.start();
    assert!(cluster.path("data/node-a/state.damaged").is_dir(), "it is put aside");
    cluster.until("either node may be lost again", |cluster| {
        cluster.status().is_some_and(|status| status["failure_tolerance"] == 1)
    });
    assert_eq!(cluster.stop(), Some(0));
}
