//! A node's answers to the link: events to the actors, reads from the leader's world,
//! operators' commands to the log.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::Value;
use tandem_core::command::{Command, OperatorCommand, Origin, RequestedState};
use tandem_core::effect::EffectId;
use tandem_core::ids::{AgentId, CallId};
use tandem_core::wire;
use tandem_core::world::{Rejection, Reply, World};
use tandem_gateway::link::pb;
use tokio::sync::watch;
use tonic::Status;

use super::link::Node;
use super::records::{self, Asked};
use super::sessions::Session;
use super::shard::{Error, Records, Shard};
use super::views;

/// Idempotency keys that are remembered, with their answers.
const KEYS_MAX: usize = 4_096;
/// What a gateway is told to wait before it tries again.
const RETRY_AFTER_S: u32 = 1;

/// The cluster's state as the leader of the meta shard sees it; `None` where another leads it.
pub type ClusterStatus = Arc<dyn Fn() -> Option<Value> + Send + Sync>;

pub struct Desk {
    pub name: String,
    pub shard: Arc<dyn Shard>,
    pub leading: watch::Receiver<Vec<pb::Leading>>,
    pub routing: watch::Receiver<Vec<pb::Routing>>,
    pub cluster: ClusterStatus,
    pub answered: Mutex<Answered>,
}

/// Answers by idempotency key, the oldest forgotten first. They live as long as this node leads;
/// beyond that the commands themselves are safe to repeat.
#[derive(Default)]
pub struct Answered {
    by_key: BTreeMap<String, pb::ExecuteReply>,
    order: VecDeque<String>,
}

impl Answered {
    fn get(&self, key: &str) -> Option<pb::ExecuteReply> {
        self.by_key.get(key).cloned()
    }

    fn put(&mut self, key: String, reply: pb::ExecuteReply) {
        if key.is_empty() {
            return;
        }
        if self.order.len() == KEYS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_key.remove(&oldest);
        }
        if self.by_key.insert(key.clone(), reply).is_none() {
            self.order.push_back(key);
        }
    }
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
        if kind == "cluster" {
            let status = (self.cluster)().ok_or_else(|| {
                Status::failed_precondition(format!("{} does not lead the meta shard", self.name))
            })?;
            return Ok(Some(bytes(&status)));
        }
        self.leads()?;
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
                        records::recordings(rows.as_ref(), &asked, views::recording)
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
                    records::recording(rows.as_ref(), id, views::recording)
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

    async fn execute(
        &self,
        key: String,
        command: pb::execute_request::Command,
    ) -> Result<pb::ExecuteReply, Status> {
        self.leads()?;
        if let Some(reply) = self.answered.lock().get(&key) {
            return Ok(reply);
        }
        let (command, agent) = match command {
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
                (OperatorCommand::SetAgentState { agent: agent.clone(), state }, Some(agent))
            }
            pb::execute_request::Command::ReleaseCall(asked) => {
                let Ok(call) = asked.call.parse::<CallId>() else {
                    return Ok(pb::ExecuteReply::default());
                };
                (OperatorCommand::ReleaseCall { call }, None)
            }
        };
        let applied =
            self.shard.propose(Command::Operator(command)).await.map_err(|error| match error {
                Error::NotLeading => Status::failed_precondition(error.to_string()),
                Error::Overloaded => Status::resource_exhausted(format!("{RETRY_AFTER_S}")),
            })?;
        let reply = match applied {
            Reply::Done => pb::ExecuteReply {
                found: true,
                refusal: String::new(),
                json: agent.map(|agent| self.agent_json(&agent)).unwrap_or_default(),
            },
            Reply::Rejected(Rejection::NotFound(_)) => pb::ExecuteReply::default(),
            Reply::Rejected(Rejection::Panicked(_)) => {
                return Err(Status::internal(
                    "the command broke a rule of the core; see the alarms",
                ));
            }
            Reply::Rejected(
                rejection @ (Rejection::Illegal { .. }
                | Rejection::Refused(_)
                | Rejection::Repeated
                | Rejection::Stale
                | Rejection::TooEarly),
            ) => pb::ExecuteReply { found: true, refusal: rejection.to_string(), json: Vec::new() },
        };
        self.answered.lock().put(key, reply.clone());
        Ok(reply)
    }
}

fn bytes(json: &Value) -> Vec<u8> {
    // A Value always is JSON.
    serde_json::to_vec(json).unwrap_or_default()
}

#[cfg(test)]
mod tests;
