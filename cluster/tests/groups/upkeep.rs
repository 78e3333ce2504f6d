//! Voters whose logs are kept short: snapshots to who was away, quiet groups, the witness's rule.

use crate::common::{Bench, Voter, WITHIN};
use tandem_cluster::Limits;
use tandem_cluster::budget::Level;
use tandem_storage::log::SEGMENT_BYTES_MIN;

/// Short enough that a test gets there.
const SHORT: Limits = Limits {
    snapshot_every: 100,
    log_kept: 10,
    segments_max: 3,
    witness_entries_max: 100_000,
    log_bytes_max: 1 << 40,
    state_bytes_max: 1 << 40,
    look_every_ms: 50,
};
const SEGMENT_BYTES: u64 = 8 << 20;
/// A snapshot of so many has several parts.
const VALUES: usize = 30;
const WITNESS: u64 = 3;

fn other_node(id: u64) -> u64 {
    if id == 1 { 2 } else { 1 }
}

fn long(n: usize) -> String {
    format!("{n}").repeat(40_000)
}

async fn put_long(voter: &Voter) {
    for n in 0..VALUES {
        voter.put(&format!("long {n}"), &long(n)).await.unwrap();
    }
}

async fn has_long(voter: &Voter) {
    for n in 0..VALUES {
        voter.has(&format!("long {n}"), &long(n)).await;
    }
}

