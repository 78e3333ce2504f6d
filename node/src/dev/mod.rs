//! `tandem dev`: a whole cluster as separate processes on one machine, and their supervisor.

mod child;
pub mod control;
mod files;
pub mod folder;
mod leftover;
mod obituary;
pub mod pki;
pub mod plan;
pub mod ports;
pub mod processes;
mod ready;
mod supervisor;

use std::io::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc};

use crate::config;
use crate::incarnation::{self, Incarnations};
use child::Spec;
use control::Action;
use folder::Folder;
use obituary::Announcer;
use plan::Shape;
use processes::Processes;
use supervisor::{Death, Listeners, Supervisor};

/// From the start of the processes to `ready`: a machine that is slower than this is too slow.
const READY_MS_MAX: u64 = 60_000;
/// From the start of one process to its first answer.
const START_MS_MAX: u64 = 20_000;
/// Deaths that may wait to be told.
const DEATHS_MAX: usize = 256;
const WORKERS: usize = 2;

pub struct Options {
    pub dir: PathBuf,
    pub boxes: u16,
    pub witnesses: u16,
    /// What the folder has, or the default, where nothing is asked.
    pub shards: Option<u16>,
    pub bind: Option<IpAddr>,
    pub config: Option<PathBuf>,
    pub restart: bool,
    pub fault_injection: bool,
}

pub fn run(options: Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("dev")
        .on_thread_start(child::prefer_this_thread)
        .enable_all()
        .build()
        .context("the supervisor can't be started")?;
    runtime.block_on(supervise(options))
}

async fn supervise(options: Options) -> Result<()> {
    // Heard from the very start: a signal that comes early must not leave processes behind.
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT can't be heard")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM can't be heard")?;
    let file = options.config.as_deref().map(config::load).transpose()?;
    let folder = Folder::open(&options.dir)?;
    let _lock = folder.lock()?;
    folder.make()?;
    let _log = crate::telemetry::logs::start(&folder.logs(), "dev")?;
    let asked = Shape {
        boxes: options.boxes,
        witnesses: options.witnesses,
        shards: options.shards.unwrap_or(plan::SHARDS_DEFAULT),
        bind: options.bind,
        dev: file.as_ref().map(|file| file.dev).unwrap_or_default(),
    };
    let cluster = files::cluster(&folder, &asked, options.shards, file.is_some())?;
    leftover::wait(&folder)?;
    ports::check(&cluster)?;
    let (tenant, sip) =
        file.map_or_else(Default::default, |file| ((file.tenant, file.sounds), file.sip));
    files::prepare(&folder, &cluster, tenant, sip, options.fault_injection)?;
    let listener = control::listen(&folder)?;

    let (told, mut deaths) = mpsc::channel::<Death>(DEATHS_MAX);
    let announcer = Announcer::start(&folder, &cluster)?;
    let listeners = Listeners {
        on_death: Box::new(move |death| {
            announcer.announce(death);
            let expected = death.expected;
            tracing::warn!(process = %death.name, expected, "{}", death.how);
            // Whoever waits for `ready` must know; later nobody does.
            let _ = told.try_send(death.clone());
        }),
        on_change: {
            let (folder, cluster) = (folder.clone(), cluster.clone());
            Box::new(move |states| {
                if let Err(error) = Processes::of(&cluster, &folder, states).write(&folder) {
                    tracing::error!(%error, "processes.json is out of date");
                }
            })
        },
    };
    let specs = specs(&folder, &cluster)?;
    let names: Vec<_> = specs.iter().map(|spec| spec.name.clone()).collect();
    let incarnations = Incarnations::open(folder.root().join(incarnation::FILE));
    let supervisor = Supervisor::spawn(specs, incarnations, options.restart, listeners)?;
    let served = tokio::select! {
        served = serve(&supervisor, &folder, &cluster, &names, &mut deaths, listener) => served,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    supervisor.stop_all().await?;
    // The supervisor is the only one who listens there.
    let _ = std::fs::remove_file(folder.socket());
    served
}

/// Until something fails or the caller is told to stop.
async fn serve(
    supervisor: &Supervisor,
    folder: &Folder,
    cluster: &config::Cluster,
    names: &[String],
    deaths: &mut mpsc::Receiver<Death>,
    listener: tokio::net::UnixListener,
) -> Result<()> {
    for name in names {
        supervisor.start(name).await?;
    }
    tokio::select! {
        ready = ready::cluster(cluster, Duration::from_millis(READY_MS_MAX)) => ready?,
        Some(death) = deaths.recv() => bail!(last_words(folder, &death)),
    }
    let mut stdout = std::io::stdout();
    writeln!(stdout, "ready").and_then(|()| stdout.flush()).context("stdout is closed")?;
    tracing::info!("the cluster takes calls");
    let clients = Arc::new(Semaphore::new(control::CLIENTS_MAX));
    loop {
        let (stream, _) = listener.accept().await.context("the control socket is closed")?;
        let Ok(permit) = Arc::clone(&clients).try_acquire_owned() else { continue };
        let (supervisor, folder, cluster) = (supervisor.clone(), folder.clone(), cluster.clone());
        tokio::spawn(async move {
            let _permit = permit;
            if let Err(error) = obey(stream, &supervisor, &folder, &cluster).await {
                tracing::warn!(%error, "an order was not heard");
            }
        });
    }
}

async fn obey(
    mut stream: UnixStream,
    supervisor: &Supervisor,
    folder: &Folder,
    cluster: &config::Cluster,
) -> Result<()> {
    let order = control::hear(&mut stream).await?;
    tracing::info!(action = ?order.action, process = %order.name, "ordered");
    let done = match order.action {
        Action::Stop => supervisor.stop(&order.name).await,
        Action::Start => start(supervisor, folder, cluster, &order.name).await,
    };
    control::answer(&mut stream, &done).await
}

/// Done when the process answers.
async fn start(
    supervisor: &Supervisor,
    folder: &Folder,
    cluster: &config::Cluster,
    name: &str,
) -> Result<()> {
    supervisor.start(name).await?;
    let alive = || {
        let processes = Processes::read(folder).ok()?;
        processes.processes.into_iter().find(|process| process.name == name).map(|p| p.alive)
    };
    if ready::process(cluster, name, Duration::from_millis(START_MS_MAX), alive).await? {
        return Ok(());
    }
    bail!("{}", files::stderr_of(folder, name).unwrap_or_else(|| format!("{name} ended at once")))
}

fn last_words(folder: &Folder, death: &Death) -> String {
    files::stderr_of(folder, &death.name)
        .unwrap_or_else(|| format!("{} {} before the cluster was ready", death.name, death.how))
}

fn specs(folder: &Folder, cluster: &config::Cluster) -> Result<Vec<Spec>> {
    let program = std::env::current_exe().context("the path of this binary is unknown")?;
    let spec = |name: &str, role: &str| Spec {
        name: name.to_owned(),
        program: program.clone(),
        arguments: vec![role.into(), "--config".into(), folder.process_config(name).into()],
        stderr: folder.stderr(name),
    };
    let members = cluster.members.iter().map(|m| spec(&m.name, processes::role_name(m.role)));
    let gateways = cluster.gateways.iter().map(|gateway| spec(&gateway.name, "gateway"));
    Ok(members.chain(gateways).collect())
}

/// `tandem dev start NAME` and `stop NAME`.
pub fn order(dir: &std::path::Path, action: Action, name: &str) -> Result<()> {
    let folder = Folder::existing(dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(control::ask(&folder, action, name))?;
    match answer.error {
        None => Ok(()),
        Some(why) => bail!(why),
    }
}
