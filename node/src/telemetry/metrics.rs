//! The Prometheus recorder, and what the process itself costs.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use metrics::{describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tandem_catalogue::{Kind, Metric};

/// Samples of histograms pile up until they are counted, whether anybody asks or not.
const COUNT_EVERY: Duration = Duration::from_secs(5);
const CPU: &str = "process_cpu_seconds_total";

/// Makes this the process's recorder.
pub fn start(name: &str, role: &'static str) -> Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .install_recorder()
        .map_err(|error| anyhow::anyhow!("metrics can't be recorded: {error}"))?;
    tandem_catalogue::all().for_each(describe);
    gauge!(
        "tandem_build_info",
        "version" => crate::VERSION,
        "role" => role,
        "process" => name.to_owned()
    )
    .set(1.0);
    let counted = handle.clone();
    let count = move || loop {
        std::thread::sleep(COUNT_EVERY);
        counted.run_upkeep();
    };
    let thread = std::thread::Builder::new().name("metrics".to_owned());
    thread.spawn(count).context("the thread of metrics can't be started")?;
    Ok(handle)
}

fn describe(metric: &Metric) {
    match metric.kind {
        // It is written by hand, see `cpu`.
        Kind::Counter if metric.name == CPU => {}
        Kind::Counter => describe_counter!(metric.name, metric.help),
        Kind::Gauge => describe_gauge!(metric.name, metric.help),
        Kind::Summary => describe_histogram!(metric.name, metric.help),
    }
}

/// The text exposition as of now.
pub fn render(handle: &PrometheusHandle) -> String {
    let cost = Cost::now();
    #[expect(clippy::cast_precision_loss, reason = "a gauge holds no integers")]
    {
        gauge!("process_resident_memory_bytes").set(cost.resident_bytes as f64);
        gauge!("process_open_fds").set(cost.open_fds as f64);
    }
    handle.run_upkeep();
    let mut text = handle.render();
    text.push_str(&cpu(cost.cpu_ms));
    text
}

/// The recorder's counters are whole, and whole seconds are too coarse for a rate.
fn cpu(ms: u64) -> String {
    let help = tandem_catalogue::find(CPU).map_or("", |metric| metric.help);
    let (seconds, rest) = (ms / 1_000, ms % 1_000);
    format!("# HELP {CPU} {help}\n# TYPE {CPU} counter\n{CPU} {seconds}.{rest:03}\n")
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cost {
    cpu_ms: u64,
    resident_bytes: u64,
    open_fds: u64,
}

impl Cost {
    /// From `/proc`, where anything that can't be read is 0.
    fn now() -> Self {
        // SAFETY: getrusage(2) fills the block, which is valid when all zero.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(libc::RUSAGE_SELF, &mut usage);
            usage
        };
        let millis = |time: libc::timeval| {
            let millis = time.tv_sec * 1_000 + time.tv_usec / 1_000;
            u64::try_from(millis).unwrap_or(0)
        };
        // SAFETY: sysconf(3) takes a plain number.
        let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4_096);
        let pages = fs::read_to_string("/proc/self/statm")
            .ok()
            .and_then(|statm| statm.split_whitespace().nth(1)?.parse::<u64>().ok())
            .unwrap_or(0);
        let open_fds = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        Self {
            cpu_ms: millis(usage.ru_utime) + millis(usage.ru_stime),
            resident_bytes: pages * page,
            open_fds: u64::try_from(open_fds).unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_told_to_the_millisecond() {
        let text = cpu(61_007);
        assert!(text.ends_with("\nprocess_cpu_seconds_total 61.007\n"), "{text}");
        assert!(text.contains("# TYPE process_cpu_seconds_total counter\n"), "{text}");
    }
}
