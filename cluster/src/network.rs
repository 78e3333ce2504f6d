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
use parking_lot::RwLock;
use tandem_pki::Connector;
use tandem_storage::raft::{NodeId, Peer, RaftSnapshot, ShardId, TypeConfig, Vote};
use tandem_storage::snapshot::Snapshot;
use tokio::task::AbortHandle;

use crate::link::{Channel, Me};
use crate::members::{Member, Role};
use crate::pb::frame::Body;
use crate::piggyback::Piggyback;
use crate::snapshot::Route;
use crate::{pb, wire};

/// Appends under way to one peer for one shard.
const APPENDS_MAX: usize = 32;
/// An append may wait for a slow disk; a lost stream ends the wait at once.
const APPEND_MS_MAX: u64 = 2_000;

/// The ways to one peer.
#[derive(Clone)]
pub struct Way {
    pub appends: Arc<Channel>,
    pub urgent: Arc<Channel>,
    pub snapshots: Arc<Route>,
    keepers: [AbortHandle; 2],
}

/// The ways to each peer.
pub struct Hub {
    ways: RwLock<BTreeMap<NodeId, Way>>,
    /// A witness has nothing to send.
    has_rows: bool,
    me: Me,
    tls: Connector,
    runtime: tokio::runtime::Handle,
}

impl Hub {
    pub fn new(has_rows: bool, me: Me, tls: Connector, runtime: tokio::runtime::Handle) -> Self {
        Self { ways: RwLock::default(), has_rows, me, tls, runtime }
    }

    pub fn way(&self, id: NodeId) -> Option<Way> {
        self.ways.read().get(&id).cloned()
    }

    /// Votes and whatever else must not wait.
    pub fn urgent(&self, id: NodeId) -> Option<Arc<Channel>> {
        self.ways.read().get(&id).map(|way| Arc::clone(&way.urgent))
    }

    pub fn all_urgent(&self) -> Vec<Arc<Channel>> {
        self.ways.read().values().map(|way| Arc::clone(&way.urgent)).collect()
    }

    pub fn is_alone(&self) -> bool {
        self.ways.read().is_empty()
    }

    /// Ways to these and to nobody else.
    pub fn keep<'a>(&self, members: impl Iterator<Item = &'a Member>) {
        let mut ways = self.ways.write();
        let mut before = std::mem::take(&mut *ways);
        for member in members {
            let way = before.remove(&member.id).unwrap_or_else(|| self.open(member));
            ways.insert(member.id, way);
        }
        for keeper in before.into_values().flat_map(|way| way.keepers) {
            keeper.abort();
        }
    }

    fn open(&self, member: &Member) -> Way {
        let channel = || {
            let channel = Arc::new(Channel::default());
            let kept = Arc::clone(&channel);
            let kept = kept.keep(member.clone(), self.tls.clone(), self.me.clone());
            (channel, self.runtime.spawn(kept).abort_handle())
        };
        let ((appends, keeps_appends), (urgent, keeps_urgent)) = (channel(), channel());
        let snapshots = Arc::new(Route {
            to: member.id,
            address: member.address.to_string(),
            tls: self.tls.clone(),
            me: self.me.clone(),
            keeps_rows: member.role == Role::Node,
        });
        Way { appends, urgent, snapshots, keepers: [keeps_appends, keeps_urgent] }
    }
}

#[derive(Clone)]
pub struct Factory {
    pub shard: ShardId,
    pub hub: Arc<Hub>,
}

/// The way is looked up each time: a group may know of a peer before the hub does.
pub struct Network {
    shard: ShardId,
    hub: Arc<Hub>,
    target: NodeId,
    heartbeats: bool,
}

impl RaftNetworkFactory<TypeConfig> for Factory {
    type Network = Network;

    async fn new_client(&mut self, target: NodeId, _peer: &Peer) -> Network {
        Network { shard: self.shard, hub: Arc::clone(&self.hub), target, heartbeats: false }
    }

    async fn new_heartbeat_client(&mut self, target: NodeId, _peer: &Peer) -> Network {
        Network { shard: self.shard, hub: Arc::clone(&self.hub), target, heartbeats: true }
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
        match ask(self.channel().as_ref(), self.shard, body, option.hard_ttl()).await? {
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
        let (hub, target, shard) = (Arc::clone(&self.hub), self.target, self.shard);
        let heartbeats = self.heartbeats;
        let within =
            if self.heartbeats { option.hard_ttl() } else { Duration::from_millis(APPEND_MS_MAX) };
        async move {
            let answers = Piggyback::new(input)
                .map(move |request| {
                    let prev = request.prev_log_id;
                    let last = request.entries.last().map(|entry| entry.log_id()).or(prev);
                    let body = Body::Append(wire::append(&request));
                    let channel = hub.way(target);
                    let channel =
                        channel.map(|way| if heartbeats { way.urgent } else { way.appends });
                    let asked = channel.and_then(|channel| channel.ask(shard.0, body));
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
        if !self.hub.has_rows {
            return Err(failed("a witness has no rows, and the voter lacks what it has purged"));
        }
        let Some(route) = self.hub.way(self.target).map(|way| way.snapshots) else {
            return Err(failed("there is no way to the voter"));
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
        match ask(self.hub.urgent(self.target).as_ref(), self.shard, body, option.hard_ttl())
            .await?
        {
            Body::TransferReply(pb::TransferReply { accepted: true }) => Ok(Ok(())),
            _ => Err(away("the transfer was refused")),
        }
    }
}

impl Network {
    fn channel(&self) -> Option<Arc<Channel>> {
        let way = self.hub.way(self.target)?;
        Some(if self.heartbeats { way.urgent } else { way.appends })
    }

    async fn vote_reply(
        &self,
        body: Body,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Failed> {
        match ask(self.hub.urgent(self.target).as_ref(), self.shard, body, option.hard_ttl())
            .await?
        {
            Body::VoteReply(reply) => wire::vote_reply_from(reply).map_err(|e| strange(&e)),
            _ => Err(away("an answer of another kind")),
        }
    }
}
