//! A shard's rows to a voter that lacks more than the log still has: a stream on a connection of
//! its own, so that neither appends nor votes wait behind it, at a bounded rate.

use std::collections::HashSet;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use tandem_pki::Connector;
use tandem_storage::parts::{Digest, Own};
use tandem_storage::raft::{NodeId, RaftSnapshot, ShardId, SnapshotMeta, Vote};
use tandem_storage::snapshot::{Here, Part, Received, Snapshot, checksum};
use tandem_storage::state::State;
use tandem_storage::wire::{
    log_id, log_id_from, stored_membership, stored_membership_from, vote, vote_from,
};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Status, Streaming};

use crate::link::{self, Me};
use crate::pb::snapshot_part::Body;
use crate::{Raft, pb};

/// Disks and links have calls to serve.
pub const BYTES_PER_S_MAX: u64 = 64 << 20;
/// Parts that are read ahead of the connection, and that wait for the disk of who receives.
pub const PARTS_MAX: usize = 4;
/// Of a whole snapshot: 38 GB at the rate above.
const SNAPSHOT_S_MAX: u64 = 600;
/// Names of parts that are told: of 250 GB. What is behind them is sent.
const NAMES_MAX: usize = 1 << 20;
const NAMES_AT_ONCE: usize = 4_096;
/// Between two parts.
const PART_S_MAX: u64 = 30;

/// The way to one voter.
pub struct Route {
    pub to: NodeId,
    pub address: String,
    pub tls: Connector,
    pub me: Me,
    /// A witness keeps no rows: it is told how far it may go on from.
    pub keeps_rows: bool,
}

impl Route {
    /// Returns the vote of who received, which may be above ours.
    ///
    /// # Errors
    /// In one sentence.
    pub async fn send(&self, shard: ShardId, of: Vote, here: Here) -> Result<Vote, String> {
        let within = Duration::from_secs(SNAPSHOT_S_MAX);
        let sent = tokio::time::timeout(within, self.try_send(shard, of, here));
        sent.await.map_err(|_| format!("not sent within {SNAPSHOT_S_MAX} s"))?
    }

    async fn try_send(&self, shard: ShardId, of: Vote, here: Here) -> Result<Vote, String> {
        let channel = link::connect(&self.address, &self.tls).await.map_err(|e| e.to_string())?;
        let mut client = pb::peer_client::PeerClient::new(channel)
            .max_encoding_message_size(link::MESSAGE_BYTES_MAX);
        let (parts, outgoing) = mpsc::channel(PARTS_MAX);
        let with_rows = self.keeps_rows;
        let known = match with_rows {
            true => self.ask(&mut client, shard).await,
            false => HashSet::new(),
        };
        let reading = tokio::task::spawn_blocking(move || {
            let mut take = |part| parts.blocking_send(encoded(shard, &of, part)).is_ok();
            here.read(with_rows, &known, &mut take)
        });
        let mut request = tonic::Request::new(paced(outgoing));
        self.me.introduce_to(self.to, request.metadata_mut()).map_err(|e| e.to_string())?;
        let reply = client.snapshot(request).await;
        // Where the disk failed, the stream ended without an end, and the answer says less.
        reading.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        let reply = reply.map_err(|status| status.message().to_owned())?.into_inner();
        reply.vote.map(vote_from).ok_or_else(|| "the answer has no vote".to_owned())
    }

    /// What the other has already. Where it does not say, everything is sent.
    async fn ask(&self, client: &mut Client, shard: ShardId) -> HashSet<Digest> {
        let mut request = tonic::Request::new(pb::HaveRequest { shard: shard.0.into() });
        let mut known = HashSet::new();
        if self.me.introduce_to(self.to, request.metadata_mut()).is_err() {
            return known;
        }
        let asked = async {
            let mut names = client.have(request).await?.into_inner();
            while let Some(parts) = names.message().await? {
                let digests =
                    parts.names.iter().filter_map(|name| Digest::try_from(name.as_slice()).ok());
                known.extend(digests);
            }
            Ok::<_, Status>(())
        };
        let within = Duration::from_secs(PART_S_MAX);
        if !matches!(tokio::time::timeout(within, asked).await, Ok(Ok(()))) {
            tracing::debug!(%shard, parts = known.len(), "what a voter has of a snapshot is not known");
        }
        known
    }
}

