//! The Prometheus recorder, and what the process itself costs.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use metrics::{counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// Samples of histograms pile up until they are counted, whether anybody asks or not.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// Makes this the process's recorder.
pub fn start(name: &str, role: &'static str) -> Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .install_recorder()
        .map_err(|error| anyhow::anyhow!("metrics can't be recorded: {error}"))?;
    describe_gauge!("tandem_build_info", "1, with the build and the process as labels");
    describe_counter!("process_cpu_seconds_total", "CPU time of this process, user and system");
    describe_gauge!("process_resident_memory_bytes", "Resident memory of this process");
    describe_gauge!("process_open_fds", "Open file descriptors of this process");
    describe_gauge!(
        "tandem_certificate_expires_timestamp_seconds",
        "When the process's certificate, or the first of the authorities that it trusts, ends"
    );
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

/// The text exposition as of now. CPU seconds are whole: the recorder's counters are.
pub fn render(handle: &PrometheusHandle) -> String {
    let cost = Cost::now();
    counter!("process_cpu_seconds_total").absolute(cost.cpu_ms / 1_000);
    #[expect(clippy::cast_precision_loss, reason = "a gauge holds no integers")]
    {
        gauge!("process_cpu_milliseconds").set(cost.cpu_ms as f64);
        gauge!("process_resident_memory_bytes").set(cost.resident_bytes as f64);
        gauge!("process_open_fds").set(cost.open_fds as f64);
    }
    handle.run_upkeep();
    handle.render()
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
