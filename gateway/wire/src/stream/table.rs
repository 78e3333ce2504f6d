//! Which connections there are, and what waits to be written to each.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tandem_lease::Fence;
use tandem_sip::{ConnectionId, Proof, Ticket, Transport, Way};
use tokio::sync::{Notify, mpsc};

use super::Bounds;
use crate::limits;

/// A message to write.
#[derive(Debug)]
pub struct Outgoing {
    pub bytes: Bytes,
    pub ticket: Option<Ticket>,
}

/// The near end of a connection's queue.
#[derive(Clone, Debug)]
pub struct Writing {
    queue: mpsc::Sender<Outgoing>,
    unsent_bytes: Arc<AtomicUsize>,
    /// Told where the peer is stuck.
    stuck: Arc<Notify>,
    fence: Arc<Fence>,
}

/// What a connection's own task needs.
#[derive(Debug)]
pub struct Place {
    pub id: ConnectionId,
    pub writing: Writing,
    pub queue: mpsc::Receiver<Outgoing>,
}

/// A message was not taken: there is no such connection, or its peer is stuck.
#[derive(Debug)]
pub struct NotTaken;

/// What a connection is of use for, besides its own peer's business: whatever goes to that address
/// by that transport, where whoever is there has proven as much.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Target {
    transport: Transport,
    address: SocketAddr,
    proof: Proof,
}

/// A connection that is there or will be.
#[derive(Clone, Debug)]
pub struct End {
    pub transport: Transport,
    pub remote: SocketAddr,
    /// The peer has opened it.
    pub accepted: bool,
    /// Where we open it: what the far end proves.
    pub proof: Proof,
}

#[derive(Debug)]
struct Entry {
    end: End,
    writing: Writing,
    name: Option<Arc<str>>,
}

#[derive(Debug)]
pub struct Table {
    last: u64,
    fence: Arc<Fence>,
    by_id: HashMap<ConnectionId, Entry>,
    /// The newest for each.
    by_target: HashMap<Target, ConnectionId>,
    /// The newest whose peer calls itself so.
    by_name: HashMap<(Transport, Arc<str>), ConnectionId>,
    accepted: Counts,
    opened: Counts,
}

/// How many there are, in all and by the peer's address.
#[derive(Debug, Default)]
pub struct Counts {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl End {
    /// Whoever opens a connection by TLS to us has proven nothing of the address that it comes
    /// from, and a browser takes nothing but what is its own.
    fn target(&self) -> Option<Target> {
        let usable = match self.transport {
            Transport::Tcp => true,
            Transport::Tls => !self.accepted,
            Transport::Udp | Transport::Ws | Transport::Wss | Transport::Other(_) => false,
        };
        usable.then(|| Target {
            transport: self.transport.clone(),
            address: self.remote,
            proof: if self.transport == Transport::Tls {
                self.proof.clone()
            } else {
                Proof::Address
            },
        })
    }
}

impl Counts {
    pub fn all(&self) -> usize {
        self.all
    }

    pub fn of(&self, address: IpAddr) -> usize {
        self.by_address.get(&address).copied().unwrap_or(0)
    }

    pub fn add(&mut self, address: IpAddr) {
        self.all += 1;
        *self.by_address.entry(address).or_default() += 1;
    }

    pub fn take(&mut self, address: IpAddr) {
        self.all = self.all.saturating_sub(1);
        match self.of(address) {
            0 | 1 => drop(self.by_address.remove(&address)),
            many => drop(self.by_address.insert(address, many - 1)),
        }
    }
}

impl Writing {
    pub fn put(&self, outgoing: Outgoing, bounds: &Bounds) -> Result<(), NotTaken> {
        let length = outgoing.bytes.len();
        let before = self.unsent_bytes.fetch_add(length, Ordering::Relaxed);
        if before + length > bounds.unsent_bytes_max || self.queue.try_send(outgoing).is_err() {
            self.stuck.notify_one();
            return Err(NotTaken);
        }
        Ok(())
    }

    /// Completes when something may be sent. What waits on a connection waits for the lease, too.
    pub async fn may_write(&self) {
        while !self.fence.is_held() {
            tokio::time::sleep(Duration::from_millis(limits::FENCED_LOOK_MS)).await;
        }
    }

