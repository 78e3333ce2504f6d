//! Which connections there are, and what waits to be written to each.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tandem_sip::{ConnectionId, Ticket, Way};
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

#[derive(Debug)]
struct Entry {
    remote: SocketAddr,
    accepted: bool,
    writing: Writing,
}

#[derive(Debug)]
pub struct Table {
    last: u64,
    by_id: HashMap<ConnectionId, Entry>,
    /// The newest to each address.
    by_remote: HashMap<SocketAddr, ConnectionId>,
    accepted: Counts,
    opened: Counts,
}

/// How many there are, in all and by the peer's address.
#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Counts {
    fn of(&self, address: IpAddr) -> usize {
        self.by_address.get(&address).copied().unwrap_or(0)
    }

    fn add(&mut self, address: IpAddr) {
        self.all += 1;
        *self.by_address.entry(address).or_default() += 1;
    }

    fn take(&mut self, address: IpAddr) {
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

    pub fn note_sent(&self, bytes: usize) {
        self.unsent_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub async fn stuck(&self) {
        self.stuck.notified().await;
    }
}

impl Table {
    pub fn new(last: u64) -> Self {
        Self {
            last,
            by_id: HashMap::new(),
            by_remote: HashMap::new(),
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

    pub fn insert(&mut self, remote: SocketAddr, accepted: bool) -> Place {
        self.last += 1;
        let id = ConnectionId(self.last);
        let (queue, receiver) = mpsc::channel(limits::UNSENT_MAX);
        let writing = Writing { queue, unsent_bytes: Arc::default(), stuck: Arc::default() };
        self.counts(accepted).add(remote.ip());
        self.by_remote.insert(remote, id);
        self.by_id.insert(id, Entry { remote, accepted, writing: writing.clone() });
        self.set_gauge();
        Place { id, writing, queue: receiver }
    }

    pub fn remove(&mut self, id: ConnectionId) {
        let Some(entry) = self.by_id.remove(&id) else { return };
        if self.by_remote.get(&entry.remote) == Some(&id) {
            self.by_remote.remove(&entry.remote);
        }
        self.counts(entry.accepted).take(entry.remote.ip());
        self.set_gauge();
    }

    /// The connection that is named, else one to the address where one may be opened.
    pub fn find(&self, way: &Way) -> Option<ConnectionId> {
        let named = way.carrier.connection().filter(|id| self.by_id.contains_key(id));
        named.or_else(|| self.by_remote.get(&way.open?).copied())
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