async fn count(voter: &Voter, upto: usize) {
    for n in 0..upto {
        voter.put("n", &n.to_string()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lacks_what_is_purged_gets_a_snapshot_and_can_lead() {
    let mut bench = Bench::with_limits(SHORT, SEGMENT_BYTES).run().await;
    let leader = bench.leader().await;
    let away = other_node(leader);
    bench.voter(leader).put("stale", "yes").await.unwrap();
    bench.voter(away).has("stale", "yes").await;
    let seen = bench.voter(away).progress().last;
    bench.stop(away).await;

    put_long(bench.voter(leader)).await;
    count(bench.voter(leader), 300).await;
    bench.voter(leader).put("stale", "no").await.unwrap();
    bench.voter(leader).reaches("purged", |now| now.purged > seen).await;

    bench.start(away).await;
    has_long(bench.voter(away)).await;
    bench.voter(away).has("stale", "no").await;
    // What came by the log is not purged here.
    bench.voter(away).reaches("a snapshot", |now| now.purged > seen).await;
    // It goes on by the log, has it all on its disk, and leads.
    bench.voter(leader).put("n", "on").await.unwrap();
    bench.voter(away).has("n", "on").await;
    bench.stop(away).await;
    bench.start(away).await;
    has_long(bench.voter(away)).await;
    bench.stop(leader).await;
    bench.voter(away).until(|now| now.leading).await;
    has_long(bench.voter(away)).await;
    bench.voter(away).put("n", "led").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_group_does_not_keep_the_log_of_a_busy_one() {
    let bench = Bench::with_limits(SHORT, SEGMENT_BYTES_MIN).run().await;
    let leader = bench.voter(bench.leader().await);
    let deadline = tokio::time::Instant::now() + WITHIN;
    let mut most = 0;
    // Some 40 segments' worth.
    for _ in 0..100 {
        let puts = (0..10).map(|n| leader.put("n", &long(n)[..2_000]));
        for done in futures::future::join_all(puts).await {
            done.unwrap();
        }
        most = most.max(leader.log.stats().segments_live);
    }
    while leader.log.stats().segments_live > SHORT.segments_max {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", leader.log.pins());
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    println!("at most {most} segments");
}

async fn is_within(voter: &Voter, bytes_max: u64) {
    let deadline = tokio::time::Instant::now() + WITHIN;
    while voter.log.stats().disk_bytes > bytes_max {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", voter.log.stats());
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// Of whoever is away the witness keeps what its disk budget allows, and no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_stay_within_their_budget_while_a_node_is_away_under_load() {
    const BUDGET: u64 = 32 * SEGMENT_BYTES_MIN;
    let limits = Limits { log_bytes_max: BUDGET, ..SHORT };
    let mut bench = Bench::with_limits(limits, SEGMENT_BYTES_MIN).run().await;
    let leader = bench.leader().await;
    let away = other_node(leader);
    bench.voter(leader).put("n", "0").await.unwrap();
    bench.voter(away).has("n", "0").await;
    let seen = bench.voter(away).progress().last;
    bench.stop(away).await;
    let mut most = [0; 2];
    // Some 80 segments' worth.
    for n in 0..200 {
        let puts = (0..10).map(|_| bench.voter(leader).put("n", &long(n)[..2_000]));
        for done in futures::future::join_all(puts).await {
            done.unwrap();
        }
        for (most, id) in most.iter_mut().zip([leader, WITNESS]) {
            *most = (*most).max(bench.voter(id).log.stats().disk_bytes);
            // What comes before it is looked at is beyond the budget, for as long as a flush takes.
            is_within(bench.voter(id), BUDGET).await;
        }
    }
    println!("at most {most:?} bytes of {BUDGET}");
    assert!(most[1] > BUDGET / 2, "the witness keeps what it can");
    assert!(most.iter().all(|most| *most <= BUDGET + BUDGET / 2), "{most:?}");
    bench.voter(WITNESS).reaches("purged", |now| now.purged > seen).await;
    let used = *bench.voter(WITNESS).cluster.used().borrow();
    assert_eq!((used.log.bytes_max, used.check()), (BUDGET, Ok(())));
    // Who lacks it gets a snapshot, and is a voter as before.
    bench.start(away).await;
    bench.voter(away).has("n", &long(199)[..2_000]).await;
    bench.stop(leader).await;
    bench.voter(away).until(|now| now.leading).await;
    bench.voter(away).put("n", "led").await.unwrap();
}

/// Rows are never deleted for a budget: the node says that it is full, and goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_at_its_budget_says_so_and_keeps_what_it_has() {
    // Compressed, the rows take more than this, and what is there at first takes less.
    let limits = Limits { state_bytes_max: 8 << 10, ..SHORT };
    let bench = Bench::with_limits(limits, SEGMENT_BYTES).run().await;
    let voter = bench.voter(bench.leader().await);
    assert_eq!(voter.cluster.used().borrow().check(), Ok(()));
    put_long(voter).await;
    count(voter, 300).await;
    let mut used = voter.cluster.used();
    let full = used.wait_for(|used| used.state.level == Level::Full);
    let full = *tokio::time::timeout(WITHIN, full).await.unwrap().unwrap();
    let why = full.check().unwrap_err();
    assert!(why.starts_with("TD0438 the state takes "), "{why}");
    voter.put("n", "on").await.unwrap();
    has_long(voter).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_keeps_what_a_node_has_not_flushed_and_nothing_else() {
    let mut bench = Bench::with_limits(SHORT, SEGMENT_BYTES).run().await;
    let leader = bench.leader().await;
    let away = other_node(leader);
    count(bench.voter(leader), 300).await;
    bench.voter(WITNESS).reaches("purged", |now| now.purged >= 100).await;
    let flushed = bench.voter(WITNESS).progress().purged;
    bench.stop(away).await;

    count(bench.voter(leader), 1_000).await;
    bench.voter(leader).put("only", "the witness").await.unwrap();
    bench.voter(leader).reaches("purged", |now| now.purged > flushed + 500).await;
    let kept = bench.voter(WITNESS).progress();
    assert!(kept.last - kept.purged > 1_000, "{kept:?} was purged before the other node has it");

    // Nobody but the witness has it now, and what it has must do.
    bench.stop(leader).await;
    bench.start(away).await;
    bench.voter(away).until(|now| now.leading).await;
    bench.voter(away).has("only", "the witness").await;
    bench.start(leader).await;
    bench.voter(leader).has("only", "the witness").await;
    let last = bench.voter(away).progress().last;
    bench.voter(WITNESS).reaches("purged", |now| now.purged + 200 > last).await;
}

/// Beyond its limit a witness forgets, and never makes up for it with a snapshot of nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_at_its_limit_sends_a_node_nothing_rather_than_an_empty_snapshot() {
    let limits = Limits { witness_entries_max: 200, ..SHORT };
    let mut bench = Bench::with_limits(limits, SEGMENT_BYTES).run().await;
    let leader = bench.leader().await;
    let away = other_node(leader);
    bench.voter(leader).put("kept", "yes").await.unwrap();
    bench.voter(away).has("kept", "yes").await;
    let seen = bench.voter(away).progress().last;
    bench.stop(away).await;
    count(bench.voter(leader), 1_000).await;
    bench.voter(WITNESS).reaches("purged", |now| now.purged > seen + 500).await;

    bench.stop(leader).await;
    bench.start(away).await;
    // Longer than an election takes.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert!(!bench.voter(away).leadership().leading, "it lacks what is committed");
    assert_eq!(bench.voter(away).values.get("kept").as_deref(), Some(b"yes".as_slice()));

    bench.start(leader).await;
    bench.voter(leader).has("n", "999").await;
    bench.voter(away).has("n", "999").await;
    bench.voter(away).has("kept", "yes").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_that_was_away_too_long_goes_on_from_a_snapshot_without_rows() {
    let mut bench = Bench::with_limits(SHORT, SEGMENT_BYTES).run().await;
    let leader = bench.leader().await;
    let seen = bench.voter(WITNESS).progress().last;
    bench.stop(WITNESS).await;
    put_long(bench.voter(leader)).await;
    count(bench.voter(leader), 300).await;
    bench.voter(leader).reaches("purged", |now| now.purged > seen).await;
    bench.start(WITNESS).await;
    let last = bench.voter(leader).progress().last;
    bench.voter(WITNESS).reaches("caught up", |now| now.applied >= last).await;
    // Its vote counts.
    bench.stop(other_node(leader)).await;
    bench.voter(leader).put("n", "with the witness").await.unwrap();
}

/// The rows of a node are gone, and its log no longer has what they came from. It gets them from the
/// other node, and is the voter that it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_lost_its_state_gets_it_from_a_node() {
    let mut bench = Bench::with_limits(SHORT, SEGMENT_BYTES).run().await;
    let leader = bench.leader().await;
    let away = other_node(leader);
    put_long(bench.voter(leader)).await;
    count(bench.voter(leader), 300).await;
    for id in [away, WITNESS] {
        bench.voter(id).reaches("purged", |now| now.purged > VALUES as u64).await;
        bench.stop(id).await;
        bench.lose_state(id);
        bench.start(id).await;
        bench.voter(leader).put("back", &id.to_string()).await.unwrap();
        bench.voter(away).has("back", &id.to_string()).await;
    }
    has_long(bench.voter(away)).await;
    // With the witness's vote it leads.
    bench.stop(leader).await;
    bench.voter(away).until(|now| now.leading).await;
    has_long(bench.voter(away)).await;
    bench.voter(away).put("n", "led").await.unwrap();
}