type Client = pb::peer_client::PeerClient<tonic::transport::Channel>;

/// The names of the parts of a shard that are here.
pub fn have(state: &State, shard: ShardId) -> impl Stream<Item = pb::Parts> + use<> {
    let (parts, outgoing) = mpsc::channel(PARTS_MAX);
    let state = state.clone();
    tokio::task::spawn_blocking(move || {
        let (mut names, mut left) = (Vec::new(), NAMES_MAX);
        let mut take = |digest: Digest| {
            names.push(digest.to_vec());
            left -= 1;
            let full = names.len() >= NAMES_AT_ONCE || left == 0;
            let sent = !full
                || parts.blocking_send(pb::Parts { names: std::mem::take(&mut names) }).is_ok();
            sent && left > 0
        };
        if let Err(error) = state.digests(shard, &mut take) {
            tracing::error!(%shard, %error, "TD0433 rows can't be read to say which are here");
        }
        if !names.is_empty() {
            // Who has asked may be gone.
            let _ = parts.blocking_send(pb::Parts { names });
        }
    });
    futures::stream::unfold(outgoing, async |mut outgoing| {
        outgoing.recv().await.map(|parts| (parts, outgoing))
    })
}

pub fn encoded(shard: ShardId, of: &Vote, part: Part) -> pb::SnapshotPart {
    let kind = match &part {
        Part::Rows(_) => Some("sent"),
        Part::Known(_) => Some("known"),
        Part::Moment(_) | Part::End { .. } => None,
    };
    if let Some(kind) = kind {
        metrics::counter!("tandem_raft_snapshot_parts_total", "kind" => kind).increment(1);
    }
    let body = match part {
        Part::Moment(meta) => Body::Head(pb::SnapshotHead {
            shard: u32::from(shard.0),
            vote: Some(vote(of)),
            last: meta.last_log_id.as_ref().map(log_id),
            membership: Some(stored_membership(&meta.last_membership)),
        }),
        Part::Known(digest) => Body::Known(digest.to_vec()),
        Part::Rows(rows) => Body::Rows(pb::SnapshotRows { crc: checksum(&rows), rows }),
        Part::End { rows } => Body::End(pb::SnapshotEnd { rows }),
    };
    pb::SnapshotPart { body: Some(body) }
}

/// Each part no earlier than those before it allow.
pub fn paced(parts: mpsc::Receiver<pb::SnapshotPart>) -> impl Stream<Item = pb::SnapshotPart> {
    let begun = Instant::now();
    futures::stream::unfold((parts, 0_u64), move |(mut parts, sent)| async move {
        let part = parts.recv().await?;
        tokio::time::sleep_until(begun + Duration::from_secs_f64(sent as f64 / RATE)).await;
        let bytes = match &part.body {
            Some(Body::Rows(rows)) => rows.rows.len() as u64,
            Some(Body::Head(_) | Body::End(_) | Body::Known(_)) | None => 0,
        };
        Some((part, (parts, sent + bytes)))
    })
}

const RATE: f64 = BYTES_PER_S_MAX as f64;

/// What the head of a stream says.
pub struct Head {
    pub shard: ShardId,
    of: Vote,
    pub meta: SnapshotMeta,
}

async fn next(parts: &mut Streaming<pb::SnapshotPart>) -> Result<Body, Status> {
    let within = Duration::from_secs(PART_S_MAX);
    let part = tokio::time::timeout(within, parts.next()).await;
    let part = part.map_err(|_| Status::deadline_exceeded("the snapshot stopped coming"))?;
    let body = part.transpose()?.and_then(|part| part.body);
    body.ok_or_else(|| Status::invalid_argument("the snapshot ended before its end"))
}

