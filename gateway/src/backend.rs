//! The API's way to the cluster: asks the leader, and others where the leader can't say.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tandem_control::Status;
use tandem_control::limits::RETRY_AFTER_S;
use tandem_core::ids::{CallId, RecordingId};
use tandem_http::backend::{Audio, Backend, Check, Command, Error, Executed, Gateway, Readiness};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tonic::{Code, Response, Status as RpcStatus};

use crate::limits;
use crate::link::client::{Client, Clients};
use crate::link::pb;
use crate::options::{Options, Peer, Render};
use crate::trace::{self, Tracer};

pub struct ClusterBackend {
    name: String,
    clients: Clients,
    status: watch::Receiver<Status>,
    recordings: PathBuf,
    peers: Vec<Peer>,
    metrics: Render,
    tracer: Tracer,
}

impl ClusterBackend {
    pub fn new(
        options: &Options,
        clients: Clients,
        status: watch::Receiver<Status>,
        tracer: Tracer,
    ) -> Self {
        Self {
            name: options.name.clone(),
            clients,
            status,
            recordings: options.recordings(),
            peers: options.peers.clone(),
            metrics: options.metrics.clone(),
            tracer,
        }
    }

    /// The leader's client first, then the others'.
    fn in_order(&self) -> Vec<Client> {
        let leader = self.status.borrow().leader;
        let mut order: Vec<usize> = leader.into_iter().collect();
        order.extend((0..self.clients.len()).filter(|node| Some(*node) != leader));
        let client = |node: usize| self.clients.get(node)?.load_full();
        order.into_iter().filter_map(client).map(|client| (*client).clone()).collect()
    }

    /// Asks until one can answer, over a change of leader.
    async fn ask<T, F>(&self, ask: impl Fn(Client) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<Response<T>, RpcStatus>>,
    {
        let give_up = Instant::now() + Duration::from_millis(limits::API_RETRY_MS_MAX);
        loop {
            for client in self.in_order() {
                let left = give_up.saturating_duration_since(Instant::now());
                match timeout(left, ask(client)).await {
                    Ok(Ok(reply)) => return Ok(reply.into_inner()),
                    Ok(Err(status)) => {
                        if let Some(error) = final_error(&status) {
                            return Err(error);
                        }
                    }
                    Err(_) => return Err(Error::NoLeader),
                }
            }
            let wait = Duration::from_millis(limits::API_RETRY_WAIT_MS);
            if Instant::now() + wait >= give_up {
                return Err(Error::NoLeader);
            }
            tokio::time::sleep(wait).await;
        }
    }
}

/// What asking another node would not change.
fn final_error(status: &RpcStatus) -> Option<Error> {
    match status.code() {
        Code::FailedPrecondition
        | Code::Unavailable
        | Code::Cancelled
        | Code::Unknown
        | Code::Aborted
        | Code::DeadlineExceeded => None,
        Code::ResourceExhausted => {
            let retry_after_s = status.message().parse().unwrap_or(RETRY_AFTER_S);
            Some(Error::Overloaded { retry_after_s })
        }
        Code::InvalidArgument | Code::OutOfRange => {
            Some(Error::Invalid(status.message().to_owned()))
        }
        Code::Ok
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss
        | Code::Unauthenticated => Some(Error::Internal(status.message().to_owned())),
    }
}

/// The client's key, or one of ours: what is asked again of the next leader is done once.
fn key_of(client: Option<String>) -> (String, u64) {
    match client {
        Some(key) => (format!("c/{key}"), limits::KEY_MS),
        None => (format!("g/{:032x}", rand::random::<u128>()), limits::KEY_OF_OURS_MS),
    }
}

fn read(json: &[u8]) -> Result<Value, Error> {
    serde_json::from_slice(json)
        .map_err(|error| Error::Internal(format!("the node's answer is no JSON: {error}")))
}

#[async_trait]
impl Backend for ClusterBackend {
    async fn query(
        &self,
        kind: &'static str,
        params: BTreeMap<String, String>,
    ) -> Result<Option<Value>, Error> {
        let request = pb::QueryRequest { kind: kind.into(), params: params.into_iter().collect() };
        let ask = |mut client: Client| {
            let request = request.clone();
            async move { client.query(request).await }
        };
        let reply = self.ask(ask).await?;
        if reply.found { read(&reply.json).map(Some) } else { Ok(None) }
    }

