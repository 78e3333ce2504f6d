//! A node's answers to the link: events to the actors, what is about the cluster, and what is about one tenant
//! ([`served`]).

mod served;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;
use serde_json::Value;
use tandem_cluster::Change;
use tandem_core::command::{OperatorCommand, Origin, RequestedState};
use tandem_core::effect::EffectId;
use tandem_core::ids::{AgentId, CallId};
use tandem_core::wire;
use tandem_gateway::link::pb;
use tokio::sync::watch;
use tonic::Status;

use self::served::Served;
use super::link::Node;
use super::members;
use super::sessions::Session;
use super::tenants::Tenants;

/// The cluster's state as the leader of the meta shard sees it; `None` where another leads it.
pub type ClusterStatus = Arc<dyn Fn() -> Option<Value> + Send + Sync>;

/// Gives the lead of a shard to a node, both by name.
pub type MoveLeader = Arc<dyn Fn(String, String) -> BoxFuture<'static, Moved> + Send + Sync>;

/// Begins to move a tenant to a shard, both by name.
pub type MoveTenant = Arc<dyn Fn(String, String) -> BoxFuture<'static, Moved> + Send + Sync>;

/// Adds a tenant, or changes what it is.
pub type PutTenant = Arc<dyn Fn(pb::PutTenant) -> BoxFuture<'static, Moved> + Send + Sync>;

/// Begins to change who belongs to the cluster.
pub type ChangeMembers = Arc<dyn Fn(Change) -> BoxFuture<'static, Moved> + Send + Sync>;

/// Empties a process or a box (true), or lets it have its part again; none: another node can tell whether that is safe.
pub type Drain = Arc<dyn Fn(String, bool) -> BoxFuture<'static, Option<Moved>> + Send + Sync>;

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
    pub tenants: Arc<Tenants>,
    pub leading: watch::Receiver<Vec<pb::Leading>>,
    pub routing: watch::Receiver<Vec<pb::Routing>>,
    pub nodes: watch::Receiver<pb::Nodes>,
    pub cluster: ClusterStatus,
    pub move_leader: MoveLeader,
    /// Who belongs to the cluster, as who leads the meta shard sees it.
    pub members: ClusterStatus,
    pub change_members: ChangeMembers,
    pub drain: Drain,
    /// Where each tenant is, as who leads the meta shard knows it.
    pub places: ClusterStatus,
    pub move_tenant: MoveTenant,
    pub put_tenant: PutTenant,
}

impl Desk {
    fn does_not_lead(&self) -> Status {
        Status::failed_precondition(format!("{} does not lead the meta shard", self.name))
    }

    /// The tenant of that name, or the first.
    fn served(&self, tenant: &str) -> Result<Served<'_>, Status> {
        let shard = self.tenants.find(tenant);
        // A gateway has heard of it, so that another node has.
        let shard = shard.ok_or_else(|| {
            Status::failed_precondition(format!("{} does not know tenant {tenant:?}", self.name))
        })?;
        Ok(Served { node: &self.name, shard })
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
        for tenant in self.tenants.all().values() {
            tenant.shard.on_session(&session.gateway);
        }
    }

    fn on_event(&self, session: &Session, event: pb::Event) {
        let shard = u16::try_from(event.shard).ok().and_then(|number| self.tenants.get(number));
        let Some(shard) = shard else {
            // Its configuration was read elsewhere sooner: the event comes again.
            tracing::warn!(gateway = %session.gateway, shard = event.shard, "no such shard here");
            return;
        };
        match wire::decode_event(&event.event) {
            Ok(decoded) => {
                let origin = Origin {
                    gateway: session.gateway.clone(),
                    incarnation: session.incarnation,
                    sequence: event.sequence,
                };
                shard.on_event(origin, decoded);
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
        let Ok(number) = u16::try_from(done.shard) else { return };
        let Some(shard) = self.tenants.get(number) else { return };
        let effects = done.effects.iter().filter_map(|effect| {
            let ordinal = u16::try_from(effect.ordinal).ok()?;
            Some(EffectId { shard: number, index: effect.index, ordinal })
        });
        shard.on_done(&session.gateway, effects.collect());
    }

    async fn query(
        &self,
        kind: &str,
        params: BTreeMap<String, String>,
    ) -> Result<Option<Vec<u8>>, Status> {
        let of_cluster = match kind {
            "cluster" => Some(&self.cluster),
            "members" => Some(&self.members),
            "tenants" => Some(&self.places),
            _ => None,
        };
        if let Some(tell) = of_cluster {
            let told = tell().ok_or_else(|| self.does_not_lead())?;
            return Ok(Some(bytes(&told)));
        }
        let tenant = params.get("tenant").map(String::as_str).unwrap_or_default();
        self.served(tenant)?.query(kind, params).await
    }

    async fn execute(&self, request: pb::ExecuteRequest) -> Result<pb::ExecuteReply, Status> {
        let pb::ExecuteRequest { idempotency_key: key, command, keep_ms, tenant } = request;
        let command = command.ok_or_else(|| Status::invalid_argument("a command is missing"))?;
        // Any node knows who leads what.
        let done = match &command {
            pb::execute_request::Command::MoveLeader(asked) => {
                Some((self.move_leader)(asked.shard.clone(), asked.node.clone()).await)
            }
            pb::execute_request::Command::ChangeMembers(asked) => {
                Some((self.change_members)(members::change_of(asked)?).await)
            }
            pb::execute_request::Command::Drain(asked) => {
                let done = (self.drain)(asked.name.clone(), asked.drained).await;
                Some(done.ok_or_else(|| self.does_not_lead())?)
            }
            pb::execute_request::Command::MoveTenant(asked) => {
                Some((self.move_tenant)(asked.tenant.clone(), asked.shard.clone()).await)
            }
            pb::execute_request::Command::PutTenant(asked) => {
                Some((self.put_tenant)(asked.clone()).await)
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
        let served = self.served(&tenant)?;
        served.leads()?;
        match command_of(command)? {
            Some(command) => served.execute(key, keep_ms, command).await,
            None => Ok(pb::ExecuteReply::default()),
        }
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
        | pb::execute_request::Command::PutTenant(_)
        | pb::execute_request::Command::Drain(_)
        | pb::execute_request::Command::ChangeMembers(_) => None,
        pb::execute_request::Command::Originate(asked) => {
            Some(OperatorCommand::Originate { from: asked.from.into(), to: asked.to })
        }
    })
}

fn refused(refusal: String) -> pb::ExecuteReply {
    pb::ExecuteReply { found: true, refusal, ..Default::default() }
}

fn not_found(missing: String) -> pb::ExecuteReply {
    pb::ExecuteReply { missing, ..Default::default() }
}

fn bytes(json: &Value) -> Vec<u8> {
    // A Value always is JSON.
    serde_json::to_vec(json).unwrap_or_default()
}

#[cfg(test)]
mod tests;
