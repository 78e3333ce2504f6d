//! What the log's disk gives: writers that each wait for their append before the next.
//!
//! `cargo run --release -p tandem-storage --example log_bench -- [dir] [writers] [seconds] [bytes]`

use std::path::PathBuf;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use openraft::EntryPayload;
use openraft::storage::{IOFlushed, RaftLogStorage as _};
use openraft::type_config::TypeConfigExt as _;
use tandem_storage::log::{Log, Options};
use tandem_storage::proto;
use tandem_storage::raft::{Command, Entry, ShardId, TypeConfig};
use tandem_storage::wire;

/// Entries that a shard keeps before it purges.
const KEPT: u64 = 1000;

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn write(
    log: Log,
    shard: u16,
    until: Instant,
    bytes: usize,
) -> Result<Histogram<u64>, Failure> {
    let mut log = log.shard(ShardId(shard));
    let mut took = Histogram::new(3)?;
    let id = |index| wire::log_id_from(proto::LogId { term: 1, node: 1, index });
    let mut index = 0;
    while Instant::now() < until {
        let payload = EntryPayload::Normal(Command(vec![index as u8; bytes]));
        let entry = Entry { log_id: id(index), payload };
        let begun = Instant::now();
        let (told, flushed) = TypeConfig::oneshot();
        log.append([entry], IOFlushed::signal(told)).await?;
        flushed.await??;
        took.record(begun.elapsed().as_micros() as u64)?;
        index += 1;
        if index.is_multiple_of(KEPT) && index > KEPT {
            log.purge(id(index - KEPT)).await?;
        }
    }
    Ok(took)
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().map_or_else(|| PathBuf::from("log-bench"), PathBuf::from);
    let writers: u16 = args.next().map_or(Ok(64), |text| text.parse())?;
    let seconds: u64 = args.next().map_or(Ok(10), |text| text.parse())?;
    let bytes: usize = args.next().map_or(Ok(256), |text| text.parse())?;

    let log = Log::open(&dir, Options::default())?;
    let until = Instant::now() + Duration::from_secs(seconds);
    let tasks: Vec<_> =
        (0..writers).map(|shard| tokio::spawn(write(log.clone(), shard, until, bytes))).collect();
    let mut all = Histogram::<u64>::new(3)?;
    for task in tasks {
        all.add(task.await??)?;
    }
    let ms = |us: u64| us as f64 / 1000.0;
    let stats = log.stats();
    println!("{writers} writers of {bytes} bytes, {seconds} s, in {}", dir.display());
    println!("appends/s        {:.0}", all.len() as f64 / seconds as f64);
    println!(
        "p50 / p99 / max  {:.2} / {:.2} / {:.2} ms",
        ms(all.value_at_quantile(0.5)),
        ms(all.value_at_quantile(0.99)),
        ms(all.max())
    );
    println!(
        "writes           {} ({:.1} operations each)",
        stats.writes,
        stats.operations as f64 / stats.writes.max(1) as f64
    );
    println!(
        "fsyncs           {} ({:.2} ms on average, {:.2} at worst)",
        stats.syncs,
        ms(stats.sync_us_sum) / stats.syncs.max(1) as f64,
        ms(stats.sync_us_max)
    );
    println!("segments         {} live, {} spare", stats.segments_live, stats.segments_spare);
    log.drained().await?;
    drop(log);
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
