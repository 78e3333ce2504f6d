use std::path::Path;

use crate::format::{DataDir, Error};
use crate::log::{self, Log, SEGMENT_BYTES_MIN};

fn sentence(dir: &Path, cluster: &str, node: &str) -> String {
    let text = DataDir::open(dir, cluster, node).unwrap_err().to_string();
    text.replace(&dir.display().to_string(), "DIR")
}

#[test]
fn folder_opens_again_for_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/folder");
    drop(DataDir::open(&path, "blue", "node-a").unwrap());
    drop(DataDir::open(&path, "blue", "node-a").unwrap());
    let text = std::fs::read_to_string(path.join("DATA_FORMAT")).unwrap();
    assert_eq!(text, "version 4\ncluster blue\nnode node-a\n");
}

#[test]
fn folder_refuses_a_second_process_while_it_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let open = DataDir::open(dir.path(), "blue", "node-a").unwrap();
    let text = sentence(dir.path(), "blue", "node-a");
    assert_eq!(text, "data folder DIR is in use by another process");
    drop(open);
    DataDir::open(dir.path(), "blue", "node-a").unwrap();
}

#[test]
fn folder_refuses_another_cluster_and_another_node() {
    let dir = tempfile::tempdir().unwrap();
    drop(DataDir::open(dir.path(), "blue", "node-a").unwrap());
    let text = sentence(dir.path(), "green", "node-a");
    assert_eq!(text, "data folder DIR belongs to cluster blue, not green");
    let text = sentence(dir.path(), "blue", "node-b");
    assert_eq!(text, "data folder DIR belongs to node node-a, not node-b");
}

#[test]
fn folder_refuses_an_unknown_format() {
    let dir = tempfile::tempdir().unwrap();
    for (text, found) in [("version 7\ncluster blue\nnode a\n", "7"), ("\u{0}junk", "(none)")] {
        std::fs::write(dir.path().join("DATA_FORMAT"), text).unwrap();
        let expected = format!("data folder DIR has format version {found}; this build knows 4");
        assert_eq!(sentence(dir.path(), "blue", "a"), expected);
    }
}

#[test]
fn folder_refuses_names_that_are_no_names() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["", " a", "a\nnode b"] {
        let refused = DataDir::open(dir.path(), "blue", name);
        assert!(matches!(refused, Err(Error::Name { what: "node", .. })), "{name:?}");
    }
}

#[test]
fn folder_that_is_a_file_says_so_in_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, "").unwrap();
    let text = sentence(&path, "blue", "a");
    assert!(text.starts_with("data folder DIR can't be used: "), "{text}");
    assert!(!text.contains('\n'));
}

#[test]
fn folder_that_lost_its_log_is_no_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let open = |dir: &DataDir| {
        let options = log::Options { segment_bytes: SEGMENT_BYTES_MIN, ..Default::default() };
        dir.open_log(options).map(Log::close)
    };
    let folder = DataDir::open(dir.path(), "blue", "a").unwrap();
    open(&folder).unwrap();
    open(&folder).unwrap();
    for leaves_folder in [true, false] {
        std::fs::remove_dir_all(folder.log()).unwrap();
        if leaves_folder {
            std::fs::create_dir(folder.log()).unwrap();
        }
        let text = open(&folder).unwrap_err().to_string();
        assert!(text.starts_with("TD0424 data folder "), "{text}");
        assert!(!text.contains('\n'), "{text}");
    }
    // A folder of an earlier build has no mark, and a log.
    std::fs::remove_file(dir.path().join("LOG_BEGUN")).unwrap();
    open(&folder).unwrap();
    assert!(dir.path().join("LOG_BEGUN").exists());
}

#[test]
fn folder_says_which_replica_it_is_of_once_that_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let folder = DataDir::open(dir.path(), "blue", "a").unwrap();
    assert_eq!((folder.replica().unwrap(), folder.has_begun().unwrap()), (None, false));
    folder.set_replica("nobody yet").unwrap();
    folder.set_replica("number 4").unwrap();
    assert_eq!(folder.replica().unwrap().as_deref(), Some("number 4"));
    let options = log::Options { segment_bytes: SEGMENT_BYTES_MIN, ..Default::default() };
    folder.open_log(options).map(Log::close).unwrap();
    assert!(folder.has_begun().unwrap());
    // A log of a replica that nobody names any more is nobody else's.
    std::fs::rename(dir.path().join("REPLICA"), dir.path().join("aside")).unwrap();
    let gone = folder.replica().unwrap_err().to_string();
    assert!(gone.starts_with("TD0455 data folder ") && !gone.contains('\n'), "{gone}");
    std::fs::rename(dir.path().join("aside"), dir.path().join("REPLICA")).unwrap();
    // What has lost its log has begun all the same.
    std::fs::remove_dir_all(folder.log()).unwrap();
    assert!(folder.has_begun().unwrap());
}
