//! A node whose state differs while nobody is there whose rows it could have: it votes, and leads in name only,
//! until the other is back, who leads and gives it its rows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use crate::common::{Bench, QUIET, WITHIN};
use tandem_cluster::shard::Error;
use tandem_cluster::{AnyMachine, Refused, Timers, meta};
use tandem_storage::machine::{Applied, Change, Machine, Outcome, Row};
use tokio::time::Instant;

const SUM: &[u8] = b"sum";

/// What a replica does, and what it has come to.
#[derive(Default)]
struct Replica {
    strays: AtomicBool,
    sum: AtomicU32,
}

/// The sum of all words; `check N` says what it should be.
struct Sums {
    replica: Arc<Replica>,
    differs: bool,
}

impl Machine for Sums {
    fn restore(&mut self, rows: &mut dyn Iterator<Item = Row>) -> Result<(), String> {
        let mut sum = 0;
        for row in rows.filter(|row| row.key == SUM) {
            sum = u32::from_be_bytes(row.value.try_into().map_err(|_| "no sum")?);
        }
        self.replica.sum.store(sum, SeqCst);
        self.differs = false;
        Ok(())
    }

    fn apply(&mut self, entry: Applied<'_>) -> Outcome {
        let sum = self.replica.sum.load(SeqCst);
        if let Some(should) = entry.command.strip_prefix(b"check ") {
            self.differs = should != sum.to_string().as_bytes();
            return Outcome::default();
        }
        let wrong = u32::from(self.replica.strays.swap(false, SeqCst));
        let sum = entry.command.iter().fold(sum, |sum, byte| sum * 31 % 65_521 + u32::from(*byte))
            + wrong;
        self.replica.sum.store(sum, SeqCst);
        let sum = Some(sum.to_be_bytes().to_vec());
        Outcome { changes: vec![Change::of(meta::META, SUM.to_vec(), sum)], reply: Vec::new() }
    }

    fn differs(&self) -> bool {
        self.differs
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + WITHIN;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come true");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_that_is_out_serves_nobody_and_hands_over_to_who_makes_it_well() {
    let replicas: BTreeMap<u64, Arc<Replica>> = (1..=3).map(|id| (id, Arc::default())).collect();
    let mut bench = Bench::new(Timers::default());
    let all = replicas.clone();
    bench.quiet = Some(Box::new(move |id| {
        AnyMachine::new(Sums { replica: Arc::clone(&all[&id]), differs: false })
    }));
    let mut bench = bench.run().await;
    let group = |bench: &Bench, id: u64| bench.voter(id).cluster.shard(QUIET).unwrap().clone();
    let leads = |bench: &Bench, id: u64| group(bench, id).leadership().borrow().leading;
    until("a leader", || [1, 2].iter().any(|id| leads(&bench, *id))).await;
    let well = if leads(&bench, 1) { 1 } else { 2 };
    let strays = 3 - well;
    group(&bench, well).propose(b"a".to_vec()).await.unwrap();
    bench.stop(strays).await;

    // Nobody but the witness and who is away later knows of this.
    group(&bench, well).propose(b"b".to_vec()).await.unwrap();
    let sum = replicas[&well].sum.load(SeqCst);
    group(&bench, well).propose(format!("check {sum}").into_bytes()).await.unwrap();
    group(&bench, well).propose(b"c".to_vec()).await.unwrap();
    bench.stop(well).await;
    replicas[&strays].strays.store(true, SeqCst);
    bench.start(strays).await;
    let is_out = |bench: &Bench| bench.voter(strays).cluster.outs_of(strays).contains(&QUIET);
    until("it is out", || is_out(&bench)).await;
    let wrong = replicas[&strays].sum.load(SeqCst);
    assert_ne!(wrong, sum);

    // It is elected, for there is nobody else, and takes nothing and tells nothing.
    let leader = || group(&bench, strays).leadership().borrow().leader;
    until("it is elected", || leader() == Some(strays)).await;
    let name = bench.name(strays).to_owned();
    for _ in 0..2 {
        assert!(!leads(&bench, strays));
        assert_eq!(group(&bench, strays).propose(b"d".to_vec()).await, Err(Error::NotLeader));
        assert_eq!(group(&bench, strays).confirm().await, Err(Error::NotLeader));
        let moved = bench.voter(strays).cluster.move_leader("s0", &name).await;
        let Err(Refused::Unsafe(why)) = moved else { panic!("{moved:?}") };
        assert!(why.contains(&name) && why.contains("is being made again"), "{why}");
        assert_eq!(replicas[&strays].sum.load(SeqCst), wrong, "nothing more is applied");
        // A restart changes nothing.
        bench.stop(strays).await;
        bench.start(strays).await;
        assert!(is_out(&bench));
        replicas[&strays].sum.store(wrong, SeqCst);
        let leader = || group(&bench, strays).leadership().borrow().leader;
        until("it is elected again", || leader() == Some(strays)).await;
    }

    bench.start(well).await;
    until("the other leads", || leads(&bench, well)).await;
    until("it is well", || !is_out(&bench)).await;
    group(&bench, well).propose(b"d".to_vec()).await.unwrap();
    let sum = replicas[&well].sum.load(SeqCst);
    until("it has the same", || replicas[&strays].sum.load(SeqCst) == sum).await;
    group(&bench, well).propose(format!("check {sum}").into_bytes()).await.unwrap();
    bench.stop(well).await;
    until("it leads", || leads(&bench, strays)).await;
    assert_eq!(replicas[&strays].sum.load(SeqCst), sum);
    assert!(!is_out(&bench));
}
