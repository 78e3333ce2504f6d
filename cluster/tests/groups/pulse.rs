//! Who leads, without timers in the groups: quiet groups, planned moves, leaders spread, lives too
//! short to be noticed.

use std::time::Duration;

use crate::common::{Bench, QUIET, SLOW, WITHIN};
use tandem_cluster::shard::Error;
use tandem_cluster::{Leadership, Timers};
use tandem_storage::raft::{NodeId, ShardId};

fn other_node(id: u64) -> u64 {
    if id == 1 { 2 } else { 1 }
}

/// Longer than a group stays awake after its last proposal.
const ASLEEP: Duration = Duration::from_millis(2_500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_rests_takes_the_next_proposal_in_the_same_term() {
    let bench = Bench::running(Timers::default()).await;
    let leader = bench.leader().await;
    let before = bench.voter(leader).leadership();
    for round in 0..2 {
        tokio::time::sleep(ASLEEP).await;
        // Several at once: those behind wait for the first, and keep their order.
        let proposed: Vec<_> =
            (0..50).map(|n| bench.voter(leader).put("n", &format!("{round}/{n}"))).collect();
        let mut last = 0;
        for done in futures::future::join_all(proposed).await {
            let index = done.unwrap();
            assert!(index > last, "{index} after {last}");
            last = index;
        }
        bench.voter(other_node(leader)).has("n", &format!("{round}/49")).await;
    }
    assert_eq!(bench.voter(leader).leadership(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_rests_elects_when_its_leader_is_gone() {
    let mut bench = Bench::running(Timers::default()).await;
    let leader = bench.leader().await;
    tokio::time::sleep(ASLEEP).await;
    bench.stop(leader).await;
    let survivor = bench.voter(other_node(leader));
    survivor.until(|now| now.leading).await;
    survivor.put("after", "yes").await.unwrap();
}

/// Its beats hardly pause, so only what they say tells that it leads no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_starts_again_at_once_is_replaced() {
    let mut bench = Bench::running(Timers::default()).await;
    for round in 0..3 {
        let leader = bench.leader().await;
        let term = bench.voter(leader).leadership().term;
        bench.stop(leader).await;
        bench.start(leader).await;
        let led = |now: &Leadership| now.leader.is_some() && now.term > term;
        bench.voter(leader).until(led).await;
        let next = bench.leader().await;
        bench.voter(next).put("round", &round.to_string()).await.unwrap();
        bench.voter(leader).has("round", &round.to_string()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planned_move_loses_nothing_that_was_acknowledged() {
    // No timer and no balance interferes.
    let bench = Bench::running(SLOW).await;
    let mut acknowledged = 0;
    for round in 0..20 {
        let leader = bench.leader().await;
        let next = other_node(leader);
        let name = bench.name(next).to_owned();
        let voter = bench.voter(leader);
        let mut before = (0..20).map(|n| voter.put(&format!("{round}/{n}"), "v"));
        let first = before.next().unwrap().await;
        let before: Vec<_> = before.collect();
        let moved = voter.cluster.move_leader("meta", &name);
        let after: Vec<_> = (20..40).map(|n| voter.put(&format!("{round}/{n}"), "v")).collect();
        let (moved, before, after) = futures::join!(
            moved,
            futures::future::join_all(before),
            futures::future::join_all(after)
        );
        moved.unwrap();
        bench.voter(next).until(|now| now.leading).await;
        for (n, put) in [first].iter().chain(&before).chain(&after).enumerate() {
            match put {
                Ok(_) => {
                    acknowledged += 1;
                    bench.voter(next).has(&format!("{round}/{n}"), "v").await;
                }
                Err(error) => assert_eq!(*error, Error::NotLeader, "{round}/{n}"),
            }
        }
    }
    assert!(acknowledged >= 20, "{acknowledged}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_is_asked_of_any_voter_and_refused_with_a_sentence() {
    let bench = Bench::running(SLOW).await;
    let leader = bench.leader().await;
    let (next, name) = (other_node(leader), bench.name(other_node(leader)).to_owned());
    // The witness asks, once it knows whom; the leader does.
    bench.voter(3).until(|now| now.leader == Some(leader)).await;
    bench.voter(3).cluster.move_leader("meta", &name).await.unwrap();
    bench.voter(next).until(|now| now.leading).await;
    bench.voter(next).cluster.move_leader("meta", &name).await.unwrap();
    let refused = |shard: &'static str, node: &'static str| {
        let moved = bench.voter(next).cluster.move_leader(shard, node);
        async move { moved.await.unwrap_err().to_string() }
    };
    assert_eq!(refused("s9", "node-a").await, "there is no shard \"s9\"");
    assert_eq!(refused("meta", "node-z").await, "there is no node \"node-z\"");
    assert_eq!(refused("meta", "witness").await, "witness is a witness: it runs no calls");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leads_are_spread_once_a_node_has_been_there_for_a_while() {
    let bench = Bench::running(Timers::default()).await;
    let quiet = |id: NodeId| {
        let shard = bench.voter(id).cluster.shard(QUIET).unwrap();
        shard.leadership()
    };
    let mut told = quiet(bench.leader().await);
    let meta = bench.leader().await;
    let apart = told.wait_for(|now| now.leader == Some(other_node(meta)));
    tokio::time::timeout(WITHIN, apart).await.expect("both groups are led by one").unwrap();
    assert_eq!(bench.leader().await, meta);
    // And so it stays.
    tokio::time::sleep(ASLEEP).await;
    assert_eq!(bench.voter(meta).leadership().leader, Some(meta));
    let shard = bench.voter(meta).cluster.shard(QUIET).unwrap();
    assert_eq!(shard.leadership().borrow().leader, Some(other_node(meta)));
    assert_eq!(shard.id, ShardId(0));
}
