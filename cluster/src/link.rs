//! Frames between voters: a stream to each peer for appends, another for what must not wait
//! behind them. Requests carry an id; answers come back by it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::Stream;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tonic::transport::{ClientTlsConfig, Endpoint};

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

/// Who speaks, told at the head of each stream.
#[derive(Clone, Debug)]
pub struct Me {
    pub name: String,
    pub incarnation: u64,
}

impl Me {
    /// # Errors
    /// Where the name can't stand in a header.
    pub fn introduce(
        &self,
        head: &mut tonic::metadata::MetadataMap,
    ) -> Result<(), tonic::metadata::errors::InvalidMetadataValue> {
        head.insert(NAME_HEADER, self.name.parse()?);
        head.insert(INCARNATION_HEADER, self.incarnation.to_string().parse()?);
        Ok(())
    }
}

/// A connection that notices when its peer is gone.
///
/// # Errors
/// What tonic says.
pub async fn connect(
    address: &str,
    tls: &ClientTlsConfig,
) -> Result<tonic::transport::Channel, tonic::transport::Error> {
    Endpoint::from_shared(format!("https://{address}"))?
        .tls_config(tls.clone())?
        .tcp_nodelay(true)
        .connect_timeout(Duration::from_secs(1))
        .http2_keep_alive_interval(Duration::from_millis(PING_EVERY_MS))
        .keep_alive_timeout(Duration::from_millis(PING_MS_MAX))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(2 * WINDOW_BYTES)
        .connect()
        .await
}

/// One stream to one peer, kept up for ever.
#[derive(Default)]
pub struct Channel {
    out: Mutex<Option<mpsc::Sender<pb::Frame>>>,
    waiting: Mutex<BTreeMap<u64, oneshot::Sender<Body>>>,
    next_id: AtomicU64,
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

    /// Without an answer; lost where the peer is away.
    pub fn tell(&self, shard: u16, body: Body) {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let frame = pb::Frame { shard: u32::from(shard), id, body: Some(body) };
        if let Some(sender) = self.out.lock().as_ref() {
            // Where too many frames wait, the next one of its kind says the same.
            let _ = sender.try_send(frame);
        }
    }

    pub fn is_up(&self) -> bool {
        self.out.lock().is_some()
    }

    /// Keeps the stream up until the runtime ends.
    pub async fn keep(self: Arc<Self>, address: String, tls: ClientTlsConfig, me: Me) {
        loop {
            if let Err(error) = self.session(&address, &tls, &me).await {
                tracing::debug!(%address, %error, "link to a voter");
            }
            *self.out.lock() = None;
            self.waiting.lock().clear();
            tokio::time::sleep(Duration::from_millis(RECONNECT_MS)).await;
        }
    }

    async fn session(
        &self,
        address: &str,
        tls: &ClientTlsConfig,
        me: &Me,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let channel = connect(address, tls).await?;
        let mut client = pb::peer_client::PeerClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let (sender, frames) = mpsc::channel(FRAMES_MAX);
        let mut request = tonic::Request::new(batches(frames));
        me.introduce(request.metadata_mut())?;
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
