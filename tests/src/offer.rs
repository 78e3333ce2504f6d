//! Commands at a rate that does not wait for their answers, and as many at a time as it takes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// What one command may take at most: the histogram ends here.
const HIGHEST_US: u64 = 60_000_000;
/// A phase with more of its commands lost measures something else.
const FAILED_PERCENT_MAX: u64 = 1;

/// Who commits what is offered.
pub trait Commits: Send + Sync + 'static {
    /// One more command; done when it is committed and applied.
    fn commit(&self) -> impl Future<Output = Result<()>> + Send;
}

pub struct Outcome {
    pub took_us: Histogram<u64>,
    pub failed: u64,
    pub seconds: f64,
}

impl Outcome {
    fn new() -> Result<Self> {
        Ok(Self { took_us: histogram()?, failed: 0, seconds: 0.0 })
    }

    fn add(&mut self, outcome: Result<Duration>) {
        match outcome {
            Ok(took) => self.took_us.saturating_record(micros(took)),
            Err(_) => self.failed += 1,
        }
    }

    fn checked(self) -> Result<Self> {
        let most = self.took_us.len() * FAILED_PERCENT_MAX / 100;
        ensure!(self.failed <= most, "{} of {} commands failed", self.failed, self.took_us.len());
        Ok(self)
    }
}

pub fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, HIGHEST_US, 3)?)
}

pub fn micros(of: Duration) -> u64 {
    u64::try_from(of.as_micros()).unwrap_or(u64::MAX)
}

/// Each is timed from the instant that it was due.
pub async fn at_rate<S: Commits>(side: &Arc<S>, a_second: u32, over: Duration) -> Result<Outcome> {
    let count = (over.as_secs_f64() * f64::from(a_second)).round() as u32;
    let mut dues = pace(Duration::from_secs(1) / a_second, count);
    let mut outcome = Outcome::new()?;
    let begun = Instant::now();
    let mut under_way = JoinSet::new();
    while let Some(due) = dues.recv().await {
        let side = Arc::clone(side);
        under_way.spawn(async move { side.commit().await.map(|()| due.elapsed()) });
        while let Some(done) = under_way.try_join_next() {
            outcome.add(done?);
        }
    }
    while let Some(done) = under_way.join_next().await {
        outcome.add(done?);
    }
    outcome.seconds = begun.elapsed().as_secs_f64();
    outcome.checked()
}

/// Says when each is due, on a thread of its own: the runtime's timers count whole milliseconds.
fn pace(interval: Duration, count: u32) -> mpsc::UnboundedReceiver<Instant> {
    let (say, dues) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let begun = Instant::now();
        for n in 0..count {
            let due = begun + interval * n;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if say.send(due).is_err() {
                return;
            }
        }
    });
    dues
}

/// So many are always under way.
pub async fn outstanding<S: Commits>(
    side: &Arc<S>,
    outstanding: usize,
    over: Duration,
) -> Result<Outcome> {
    let begun = Instant::now();
    let until = begun + over;
    let mut workers = JoinSet::new();
    for _ in 0..outstanding {
        let side = Arc::clone(side);
        workers.spawn(async move {
            let mut taken = Vec::new();
            while Instant::now() < until {
                let sent = Instant::now();
                let done = side.commit().await;
                taken.push(done.map(|()| sent.elapsed()));
            }
            taken
        });
    }
    let mut outcome = Outcome::new()?;
    while let Some(taken) = workers.join_next().await {
        taken?.into_iter().for_each(|took| outcome.add(took));
    }
    outcome.seconds = begun.elapsed().as_secs_f64();
    outcome.checked()
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    const COMMANDS: u32 = 50;

    /// Answers nothing until all were offered.
    struct Stalls {
        offered: Semaphore,
        goes_on: Semaphore,
    }

    impl Commits for Stalls {
        async fn commit(&self) -> Result<()> {
            self.offered.add_permits(1);
            let _ = self.goes_on.acquire().await?;
            Ok(())
        }
    }

    #[tokio::test]
    async fn who_stalls_is_charged_for_all_that_had_to_wait() {
        let side = Arc::new(Stalls { offered: Semaphore::new(0), goes_on: Semaphore::new(0) });
        let over = Duration::from_millis(u64::from(COMMANDS));
        let opens = Arc::clone(&side);
        let opened = tokio::spawn(async move {
            let _ = opens.offered.acquire_many(COMMANDS).await;
            opens.goes_on.add_permits(1);
        });
        let outcome = at_rate(&side, 1_000, over).await.unwrap();
        opened.await.unwrap();
        assert_eq!(outcome.took_us.len(), u64::from(COMMANDS));
        // The first had waited for the last to come, the last for nobody.
        assert!(outcome.took_us.max() >= 48_000, "{}", outcome.took_us.max());
        assert!(outcome.took_us.value_at_quantile(0.5) >= 24_000);
    }
}
