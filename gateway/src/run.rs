//! The wiring of one gateway.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;

use tandem_control::{Identity, Status};
use tandem_core::ids::GatewayId;
use tandem_wire::{Bounds, Ports, Socket, Tls, stream};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::backend::ClusterBackend;
use crate::copies;
use crate::limits;
use crate::link::client::{Clients, Input};
use crate::link::dialer::{self, Dialer};
use crate::link::pb;
use crate::media::{self, MediaPlane};
use crate::options::{Error, Options};
use crate::task::{Inputs, Task};
use crate::trace::Tracer;

/// Whatever ends, ends the gateway.
pub(crate) type Tasks = JoinSet<Result<(), Error>>;

/// Serves with a media plane of the caller's until `shutdown` completes.
///
/// # Errors
/// What can't be bound, in one sentence, or what failed later.
pub async fn serve(
    options: Options,
    plane: MediaPlane,
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
    plane: MediaPlane,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    let socket = Arc::new(Socket::bind(options.vip)?);
    let tls = options.sip_tls.clone().map(Tls::open).transpose()?;
    let vip = socket.local();
    let at = |port: u16| SocketAddr::new(vip.ip(), port);
    let websocket = options.websocket.clone().unwrap_or_default();
    let ports = Ports {
        tcp: vip,
        tls: tls.clone().map(|tls| (at(tandem_sip::tls_port(vip.port())), tls)),
        ws: websocket.ws.then(|| at(tandem_sip::ws_port(vip.port()))),
        wss: tls
            .clone()
            .filter(|_| websocket.wss)
            .map(|tls| (at(tandem_sip::wss_port(vip.port())), tls)),
        origins: websocket.origins.into(),
    };
    let (streams, connections) = stream::bind_all(ports, bounds, options.incarnation)?;
    let listener = bind_api(options.api).await?;
    let mut tasks = Tasks::new();
    copies::start(&options, plane.board, plane.custody, plane.report, &mut tasks).await?;
    let clients = dialer::places();
    let (status, watched) = watch::channel(Status::default());
    let (to_wire, wire) = tandem_wire::intake::open(tandem_wire::limits::IN_FLIGHT_MAX);
    let link = dial_nodes(&options, vip, &clients, &mut tasks)?;
    let (to_control, reports) = mpsc::channel(tandem_wire::limits::REPORTS_MAX);
    let handler = to_wire.clone();
    tasks.spawn(async move { connections.run(handler, to_control).await.map_err(Error::from) });
    let receiver = Arc::clone(&socket);
    tasks.spawn(async move { receiver.receive(to_wire).await.map_err(Error::from) });
    if let Some(tls) = tls {
        let reload = Arc::clone(&options.reload);
        tasks.spawn(async move {
            tls.keep(reload).await;
            Ok(())
        });
    }
    let identity = Identity {
        name: GatewayId::from(options.name.clone()),
        vip,
        ports: plane.media.ports(),
        nodes: options.nodes.iter().map(|node| node.name.clone()).collect(),
        life: options.incarnation,
    };
    let trace = options.trace();
    let tracer =
        Tracer::start(trace.clone()).map_err(|why| Error::Trace { dir: trace.dir, why })?;
    let task = Task::new(identity, socket, streams, plane.media, status, tracer.clone());
    let (leave, leaving) = mpsc::channel(1);
    let inputs = Inputs { wire, reports, link, media: plane.events, leaving };
    tasks.spawn(async move {
        task.run(inputs).await;
        Err(Error::Control("its inputs are gone".into()))
    });
    let backend = Arc::new(ClusterBackend::new(&options, clients, watched, tracer)?);
    let token = options.token;
    tasks.spawn(async move {
        let forever = std::future::pending();
        tandem_http::serve(listener, backend, token, forever).await.map_err(Error::ApiFailed)
    });
    tracing::info!(gateway = options.name, %vip, api = %options.api, "serves");
    let ended = tokio::select! {
        () = shutdown => {
            let (done, left) = oneshot::channel();
            if leave.send(done).await.is_ok() {
                tokio::time::timeout(limits::LEAVE, left).await.ok();
            }
            Ok(())
        }
        Some(ended) = tasks.join_next() => match ended {
            Ok(result) => result.and_then(|()| Err(Error::Control("a task ended".into()))),
            Err(error) => Err(Error::Control(error.to_string())),
        },
    };
    // The media plane goes with the control task: recordings are whole when this returns.
    tasks.shutdown().await;
    ended
}

/// Starts a session with each node.
fn dial_nodes(
    options: &Options,
    vip: SocketAddr,
    clients: &Clients,
    tasks: &mut Tasks,
) -> Result<mpsc::Receiver<Input>, Error> {
    let hello = pb::Hello {
        gateway: options.name.clone(),
        incarnation: options.incarnation,
        version: options.version.clone(),
        vip: vip.to_string(),
    };
    let (to_control, link) = mpsc::channel(limits::DOWN_MAX);
    let clients = Arc::clone(clients);
    let dialer = Dialer::start(&options.nodes, options.tls.clone(), hello, clients, to_control)?;
    tasks.spawn(async move {
        dialer.run().await;
        Ok(())
    });
    Ok(link)
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
