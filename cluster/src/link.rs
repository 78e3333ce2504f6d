//! Frames between voters: a stream to each peer for appends, another for what must not wait
//! behind them. Requests carry an id; answers come back by it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::Stream;
use parking_lot::Mutex;
use tandem_pki::Connector;
use tandem_storage::raft::NodeId;
use tokio::sync::{mpsc, oneshot};
use tonic::transport::Endpoint;

use crate::members::Member;
use crate::pb;
use crate::pb::frame::Body;

/// Frames that may wait for one stream; beyond it a request fails as if the peer were away.
const FRAMES_MAX: usize = 8_192;
/// Frames that go out in one message.
const BATCH_FRAMES_MAX: usize = 256;
pub const MESSAGE_BYTES_MAX: usize = 256 << 20;
pub const WINDOW_BYTES: u32 = 8 << 20;
pub const RECONNECT_MS: u64 = 20;
/// A peer that does not answer a ping within this is away, though its connection is open.
const PING_EVERY_MS: u64 = 500;
const PING_MS_MAX: u64 = 1_500;
pub const NAME_HEADER: &str = "tandem-name";
pub const INCARNATION_HEADER: &str = "tandem-incarnation";
pub const REPLICA_HEADER: &str = "tandem-replica";
/// Which replica is meant: another one may be at the same address by now.
pub const TO_HEADER: &str = "tandem-to";
pub const CLUSTER_HEADER: &str = "tandem-cluster";

/// Who speaks, told at the head of each stream.
#[derive(Clone, Debug)]
pub struct Me {
    pub cluster: String,
    pub name: String,
    /// 0 where it is none yet.
    pub replica: u64,
    pub incarnation: u64,
}

impl Me {
    /// # Errors
    /// Where the name can't stand in a header.
    pub fn introduce(
        &self,
        head: &mut tonic::metadata::MetadataMap,
    ) -> Result<(), tonic::metadata::errors::InvalidMetadataValue> {
        head.insert(CLUSTER_HEADER, self.cluster.parse()?);
        head.insert(NAME_HEADER, self.name.parse()?);
        head.insert(REPLICA_HEADER, self.replica.to_string().parse()?);
        head.insert(INCARNATION_HEADER, self.incarnation.to_string().parse()?);
        Ok(())
    }

    /// The same to one replica and no other. What that has acknowledged or voted, another one at its
    /// address has not.
    ///
    /// # Errors
    /// As above.
    pub fn introduce_to(
        &self,
        to: NodeId,
        head: &mut tonic::metadata::MetadataMap,
    ) -> Result<(), tonic::metadata::errors::InvalidMetadataValue> {
        head.insert(TO_HEADER, to.to_string().parse()?);
        self.introduce(head)
    }
}

/// A connection that notices when its peer is gone.
///
/// # Errors
/// What tonic says.
pub async fn connect(
    address: &str,
    tls: &Connector,
) -> Result<tonic::transport::Channel, tonic::transport::Error> {
    // The connector does the TLS, so that the scheme says nothing of it.
    Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(Duration::from_secs(1))
        .http2_keep_alive_interval(Duration::from_millis(PING_EVERY_MS))
        .keep_alive_timeout(Duration::from_millis(PING_MS_MAX))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(2 * WINDOW_BYTES)
        .connect_with_connector(tls.clone())
        .await
}

/// One stream to one peer, kept up for ever.
pub struct Channel {
    out: Mutex<Option<mpsc::Sender<pb::Frame>>>,
    waiting: Mutex<BTreeMap<u64, oneshot::Sender<Body>>>,
    next_id: AtomicU64,
}

impl Default for Channel {
    fn default() -> Self {
        // 0 is of what is told without an answer.
        Self { out: Mutex::default(), waiting: Mutex::default(), next_id: AtomicU64::new(1) }
    }
}

