//! The wiring of one gateway's process.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tandem_address::Addresses;
use tandem_control::Status;
use tandem_wire::{Bounds, Tls};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::backend::ClusterBackend;
use crate::copies;
use crate::limits;
use crate::line::Shared;
use crate::lines::{Lines, Outlook, Serves};
use crate::link::client::places;
use crate::link::dialer::Dialer;
use crate::media::{self, MediaPlane, Told};
use crate::options::{Error, Options};
use crate::trace::Tracer;

/// Whatever ends, ends what they are tasks of.
pub(crate) type Tasks = JoinSet<Result<(), Error>>;

/// Serves with a media plane of the caller's until `shutdown` completes.
///
/// # Errors
/// What can't be bound, in one sentence, or what failed later.
pub async fn serve(
    options: Options,
    plane: Box<dyn MediaPlane>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    serve_within(options, Bounds::default(), plane, shutdown).await
}

/// The same with bounds of the caller's for connections.
///
/// # Errors
/// As [`serve`].
pub async fn serve_within(
    options: Options,
    bounds: Bounds,
    mut plane: Box<dyn MediaPlane>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    let listener = bind_api(options.api).await?;
    let mut tasks = Tasks::new();
    let (report, told) = plane.told()?;
    let (to_lines, deaths) = mpsc::channel(limits::DEATHS_MAX);
    let (board, custody) = (plane.board(), plane.custody());
    copies::start(&options, board, custody, report, to_lines, &mut tasks).await?;
    let tls = options.sip_tls.clone().map(Tls::open).transpose()?;
    if let Some(tls) = tls.clone() {
        let reload = Arc::clone(&options.reload);
        tasks.spawn(async move {
            tls.keep(reload).await;
            Ok(())
        });
    }
    let trace = options.trace();
    let tracer =
        Tracer::start(trace.clone()).map_err(|why| Error::Trace { dir: trace.dir, why })?;
    let clients = places();
    let (to_lines, heard) = mpsc::channel(limits::HEARD_MAX);
    let certificates = options.tls.clone();
    let dialer = Dialer::start(&options.nodes, certificates, Arc::clone(&clients), to_lines)?;
    let (status, watched) = watch::channel(Status::default());
    let (serves, served) = watch::channel(Serves::default());
    let (reporter, reports) = watch::channel(None);
    tasks.spawn(async move {
        carry(told, reports).await;
        Ok(())
    });
    let backend =
        ClusterBackend::new(&options, Arc::clone(&clients), watched, served, tracer.clone())?;
    let backend = Arc::new(backend);
    let watching = Arc::clone(&backend);
    tasks.spawn(async move {
        watching.watch().await;
        Ok(())
    });
    let token = options.token;
    tasks.spawn(async move {
        let forever = std::future::pending();
        tandem_http::serve(listener, backend, token, forever).await.map_err(Error::ApiFailed)
    });
    tracing::info!(gateway = options.name, api = %options.api, "runs");
    let vips = options.lines().into_iter().map(|line| line.vip.ip());
    let addresses = Addresses::new(&options.way, vips).map_err(Error::Addresses)?;
    let busy = Mutex::default();
    let shared = Shared { options, addresses, bounds, clients, tracer, tls, plane, busy };
    let shared = Arc::new(shared);
    let outlook = Outlook { serves, status, reporter };
    let lines = Lines::new(shared, dialer, heard, deaths, outlook);
    let ended = tokio::select! {
        ended = lines.run(shutdown) => ended,
        Some(ended) = tasks.join_next() => match ended {
            Ok(result) => result.and_then(|()| Err(Error::Control("a task ended".into()))),
            Err(error) => Err(Error::Control(error.to_string())),
        },
    };
    tasks.shutdown().await;
    ended
}

/// What the process has to tell goes to whichever line can tell it.
async fn carry(
    mut told: mpsc::Receiver<Told>,
    mut reporter: watch::Receiver<Option<mpsc::Sender<Told>>>,
) {
    while let Some(mut next) = told.recv().await {
        loop {
            let line = match reporter.wait_for(Option::is_some).await {
                Ok(line) => line.clone(),
                Err(_) => return,
            };
            let Some(line) = line else { continue };
            match line.send(next).await {
                Ok(()) => break,
                // The line has ended: another will come.
                Err(mpsc::error::SendError(back)) => next = back,
            }
            if reporter.changed().await.is_err() {
                return;
            }
        }
    }
}

async fn bind_api(address: SocketAddr) -> Result<TcpListener, Error> {
    bind(address).await.map_err(|why| Error::Api { address, why })
}

/// The error says why, of the address.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => "is in use by another program".to_owned(),
        ErrorKind::AddrNotAvailable => "is no address of this machine".to_owned(),
        ErrorKind::PermissionDenied => "may not be bound by this user".to_owned(),
        _ => format!("can't be bound: {error}"),
    })
}

/// Serves until `shutdown` completes.
///
/// # Errors
/// What can't be bound, in one sentence, or what failed later.
pub async fn run(options: Options, shutdown: impl Future<Output = ()> + Send) -> Result<(), Error> {
    let plane = media::start(&options)?;
    serve(options, plane, shutdown).await
}
