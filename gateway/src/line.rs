//! One line in service: its sockets, its sessions with the nodes, its media, and the task that has its control.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tandem_address::{Addresses, Held};
use tandem_control::{Identity, Status};
use tandem_core::ids::GatewayId;
use tandem_lease::Fence;
use tandem_media::Rest;
use tandem_wire::{Bounds, Life, Ports, Socket, Tls, stream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::limits;
use crate::link::client::Clients;
use crate::link::{pb, session};
use crate::media::{LineMedia, MediaPlane, Told};
use crate::options::{Error, Options};
use crate::run::Tasks;
use crate::task::{Inputs, Task};
use crate::trace::Tracer;

/// A line as the configuration has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// What the core calls the gateway.
    pub name: String,
    /// The service address for SIP.
    pub vip: SocketAddr,
    /// Where RTP is received; the address of `vip` as a rule.
    pub media_ip: IpAddr,
}

/// What all lines of a process share.
pub struct Shared {
    pub options: Options,
    pub addresses: Arc<Addresses>,
    pub bounds: Bounds,
    pub clients: Clients,
    pub tracer: Tracer,
    pub tls: Option<Arc<Tls>>,
    pub plane: Box<dyn MediaPlane>,
    /// RTP ports of lines that other programs were found to have.
    pub busy: Mutex<BTreeMap<String, BTreeSet<u16>>>,
}

pub struct Line {
    pub life: u64,
    pub status: watch::Receiver<Status>,
    /// Takes what the process has to tell, whatever line it is about.
    pub report: mpsc::Sender<Told>,
    fence: Arc<Fence>,
    address: Arc<Held>,
    tasks: Tasks,
    leave: mpsc::Sender<oneshot::Sender<()>>,
}

impl Line {
    /// Its address is here.
    ///
    /// # Errors
    /// What can't be bound, in one sentence.
    pub fn start(
        shared: &Shared,
        spec: &Spec,
        life: Life,
        address: Arc<Held>,
    ) -> Result<Self, Error> {
        let Shared { options, clients, tracer, .. } = shared;
        let socket = Arc::new(Socket::bind(spec.vip, Arc::clone(&life.fence))?);
        let vip = socket.local();
        let (streams, connections) = stream::bind_all(ports(shared, vip), shared.bounds, &life)?;
        let busy = shared.busy.lock().get(&spec.name).cloned().unwrap_or_default();
        let busy = life.follows.then_some(&busy);
        let LineMedia { media, events, report, rest } =
            shared.plane.line(spec, Arc::clone(&life.fence), busy)?;
        let mut tasks = Tasks::new();
        if address.is_moved() {
            let (address, fence) = (Arc::clone(&address), Arc::clone(&life.fence));
            tasks.spawn(async move { Err(address.keep(&fence).await.into()) });
        }
        if let Some(rest) = rest {
            tasks.spawn(bind_rest(rest));
        }
        let (to_wire, wire) = tandem_wire::intake::open(tandem_wire::limits::IN_FLIGHT_MAX);
        let (to_control, reports) = mpsc::channel(tandem_wire::limits::REPORTS_MAX);
        let handler = to_wire.clone();
        tasks.spawn(async move { connections.run(handler, to_control).await.map_err(Error::from) });
        let receiver = Arc::clone(&socket);
        tasks.spawn(async move { receiver.receive(to_wire).await.map_err(Error::from) });
        let hello = pb::Hello {
            gateway: spec.name.clone(),
            incarnation: life.number,
            version: options.version.clone(),
            vip: vip.to_string(),
        };
        let (to_control, link) = mpsc::channel(limits::DOWN_MAX);
        let clients = Arc::clone(clients);
        tasks.spawn(async move {
            session::keep(clients, hello, to_control).await;
            Ok(())
        });
        let identity = Identity {
            name: GatewayId::from(spec.name.clone()),
            vip,
            ports: media.ports(),
            nodes: options.nodes.iter().map(|node| node.name.clone()).collect(),
            life: life.number,
        };
        let (status, watched) = watch::channel(Status::default());
        let task = Task::new(identity, socket, streams, media, status, tracer.clone());
        let (leave, leaving) = mpsc::channel(1);
        let inputs = Inputs { wire, reports, link, media: events, leaving };
        tasks.spawn(async move {
            task.run(inputs).await;
            Err(Error::Control("its inputs are gone".into()))
        });
        tracing::info!(line = spec.name, life = life.number, %vip, "serves");
        let (life, fence) = (life.number, life.fence);
        Ok(Self { life, status: watched, report, fence, address, tasks, leave })
    }

    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// It came to this host, and leaves it with the line.
    pub fn has_address_moved(&self) -> bool {
        self.address.is_moved()
    }

    /// Its lease was renewed.
    pub fn renewed(&self) {
        self.address.renewed();
    }

    /// Completes when something of it has failed.
    pub async fn failed(&mut self) -> Error {
        match self.tasks.join_next().await {
            Some(Ok(Err(error))) => error,
            Some(Ok(Ok(()))) | None => Error::Control("a task ended".into()),
            Some(Err(error)) => Error::Control(error.to_string()),
        }
    }

    /// Ends it when carriers have heard that nobody is here any more. `goes_on`: another process serves it then, and goes
    /// on with its calls and their recordings. Its address is to be given up.
    pub async fn leave(self, goes_on: bool) -> Arc<Held> {
        let (done, left) = oneshot::channel();
        if self.leave.send(done).await.is_ok() {
            tokio::time::timeout(limits::LEAVE, left).await.ok();
        }
        self.end(goes_on).await
    }

    /// Ends it at once, for it is another process's, or is to be. Its address is to be given up.
    pub async fn lose(self) -> Arc<Held> {
        self.end(true).await
    }

    async fn end(mut self, goes_on: bool) -> Arc<Held> {
        if goes_on {
            self.fence.end();
        }
        // The media goes with the control task: recordings are closed when this returns.
        self.tasks.shutdown().await;
        self.address
    }
}

/// When calls go on: those that wait need the processor more. Where a port is another program's, calls would be granted what is not there.
async fn bind_rest(rest: Rest) -> Result<(), Error> {
    sleep(Duration::from_millis(limits::REST_AFTER_MS)).await;
    let bound = spawn_blocking(move || rest.bind()).await;
    match bound.map_err(|error| Error::Control(error.to_string()))? {
        // The line goes on, and this with it.
        Ok(()) => std::future::pending().await,
        Err(busy) => Err(Error::BusyPorts(busy)),
    }
}

fn ports(shared: &Shared, vip: SocketAddr) -> Ports {
    let at = |port: u16| SocketAddr::new(vip.ip(), port);
    let websocket = shared.options.websocket.clone().unwrap_or_default();
    let tls = shared.tls.clone();
    let secure = tls.clone().filter(|_| websocket.wss);
    Ports {
        tcp: vip,
        tls: tls.map(|tls| (at(tandem_sip::tls_port(vip.port())), tls)),
        ws: websocket.ws.then(|| at(tandem_sip::ws_port(vip.port()))),
        wss: secure.map(|tls| (at(tandem_sip::wss_port(vip.port())), tls)),
        origins: websocket.origins.into(),
    }
}
