//! What is asked of one tenant: reads from its leader's world, operators' commands to its log.

use std::collections::BTreeMap;
use std::sync::Arc;

use tandem_core::answered::Outcome;
use tandem_core::command::{Command, Keyed, OperatorCommand};
use tandem_core::ids::AgentId;
use tandem_core::world::{Rejection, Reply, World};
use tandem_gateway::link::pb;
use tonic::Status;

use super::{bytes, not_found, refused};
use crate::server::records::{self, Asked};
use crate::server::shard::{Error, Records, Shard};
use crate::server::{recordings, views};

/// What a gateway is told to wait before it tries again.
const RETRY_AFTER_S: u32 = 1;

pub struct Served<'d> {
    pub node: &'d str,
    pub shard: Arc<dyn Shard>,
}

impl Served<'_> {
    pub fn leads(&self) -> Result<(), Status> {
        if self.shard.lead().borrow().here {
            return Ok(());
        }
        Err(Status::failed_precondition(format!("{} does not lead the shard", self.node)))
    }

    pub fn read<T>(&self, mut read: impl FnMut(&World) -> T) -> Option<T> {
        let mut found = None;
        self.shard.look(&mut |world| found = Some(read(world)));
        found
    }

    fn agent_json(&self, agent: &AgentId) -> Vec<u8> {
        let params = BTreeMap::from([("name".to_owned(), agent.to_string())]);
        let found = self.read(|world| views::of(world, "agent", &params));
        found.and_then(Result::ok).flatten().map(|json| bytes(&json)).unwrap_or_default()
    }

    /// JSON; nothing where the one thing that was asked for is not there.
    pub async fn query(
        &self,
        kind: &str,
        params: BTreeMap<String, String>,
    ) -> Result<Option<Vec<u8>>, Status> {
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

    pub async fn execute(
        &self,
        key: String,
        keep_ms: u64,
        command: OperatorCommand,
    ) -> Result<pb::ExecuteReply, Status> {
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

fn status_of(error: Error) -> Status {
    match error {
        Error::NotLeading => Status::failed_precondition(error.to_string()),
        Error::Unconfirmed => Status::unavailable(error.to_string()),
        Error::Overloaded => full(),
    }
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
