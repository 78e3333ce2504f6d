//! `tandem replay` on what a real cluster wrote.

use crate::common::{Cluster, tandem};

fn ok(args: &[&str]) -> String {
    let output = tandem(args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn refused(args: &[&str], code: i32) -> String {
    let output = tandem(args);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    said
}

#[test]
fn replay_steps_through_the_log_of_a_cluster_and_compares_its_nodes() {
    let cluster = Cluster::start(44, &[]);
    // While it runs, the log is only looked at.
    let live = ok(&["replay", cluster.dir()]);
    assert!(live.contains("login of the gateway at 127.0.44.10:5060"), "{live}");
    let stopped = cluster.into_folder();
    let dir = stopped.path("");
    let dir = dir.to_str().unwrap();

    let text = ok(&["replay", dir]);
    assert!(text.contains("node-a leads"), "{text}");
    assert!(text.contains("queue support: new"), "{text}");
    let agent = ok(&["replay", dir, "--entity", "agent/1001"]);
    assert!(agent.contains("agent 1001: new") && !agent.contains("1002"), "{agent}");
    let one = ok(&["replay", dir, "--json", "--from", "2", "--to", "2"]);
    let step: serde_json::Value = serde_json::from_str(&one).unwrap();
    assert_eq!(step["index"], 2);

    // Both nodes have the same log, and come to the same state.
    let node_b = stopped.path("data/node-b");
    let node_b = node_b.to_str().unwrap();
    assert!(ok(&["replay", dir, "--against", node_b]).starts_with("the same up to"));
    let hashes = stopped.path("hashes");
    std::fs::write(&hashes, ok(&["replay", node_b, "--hashes"])).unwrap();
    let hashes = hashes.to_str().unwrap();
    assert!(ok(&["replay", dir, "--against", hashes]).starts_with("the same state after each"));

    let trace = stopped.path("run.trace");
    let path = trace.to_str().unwrap();
    ok(&["replay", dir, "--save", path]);
    assert!(ok(&["replay", path, "--against", dir]).starts_with("the same up to the end"));

    let bytes = std::fs::read(&trace).unwrap();
    std::fs::write(&trace, &bytes[..bytes.len() - 3]).unwrap();
    assert!(refused(&["replay", path], 2).contains("torn at byte"));
    let mut newer = bytes.clone();
    newer[8] = 2;
    std::fs::write(&trace, newer).unwrap();
    assert!(refused(&["replay", path], 2).contains("trace of version 2"));
    assert!(refused(&["replay", dir, "--shard", "meta"], 2).contains("expected a tenant shard"));
    assert!(refused(&["replay", dir, "--entity", "phone/1"], 2).contains("expected call/ID"));
    assert!(refused(&["replay", "/no/such/place"], 2).contains("/no/such/place"));
    assert_eq!(stopped.start().stop(), Some(0));
}