    async fn execute(
        &self,
        command: Command,
        idempotency_key: Option<String>,
    ) -> Result<Executed, Error> {
        let (idempotency_key, keep_ms) = key_of(idempotency_key);
        let command = match command {
            Command::SetAgentState { agent, state, reason } => {
                pb::execute_request::Command::SetAgentState(pb::SetAgentState {
                    agent,
                    state: state.as_str().to_owned(),
                    reason: reason.unwrap_or_default(),
                })
            }
            Command::ReleaseCall { call } => {
                pb::execute_request::Command::ReleaseCall(pb::ReleaseCall { call })
            }
            Command::TransferCall { call, to } => {
                pb::execute_request::Command::TransferCall(pb::TransferCall { call, to })
            }
            Command::Consult { call, to } => {
                pb::execute_request::Command::ConsultCall(pb::ConsultCall { call, to })
            }
            Command::CompleteConsult { call } => {
                pb::execute_request::Command::CompleteConsult(pb::OfCall { call })
            }
            Command::CancelConsult { call } => {
                pb::execute_request::Command::CancelConsult(pb::OfCall { call })
            }
            Command::Originate { from, to } => {
                pb::execute_request::Command::Originate(pb::Originate { from, to })
            }
        };
        let request = pb::ExecuteRequest { idempotency_key, keep_ms, command: Some(command) };
        let ask = |mut client: Client| {
            let request = request.clone();
            async move { client.execute(request).await }
        };
        let reply = self.ask(ask).await?;
        if !reply.found {
            let what = (!reply.missing.is_empty()).then_some(reply.missing);
            return Ok(Executed::NotFound(what));
        }
        if reply.key_reused {
            return Ok(Executed::KeyReused);
        }
        if !reply.refusal.is_empty() {
            return Ok(Executed::Refused(reply.refusal));
        }
        let json = (!reply.json.is_empty()).then(|| read(&reply.json)).transpose()?;
        Ok(Executed::Done(json))
    }

    async fn recording_audio(&self, id: &str) -> Result<Option<Audio>, Error> {
        // Only what reads as an id becomes part of a path.
        let Ok(recording) = id.parse::<RecordingId>() else { return Ok(None) };
        let file = self.recordings.join(format!("{recording}.wav"));
        if tokio::fs::try_exists(&file).await.unwrap_or(false) {
            return Ok(Some(Audio::File(file)));
        }
        let params = BTreeMap::from([("name".to_owned(), recording.to_string())]);
        let manifest = self.query("recording", params).await?;
        let copies = manifest.as_ref().and_then(|manifest| manifest.get("copies")?.as_array());
        let names = copies.into_iter().flatten().filter_map(Value::as_str);
        let peer = names
            .filter(|name| *name != self.name)
            .find_map(|name| self.peers.iter().find(|peer| peer.name == name));
        Ok(peer.map(|peer| Audio::Peer(format!("http://{}", peer.api))))
    }

    async fn call_trace(&self, id: &str) -> Result<Vec<Value>, Error> {
        let Ok(call) = id.parse::<CallId>() else { return Ok(Vec::new()) };
        let records = self.tracer.of_call(call).await;
        let records = records
            .map_err(|error| Error::Internal(format!("the trace can't be read: {error}")))?;
        Ok(records.iter().map(|record| trace::show(&self.name, record)).collect())
    }

    fn gateways(&self) -> Vec<Gateway> {
        let base = |peer: &Peer| format!("http://{}", peer.api);
        let gateway = |peer: &Peer| Gateway { name: peer.name.clone(), base: base(peer) };
        self.peers.iter().filter(|peer| peer.name != self.name).map(gateway).collect()
    }

    fn readiness(&self) -> Readiness {
        let status = self.status.borrow().clone();
        let check = |name: &str, ok: bool, good: &str, bad: &str| Check {
            name: name.to_owned(),
            ok,
            why: if ok { good } else { bad }.to_owned(),
        };
        let led = status.leader.is_some();
        Readiness {
            may_take_calls: led && !status.refuses_new_calls,
            may_hold_calls: true,
            started: status.started,
            checks: vec![
                check("sip", true, "the service address is bound", ""),
                check("media", true, "the ports are bound", ""),
                check("routing", status.routing, "known", "no node has sent it yet"),
                check("leader", led, "known", "no node leads the shard"),
            ],
        }
    }

    fn metrics(&self) -> String {
        (self.metrics)()
    }
}
