//! A node's answers to the link: events to the actors, reads from the leader's world,
//! operators' commands to the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;
use serde_json::Value;
use tandem_cluster::Change;
use tandem_core::answered::Outcome;
use tandem_core::command::{Command, Keyed, OperatorCommand, Origin, RequestedState};
use tandem_core::effect::EffectId;
use tandem_core::ids::{AgentId, CallId};
use tandem_core::wire;
use tandem_core::world::{Rejection, Reply, World};
use tandem_gateway::link::pb;
use tokio::sync::watch;
use tonic::Status;

use super::link::Node;
use super::members;
use super::recordings;
use super::records::{self, Asked};
use super::sessions::Session;
use super::shard::{Error, Records, Shard};
use super::views;

/// What a gateway is told to wait before it tries again.
const RETRY_AFTER_S: u32 = 1;

/// The cluster's state as the leader of the meta shard sees it; `None` where another leads it.
pub type ClusterStatus = Arc<dyn Fn() -> Option<Value> + Send + Sync>;

/// Gives the lead of a shard to a node, both by name.
pub type MoveLeader = Arc<dyn Fn(String, String) -> BoxFuture<'static, Moved> + Send + Sync>;

/// Begins to move a tenant to a shard, both by name.
pub type MoveTenant = Arc<dyn Fn(String, String) -> BoxFuture<'static, Moved> + Send + Sync>;

/// Begins to change who belongs to the cluster.
pub type ChangeMembers = Arc<dyn Fn(Change) -> BoxFuture<'static, Moved> + Send + Sync>;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moved {
    Done,
    /// There is none such.
    Unknown(String),
    Refused(String),
}

pub struct Desk {
    pub name: String,
    pub shard: Arc<dyn Shard>,
    pub leading: watch::Receiver<Vec<pb::Leading>>,
    pub routing: watch::Receiver<Vec<pb::Routing>>,
    pub nodes: watch::Receiver<pb::Nodes>,
    pub cluster: ClusterStatus,
    pub move_leader: MoveLeader,
    /// Who belongs to the cluster, as who leads the meta shard sees it.
    pub members: ClusterStatus,
    pub change_members: ChangeMembers,
    /// Where each is, as who leads the meta shard knows it.
    pub tenants: ClusterStatus,
    pub move_tenant: MoveTenant,
}

impl Desk {
    fn leads(&self) -> Result<(), Status> {
        if self.shard.lead().borrow().here {
            return Ok(());
        }
        Err(Status::failed_precondition(format!("{} does not lead the shard", self.name)))
    }

    fn read<T>(&self, mut read: impl FnMut(&World) -> T) -> Option<T> {
        let mut found = None;
        self.shard.look(&mut |world| found = Some(read(world)));
        found
    }

    fn agent_json(&self, agent: &AgentId) -> Vec<u8> {
        let params = BTreeMap::from([("name".to_owned(), agent.to_string())]);
        let found = self.read(|world| views::of(world, "agent", &params));
        found.and_then(Result::ok).flatten().map(|json| bytes(&json)).unwrap_or_default()
    }
}

#[async_trait]
impl Node for Desk {
    fn name(&self) -> &str {
        &self.name
    }

    fn leading(&self) -> watch::Receiver<Vec<pb::Leading>> {
        self.leading.clone()
    }

    fn routing(&self) -> watch::Receiver<Vec<pb::Routing>> {
        self.routing.clone()
    }

    fn nodes(&self) -> watch::Receiver<pb::Nodes> {
        self.nodes.clone()
    }

    fn on_session(&self, session: &Session) {
        self.shard.on_session(&session.gateway);
    }

    fn on_event(&self, session: &Session, event: pb::Event) {
        if event.shard != u32::from(self.shard.id()) {
            tracing::warn!(gateway = %session.gateway, shard = event.shard, "no such shard here");
            return;
        }
        match wire::decode_event(&event.event) {
            Ok(decoded) => {
                let origin = Origin {
                    gateway: session.gateway.clone(),
                    incarnation: session.incarnation,
                    sequence: event.sequence,
                };
                self.shard.on_event(origin, decoded);
            }
            Err(error) => {
                // It will be no better the next time: the gateway must not send it for ever.
                tracing::error!(gateway = %session.gateway, %error, "TD0201 unreadable event");
                metrics::counter!("tandem_link_events_unreadable_total").increment(1);
                session.send(pb::down::Body::Accepted(pb::Accepted {
                    shard: event.shard,
                    sequence: event.sequence,
                    overloaded: false,
                    retry_after_s: 0,
                }));
            }
        }
    }

    fn on_done(&self, session: &Session, done: pb::Done) {
        let shard = self.shard.id();
        if done.shard != u32::from(shard) {
            return;
        }
        let effects = done.effects.iter().filter_map(|effect| {
            let ordinal = u16::try_from(effect.ordinal).ok()?;
            Some(EffectId { shard, index: effect.index, ordinal })
        });
        self.shard.on_done(&session.gateway, effects.collect());
    }