/// # Errors
/// Where the stream does not begin with one.
pub async fn head(parts: &mut Streaming<pb::SnapshotPart>) -> Result<Head, Status> {
    let strange = |what: &str| Status::invalid_argument(format!("the snapshot's head: {what}"));
    let Body::Head(head) = next(parts).await? else { return Err(strange("missing")) };
    let shard = u16::try_from(head.shard).map_err(|_| strange("no such shard"))?;
    let membership = head.membership.ok_or_else(|| strange("no membership"))?;
    Ok(Head {
        shard: ShardId(shard),
        of: vote_from(head.vote.ok_or_else(|| strange("no vote"))?),
        meta: SnapshotMeta {
            last_log_id: head.last.map(log_id_from),
            last_membership: stored_membership_from(membership)
                .map_err(|error| strange(&error.to_string()))?,
        },
    })
}

/// Takes in what follows the head; the answer is this voter's vote.
///
/// # Errors
/// What is wrong with the stream, the disk or the group.
pub async fn receive(
    raft: &Raft,
    state: &State,
    head: Head,
    parts: Streaming<pb::SnapshotPart>,
) -> Result<Vote, Status> {
    let stopped = |error: String| Status::unavailable(error);
    let own = raft.with_raft_state(|state| *state.vote_ref()).await;
    let own = own.map_err(|e| stopped(e.to_string()))?;
    if head.of < own {
        return Ok(own);
    }
    let begun = Instant::now();
    let shard = head.shard;
    let received = receive_rows(state, shard, parts).await?;
    let last = head.meta.last_log_id;
    let snapshot = RaftSnapshot { meta: head.meta, snapshot: Snapshot::Received(received) };
    let reply = raft.install_full_snapshot(head.of, snapshot).await;
    let reply = reply.map_err(|e| stopped(e.to_string()))?;
    metrics::counter!("tandem_raft_snapshots_received_total").increment(1);
    tracing::info!(%shard, ?last, took = ?begun.elapsed(), "caught up by a snapshot");
    Ok(reply.vote)
}

/// What follows a head, in a file.
///
/// # Errors
/// What is wrong with the stream or the disk.
pub async fn receive_rows(
    state: &State,
    shard: ShardId,
    mut parts: Streaming<pb::SnapshotPart>,
) -> Result<Received, Status> {
    let internal = |error: String| Status::internal(error);
    let (to_disk, incoming) = mpsc::channel(PARTS_MAX);
    let state = state.clone();
    let writing = tokio::task::spawn_blocking(move || write(&state, shard, incoming));
    loop {
        let body = next(&mut parts).await?;
        let last = matches!(body, Body::End(_));
        // A writer that has failed says why.
        if to_disk.send(body).await.is_err() || last {
            break;
        }
    }
    drop(to_disk);
    writing.await.map_err(|e| internal(e.to_string()))?.map_err(internal)
}

fn write(
    state: &State,
    shard: ShardId,
    mut parts: mpsc::Receiver<Body>,
) -> Result<Received, String> {
    let said = |error: tandem_storage::state::Error| error.to_string();
    let left = state.left(shard).map_err(said)?;
    let view = state.view();
    let mut own = Own::new(left, view.rows(shard, &[], &[]).map_err(said)?);
    let mut incoming = state.receive(shard).map_err(said)?;
    while let Some(part) = parts.blocking_recv() {
        match part {
            Body::Rows(part) if checksum(&part.rows) == part.crc => {
                incoming.put(&part.rows).map_err(|error| error.to_string())?;
            }
            Body::Known(name) => {
                let digest = name.as_slice().try_into().map_err(|_| "a part's name is none")?;
                let part = own.find(&digest).map_err(said)?;
                // The next snapshot has it.
                let part = part.ok_or("a part that was here is not here any more")?;
                incoming.put(&part).map_err(|error| error.to_string())?;
            }
            Body::Rows(_) => return Err("a part of the snapshot has another checksum".to_owned()),
            Body::End(end) => return incoming.finish(end.rows).map_err(|error| error.to_string()),
            Body::Head(_) => return Err("the snapshot has a second head".to_owned()),
        }
    }
    Err("the snapshot ended before its end".to_owned())
}
