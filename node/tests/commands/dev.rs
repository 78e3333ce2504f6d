//! `tandem dev` by running it: what it starts, keeps current, stops and refuses.

use std::time::{Duration, Instant};

use crate::common::{self, Cluster, tandem};

#[test]
fn dev_stops_everything_and_exits_0_when_terminated() {
    let cluster = Cluster::start(31, &[]);
    let pids: Vec<_> = cluster.processes().iter().map(|(_, pid, _)| *pid).collect();
    assert_eq!(pids.len(), 5);
    assert_eq!(cluster.stop(), Some(0));
    for pid in pids {
        assert!(!common::exists(pid), "process {pid} was left behind");
    }
}

#[test]
fn dev_takes_its_children_along_when_killed() {
    let mut cluster = Cluster::start(32, &[]);
    let pids: Vec<_> = cluster.processes().iter().map(|(_, pid, _)| *pid).collect();
    cluster.kill_supervisor();
    let deadline = Instant::now() + Duration::from_secs(10);
    while pids.iter().any(|pid| common::exists(*pid)) {
        assert!(Instant::now() < deadline, "children outlived their supervisor");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn dev_goes_on_at_once_when_its_supervisor_was_killed() {
    let mut cluster = Cluster::start(39, &[]);
    // The way a process dies is a race with whoever starts the next one: run it more than once.
    for _ in 0..5 {
        cluster.kill_supervisor();
        cluster = cluster.start_again();
    }
    assert_eq!(cluster.stop(), Some(0));
}

#[test]
fn dev_says_who_is_dead_and_starts_it_when_ordered() {
    let cluster = Cluster::start(33, &[]);
    let pid = cluster.pid("witness");
    common::kill(pid);
    cluster.until("witness is dead", |cluster| !cluster.alive("witness"));
    assert!(cluster.alive("node-a") && cluster.alive("gateway-b"));

    let started = tandem(&["dev", "start", "witness", "--dir", cluster.dir()]);
    assert_eq!(started.status.code(), Some(0), "{started:?}");
    assert!(cluster.alive("witness"));
    assert_ne!(cluster.pid("witness"), pid);

    let stopped = tandem(&["dev", "stop", "witness", "--dir", cluster.dir()]);
    assert_eq!(stopped.status.code(), Some(0), "{stopped:?}");
    assert!(!cluster.alive("witness"));

    let unknown = tandem(&["dev", "stop", "node-z", "--dir", cluster.dir()]);
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
    assert_eq!(cluster.stop(), Some(0));
}

#[test]
fn dev_brings_a_process_back_when_told_to_restart() {
    let cluster = Cluster::start(34, &["--restart"]);
    let pid = cluster.pid("gateway-a");
    common::kill(pid);
    cluster.until("gateway-a is back", |cluster| {
        cluster.alive("gateway-a") && cluster.pid("gateway-a") != pid
    });
    assert_eq!(cluster.stop(), Some(0));
}

#[test]
fn dev_exits_1_with_a_sentence_when_one_runs_there_already() {
    let cluster = Cluster::start(35, &[]);
    let second = tandem(&["dev", "--dir", cluster.dir(), "--config", cluster.config()]);
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.starts_with("a cluster already runs in"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert_eq!(cluster.stop(), Some(0));
}

#[test]
fn dev_exits_1_naming_the_address_when_a_port_is_busy() {
    let busy = std::net::UdpSocket::bind("127.0.36.10:5060").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = common::config(dir.path(), 36);
    let path = dir.path().join("cluster");
    let output = tandem(&["dev", "--dir", path.to_str().unwrap(), "--config", &config]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("127.0.36.10:5060 is in use"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    drop(busy);
}

#[test]
fn dev_goes_on_and_keeps_its_secrets_to_itself_when_started_again() {
    let cluster = Cluster::start(37, &[]);
    let token = std::fs::read_to_string(cluster.path("admin.token")).unwrap();
    for file in ["admin.token", "conf/gateway-a.toml", "pki/ca.key", "pki/node-a.key"] {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(cluster.path(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let conf = std::fs::read_to_string(cluster.path("conf/gateway-a.toml")).unwrap();
    assert!(!conf.contains(token.trim()), "the token itself is given to a gateway");
    let cluster = cluster.restart();
    assert_eq!(std::fs::read_to_string(cluster.path("admin.token")).unwrap(), token);
    assert_eq!(cluster.stop(), Some(0));
}

#[test]
fn dev_exits_1_with_a_sentence_when_its_folder_can_not_be_made() {
    let output = tandem(&["dev", "--dir", "/proc/tandem/cluster"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("/proc/tandem/cluster can't be made"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn dev_refuses_another_shape_when_the_cluster_exists() {
    let cluster = Cluster::start(38, &[]);
    let dir = cluster.dir().to_owned();
    let config = cluster.config().to_owned();
    let (stopped, folder) = cluster.stop_and_keep();
    assert_eq!(stopped, Some(0));
    let output = tandem(&["dev", "--dir", &dir, "--config", &config, "--boxes", "1"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("has --boxes 2 --witnesses 1"), "{said}");
    let output = tandem(&["dev", "--dir", &dir, "--config", &config, "--shards", "8"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("has --shards 4, which can't be changed"), "{said}");
    drop(folder);
}

#[test]
fn node_ends_with_a_sentence_when_its_file_has_another_number_of_shards() {
    let cluster = Cluster::start(46, &["--shards", "2"]);
    let file = cluster.path("conf/node-b.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(tandem(&["dev", "stop", "node-b", "--dir", cluster.dir()]).status.code(), Some(0));
    std::fs::write(&file, text.replace("shards = 2", "shards = 3")).unwrap();
    // Whether it ends before or after its first answer is a matter of luck.
    tandem(&["dev", "start", "node-b", "--dir", cluster.dir()]);
    cluster.until("node-b has ended", |cluster| !cluster.alive("node-b"));
    let said = std::fs::read_to_string(cluster.path("logs/node-b.stderr")).unwrap();
    assert!(said.contains("cluster.shards is 3, but this cluster was made with 2"), "{said}");
    std::fs::write(&file, text).unwrap();
    let started = tandem(&["dev", "start", "node-b", "--dir", cluster.dir()]);
    assert_eq!(started.status.code(), Some(0), "{started:?}");
}