    async fn query(
        &self,
        kind: &str,
        params: BTreeMap<String, String>,
    ) -> Result<Option<Vec<u8>>, Status> {
        let of_cluster = match kind {
            "cluster" => Some(&self.cluster),
            "members" => Some(&self.members),
            "tenants" => Some(&self.tenants),
            _ => None,
        };
        if let Some(tell) = of_cluster {
            let told = tell().ok_or_else(|| {
                Status::failed_precondition(format!("{} does not lead the meta shard", self.name))
            })?;
            return Ok(Some(bytes(&told)));
        }
        self.leads()?;
        // Another may lead by now, and not have told.
        self.shard.confirm().await.map_err(status_of)?;
        let found = match kind {
            "cdrs" | "recordings" => {
                let asked = Asked::of(|name| params.get(name)).map_err(Status::invalid_argument)?;
                // Rows are read from disk: not on a thread that carries calls.
                let shard = Arc::clone(&self.shard);
                let cdrs = kind == "cdrs";
                let page = tokio::task::spawn_blocking(move || {
                    if cdrs {
                        let rows = shard.records(Records::Cdrs);
                        let qualities = shard.records(Records::Qualities);
                        records::cdrs(rows.as_ref(), qualities.as_ref(), &asked, views::cdr)
                    } else {
                        let rows = shard.records(Records::Recordings);
                        recordings::list(rows.as_ref(), &asked)
                    }
                });
                Some(page.await.map_err(|_| Status::internal("the records can't be read"))?)
            }
            "recording" => {
                let Some(id) = params.get("name").and_then(|name| name.parse().ok()) else {
                    return Ok(None);
                };
                let shard = Arc::clone(&self.shard);
                let found = tokio::task::spawn_blocking(move || {
                    let rows = shard.records(Records::Recordings);
                    recordings::one(rows.as_ref(), id)
                });
                found.await.map_err(|_| Status::internal("the records can't be read"))?
            }
            _ => self
                .read(|world| views::of(world, kind, &params))
                .transpose()
                .map_err(Status::invalid_argument)?
                .flatten(),
        };
        Ok(found.map(|json| bytes(&json)))
    }

    async fn execute(&self, request: pb::ExecuteRequest) -> Result<pb::ExecuteReply, Status> {
        let pb::ExecuteRequest { idempotency_key: key, command, keep_ms } = request;
        let command = command.ok_or_else(|| Status::invalid_argument("a command is missing"))?;
        // Any node knows who leads what.
        let done = match &command {
            pb::execute_request::Command::MoveLeader(asked) => {
                Some((self.move_leader)(asked.shard.clone(), asked.node.clone()).await)
            }
            pb::execute_request::Command::ChangeMembers(asked) => {
                Some((self.change_members)(members::change_of(asked)?).await)
            }
            pb::execute_request::Command::MoveTenant(asked) => {
                Some((self.move_tenant)(asked.tenant.clone(), asked.shard.clone()).await)
            }
            _ => None,
        };
        if let Some(done) = done {
            return Ok(match done {
                Moved::Done => pb::ExecuteReply { found: true, ..Default::default() },
                Moved::Unknown(what) => not_found(what),
                Moved::Refused(why) => refused(why),
            });
        }
        self.leads()?;
        let Some(command) = command_of(command)? else {
            return Ok(pb::ExecuteReply::default());
        };
        if key.is_empty() {
            return self.execute_unnamed(command).await;
        }
        // Committed and answered before: nothing is to be decided any more.
        if let Some(reply) = self.answer_of(&key, &command) {
            return Ok(reply);
        }
        let keyed = Keyed { key: key.clone(), keep_ms, command: command.clone() };
        match self.propose(Command::Keyed(keyed)).await? {
            Reply::Rejected(Rejection::KeyReused(_)) => Ok(key_reused(&key)),
            Reply::Rejected(Rejection::Full) => Err(full()),
            Reply::Rejected(Rejection::Panicked(_)) => Err(broken()),
            // What it came to is remembered with it.
            Reply::Done | Reply::Rejected(_) => self.answer_of(&key, &command).ok_or_else(|| {
                Status::unavailable("the answer was forgotten before it could be told")
            }),
        }
    }
}

impl Desk {
    async fn propose(&self, command: Command) -> Result<Reply, Status> {
        self.shard.propose(command).await.map_err(status_of)
    }

