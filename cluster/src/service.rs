//! What a voter answers to its peers and to supervisors.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::{FutureExt as _, Stream, StreamExt as _};
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::raft::{TransferLeaderRequest, VoteRequest, VoteResponse};
use parking_lot::Mutex;
use tandem_pki::identity;
use tandem_storage::raft::{NodeId, ShardId, TypeConfig};
use tandem_storage::state::State;
use tandem_storage::wire::vote;
use tokio::sync::{mpsc, watch};
use tonic::{Request, Response, Status, Streaming};

use crate::changes::Changes;
use crate::disk::{Disk, Disks};
use crate::link::{
    self, CLUSTER_HEADER, INCARNATION_HEADER, NAME_HEADER, REPLICA_HEADER, TO_HEADER,
};
use crate::members::{Directory, Member, Role};
use crate::mending::Outs;
use crate::pb::frame::Body;
use crate::pulse::{self, Heart};
use crate::roster::Change;
use crate::shard::Error;
use crate::{Raft, Refused, Shard, pb, pull, snapshot, wire};

/// The other survivor looks this much later whether the candidate was elected.
const BACKUP_MS: u64 = 15;
/// Then both look again, until somebody leads: a vote may have been lost, or cost too long.
const LOOK_AGAIN_MS: u64 = 40;
/// From here on the usual timers have to do.
const LOOKS_MAX: u32 = 12;

/// What the answers need; set once the groups run.
pub struct Groups {
    pub cluster: String,
    pub me: NodeId,
    pub shards: BTreeMap<ShardId, Shard>,
    pub heart: Arc<Heart>,
    pub directory: Arc<Directory>,
    /// A witness has none.
    pub changes: Option<Arc<Changes>>,
    /// The latest life of each process that has spoken to us.
    pub incarnations: Mutex<BTreeMap<String, u64>>,
    /// The last life of each process that an obituary has told of, whatever process it was.
    pub deaths: watch::Sender<BTreeMap<String, u64>>,
    pub state: State,
    /// What nodes last said that they have flushed.
    pub flushed: Mutex<BTreeMap<(ShardId, NodeId), u64>>,
    pub disks: Arc<Disks>,
    pub outs: Arc<Outs>,
    pub runtime: tokio::runtime::Handle,
}

impl Groups {
    fn meet(&self, process: &str, incarnation: u64) {
        let mut incarnations = self.incarnations.lock();
        let known = incarnations.entry(process.to_owned()).or_default();
        *known = incarnation.max(*known);
    }

    /// Whether a life of the process has spoken that began after the one that ended.
    fn has_met_later(&self, obituary: &pb::Obituary) -> bool {
        let seen = self.incarnations.lock().get(&obituary.process).copied();
        seen.is_some_and(|seen| seen > obituary.incarnation)
    }

    /// So many voters of the meta shard are proven dead, and no later life of them has spoken, that nobody can decide
    /// anything.
    pub fn is_majority_dead(&self) -> bool {
        let live = self.directory.live();
        let Some(group) = live.groups.get(&ShardId::META) else { return false };
        let (deaths, met) = (self.deaths.borrow(), self.incarnations.lock());
        let is_dead = |member: &Member| {
            let later = |dead: &u64| met.get(&member.name).is_none_or(|met| met <= dead);
            deaths.get(&member.name).is_some_and(later)
        };
        let voters = || live.members.iter().filter(|member| group.is_voter(member.id));
        let alive = voters().filter(|member| !is_dead(member)).count();
        alive < voters().count() / 2 + 1
    }

    /// Nothing where one of them has not said yet.
    pub fn flushed_by_all(&self, shard: ShardId, nodes: &[NodeId]) -> Option<u64> {
        let flushed = self.flushed.lock();
        let each = nodes.iter().map(|node| flushed.get(&(shard, *node)).copied());
        each.collect::<Option<Vec<_>>>()?.into_iter().min()
    }

    /// The replica that speaks, proven by its certificate.
    fn speaker<T>(&self, request: &Request<T>) -> Result<Member, Status> {
        let (name, incarnation) = introduced(request, &self.cluster)?;
        let replica = match text(request, REPLICA_HEADER) {
            Ok(replica) => replica.parse().ok(),
            // One of an earlier build.
            Err(_) => None,
        };
        let live = self.directory.live();
        let known = live.named(&name);
        let known =
            known.ok_or_else(|| Status::permission_denied(format!("{name} is no voter")))?;
        let member = replica.map_or(Some(known), |id| live.member(id).filter(|it| it.name == name));
        let Some(member) = member else {
            let why = format!("this replica of {name} is no member any more, {} is", known.id);
            return Err(Status::permission_denied(why));
        };
        self.meet(&name, incarnation);
        Ok(member.clone())
    }

