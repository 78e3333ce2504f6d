//! The leader's box is cut off, twenty times, as if its cable were drawn: nobody can tell that it is dead,
//! so that time-outs alone decide. Cut → first command committed on the other side, and → first answer of
//! the API there.
//!
//! The new leader's first commit is its own gauge, in wall-clock time; the cut is timed here on the same
//! machine's clock.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use hdrhistogram::Histogram;
use serde_json::json;
use tandem_tests::Api;
use tandem_tests::boxes::Boxes;
use tandem_tests::boxes::network::{Cut, Place};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::print_histogram;

const BLOCK: u8 = 196;
const CUTS: u32 = 20;
const COMMIT: &str = "tandem_shard_first_commit_timestamp_seconds{shard=\"s0\"}";
const TERM: &str = "tandem_raft_term{shard=\"s0\"}";
const WAIT: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(10);
/// Between two requests of the API's client, which don't wait for each other.
const ASK_EVERY: Duration = Duration::from_millis(10);
/// Asked for over and over: what is under way when the box goes is part of what is measured.
const AGENT: &str = "/v1/agents/1001/state";
const ANSWERS_MAX: usize = 1_024;

pub async fn run() -> Result<()> {
    // SAFETY: geteuid(2) takes nothing and always succeeds.
    if unsafe { libc::geteuid() } != 0 {
        println!("partition: not measured, for only root can lay networks");
        return Ok(());
    }
    let boxes = Boxes::open(BLOCK).await?;
    let mut commit_us = Histogram::<u64>::new(3)?;
    let mut answer_us = Histogram::<u64>::new(3)?;
    let first_term = term(&boxes).await?;
    for _ in 0..CUTS {
        let leader = boxes.leader().await?;
        let other = if leader == Place::A { Place::B } else { Place::A };
        let (answers, mut answered) = mpsc::channel(ANSWERS_MAX);
        let client = tokio::spawn(ask_all_the_time(boxes.api_of(other)?, answers));
        // The client is under way.
        answered.recv().await.context("the client is gone")?;
        let cut_s = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
        let cut = Instant::from_std(boxes.network.cut(Cut::Whole(leader))?);
        let in_force = Instant::now();
        let answer = first_answer(&mut answered, in_force).await?.duration_since(cut);
        let committed_s = first_commit(&boxes, other, cut_s).await?;
        client.abort();
        let commit = ((committed_s - cut_s) * 1e6).max(0.0) as u64;
        commit_us.record(commit)?;
        answer_us.record(u64::try_from(answer.as_micros())?)?;
        println!(
            "  box {} cut off, first commit after {:.1} ms, first answer after {:.1} ms",
            leader.box_name(),
            commit as f64 / 1e3,
            answer.as_secs_f64() * 1e3,
        );
        boxes.restore().await?;
    }
    let elections = term(&boxes).await? - first_term;
    print_histogram("the leader's box is cut off → first commit", "µs", &commit_us);
    print_histogram("the leader's box is cut off → first answer", "µs", &answer_us);
    println!("terms for {CUTS} cuts: {elections}");
    Ok(())
}

/// When a request was sent and when it was answered 200.
type Answered = (Instant, Instant);

async fn ask_all_the_time(api: Api, answers: mpsc::Sender<Answered>) {
    let api = Arc::new(api);
    let mut every = tokio::time::interval(ASK_EVERY);
    let mut requests = tokio::task::JoinSet::new();
    for number in 0_u64.. {
        every.tick().await;
        let (api, answers) = (Arc::clone(&api), answers.clone());
        requests.spawn(async move {
            let sent = Instant::now();
            let body = json!({ "state": "not_ready", "reason": format!("r{number}") });
            if let Ok((200, _)) = api.post(AGENT, &body).await {
                // Nobody listens between two cuts.
                let _ = answers.try_send((sent, Instant::now()));
            }
        });
        while requests.try_join_next().is_some() {}
    }
}

/// To one that was sent when the box was gone.
async fn first_answer(answered: &mut mpsc::Receiver<Answered>, gone: Instant) -> Result<Instant> {
    let first = async {
        while let Some((sent, at)) = answered.recv().await {
            if sent >= gone {
                return Ok(at);
            }
        }
        bail!("the client is gone")
    };
    tokio::time::timeout(WAIT, first).await.context("the other box does not answer")?
}

async fn first_commit(boxes: &Boxes, place: Place, after_s: f64) -> Result<f64> {
    let node = &boxes.node_in(place)?.name;
    let deadline = Instant::now() + WAIT;
    while Instant::now() < deadline {
        if let Some(at) = boxes.metric(node, COMMIT).await?
            && at >= after_s
        {
            return Ok(at);
        }
        tokio::time::sleep(LOOK).await;
    }
    bail!("no commit of a new leader within {} s", WAIT.as_secs())
}

async fn term(boxes: &Boxes) -> Result<f64> {
    let node = &boxes.node_in(Place::A)?.name;
    boxes.metric(node, TERM).await?.context("the term is not told")
}
