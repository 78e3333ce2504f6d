//! What every server does first and last.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use metrics_exporter_prometheus::PrometheusHandle;
use tandem_pki::Live;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tracing_appender::non_blocking::WorkerGuard;

use crate::config;
use crate::incarnation::{self, Incarnations};
use crate::telemetry::{logs, metrics};

/// Threads of the application's runtime; consensus and media have their own.
const WORKERS: usize = 2;

/// A server that is being started.
pub struct Started {
    pub config: config::Server,
    pub incarnation: u64,
    pub metrics: PrometheusHandle,
    /// What proves that it is of the cluster.
    pub certificates: Arc<Live>,
    /// Dropped last: it writes what is left of the log.
    pub _log: WorkerGuard,
}

/// Configuration, log, metrics, limits.
pub fn start(path: &Path, incarnation: Option<u64>, role: &'static str) -> Result<Started> {
    let config = config::load_server(path)?;
    let name = &config.process.name;
    let log = logs::start(&config.process.logs, name)?;
    let metrics = metrics::start(name, role)?;
    raise_open_files();
    let kept = || Incarnations::open(config.process.data.join(incarnation::FILE)).next();
    let incarnation = incarnation.unwrap_or_else(kept);
    tracing::info!(process = %name, role, incarnation, version = crate::VERSION, "starts");
    let files = config.tls.clone().into();
    let certificates =
        Live::open(files, name).inspect_err(|error| tracing::error!("ends: {error}"))?;
    Ok(Started { config, incarnation, metrics, certificates, _log: log })
}

/// Runs `server` until it ends or SIGTERM or SIGINT asks it to.
pub fn run<F>(server: impl FnOnce(Shutdown) -> F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("app")
        .enable_all()
        .build()
        .context("the runtime can't be started")?;
    let (asked, shutdown) = watch::channel(false);
    let ended = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("SIGTERM can't be heard")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT can't be heard")?;
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("asked to stop");
            asked.send_replace(true);
        });
        server(Shutdown(shutdown)).await
    });
    if let Err(error) = &ended {
        tracing::error!("ends: {error:#}");
    } else {
        tracing::info!("ends");
    }
    // What still runs has nothing to lose: all that counts is on disk.
    runtime.shutdown_background();
    ended
}

/// Ends a process that was asked to stop, at once. Consensus and RocksDB have threads that still run,
/// and a mere `exit` takes the statics away from under them: now and then the process aborted.
pub fn leave(ended: Result<()>) -> Result<()> {
    if ended.is_ok() {
        // SAFETY: _exit(2) takes a number; all that counts is on disk, and the log was written when
        // its guard was dropped.
        unsafe { libc::_exit(0) }
    }
    ended
}

/// Completes when the process shall end.
#[derive(Clone)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    pub async fn wait(mut self) {
        // An error means that the sender is gone, which only happens at the end.
        let _ = self.0.wait_for(|asked| *asked).await;
    }
}

/// Told at each SIGHUP, which asks a server to read anew what may change while it runs. From here
/// on it ends nothing.
pub fn hang_ups() -> Result<Arc<Notify>> {
    let mut hang_up = signal(SignalKind::hangup()).context("SIGHUP can't be heard")?;
    let told = Arc::new(Notify::new());
    let tell = Arc::clone(&told);
    tokio::spawn(async move {
        while hang_up.recv().await.is_some() {
            tell.notify_one();
        }
    });
    Ok(told)
}

/// Takes new certificates when their files change, and at once at each SIGHUP.
pub fn keep_certificates(started: &Started) -> Result<()> {
    tokio::spawn(Arc::clone(&started.certificates).keep(hang_ups()?));
    Ok(())
}

/// To the hard limit: sockets, log segments and SST files all count.
fn raise_open_files() {
    // SAFETY: getrlimit(2) and setrlimit(2) on a block that outlives the calls.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}