    /// Who speaks, to this replica and not to one that was at its address before.
    fn speaker_to_me<T>(&self, request: &Request<T>) -> Result<Member, Status> {
        let from = self.speaker(request)?;
        let me = &self.directory.me;
        let to = text(request, TO_HEADER).ok();
        // Earlier builds name nobody, and never knew another replica than the file's.
        let is_me = to.as_ref().map_or(me.folder.is_empty(), |to| *to == me.id.to_string());
        if !is_me {
            let to = to.unwrap_or_else(|| "of earlier".to_owned());
            let why = format!("this is replica {} of {}, not {to}", me.id, me.name);
            return Err(Status::permission_denied(why));
        }
        Ok(from)
    }

    fn role(&self) -> Role {
        self.directory.me.role
    }
}

fn text<T>(request: &Request<T>, name: &str) -> Result<String, Status> {
    let value = request.metadata().get(name).and_then(|value| value.to_str().ok());
    value.map(str::to_owned).ok_or_else(|| Status::invalid_argument(format!("no {name}")))
}

/// Name and life of who speaks, where it is of this cluster and the name is in its certificate.
fn introduced<T>(request: &Request<T>, cluster: &str) -> Result<(String, u64), Status> {
    let name = text(request, NAME_HEADER)?;
    let incarnation: u64 = text(request, INCARNATION_HEADER)?
        .parse()
        .map_err(|_| Status::invalid_argument(format!("{INCARNATION_HEADER} is no number")))?;
    // An authority may have signed for two clusters. Voters of earlier builds don't say.
    if let Some(theirs) = request.metadata().get(CLUSTER_HEADER)
        && theirs.as_bytes() != cluster.as_bytes()
    {
        let theirs = theirs.to_str().unwrap_or("another one");
        let why = format!("{name} is of cluster {theirs}, this voter of {cluster}");
        return Err(Status::permission_denied(why));
    }
    identity::require(request, &name)?;
    Ok((name, incarnation))
}

#[derive(Clone, Default)]
pub struct Service {
    pub groups: Arc<OnceLock<Arc<Groups>>>,
    /// Where nobody has said yet which replica it is: the cluster, and itself.
    fresh: Option<Arc<(String, Member)>>,
}

impl Service {
    /// Of a process that has no groups yet.
    pub fn fresh(cluster: String, me: Member) -> Self {
        Self { fresh: Some(Arc::new((cluster, me))), ..Self::default() }
    }

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
        let from = groups.speaker_to_me(&request)?.id;
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
        let from = groups.speaker_to_me(&request)?;
        if from.role == Role::Witness {
            return Err(Status::permission_denied("a witness has no rows"));
        }
        let mut parts = request.into_inner();
        let head = snapshot::head(&mut parts).await?;
        let shard = groups.shards.get(&head.shard);
        let shard = shard.ok_or_else(|| Status::not_found(format!("no shard {}", head.shard)))?;
        let own = snapshot::receive(&shard.raft, &groups.state, head, parts).await?;
        Ok(Response::new(pb::SnapshotReply { vote: Some(vote(&own)) }))
    }

    type HaveStream = std::pin::Pin<Box<dyn Stream<Item = Result<pb::Parts, Status>> + Send>>;

    async fn have(
        &self,
        request: Request<pb::HaveRequest>,
    ) -> Result<Response<Self::HaveStream>, Status> {
        let groups = self.groups()?;
        groups.speaker_to_me(&request)?;
        let shard = u16::try_from(request.into_inner().shard).map(ShardId);
        let shard = shard.ok().filter(|shard| groups.shards.contains_key(shard));
        let shard = shard.ok_or_else(|| Status::not_found("no such shard"))?;
        Ok(Response::new(Box::pin(snapshot::have(&groups.state, shard).map(Ok))))
    }

    type PullStream =
        std::pin::Pin<Box<dyn Stream<Item = Result<pb::SnapshotPart, Status>> + Send>>;

    async fn pull(
        &self,
        request: Request<pb::PullRequest>,
    ) -> Result<Response<Self::PullStream>, Status> {
        let groups = self.groups()?;
        let to = groups.speaker(&request)?.role;
        if groups.role() != Role::Node {
            return Err(Status::failed_precondition("a witness has no rows"));
        }
        let pb::PullRequest { shard, index } = request.into_inner();
        let of = u16::try_from(shard).ok().and_then(|of| groups.shards.get(&ShardId(of)));
        let of = of.ok_or_else(|| Status::not_found(format!("no shard {shard}")))?;
        let vote = of.raft.metrics().borrow_watched().vote;
        let parts = pull::answer(&groups.state, of.id, vote, index, to)?;
        Ok(Response::new(Box::pin(parts.map(Ok))))
    }

    async fn join(
        &self,
        request: Request<pb::JoinRequest>,
    ) -> Result<Response<pb::JoinReply>, Status> {
        if let Some(fresh) = &self.fresh {
            let (cluster, me) = fresh.as_ref();
            introduced(&request, cluster)?;
            let reply = pb::JoinReply { fresh: true, self_: Some(me.seat()), ..Default::default() };
            return Ok(Response::new(reply));
        }
        let groups = self.groups()?;
        let (name, _) = introduced(&request, &groups.cluster)?;
        let folder = request.into_inner().folder;
        let live = groups.directory.live();
        let mut its = live.members.iter().filter(|it| it.name == name && it.folder == folder);
        let id = its.next().filter(|_| !folder.is_empty()).map_or(0, |member| member.id);
        let members = live.members.iter().map(Member::seat).collect();
        Ok(Response::new(pb::JoinReply { fresh: false, self_: None, id, members }))
    }
}

