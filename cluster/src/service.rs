//! What a voter answers to its peers and to supervisors.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use futures::{FutureExt as _, Stream, StreamExt as _};
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::raft::{TransferLeaderRequest, VoteRequest, VoteResponse};
use parking_lot::Mutex;
use tandem_storage::raft::{NodeId, ShardId, TypeConfig};
use tandem_storage::state::State;
use tandem_storage::wire::vote;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use crate::disk::{Disk, Disks};
use crate::link::{self, INCARNATION_HEADER, NAME_HEADER};
use crate::pb::frame::Body;
use crate::{Member, Raft, Role, identity, pb, pull, snapshot, wire};

/// The other survivor looks this much later whether the candidate was elected.
const BACKUP_MS: u64 = 15;
/// Then both look again, until somebody leads: a vote may have been lost, or cost too long.
const LOOK_AGAIN_MS: u64 = 40;
/// From here on the usual timers have to do.
const LOOKS_MAX: u32 = 12;

/// What the answers need; set once the groups run.
pub struct Groups {
    pub me: NodeId,
    pub rafts: BTreeMap<ShardId, Raft>,
    pub members: Vec<Member>,
    /// The latest life of each process that has spoken to us.
    pub incarnations: Mutex<BTreeMap<String, u64>>,
    pub state: State,
    /// What nodes last said that they have flushed.
    pub flushed: Mutex<BTreeMap<(ShardId, NodeId), u64>>,
    pub disks: Arc<Disks>,
    pub runtime: tokio::runtime::Handle,
}

impl Groups {
    fn meet(&self, process: &str, incarnation: u64) {
        let mut incarnations = self.incarnations.lock();
        let known = incarnations.entry(process.to_owned()).or_default();
        *known = incarnation.max(*known);
    }

    /// Nothing where one of them has not said yet.
    pub fn flushed_by_all(&self, shard: ShardId, nodes: &[NodeId]) -> Option<u64> {
        let flushed = self.flushed.lock();
        let each = nodes.iter().map(|node| flushed.get(&(shard, *node)).copied());
        each.collect::<Option<Vec<_>>>()?.into_iter().min()
    }

    /// The voter that speaks, proven by its certificate.
    fn speaker<T>(&self, request: &Request<T>) -> Result<&Member, Status> {
        let text = |name: &str| {
            let value = request.metadata().get(name).and_then(|value| value.to_str().ok());
            value.map(str::to_owned).ok_or_else(|| Status::invalid_argument(format!("no {name}")))
        };
        let name = text(NAME_HEADER)?;
        let incarnation: u64 = text(INCARNATION_HEADER)?
            .parse()
            .map_err(|_| Status::invalid_argument(format!("{INCARNATION_HEADER} is no number")))?;
        identity::require(request, &name)?;
        let member = self.members.iter().find(|member| member.name == name);
        let member =
            member.ok_or_else(|| Status::permission_denied(format!("{name} is no voter")))?;
        self.meet(&name, incarnation);
        Ok(member)
    }

    fn role(&self) -> Option<Role> {
        self.members.iter().find(|member| member.id == self.me).map(|member| member.role)
    }
}

#[derive(Clone, Default)]
pub struct Service {
    pub groups: Arc<OnceLock<Arc<Groups>>>,
}

impl Service {
    fn groups(&self) -> Result<Arc<Groups>, Status> {
        self.groups.get().cloned().ok_or_else(|| Status::unavailable("the voter is starting"))
    }
}

#[tonic::async_trait]
impl pb::peer_server::Peer for Service {
    type LinkStream = std::pin::Pin<Box<dyn Stream<Item = Result<pb::Frames, Status>> + Send>>;

