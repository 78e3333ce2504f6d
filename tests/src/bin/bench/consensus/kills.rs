//! `kill -9` of the leader, under a trickle of commands: until one that was offered after it is committed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Side;

/// A command each, before and after: what is measured is no finer.
const OFFER_EVERY: Duration = Duration::from_millis(2);
/// An idle log is the same everywhere; one that is written to is where an election is hard.
const BEFORE: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(30);

pub async fn kill_leader<S: Side>(side: &Arc<S>) -> Result<Duration> {
    let leader = side.settled().await?;
    let (say, mut said) = mpsc::unbounded_channel();
    let offering = tokio::spawn(keep_offering(Arc::clone(side), say));
    tokio::time::sleep(BEFORE).await;
    let killed = side.kill(&leader)?;
    let answered = timeout(WAIT_MAX, async {
        while let Some((begun, ended)) = said.recv().await {
            if begun >= killed {
                return Some(ended);
            }
        }
        None
    });
    let ended: Instant = answered.await.context("no commit after the kill")?.context("no side")?;
    offering.abort();
    let took = ended.saturating_duration_since(killed);
    println!("  {} {leader} killed, next commit after {:.1} ms", S::NAME, took.as_secs_f64() * 1e3);
    side.revive(&leader).await?;
    Ok(took)
}

/// When each that was committed was offered and answered.
async fn keep_offering<S: Side>(side: Arc<S>, say: mpsc::UnboundedSender<(Instant, Instant)>) {
    let mut every = tokio::time::interval(OFFER_EVERY);
    let mut under_way = JoinSet::new();
    loop {
        every.tick().await;
        let (side, say) = (Arc::clone(&side), say.clone());
        under_way.spawn(async move {
            let begun = Instant::now();
            if side.commit().await.is_ok() {
                // Whoever wanted to know may know enough.
                let _ = say.send((begun, Instant::now()));
            }
        });
        while under_way.try_join_next().is_some() {}
    }
}
