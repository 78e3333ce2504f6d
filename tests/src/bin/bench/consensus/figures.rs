//! What the runs came to, side by side.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};
use tandem_tests::offer::{Outcome, histogram, micros};

use super::{KILLS, OFFERED_A_SECOND, OUTSTANDING, ROUNDS, Side};
use crate::load_average;
use crate::usage::Usage;

/// How a side is loaded for a while.
pub enum Phase {
    Offered { a_second: u32, over: Duration },
    Full { outstanding: usize, over: Duration },
}

/// Of one side.
pub struct Figures {
    offered_us: Histogram<u64>,
    offered_percent: Vec<f64>,
    full: BTreeMap<usize, Full>,
    idle_percent: f64,
    resident_mib: Vec<(String, u64)>,
    kill_us: Histogram<u64>,
}

/// By as many as were under way; each round's, and all commands'.
struct Full {
    a_second: Vec<f64>,
    took_us: Histogram<u64>,
}

impl Figures {
    pub fn new() -> Result<Self> {
        Ok(Self {
            offered_us: histogram()?,
            offered_percent: Vec::new(),
            full: BTreeMap::new(),
            idle_percent: 0.0,
            resident_mib: Vec::new(),
            kill_us: histogram()?,
        })
    }

    pub fn add<S: Side>(&mut self, phase: &Phase, outcome: Outcome, percent: f64) -> Result<()> {
        let Outcome { took_us, failed, seconds } = outcome;
        let a_second = took_us.len() as f64 / seconds;
        let what = match phase {
            Phase::Offered { a_second, .. } => {
                self.offered_us.add(&took_us)?;
                self.offered_percent.push(percent);
                format!("{a_second}/s offered")
            }
            Phase::Full { outstanding, .. } => {
                let empty = Full { a_second: Vec::new(), took_us: histogram()? };
                let full = self.full.entry(*outstanding).or_insert(empty);
                full.a_second.push(a_second);
                full.took_us.add(&took_us)?;
                format!("{outstanding} outstanding")
            }
        };
        println!(
            "  {} {what}: {a_second:.0}/s, p50 {} p99 {} max {} µs, {failed} failed, voters {percent:.0} % \
             of a core (load {})",
            S::NAME,
            took_us.value_at_quantile(0.5),
            took_us.value_at_quantile(0.99),
            took_us.max(),
            load_average().split(' ').next().unwrap_or_default(),
        );
        Ok(())
    }

    pub fn rest(&mut self, idle: &Usage, resident_mib: Vec<(String, u64)>) -> Result<()> {
        self.idle_percent = idle.percent()?;
        self.resident_mib = resident_mib;
        Ok(())
    }

    pub fn killed(&mut self, took: Duration) -> Result<()> {
        Ok(self.kill_us.record(micros(took))?)
    }

    fn a_second(&self, outstanding: usize) -> f64 {
        let rounds = self.full.get(&outstanding).map_or(&[][..], |full| &full.a_second);
        rounds.iter().sum::<f64>() / rounds.len().max(1) as f64
    }

    fn resident_mib_sum(&self) -> u64 {
        self.resident_mib.iter().map(|(_, mib)| mib).sum()
    }

    fn json(&self) -> Value {
        let mut all = Map::new();
        let mut put = |key: String, value: Value| all.insert(key, value);
        for (at, name) in [(0.5, "p50"), (0.99, "p99"), (1.0, "max")] {
            put(format!("commit_{name}_us"), self.offered_us.value_at_quantile(at).into());
            put(format!("kill_to_commit_{name}_us"), self.kill_us.value_at_quantile(at).into());
        }
        put("commits".into(), self.offered_us.len().into());
        let percent = self.offered_percent.iter().sum::<f64>() / f64::from(ROUNDS);
        put("voters_cpu_percent_of_core".into(), percent.into());
        for (outstanding, full) in &self.full {
            let key = |what: &str| format!("outstanding_{outstanding}_{what}");
            put(key("commits_per_second"), self.a_second(*outstanding).into());
            put(key("commits_per_second_by_round"), full.a_second.clone().into());
            put(key("p50_us"), full.took_us.value_at_quantile(0.5).into());
            put(key("p99_us"), full.took_us.value_at_quantile(0.99).into());
        }
        put("idle_cpu_percent_of_core".into(), self.idle_percent.into());
        let resident = self.resident_mib.iter().map(|(name, mib)| (name.clone(), (*mib).into()));
        put("resident_mib".into(), Value::Object(resident.collect()));
        put("kills".into(), self.kill_us.len().into());
        Value::Object(all)
    }
}

/// What the two are compared by: its name, ours, etcd's.
fn compared(ours: &Figures, etcd: &Figures) -> Vec<(String, f64, f64)> {
    let mut rows = Vec::new();
    let mut row =
        |name: String, of: &dyn Fn(&Figures) -> f64| rows.push((name, of(ours), of(etcd)));
    for (at, name) in [(0.5, "p50"), (0.99, "p99"), (1.0, "max")] {
        row(format!("commit_{name}_us"), &|it| it.offered_us.value_at_quantile(at) as f64);
    }
    for outstanding in OUTSTANDING {
        let name = format!("outstanding_{outstanding}_commits_per_second");
        row(name, &|it| it.a_second(outstanding));
    }
    for (at, name) in [(0.5, "p50"), (0.99, "p99"), (1.0, "max")] {
        row(format!("kill_to_commit_{name}_us"), &|it| it.kill_us.value_at_quantile(at) as f64);
    }
    row("idle_cpu_percent_of_core".into(), &|it| it.idle_percent);
    row("resident_mib".into(), &|it| it.resident_mib_sum() as f64);
    rows
}

fn ratio(ours: f64, etcd: f64) -> Option<f64> {
    (etcd > 0.0).then(|| ours / etcd)
}

pub fn print(ours: &Figures, etcd: &Figures) {
    println!(
        "consensus: {OFFERED_A_SECOND}/s offered, {ROUNDS} rounds, {KILLS} kills (load {})",
        load_average()
    );
    println!("  {:<40} {:>12} {:>12} {:>7}", "", "tandem", "etcd", "ratio");
    for (name, ours, etcd) in compared(ours, etcd) {
        let ratio = ratio(ours, etcd).map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        println!("  {name:<40} {ours:>12.1} {etcd:>12.1} {ratio:>7}");
    }
}

pub fn json(ours: &Figures, etcd: &Figures, command_bytes: usize, load_before: &str) -> Value {
    let rows = compared(ours, etcd).into_iter();
    let ratios = rows.filter_map(|(name, ours, etcd)| Some((name, ratio(ours, etcd)?.into())));
    json!({
        "command_bytes": command_bytes,
        "offered_per_second": OFFERED_A_SECOND,
        "rounds": ROUNDS,
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "load_average_before": load_before,
        "load_average_after": load_average(),
        "tandem": ours.json(),
        "etcd": etcd.json(),
        "ratios_tandem_to_etcd": Value::Object(ratios.collect()),
    })
}