    /// A gateway of an earlier build names no command; what it asks for may be done twice.
    async fn execute_unnamed(&self, command: OperatorCommand) -> Result<pb::ExecuteReply, Status> {
        let agent = match &command {
            OperatorCommand::SetAgentState { agent, .. } => Some(agent.clone()),
            OperatorCommand::ReleaseCall { .. } => None,
            OperatorCommand::Originate { .. }
            | OperatorCommand::TransferCall { .. }
            | OperatorCommand::PauseRecording { .. }
            | OperatorCommand::Consult { .. }
            | OperatorCommand::Conference { .. }
            | OperatorCommand::CompleteConsult { .. }
            | OperatorCommand::CancelConsult { .. } => {
                return Err(Status::invalid_argument("this command needs a key"));
            }
        };
        match self.propose(Command::Operator(command)).await? {
            Reply::Done => Ok(pb::ExecuteReply {
                found: true,
                json: agent.map(|agent| self.agent_json(&agent)).unwrap_or_default(),
                ..Default::default()
            }),
            Reply::Rejected(Rejection::NotFound(what)) => Ok(not_found(what)),
            Reply::Rejected(Rejection::Full) => Err(full()),
            Reply::Rejected(Rejection::Panicked(_)) => Err(broken()),
            Reply::Rejected(
                rejection @ (Rejection::Illegal { .. }
                | Rejection::Refused(_)
                | Rejection::Repeated
                | Rejection::KeyReused(_)
                | Rejection::Stale
                | Rejection::TooEarly),
            ) => Ok(refused(rejection.to_string())),
        }
    }

    /// What this key was answered.
    fn answer_of(&self, key: &str, command: &OperatorCommand) -> Option<pb::ExecuteReply> {
        let known = self.read(|world| world.answered.get(key).cloned()).flatten()?;
        if known.command != *command {
            return Some(key_reused(key));
        }
        Some(match known.outcome {
            Outcome::Done { json } => pb::ExecuteReply { found: true, json, ..Default::default() },
            Outcome::NotFound { what } => not_found(what),
            Outcome::Refused { sentence } => refused(sentence),
        })
    }
}

/// `None` where it names what can't be there.
fn command_of(command: pb::execute_request::Command) -> Result<Option<OperatorCommand>, Status> {
    Ok(match command {
        pb::execute_request::Command::SetAgentState(asked) => {
            let agent = AgentId::from(asked.agent);
            let state = match asked.state.as_str() {
                "ready" => RequestedState::Ready,
                "not_ready" => RequestedState::NotReady { reason: asked.reason },
                "logged_out" => RequestedState::LoggedOut,
                other => {
                    return Err(Status::invalid_argument(format!(
                        "state is {other:?}; expected ready, not_ready or logged_out"
                    )));
                }
            };
            Some(OperatorCommand::SetAgentState { agent, state })
        }
        pb::execute_request::Command::ReleaseCall(asked) => {
            asked.call.parse::<CallId>().ok().map(|call| OperatorCommand::ReleaseCall { call })
        }
        pb::execute_request::Command::TransferCall(asked) => {
            let call = asked.call.parse::<CallId>().ok();
            call.map(|call| OperatorCommand::TransferCall { call, to: asked.to })
        }
        pb::execute_request::Command::PauseRecording(asked) => {
            let call = asked.call.parse::<CallId>().ok();
            call.map(|call| OperatorCommand::PauseRecording { call, paused: asked.paused })
        }
        pb::execute_request::Command::ConsultCall(asked) => {
            let call = asked.call.parse::<CallId>().ok();
            call.map(|call| OperatorCommand::Consult { call, to: asked.to })
        }
        pb::execute_request::Command::Conference(asked) => {
            asked.call.parse::<CallId>().ok().map(|call| OperatorCommand::Conference { call })
        }
        pb::execute_request::Command::CompleteConsult(asked) => {
            asked.call.parse::<CallId>().ok().map(|call| OperatorCommand::CompleteConsult { call })
        }
        pb::execute_request::Command::CancelConsult(asked) => {
            asked.call.parse::<CallId>().ok().map(|call| OperatorCommand::CancelConsult { call })
        }
        // Of no tenant: see `execute`.
        pb::execute_request::Command::MoveLeader(_)
        | pb::execute_request::Command::MoveTenant(_)
        | pb::execute_request::Command::ChangeMembers(_) => None,
        pb::execute_request::Command::Originate(asked) => {
            Some(OperatorCommand::Originate { from: asked.from.into(), to: asked.to })
        }
    })
}

fn status_of(error: Error) -> Status {
    match error {
        Error::NotLeading => Status::failed_precondition(error.to_string()),
        Error::Unconfirmed => Status::unavailable(error.to_string()),
        Error::Overloaded => full(),
    }
}

fn refused(refusal: String) -> pb::ExecuteReply {
    pb::ExecuteReply { found: true, refusal, ..Default::default() }
}

fn not_found(missing: String) -> pb::ExecuteReply {
    pb::ExecuteReply { missing, ..Default::default() }
}

fn key_reused(key: &str) -> pb::ExecuteReply {
    let refusal = Rejection::KeyReused(key.to_owned()).to_string();
    pb::ExecuteReply { found: true, refusal, key_reused: true, ..Default::default() }
}

fn full() -> Status {
    Status::resource_exhausted(format!("{RETRY_AFTER_S}"))
}

fn broken() -> Status {
    Status::internal("the command broke a rule of the core; see the alarms")
}

fn bytes(json: &Value) -> Vec<u8> {
    // A Value always is JSON.
    serde_json::to_vec(json).unwrap_or_default()
}

#[cfg(test)]
mod tests;
