//! Voters whose disks stand still or fail: who leads, and what is committed.

use std::time::Duration;

use crate::common::{Bench, QUIET, SLOW, WITHIN};
use tandem_cluster::Timers;
use tandem_cluster::disk::STALL_MS_MAX;
use tandem_cluster::shard::Error;
use tandem_storage::raft::ShardId;

/// Nobody may step away for so short a stall, and on a busy machine it is longer than it is told.
const SHORT_MS: u64 = 1_300;
const LONG_MS: u64 = 5_000;
/// Shorter than a short stall, and long enough for a busy machine.
const QUICK: Timers = Timers { heartbeat_ms: 50, election_ms_min: 400, election_ms_max: 500 };
const LOOK: Duration = Duration::from_millis(10);

fn other_node(id: u64) -> u64 {
    if id == 1 { 2 } else { 1 }
}

/// Until the disk of a voter has made a write wait for `ms`.
async fn stalls_for(bench: &Bench, id: u64, ms: u64) {
    let deadline = tokio::time::Instant::now() + WITHIN;
    while bench.voter(id).cluster.disk().stalled_ms < ms {
        assert!(tokio::time::Instant::now() < deadline, "the disk of {id} never stalled");
        tokio::time::sleep(LOOK).await;
    }
}

/// Until its disk writes again.
async fn writes(bench: &Bench, id: u64) {
    let drained = tokio::time::timeout(WITHIN, bench.voter(id).log.drained()).await;
    drained.expect("the disk never writes again").unwrap();
}

/// Until each voter knows how the disks of the others do.
async fn all_know(bench: &Bench) {
    let deadline = tokio::time::Instant::now() + WITHIN;
    let known = |id: u64, of: u64| id == of || bench.voter(id).cluster.disk_of(of).is_some();
    while !(1..=3).all(|id| (1..=3).all(|of| known(id, of))) {
        assert!(tokio::time::Instant::now() < deadline, "not all disks are known");
        tokio::time::sleep(LOOK).await;
    }
}

fn leads(bench: &Bench, id: u64, shard: ShardId) -> bool {
    bench.voter(id).cluster.shard(shard).unwrap().leadership().borrow().leading
}

async fn leads_all(bench: &Bench, id: u64) {
    for shard in [ShardId::META, QUIET] {
        let mut leadership = bench.voter(id).cluster.shard(shard).unwrap().leadership();
        let told = tokio::time::timeout(WITHIN, leadership.wait_for(|now| now.leading)).await;
        told.unwrap_or_else(|_| panic!("{id} does not lead {shard}")).unwrap();
    }
}