impl Channel {
    /// The answer, or nothing where the peer is away. The request is on its way when this returns.
    pub fn ask(&self, shard: u16, body: Body) -> Option<oneshot::Receiver<Body>> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        let out = self.out.lock();
        let sender = out.as_ref()?;
        self.waiting.lock().insert(id, answer);
        let frame = pb::Frame { shard: u32::from(shard), id, body: Some(body) };
        if sender.try_send(frame).is_err() {
            self.waiting.lock().remove(&id);
            return None;
        }
        Some(answered)
    }

    /// Without an answer. False where the peer is away, or does not keep up: where too many frames
    /// wait, the next one of its kind says the same.
    pub fn tell(&self, shard: u16, body: Body) -> bool {
        let frame = pb::Frame { shard: u32::from(shard), id: 0, body: Some(body) };
        self.out.lock().as_ref().is_some_and(|sender| sender.try_send(frame).is_ok())
    }

    pub fn is_up(&self) -> bool {
        self.out.lock().is_some()
    }

    /// Keeps the stream up until the runtime ends. `peer` is told where it can't be.
    pub async fn keep(self: Arc<Self>, peer: Member, tls: Connector, me: Me) {
        let (id, peer, address) = (peer.id, peer.name, peer.address.to_string());
        let mut told = String::new();
        loop {
            match self.session(id, &address, &tls, &me).await {
                Ok(()) => told.clear(),
                Err(error) => {
                    let why = why(error.as_ref());
                    // A voter that is not there is nothing to mend; one that refuses us, or that we
                    // refuse, is, and says so until somebody does.
                    if !is_away(error.as_ref()) && why != told {
                        tracing::warn!(peer, %address, why, "TD0440 a voter can't be talked to");
                        told = why;
                    } else {
                        tracing::debug!(peer, %address, why, "link to a voter");
                    }
                }
            }
            *self.out.lock() = None;
            self.waiting.lock().clear();
            tokio::time::sleep(Duration::from_millis(RECONNECT_MS)).await;
        }
    }

    async fn session(
        &self,
        to: NodeId,
        address: &str,
        tls: &Connector,
        me: &Me,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let channel = connect(address, tls).await?;
        let mut client = pb::peer_client::PeerClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let (sender, frames) = mpsc::channel(FRAMES_MAX);
        let mut request = tonic::Request::new(batches(frames));
        me.introduce_to(to, request.metadata_mut())?;
        let mut answers = client.link(request).await?.into_inner();
        *self.out.lock() = Some(sender);
        while let Some(frames) = answers.message().await? {
            let mut waiting = self.waiting.lock();
            for frame in frames.frames {
                if let (Some(answer), Some(body)) = (waiting.remove(&frame.id), frame.body) {
                    // Whoever asked may have given up.
                    let _ = answer.send(body);
                }
            }
        }
        Ok(())
    }
}

fn chain<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

/// What really went wrong, without the wrapping.
fn why(error: &(dyn std::error::Error + 'static)) -> String {
    if let Some(status) = error.downcast_ref::<tonic::Status>() {
        return status.message().to_owned();
    }
    chain(error).last().map_or_else(String::new, ToString::to_string)
}

/// Nobody listens, or who did is gone: as when a process has died or a cable was pulled.
fn is_away(error: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(status) = error.downcast_ref::<tonic::Status>() {
        return !matches!(
            status.code(),
            tonic::Code::PermissionDenied | tonic::Code::InvalidArgument
        );
    }
    // TLS speaks by errors of kind `InvalidData`. Of certificates the connector has told.
    let refusal = |error: &std::io::Error| {
        error.kind() == std::io::ErrorKind::InvalidData && !tandem_pki::is_refusal(error)
    };
    !chain(error).filter_map(|error| error.downcast_ref::<std::io::Error>()).any(refusal)
}

/// What waits, gathered into messages.
pub fn batches(frames: mpsc::Receiver<pb::Frame>) -> impl Stream<Item = pb::Frames> {
    futures::stream::unfold(frames, |mut frames| async move {
        let mut batch = Vec::new();
        let count = frames.recv_many(&mut batch, BATCH_FRAMES_MAX).await;
        (count > 0).then_some((pb::Frames { frames: batch }, frames))
    })
}

pub fn answer_channel() -> (mpsc::Sender<pb::Frame>, mpsc::Receiver<pb::Frame>) {
    mpsc::channel(FRAMES_MAX)
}