/// An operator's wish, that another node was told.
async fn change(groups: &Groups, asked: pb::ChangeRequest) -> Result<Body, String> {
    let change = match asked.change.ok_or("no change")? {
        pb::change_request::Change::Add(add) => {
            Change::Add { name: add.name, address: add.address, witness: add.witness }
        }
        pb::change_request::Change::Remove(name) => Change::Remove { name },
        pb::change_request::Change::Replace(name) => Change::Replace { name },
    };
    let changes = groups.changes.as_ref().ok_or("a witness changes nothing")?;
    let (refused, unknown) = match changes.ask(&change).await {
        Ok(()) => (String::new(), String::new()),
        Err(Refused::Unsafe(why)) => (why, String::new()),
        Err(Refused::Unknown(what)) => (String::new(), what),
    };
    Ok(Body::ChangeReply(pb::ChangeReply { refused, unknown }))
}

async fn answer(
    groups: &Arc<Groups>,
    from: NodeId,
    frame: pb::Frame,
    answers: mpsc::Sender<pb::Frame>,
) {
    if let Some(Body::Beat(beat)) = frame.body {
        if groups.heart.detector.lock().hear(from, pulse::beat_from(beat), Instant::now()) {
            // It may have missed what its groups have to say.
            for shard in groups.shards.values() {
                shard.rest.wake(&shard.raft, Instant::now());
            }
        }
        return;
    }
    if let Some(Body::Disk(told)) = frame.body {
        let last = told
            .last
            .iter()
            .filter_map(|(shard, last)| Some((ShardId(u16::try_from(*shard).ok()?), *last)));
        groups.disks.told_last(from, last.collect());
        let outs = told.out.iter().filter_map(|shard| Some(ShardId(u16::try_from(*shard).ok()?)));
        groups.disks.told_outs(from, outs.collect());
        groups.disks.told_version(from, told.version.clone());
        groups.disks.told(from, Disk::from(told));
        return;
    }
    let (of, id) = (frame.shard, frame.id);
    if let Some(Body::Change(asked)) = frame.body {
        let changing = Arc::clone(groups);
        groups.runtime.spawn(async move {
            let body = Some(change(&changing, asked).await.unwrap_or_else(Body::Failure));
            // As below.
            let _ = answers.send(pb::Frame { shard: of, id, body }).await;
        });
        return;
    }
    let shard = u16::try_from(of).ok().and_then(|of| groups.shards.get(&ShardId(of)).cloned());
    let (Some(shard), Some(body)) = (shard, frame.body) else { return };
    if let Body::Flushed(flushed) = &body {
        groups.flushed.lock().insert((shard.id, from), flushed.index);
    }
    let in_order = matches!(body, Body::Append(_));
    let last_to_lead = groups.role() == Role::Witness || groups.outs.is_mine_out(shard.id);
    let heart = Arc::clone(&groups.heart);
    let work = async move {
        let body = handle(&shard, &heart, from, body, last_to_lead).await;
        let body = Some(body.unwrap_or_else(Body::Failure));
        // The peer may have gone; it asks again on its next stream.
        let _ = answers.send(pb::Frame { shard: of, id, body }).await;
    };
    // An append enters the group in the order in which it came; it is waited for elsewhere. Were
    // its first poll put off by tokio's budget, the next one would overtake it.
    let mut work = tokio::task::unconstrained(work).boxed();
    if in_order && matches!(futures::poll!(&mut work), Poll::Ready(())) {
        return;
    }
    groups.runtime.spawn(work);
}