/// All groups led by one node, and disks known.
async fn running(timers: Timers) -> (Bench, u64) {
    let bench = Bench::running(timers).await;
    let leader = bench.leader().await;
    bench.voter(leader).put("colour", "green").await.unwrap();
    bench.voter(other_node(leader)).has("colour", "green").await;
    leads_all(&bench, leader).await;
    all_know(&bench).await;
    (bench, leader)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_stall_of_any_disks_makes_nobody_stand() {
    let (bench, leader) = running(QUICK).await;
    let term = bench.voter(leader).leadership().term;
    let follower = other_node(leader);
    for stalled in [vec![leader], vec![follower], vec![follower, 3], vec![1, 2, 3]] {
        let value = format!("{stalled:?}");
        for id in &stalled {
            bench.voter(*id).faults.stall(SHORT_MS);
        }
        let put = bench.voter(leader).put("stalled", &value);
        for id in &stalled {
            stalls_for(&bench, *id, SHORT_MS / 2).await;
        }
        // Who proposed may have given up on a busy machine; it is committed all the same.
        let put = put.await;
        assert!(matches!(put, Ok(_) | Err(Error::Unavailable)), "{stalled:?}: {put:?}");
        for id in 1..=3 {
            writes(&bench, id).await;
            assert_eq!(bench.voter(id).leadership().term, term, "{stalled:?}: {id}");
        }
        for id in [leader, follower] {
            bench.voter(id).has("stalled", &value).await;
        }
        assert!(leads(&bench, leader, ShardId::META), "{stalled:?}");
        // A leader that nobody could answer waits until somebody does.
        let deadline = tokio::time::Instant::now() + WITHIN;
        while bench.voter(leader).put("after", &value).await.is_err() {
            assert!(tokio::time::Instant::now() < deadline, "{stalled:?}: nothing is taken");
            tokio::time::sleep(LOOK).await;
        }
    }
    for id in 1..=3 {
        assert_eq!(bench.voter(id).leadership().term, term);
    }
}

/// Timers would take a minute.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_steps_away_from_a_disk_that_stalls_and_follows_when_it_writes_again() {
    let (bench, leader) = running(SLOW).await;
    let next = other_node(leader);
    bench.voter(leader).faults.stall(LONG_MS);
    // The others are a majority.
    let begun = std::time::Instant::now();
    bench.voter(leader).put("colour", "red").await.unwrap();
    leads_all(&bench, next).await;
    println!("led by the other node after {:?}", begun.elapsed());
    let stalled_ms = bench.voter(leader).cluster.disk().stalled_ms;
    assert!(stalled_ms >= STALL_MS_MAX, "it led away from a disk that had waited {stalled_ms} ms");
    bench.voter(leader).until(|now| !now.leading).await;
    let why = bench.voter(leader).cluster.disk().check().unwrap_err();
    assert!(why.starts_with("TD0420 "), "{why}");
    bench.voter(next).has("colour", "red").await;
    bench.voter(next).put("colour", "blue").await.unwrap();

    writes(&bench, leader).await;
    bench.voter(leader).has("colour", "blue").await;
    bench.voter(leader).until(|now| now.leader == Some(next)).await;
    assert_eq!(bench.voter(leader).cluster.disk().check(), Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_stays_where_the_other_nodes_disk_stalls_too() {
    let (bench, leader) = running(QUICK).await;
    let term = bench.voter(leader).leadership().term;
    let follower = other_node(leader);
    for id in [leader, follower] {
        bench.voter(id).faults.stall(STALL_MS_MAX + 1_000);
    }
    // Given up after two seconds, and not lost.
    drop(bench.voter(leader).put("colour", "red"));
    for id in [leader, follower] {
        stalls_for(&bench, id, STALL_MS_MAX + 300).await;
        assert_eq!(bench.voter(id).leadership().term, term);
    }
    for id in [leader, follower] {
        writes(&bench, id).await;
        bench.voter(id).has("colour", "red").await;
        assert_eq!(bench.voter(id).leadership().term, term);
    }
    assert!(leads(&bench, leader, ShardId::META));
}

/// The group that meets the failure stops, the other one is given away; neither waits for a timer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_steps_away_from_a_disk_that_fails() {
    let (bench, leader) = running(SLOW).await;
    let next = other_node(leader);
    bench.voter(leader).faults.fail();
    // It may be committed by the others, or not.
    let _ = bench.voter(leader).put("colour", "red").await;
    leads_all(&bench, next).await;
    bench.voter(next).put("colour", "blue").await.unwrap();
    bench.voter(leader).until(|now| !now.leading).await;
    for shard in [ShardId::META, QUIET] {
        assert!(!leads(&bench, leader, shard), "{shard}");
    }
    let why = bench.voter(leader).cluster.disk().check().unwrap_err();
    assert!(why.starts_with("TD0421 the log at "), "{why}");
    let deadline = tokio::time::Instant::now() + WITHIN;
    while bench.voter(next).cluster.disk_of(leader).is_none_or(|disk| disk.failed.is_none()) {
        assert!(tokio::time::Instant::now() < deadline, "nobody is told of it");
        tokio::time::sleep(LOOK).await;
    }
}
