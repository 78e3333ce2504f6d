//! openraft's network over [`link`](crate::link).

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, Stream, StreamExt as _};
use openraft::base::{BoxFuture, BoxStream};
use openraft::entry::RaftEntry as _;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, OptionalSend};
use tandem_storage::raft::{NodeId, Peer, RaftSnapshot, ShardId, TypeConfig, Vote};
use tandem_storage::snapshot::Snapshot;

use crate::link::Channel;
use crate::pb::frame::Body;
use crate::piggyback::Piggyback;
use crate::snapshot::Route;
use crate::{pb, wire};

/// Appends under way to one peer for one shard.
const APPENDS_MAX: usize = 32;
/// An append may wait for a slow disk; a lost stream ends the wait at once.
const APPEND_MS_MAX: u64 = 2_000;

/// The ways to each peer.
pub struct Hub {
    pub appends: BTreeMap<NodeId, Arc<Channel>>,
    pub urgent: BTreeMap<NodeId, Arc<Channel>>,
    pub snapshots: BTreeMap<NodeId, Arc<Route>>,
    /// A witness has nothing to send.
    pub has_rows: bool,
}

#[derive(Clone)]
pub struct Factory {
    pub shard: ShardId,
    pub hub: Arc<Hub>,
}

pub struct Network {
    shard: ShardId,
    channel: Option<Arc<Channel>>,
    /// Votes never wait behind appends.
    urgent: Option<Arc<Channel>>,
    snapshots: Option<Arc<Route>>,
    heartbeats: bool,
}

impl RaftNetworkFactory<TypeConfig> for Factory {
    type Network = Network;

    async fn new_client(&mut self, target: NodeId, _peer: &Peer) -> Network {
        Network {
            shard: self.shard,
            channel: self.hub.appends.get(&target).cloned(),
            urgent: self.hub.urgent.get(&target).cloned(),
            snapshots: self.hub.snapshots.get(&target).filter(|_| self.hub.has_rows).cloned(),
            heartbeats: false,
        }
    }

    async fn new_heartbeat_client(&mut self, target: NodeId, _peer: &Peer) -> Network {
        let urgent = self.hub.urgent.get(&target).cloned();
        let channel = urgent.clone();
        Network { shard: self.shard, channel, urgent, snapshots: None, heartbeats: true }
    }
}

type Failed = RPCError<TypeConfig>;

fn away(what: &str) -> Failed {
    RPCError::Unreachable(Unreachable::new(&AnyError::error(what)))
}

fn strange(error: &tandem_storage::wire::Error) -> Failed {
    away(&error.to_string())
}

async fn ask(
    channel: Option<&Arc<Channel>>,
    shard: ShardId,
    body: Body,
    within: Duration,
) -> Result<Body, Failed> {
    let asked = channel.and_then(|channel| channel.ask(shard.0, body));
    wait(asked, within).await
}

async fn wait(
    asked: Option<tokio::sync::oneshot::Receiver<Body>>,
    within: Duration,
) -> Result<Body, Failed> {
    let answered = asked.ok_or_else(|| away("no link"))?;
    match tokio::time::timeout(within, answered).await {
        Ok(Ok(Body::Failure(why))) => Err(away(&why)),
        Ok(Ok(body)) => Ok(body),
        Ok(Err(_)) => Err(away("the link was lost")),
        Err(_) => Err(away("no answer in time")),
    }
}

impl RaftNetworkV2<TypeConfig> for Network {
    type SnapshotData = Snapshot;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, Failed> {
        let body = Body::Append(wire::append(&request));
        match ask(self.channel.as_ref(), self.shard, body, option.hard_ttl()).await? {
            Body::AppendReply(reply) => wire::append_reply_from(reply).map_err(|e| strange(&e)),
            _ => Err(away("an answer of another kind")),
        }
    }

    /// Pipelined: appends go out as they come, their answers are taken in order.
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, Failed>>, Failed>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let (channel, shard) = (self.channel.clone(), self.shard);
        let within =
            if self.heartbeats { option.hard_ttl() } else { Duration::from_millis(APPEND_MS_MAX) };
        async move {
            let answers = Piggyback::new(input)
                .map(move |request| {
                    let prev = request.prev_log_id;
                    let last = request.entries.last().map(|entry| entry.log_id()).or(prev);
                    let body = Body::Append(wire::append(&request));
                    let asked = channel.as_ref().and_then(|channel| channel.ask(shard.0, body));
                    async move {
                        match wait(asked, within).await? {
                            Body::AppendReply(reply) => {
                                let reply =
                                    wire::append_reply_from(reply).map_err(|e| strange(&e))?;
                                Ok(reply.into_stream_result(prev, last))
                            }
                            _ => Err(away("an answer of another kind")),
                        }
                    }
                })
                .buffered(APPENDS_MAX);
            // Whatever follows a failure was sent on a wrong assumption.
            let until_failure = futures::stream::unfold(
                (Box::pin(answers), false),
                |(mut answers, failed)| async move {
                    if failed {
                        return None;
                    }
                    let answer = answers.next().await?;
                    let failed = !matches!(&answer, Ok(Ok(_)));
                    Some((answer, (answers, failed)))
                },
            );
            let stream: BoxStream<'s, _> = Box::pin(until_failure);
            Ok(stream)
        }
        .boxed()
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Failed> {
        let body = Body::Vote(wire::vote_request(&request));
        self.vote_reply(body, option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Failed> {
        let body = Body::PreVote(wire::vote_request(&request));
        self.vote_reply(body, option).await
    }

    async fn full_snapshot(
        &mut self,
        of: Vote,
        snapshot: RaftSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let failed = |what: &str| {
            tracing::warn!(shard = %self.shard, why = what, "TD0405 a snapshot was not sent");
            StreamingError::Unreachable(Unreachable::new(&AnyError::error(what)))
        };
        let Some(route) = &self.snapshots else {
            return Err(failed("a witness has no rows, and the voter lacks what it has purged"));
        };
        let Snapshot::Here(here) = snapshot.snapshot else {
            return Err(failed("a snapshot of another node is not passed on"));
        };
        tokio::select! {
            sent = route.send(self.shard, of, here) => match sent {
                Ok(vote) => Ok(SnapshotResponse::new(vote)),
                Err(why) => Err(failed(&why)),
            },
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, Failed> {
        let body = Body::Transfer(wire::transfer(&request));
        match ask(self.urgent.as_ref(), self.shard, body, option.hard_ttl()).await? {
            Body::TransferReply(pb::TransferReply { accepted: true }) => Ok(Ok(())),
            _ => Err(away("the transfer was refused")),
        }
    }
}

impl Network {
    async fn vote_reply(
        &self,
        body: Body,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Failed> {
        match ask(self.urgent.as_ref(), self.shard, body, option.hard_ttl()).await? {
            Body::VoteReply(reply) => wire::vote_reply_from(reply).map_err(|e| strange(&e)),
            _ => Err(away("an answer of another kind")),
        }
    }
}