async fn handle(
    shard: &Shard,
    heart: &Heart,
    from: NodeId,
    body: Body,
    last_to_lead: bool,
) -> Result<Body, String> {
    let raft = &shard.raft;
    let strange = |error: tandem_storage::wire::Error| error.to_string();
    match body {
        Body::Append(request) => {
            let request = wire::append_from(request).map_err(strange)?;
            let reply = raft.append_entries(request).await.map_err(|e| e.to_string())?;
            Ok(Body::AppendReply(wire::append_reply(&reply)))
        }
        Body::Vote(request) | Body::PreVote(request)
            if !request.leadership_transfer && heart.knows_leader(shard, from) =>
        {
            tracing::debug!(shard = %shard.id, from, "no vote: a leader lives");
            let own = raft.with_raft_state(|state| {
                VoteResponse::new(*state.vote_ref(), state.log_ids.last().copied(), false)
            });
            Ok(Body::VoteReply(wire::vote_reply(&own.await.map_err(|e| e.to_string())?)))
        }
        Body::Vote(request) => {
            let request = wire::vote_request_from(request).map_err(strange)?;
            let reply = raft.vote(request.clone()).await.map_err(|e| e.to_string())?;
            if last_to_lead {
                stand_instead(raft, &request, &reply).await;
            }
            Ok(Body::VoteReply(wire::vote_reply(&reply)))
        }
        Body::PreVote(request) => {
            let request = wire::vote_request_from(request).map_err(strange)?;
            let reply = raft.pre_vote(request.clone()).await.map_err(|e| e.to_string())?;
            if last_to_lead {
                stand_instead(raft, &request, &reply).await;
            }
            Ok(Body::VoteReply(wire::vote_reply(&reply)))
        }
        Body::Move(request) => {
            let moved = shard.move_leader(request.to).await;
            let refused = moved.err().map_or_else(String::new, |error| error.to_string());
            Ok(Body::MoveReply(pb::MoveReply { refused }))
        }
        Body::Propose(request) => {
            Ok(Body::ProposeReply(match shard.propose_all(request.commands).await {
                Ok(replies) => pb::ProposeReply { replies, ..Default::default() },
                Err(error) => pb::ProposeReply {
                    refused: error.to_string(),
                    not_leader: error == Error::NotLeader,
                    overloaded: error == Error::Overloaded,
                    ..Default::default()
                },
            }))
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
        | Body::Beat(_)
        | Body::MoveReply(_)
        | Body::Change(_)
        | Body::ChangeReply(_)
        | Body::ProposeReply(_)
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

/// A witness, and a replica that is out, stand for no election of their own accord. But where one refuses a node because
/// it has the longer log itself, nobody else can be elected: it stands, and hands over once a node has
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
    if groups.has_met_later(obituary) {
        tracing::info!(process = obituary.process, "an obituary of an earlier life is ignored");
        return;
    }
    groups.deaths.send_modify(|deaths| {
        let known = deaths.entry(obituary.process.clone()).or_default();
        *known = obituary.incarnation.max(*known);
    });
    let live = groups.directory.live();
    // The replica that it was before may still be there, too: it is as dead.
    let named = live.members.iter().filter(|member| member.name == obituary.process);
    let dead: BTreeSet<NodeId> = named.map(|member| member.id).collect();
    if dead.is_empty() {
        return;
    }
    for id in &dead {
        groups.heart.detector.lock().bury(*id, Instant::now());
    }
    let elections = groups.shards.values().filter_map(|shard| {
        // A learner can't be elected, and elects nobody.
        let group = live.groups.get(&shard.id)?;
        let may = |id: &NodeId| group.is_voter(*id) && !dead.contains(id);
        let able = |id: &NodeId| may(id) && !groups.outs.is_out(*id, shard.id);
        let candidate = live.nodes().filter(able).min();
        let candidate = candidate.or_else(|| live.nodes().filter(may).min())?;
        may(&groups.me).then(|| elect(groups, &shard.raft, obituary, &dead, candidate))
    });
    futures::future::join_all(elections).await;
}

/// `handle_transfer_leader` ends the dead leader's lease here and lets the candidate stand now.
/// Whoever survives looks after it until there is a leader. That may be a later life of the dead one,
/// whose lease is its own: the only vote that it mourns is the one that was here at first.
async fn elect(
    groups: &Groups,
    raft: &Raft,
    obituary: &pb::Obituary,
    dead: &BTreeSet<NodeId>,
    candidate: NodeId,
) {
    let me = groups.me;
    let (mut mourned, mut last_seen) = (None, None);
    for look in 0..LOOKS_MAX {
        let Ok(vote) = raft.with_raft_state(|state| *state.vote_ref()).await else { return };
        let of_dead = vote.is_committed() && dead.contains(&vote.leader_id.node_id);
        if look == 0 {
            // A life speaks before its vote can be here.
            if groups.has_met_later(obituary) {
                return;
            }
            mourned = Some(vote).filter(|_| of_dead);
        }
        if vote.is_committed() && Some(vote) != mourned {
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