    async fn link(
        &self,
        request: Request<Streaming<pb::Frames>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let groups = self.groups()?;
        let from = groups.speaker(&request)?.id;
        let (answers, outgoing) = link::answer_channel();
        let mut incoming = request.into_inner();
        let runtime = groups.runtime.clone();
        runtime.spawn(async move {
            while let Some(Ok(frames)) = incoming.next().await {
                for frame in frames.frames {
                    answer(&groups, from, frame, answers.clone()).await;
                }
            }
        });
        Ok(Response::new(Box::pin(link::batches(outgoing).map(Ok))))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<pb::SnapshotPart>>,
    ) -> Result<Response<pb::SnapshotReply>, Status> {
        let groups = self.groups()?;
        let from = groups.speaker(&request)?;
        if from.role == Role::Witness {
            return Err(Status::permission_denied("a witness has no rows"));
        }
        let mut parts = request.into_inner();
        let head = snapshot::head(&mut parts).await?;
        let raft = groups.rafts.get(&head.shard);
        let raft = raft.ok_or_else(|| Status::not_found(format!("no shard {}", head.shard)))?;
        let own = snapshot::receive(raft, &groups.state, head, parts).await?;
        Ok(Response::new(pb::SnapshotReply { vote: Some(vote(&own)) }))
    }

    type PullStream =
        std::pin::Pin<Box<dyn Stream<Item = Result<pb::SnapshotPart, Status>> + Send>>;

    async fn pull(
        &self,
        request: Request<pb::PullRequest>,
    ) -> Result<Response<Self::PullStream>, Status> {
        let groups = self.groups()?;
        let to = groups.speaker(&request)?.role;
        if groups.role() != Some(Role::Node) {
            return Err(Status::failed_precondition("a witness has no rows"));
        }
        let pb::PullRequest { shard, index } = request.into_inner();
        let of = u16::try_from(shard).ok().map(ShardId);
        let raft = of.and_then(|of| Some((of, groups.rafts.get(&of)?)));
        let (of, raft) = raft.ok_or_else(|| Status::not_found(format!("no shard {shard}")))?;
        let vote = raft.metrics().borrow_watched().vote;
        let parts = pull::answer(&groups.state, of, vote, index, to)?;
        Ok(Response::new(Box::pin(parts.map(Ok))))
    }
}

async fn answer(groups: &Groups, from: NodeId, frame: pb::Frame, answers: mpsc::Sender<pb::Frame>) {
    let (shard, id) = (frame.shard, frame.id);
    if let Some(Body::Disk(told)) = frame.body {
        groups.disks.told(from, Disk::from(told));
        return;
    }
    let of = u16::try_from(shard).ok().map(ShardId);
    let raft = of.and_then(|of| Some((of, groups.rafts.get(&of)?.clone())));
    let (Some((of, raft)), Some(body)) = (raft, frame.body) else { return };
    if let Body::Flushed(flushed) = &body {
        groups.flushed.lock().insert((of, from), flushed.index);
    }
    let in_order = matches!(body, Body::Append(_));
    let witness = groups.role() == Some(Role::Witness);
    let work = async move {
        let body = handle(&raft, body, witness).await.unwrap_or_else(Body::Failure);
        // The peer may have gone; it asks again on its next stream.
        let _ = answers.send(pb::Frame { shard, id, body: Some(body) }).await;
    };
    // An append enters the group in the order in which it came; it is waited for elsewhere. Were
    // its first poll put off by tokio's budget, the next one would overtake it.
    let mut work = tokio::task::unconstrained(work).boxed();
    if in_order && matches!(futures::poll!(&mut work), Poll::Ready(())) {
        return;
    }
    groups.runtime.spawn(work);
}

async fn handle(raft: &Raft, body: Body, witness: bool) -> Result<Body, String> {
    let strange = |error: tandem_storage::wire::Error| error.to_string();
    match body {
        Body::Append(request) => {
            let request = wire::append_from(request).map_err(strange)?;
            let reply = raft.append_entries(request).await.map_err(|e| e.to_string())?;
            Ok(Body::AppendReply(wire::append_reply(&reply)))
        }
        Body::Vote(request) => {
            let request = wire::vote_request_from(request).map_err(strange)?;
            let reply = raft.vote(request.clone()).await.map_err(|e| e.to_string())?;
            if witness {
                stand_instead(raft, &request, &reply).await;
            }
            Ok(Body::VoteReply(wire::vote_reply(&reply)))
        }
        Body::PreVote(request) => {
            let request = wire::vote_request_from(request).map_err(strange)?;
            let reply = raft.pre_vote(request.clone()).await.map_err(|e| e.to_string())?;
            if witness {
                stand_instead(raft, &request, &reply).await;
            }
            Ok(Body::VoteReply(wire::vote_reply(&reply)))
        }
        Body::Transfer(request) => {
            let request = wire::transfer_from(request).map_err(strange)?;
            let reply = raft.handle_transfer_leader(request).await.map_err(|e| e.to_string())?;
            Ok(Body::TransferReply(pb::TransferReply { accepted: reply.is_ok() }))
        }
        Body::Flushed(_) => Ok(Body::Noted(pb::Noted {})),
        Body::AppendReply(_)
        | Body::VoteReply(_)
        | Body::TransferReply(_)
        | Body::Noted(_)
        | Body::Disk(_)
        | Body::Failure(_) => Err("not a request".into()),
    }
}

