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
mod serving;
mod supervisor;

use std::io::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use parking_lot::RwLock;
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
use serving::Publisher;
use supervisor::{Death, Listeners, Supervisor};

/// From the start of the processes to `ready`: a machine that is slower than this is too slow.
const READY_MS_MAX: u64 = 60_000;
/// From the start of one process to its first answer.
const START_MS_MAX: u64 = 20_000;
/// Deaths that may wait to be told.
const DEATHS_MAX: usize = 256;
const WORKERS: usize = 2;
const WITNESS: &str = "witness";

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
    /// A gateway that stands still is left alone, though its lease is over.
    pub spare_stopped: bool,
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
    let (tenant, of_gateways) = file.map_or_else(Default::default, |file| {
        ((file.tenant, file.sounds), (file.sip, file.address))
    });
    files::prepare(&folder, &cluster, tenant, of_gateways, options.fault_injection)?;
    let listener = control::listen(&folder)?;

    let (told, mut deaths) = mpsc::channel::<Death>(DEATHS_MAX);
    let announcer = Announcer::start(&folder, &cluster)?;
    let cluster: Shared = Arc::new(RwLock::new(cluster));
    let announces = announcer.clone();
    let publisher = Arc::new(Publisher::new(folder.clone(), Arc::clone(&cluster)));
    let listeners = Listeners {
        on_death: Box::new(move |death| {
            announces.announce(death);
            let expected = death.expected;
            tracing::warn!(process = %death.name, expected, "{}", death.how);
            // Whoever waits for `ready` must know; later nobody does.
            let _ = told.try_send(death.clone());
        }),
        on_change: {
            let publisher = Arc::clone(&publisher);
            Box::new(move |states| publisher.on_change(states))
        },
    };
    let specs = specs(&folder, &cluster.read())?;
    let names: Vec<_> = specs.iter().map(|spec| spec.name.clone()).collect();
    let incarnations = Incarnations::open(folder.root().join(incarnation::FILE));
    let supervisor = Supervisor::spawn(specs, incarnations, options.restart, listeners)?;
    let running =
        Running { supervisor: supervisor.clone(), folder: folder.clone(), cluster, announcer };
    let injects = options.fault_injection;
    let kill = |process: &str| {
        if options.spare_stopped {
            return;
        }
        tracing::warn!(
            process,
            "TD0346 stands still, and another serves in its place: it is killed, for its listeners keep phones from that one"
        );
        if let Err(error) = supervisor.kill(process) {
            tracing::error!(process, %error, "could not be killed");
        }
    };
    let served = tokio::select! {
        served = serve(&running, &names, &publisher, &mut deaths, listener, injects) => served,
        () = publisher.keep(kill) => Ok(()),
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    supervisor.stop_all().await?;
    // The supervisor is the only one who listens there.
    let _ = std::fs::remove_file(folder.socket());
    served
}

/// Changes when a witness is added.
type Shared = Arc<RwLock<config::Cluster>>;

/// What an order needs.
#[derive(Clone)]
struct Running {
    supervisor: Supervisor,
    folder: Folder,
    cluster: Shared,
    announcer: Announcer,
}

/// Until something fails or the caller is told to stop.
async fn serve(
    all: &Running,
    names: &[String],
    publisher: &Publisher,
    deaths: &mut mpsc::Receiver<Death>,
    listener: tokio::net::UnixListener,
    fault_injection: bool,
) -> Result<()> {
    for name in names {
        all.supervisor.start(name).await?;
    }
    let cluster = all.cluster.read().clone();
    let ready = async {
        ready::cluster(&cluster, Duration::from_millis(READY_MS_MAX)).await?;
        publisher.all_served().await;
        Ok::<_, anyhow::Error>(())
    };
    tokio::select! {
        ready = ready => ready?,
        Some(death) = deaths.recv() => bail!(last_words(&all.folder, &death)),
    }
    let mut stdout = std::io::stdout();
    writeln!(stdout, "ready").and_then(|()| stdout.flush()).context("stdout is closed")?;
    tracing::info!("the cluster takes calls");
    let clients = Arc::new(Semaphore::new(control::CLIENTS_MAX));
    loop {
        let (stream, _) = listener.accept().await.context("the control socket is closed")?;
        let Ok(permit) = Arc::clone(&clients).try_acquire_owned() else { continue };
        let all = all.clone();
        tokio::spawn(async move {
            let _permit = permit;
            if let Err(error) = obey(stream, &all, fault_injection).await {
                tracing::warn!(%error, "an order was not heard");
            }
        });
    }
}

async fn obey(mut stream: UnixStream, all: &Running, fault_injection: bool) -> Result<()> {
    let order = control::hear(&mut stream).await?;
    tracing::info!(action = ?order.action, process = %order.name, "ordered");
    let done = match order.action {
        Action::Stop => all.supervisor.stop(&order.name).await,
        Action::Start => all.start(&order.name).await,
        Action::AddWitness => all.add_witness(fault_injection).await,
    };
    control::answer(&mut stream, &done).await
}

impl Running {
    /// Done when the process answers.
    async fn start(&self, name: &str) -> Result<()> {
        self.supervisor.start(name).await?;
        let alive = || {
            let processes = Processes::read(&self.folder).ok()?;
            processes.processes.into_iter().find(|process| process.name == name).map(|p| p.alive)
        };
        let cluster = self.cluster.read().clone();
        let within = Duration::from_millis(START_MS_MAX);
        if ready::process(&cluster, name, within, alive).await? {
            return Ok(());
        }
        let said = files::stderr_of(&self.folder, name);
        bail!("{}", said.unwrap_or_else(|| format!("{name} ended at once")))
    }

    /// It runs when this is done, and waits to be let in.
    async fn add_witness(&self, fault_injection: bool) -> Result<()> {
        let known = self.cluster.read().members.iter().any(|it| it.role == config::Role::Witness);
        if known {
            bail!("the cluster in {} has a witness", self.folder.root().display());
        }
        let (cluster, witness) = files::add_witness(&self.folder, fault_injection)?;
        *self.cluster.write() = cluster;
        self.announcer.add(&witness)?;
        self.supervisor.add(spec(&self.folder, &witness.name, "witness")?)?;
        self.start(&witness.name).await
    }
}

fn last_words(folder: &Folder, death: &Death) -> String {
    files::stderr_of(folder, &death.name)
        .unwrap_or_else(|| format!("{} {} before the cluster was ready", death.name, death.how))
}

fn specs(folder: &Folder, cluster: &config::Cluster) -> Result<Vec<Spec>> {
    let members = cluster.members.iter().map(|it| (&it.name, processes::role_name(it.role)));
    let gateways = cluster.gateways.iter().map(|gateway| (&gateway.name, "gateway"));
    members.chain(gateways).map(|(name, role)| spec(folder, name, role)).collect()
}

fn spec(folder: &Folder, name: &str, role: &str) -> Result<Spec> {
    Ok(Spec {
        name: name.to_owned(),
        program: std::env::current_exe().context("the path of this binary is unknown")?,
        arguments: vec![role.into(), "--config".into(), folder.process_config(name).into()],
        stderr: folder.stderr(name),
    })
}

/// `tandem dev add-witness`, but for the membership: where the witness waits to be let in.
pub fn add_witness(dir: &std::path::Path) -> Result<config::Member> {
    order(dir, Action::AddWitness, WITNESS)?;
    let cluster = files::existing(&Folder::existing(dir)?)?;
    let mut witnesses = cluster.members.into_iter().filter(|it| it.role == config::Role::Witness);
    witnesses.next().context("the plan has no witness")
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