    pub fn note_sent(&self, bytes: usize) {
        self.unsent_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub async fn stuck(&self) {
        self.stuck.notified().await;
    }
}

impl Table {
    pub fn new(last: u64, fence: Arc<Fence>) -> Self {
        Self {
            last,
            fence,
            by_id: HashMap::new(),
            by_target: HashMap::new(),
            by_name: HashMap::new(),
            accepted: Counts::default(),
            opened: Counts::default(),
        }
    }

    pub fn accepted(&self) -> usize {
        self.accepted.all
    }

    pub fn accepted_from(&self, source: IpAddr) -> usize {
        self.accepted.of(source)
    }

    pub fn opened(&self) -> usize {
        self.opened.all
    }

    pub fn opened_to(&self, address: IpAddr) -> usize {
        self.opened.of(address)
    }

    fn counts(&mut self, accepted: bool) -> &mut Counts {
        if accepted { &mut self.accepted } else { &mut self.opened }
    }

    pub fn insert(&mut self, end: End) -> Place {
        self.last += 1;
        let id = ConnectionId(self.last);
        let (queue, receiver) = mpsc::channel(limits::UNSENT_MAX);
        let fence = Arc::clone(&self.fence);
        let writing = Writing { queue, unsent_bytes: Arc::default(), stuck: Arc::default(), fence };
        self.counts(end.accepted).add(end.remote.ip());
        if let Some(target) = end.target() {
            self.by_target.insert(target, id);
        }
        self.by_id.insert(id, Entry { end, writing: writing.clone(), name: None });
        self.set_gauge();
        Place { id, writing, queue: receiver }
    }

    /// The peer of a connection calls itself so, and no longer otherwise.
    pub fn name(&mut self, id: ConnectionId, name: &Arc<str>) {
        let Some(entry) = self.by_id.get_mut(&id) else { return };
        let transport = entry.end.transport.clone();
        if let Some(before) = entry.name.replace(Arc::clone(name)) {
            self.forget_name(&(transport.clone(), before), id);
        }
        self.by_name.insert((transport, Arc::clone(name)), id);
    }

    fn forget_name(&mut self, name: &(Transport, Arc<str>), id: ConnectionId) {
        if self.by_name.get(name) == Some(&id) {
            self.by_name.remove(name);
        }
    }

    pub fn remove(&mut self, id: ConnectionId) {
        let Some(entry) = self.by_id.remove(&id) else { return };
        if let Some(target) = entry.end.target()
            && self.by_target.get(&target) == Some(&id)
        {
            self.by_target.remove(&target);
        }
        if let Some(name) = entry.name {
            self.forget_name(&(entry.end.transport, name), id);
        }
        self.counts(entry.end.accepted).take(entry.end.remote.ip());
        self.set_gauge();
    }

    /// The connection that is named, else one of whoever calls itself as the peer does, else one to the address where one
    /// may be opened.
    pub fn find(&self, way: &Way) -> Option<ConnectionId> {
        let transport = way.carrier.transport();
        let is_that = |id: &ConnectionId| {
            self.by_id.get(id).is_some_and(|entry| entry.end.transport == transport)
        };
        let called = || {
            let name = way.name.as_ref()?;
            self.by_name.get(&(transport.clone(), Arc::clone(name))).copied()
        };
        let there = || {
            let (transport, proof) = (transport.clone(), way.proof.clone());
            self.by_target.get(&Target { transport, address: way.open?, proof }).copied()
        };
        way.carrier.connection().filter(is_that).or_else(called).or_else(there)
    }

    /// Where it is not taken the peer is stuck: nothing more is sent to it.
    pub fn put(&mut self, id: ConnectionId, it: Outgoing, bounds: &Bounds) -> Result<(), NotTaken> {
        let entry = self.by_id.get(&id).ok_or(NotTaken)?;
        entry.writing.put(it, bounds).inspect_err(|NotTaken| self.remove(id))
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge holds no integers")]
    fn set_gauge(&self) {
        metrics::gauge!("tandem_sip_connections").set(self.by_id.len() as f64);
    }
}