#[tonic::async_trait]
impl pb::control_server::Control for Service {
    type ObituariesStream = std::pin::Pin<Box<dyn Stream<Item = Result<pb::Heard, Status>> + Send>>;

    async fn obituaries(
        &self,
        request: Request<Streaming<pb::Obituary>>,
    ) -> Result<Response<Self::ObituariesStream>, Status> {
        let groups = self.groups()?;
        identity::require(&request, identity::SUPERVISOR)?;
        let runtime = groups.runtime.clone();
        let heard = request.into_inner().map(move |obituary| {
            let (groups, obituary) = (Arc::clone(&groups), obituary?);
            runtime.spawn(async move { mourn(&groups, &obituary).await });
            Ok(pb::Heard {})
        });
        Ok(Response::new(Box::pin(heard)))
    }
}

/// A witness stands for no election of its own accord. But where it refuses a node because it has
/// the longer log itself, nobody else can be elected: it stands, and hands over once a node has
/// all of its log.
async fn stand_instead(
    raft: &Raft,
    asked: &VoteRequest<TypeConfig>,
    answered: &VoteResponse<TypeConfig>,
) {
    if answered.vote_granted || answered.last_log_id <= asked.last_log_id {
        return;
    }
    // A pre-vote is refused while a leader is heard of; a transfer says that there is none.
    let pre_vote = !asked.leadership_transfer;
    if let Err(error) = raft.trigger().elect(pre_vote).await {
        tracing::error!(%error, "TD0401 a group has stopped");
    }
}

/// A process is dead, proven: no timer needs to say so. The groups that it led elect at once.
pub async fn mourn(groups: &Groups, obituary: &pb::Obituary) {
    let seen = groups.incarnations.lock().get(&obituary.process).copied();
    if seen.is_some_and(|seen| seen > obituary.incarnation) {
        tracing::info!(process = obituary.process, "an obituary of an earlier life is ignored");
        return;
    }
    let dead = groups.members.iter().find(|member| member.name == obituary.process);
    let Some(dead) = dead.map(|member| member.id) else { return };
    let candidate = groups
        .members
        .iter()
        .filter(|member| member.id != dead && member.role == Role::Node)
        .map(|member| member.id)
        .min();
    let Some(candidate) = candidate else { return };
    let elections = groups.rafts.values().map(|raft| elect(raft, groups.me, dead, candidate));
    futures::future::join_all(elections).await;
}

/// `handle_transfer_leader` ends the dead leader's lease here and lets the candidate stand now.
/// Whoever survives looks after it until there is a leader.
async fn elect(raft: &Raft, me: NodeId, dead: NodeId, candidate: NodeId) {
    let mut last_seen = None;
    for look in 0..LOOKS_MAX {
        let Ok(vote) = raft.with_raft_state(|state| *state.vote_ref()).await else { return };
        if vote.is_committed() && vote.leader_id.node_id != dead {
            return;
        }
        // Where another vote came in between, somebody else's election is under way.
        let stands = me == candidate || last_seen == Some(vote);
        let to = if stands { me } else { candidate };
        let request = TransferLeaderRequest::new(vote, to, None);
        if let Err(error) = raft.handle_transfer_leader(request).await {
            tracing::error!(%error, "TD0401 a group has stopped");
            return;
        }
        last_seen = Some(vote);
        let first = look == 0 && me != candidate;
        let pause_ms = if first { BACKUP_MS } else { LOOK_AGAIN_MS };
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    }
}
