//! The API's way to the cluster: asks the leader, and others where the leader can't say.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tandem_control::Status;
use tandem_control::limits::RETRY_AFTER_S;
use tandem_core::ids::{CallId, RecordingId};
use tandem_http::backend::{
    Audio, Backend, Check, Command, Error, Executed, Gateway, Open, Readiness,
};
use tandem_media::record::manifest::{Manifest, manifest_path, wav_path};
use tandem_media::record::wav;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};
use tonic::{Code, Response, Status as RpcStatus};

use crate::copies::{self, repair};
use crate::limits;
use crate::lines::Serves;
use crate::link::client::{Client, Clients, Way};
use crate::link::pb;
use crate::options::{self, Options, Peer, Render};
use crate::seen::Seen;
use crate::trace::{self, Tracer};

#[derive(Clone)]
pub struct ClusterBackend {
    name: String,
    /// Whose calls, agents and records these are; none: the first one's.
    tenant: Option<Arc<str>>,
    clients: Clients,
    status: watch::Receiver<Status>,
    serves: watch::Receiver<Serves>,
    /// Recordings of this gateway, then copies of others'.
    folders: [PathBuf; 2],
    /// Where other gateways give what they have.
    copies: Vec<(String, Way)>,
    peers: Vec<Peer>,
    metrics: Render,
    tracer: Tracer,
    /// The cluster's state.
    seen: Arc<Seen>,
}

impl ClusterBackend {
    /// # Errors
    /// Where the address or certificates of another gateway are of no use.
    pub fn new(
        options: &Options,
        clients: Clients,
        status: watch::Receiver<Status>,
        serves: watch::Receiver<Serves>,
        tracer: Tracer,
    ) -> Result<Self, options::Error> {
        Ok(Self {
            name: options.name.clone(),
            tenant: None,
            clients,
            status,
            serves,
            folders: [options.recordings(), copies::folder(options)],
            copies: copies(options)?,
            peers: options.peers.clone(),
            metrics: options.metrics.clone(),
            tracer,
            seen: Arc::default(),
        })
    }

    /// Looks at the cluster's state now and then, so that it can be shown while no node tells it.
    pub async fn watch(self: Arc<Self>) {
        loop {
            // Who can't be asked is asked again; nobody waits for this.
            let _ = self.query(CLUSTER, BTreeMap::new()).await;
            tokio::time::sleep(Duration::from_millis(limits::WATCH_MS)).await;
        }
    }

    fn leader(&self) -> Option<usize> {
        self.status.borrow().leader_of(self.tenant.as_deref())
    }

    /// Whose recordings these are; before a node has told of the tenants the first one's. None where there is no
    /// such tenant.
    fn number(&self) -> Option<u16> {
        let status = self.status.borrow();
        let known = status.number_of(self.tenant.as_deref());
        let first = (self.tenant.is_none() && status.tenants.is_empty()).then_some(0);
        known.and_then(|number| u16::try_from(number).ok()).or(first)
    }

    fn check_tenant(&self) -> Result<(), Error> {
        let unknown =
            || Error::Unknown(format!("tenant {:?}", self.tenant.as_deref().unwrap_or_default()));
        self.number().map(|_| ()).ok_or_else(unknown)
    }

    /// The leader first, then the others.
    fn in_order(&self, leader: Option<usize>) -> Vec<(usize, Client)> {
        let mut order: Vec<usize> = leader.into_iter().collect();
        order.extend((0..self.clients.len()).filter(|node| Some(*node) != leader));
        let client = |node: usize| Some((node, self.clients.get(node)?.borrow().clone()?));
        order.into_iter().filter_map(client).collect()
    }

    /// Asks until one can answer, over a change of leader.
    async fn ask<T, F>(&self, ask: impl Fn(Client) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<Response<T>, RpcStatus>>,
    {
        let give_up = Instant::now() + Duration::from_millis(limits::API_RETRY_MS_MAX);
        loop {
            let leader = self.leader();
            for (node, client) in self.in_order(leader) {
                let left = give_up.saturating_duration_since(Instant::now());
                let answered = tokio::select! {
                    answered = timeout(left, ask(client)) => answered,
                    // A host that is cut off says nothing, not even that it is gone.
                    () = self.another_leads(leader, node) => break,
                };
                match answered {
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

    /// Completes when a leader comes about, after `before`, that is not this node.
    async fn another_leads(&self, before: Option<usize>, node: usize) {
        let mut status = self.status.clone();
        let is_new = |now: &Status| {
            let leader = now.leader_of(self.tenant.as_deref());
            leader != before && leader.is_some_and(|leader| leader != node)
        };
        if status.wait_for(is_new).await.is_err() {
            // The gateway ends.
            std::future::pending().await
        }
    }
}

impl ClusterBackend {
    /// True where what lies here was replaced by what another gateway has.
    async fn repair(
        &self,
        recording: RecordingId,
        found: Option<&repair::Found>,
    ) -> Result<bool, Error> {
        let params = BTreeMap::from([("name".to_owned(), recording.to_string())]);
        let Some(known) = self.query("recording", params).await? else { return Ok(false) };
        let is_here = |name: &Value| name.as_str() == Some(self.name.as_str());
        let copies = known["copies"].as_array().map(Vec::as_slice).unwrap_or_default();
        // One that runs is its gateway's to write.
        if known["sealed"] != true || known["cut"] == true || !copies.iter().any(is_here) {
            return Ok(false);
        }
        let dir = match found {
            Some(found) => found.dir.clone(),
            None => {
                let [own, copied] = &self.folders;
                let ours = known["gateway"].as_str() == Some(self.name.as_str());
                if ours { own.clone() } else { copied.clone() }
            }
        };
        for (name, way) in &self.copies {
            if !copies.iter().any(|copy| copy.as_str() == Some(name.as_str())) {
                continue;
            }
            match repair::fetch(way, &dir, recording.0).await {
                Ok(true) => {
                    tracing::warn!(%recording, from = name, "TD0316 a recording was repaired");
                    return Ok(true);
                }
                Ok(false) => {}
                Err(why) => tracing::warn!(%recording, from = name, why, "no copy to repair from"),
            }
        }
        Ok(false)
    }
}

/// Each that takes copies.
fn copies(options: &Options) -> Result<Vec<(String, Way)>, options::Error> {
    let mut found = Vec::new();
    for peer in &options.peers {
        let way = copies::way_to(options, &peer.name)?;
        found.extend(way.map(|way| (peer.name.clone(), way)));
    }
    Ok(found)
}

/// Who has a recording that `this` gateway does not have, or of which it has a part alone.
fn whole_elsewhere<'a>(
    known: &Value,
    this: &str,
    part_here: bool,
    peers: &'a [Peer],
) -> Option<&'a Peer> {
    if part_here && known["sealed"] != true {
        return None;
    }
    let copies = known["copies"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut names = copies.iter().filter_map(Value::as_str);
    if names.clone().any(|name| name == this) {
        return None;
    }
    names.find_map(|name| peers.iter().find(|peer| peer.name == name))
}

/// In the first folder that has any of it, where it is the tenant's.
fn audio_in(folders: &[PathBuf; 2], recording: u64, tenant: u16) -> std::io::Result<Option<Audio>> {
    for dir in folders {
        let manifest = Manifest::read(&manifest_path(dir, recording))?;
        let path = wav_path(dir, recording);
        let is_theirs = manifest.call.is_some_and(|call| call.tenant == tenant);
        if !is_theirs || !path.try_exists()? {
            continue;
        }
        return Ok(Some(if manifest.sealed {
            Audio::File(path)
        } else {
            let (header, bytes) = (wav::header(manifest.frames), wav::bytes_of(manifest.frames));
            Audio::Open(Open { path, header: header.to_vec(), bytes })
        }));
    }
    Ok(None)
}

/// The question that shows how the cluster is.
const CLUSTER: &str = "cluster";
/// Of that: what was seen last will do when no node tells anything newer within so many milliseconds.
const WITHIN_MS: &str = "within_ms";
/// Of a question to a node: whose it is.
const TENANT: &str = "tenant";

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
        Code::NotFound => Some(Error::Unknown(status.message().to_owned())),
        Code::InvalidArgument | Code::OutOfRange => {
            Some(Error::Invalid(status.message().to_owned()))
        }
        Code::Ok
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

fn change_members(change: pb::change_members::Change) -> pb::execute_request::Command {
    pb::execute_request::Command::ChangeMembers(pb::ChangeMembers { change: Some(change) })
}

fn read(json: &[u8]) -> Result<Value, Error> {
    serde_json::from_slice(json)
        .map_err(|error| Error::Internal(format!("the node's answer is no JSON: {error}")))
}

#[async_trait]
impl Backend for ClusterBackend {
    fn of_tenant(self: Arc<Self>, tenant: &str) -> Arc<dyn Backend> {
        Arc::new(Self { tenant: Some(tenant.into()), ..(*self).clone() })
    }

    async fn query(
        &self,
        kind: &'static str,
        mut params: BTreeMap<String, String>,
    ) -> Result<Option<Value>, Error> {
        self.check_tenant()?;
        params.extend(self.tenant.iter().map(|tenant| (TENANT.to_owned(), tenant.to_string())));
        let within_ms = params.remove(WITHIN_MS).and_then(|within_ms| within_ms.parse().ok());
        let request = pb::QueryRequest { kind: kind.into(), params: params.into_iter().collect() };
        let ask = |mut client: Client| {
            let request = request.clone();
            async move { client.query(request).await }
        };
        let give_up = within_ms.map_or(Duration::MAX, Duration::from_millis);
        let reply = match timeout(give_up, self.ask(ask)).await {
            Ok(Ok(reply)) => reply,
            failed => {
                let seen = within_ms.and_then(|_| self.seen.at(Instant::now()));
                return match (seen, failed) {
                    (Some(seen), _) => Ok(Some(seen)),
                    (None, Ok(Err(error))) => Err(error),
                    (None, _) => Err(Error::NoLeader),
                };
            }
        };
        let told = if reply.found { Some(read(&reply.json)?) } else { None };
        if kind == CLUSTER
            && let Some(told) = &told
        {
            self.seen.note(told.clone(), Instant::now());
        }
        Ok(told)
    }

    async fn execute(
        &self,
        command: Command,
        idempotency_key: Option<String>,
    ) -> Result<Executed, Error> {
        self.check_tenant()?;
        // A new call, as one that comes in is.
        if matches!(command, Command::Originate { .. }) && self.status.borrow().overloaded {
            return Err(Error::Overloaded { retry_after_s: RETRY_AFTER_S });
        }
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
            Command::PauseRecording { call, paused } => {
                pb::execute_request::Command::PauseRecording(pb::PauseRecording { call, paused })
            }
            Command::TransferCall { call, to } => {
                pb::execute_request::Command::TransferCall(pb::TransferCall { call, to })
            }
            Command::Consult { call, to } => {
                pb::execute_request::Command::ConsultCall(pb::ConsultCall { call, to })
            }
            Command::Conference { call } => {
                pb::execute_request::Command::Conference(pb::OfCall { call })
            }
            Command::CompleteConsult { call } => {
                pb::execute_request::Command::CompleteConsult(pb::OfCall { call })
            }
            Command::CancelConsult { call } => {
                pb::execute_request::Command::CancelConsult(pb::OfCall { call })
            }
            Command::MoveLeader { shard, node } => {
                pb::execute_request::Command::MoveLeader(pb::MoveLeader { shard, node })
            }
            Command::MoveTenant { tenant, shard } => {
                pb::execute_request::Command::MoveTenant(pb::MoveTenant { tenant, shard })
            }
            Command::PutTenant { tenant, config, shard } => {
                let shard = shard.unwrap_or_default();
                pb::execute_request::Command::PutTenant(pb::PutTenant { tenant, config, shard })
            }
            Command::Drain { name, drained } => {
                pb::execute_request::Command::Drain(pb::Drain { name, drained })
            }
            Command::AddMember { name, address, witness } => {
                let add = pb::AddMember { name, address, witness };
                change_members(pb::change_members::Change::Add(add))
            }
            Command::RemoveMember { name } => {
                change_members(pb::change_members::Change::Remove(name))
            }
            Command::ReplaceMember { name } => {
                change_members(pb::change_members::Change::Replace(name))
            }
            Command::Originate { from, to } => {
                pb::execute_request::Command::Originate(pb::Originate { from, to })
            }
        };
        let tenant = self.tenant.as_deref().unwrap_or_default().to_owned();
        let command = Some(command);
        let request = pb::ExecuteRequest { idempotency_key, keep_ms, command, tenant };
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
        let unreadable = |error: std::io::Error| {
            Error::Internal(format!("the recording can't be read: {error}"))
        };
        let folders = self.folders.clone();
        let Some(tenant) = self.number() else { return Ok(None) };
        let here = spawn_blocking(move || audio_in(&folders, recording.0, tenant));
        let here = here.await.map_err(|error| unreadable(error.into()))?.map_err(unreadable)?;
        let here = match here {
            Some(Audio::Open(open)) => Some(open),
            Some(whole) => return Ok(Some(whole)),
            None => None,
        };
        let params = BTreeMap::from([("name".to_owned(), recording.to_string())]);
        let known = match (self.query("recording", params).await, &here) {
            (Ok(known), _) => known,
            (Err(_), Some(_)) => None,
            (Err(why), None) => return Err(why),
        };
        let elsewhere = known
            .as_ref()
            .and_then(|known| whole_elsewhere(known, &self.name, here.is_some(), &self.peers));
        Ok(match elsewhere {
            Some(peer) => Some(Audio::Peer { base: format!("http://{}", peer.api), here }),
            None => here.map(Audio::Open),
        })
    }

    async fn verify_recording(&self, id: &str, repair: bool) -> Result<Option<Value>, Error> {
        let Ok(recording) = id.parse::<RecordingId>() else { return Ok(None) };
        let Some(tenant) = self.number() else { return Ok(None) };
        let unreadable = |error: std::io::Error| {
            Error::Internal(format!("the recording can't be read: {error}"))
        };
        let look = || async {
            let found = repair::look(self.folders.clone(), recording.0).await;
            // One whose beginning is damaged may be anybody's: only its owner can have it repaired.
            let theirs = |found: &repair::Found| {
                found.verdict.manifest.call.is_none_or(|call| call.tenant == tenant)
            };
            found.map(|found| found.filter(theirs)).map_err(unreadable)
        };
        let mut found = look().await?;
        let good = found.as_ref().is_some_and(|found| found.verdict.is_good());
        if repair && !good && self.repair(recording, found.as_ref()).await? {
            found = look().await?;
        }
        Ok(found.map(|found| repair::show(&self.name, &found)))
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
        let serves = self.serves.borrow().clone();
        // Who serves no line has no calls to refuse, and answers the API.
        let stands_by = serves.lines.is_empty() && serves.stands_by_for.is_some();
        let check = |name: &str, ok: bool, good: &str, bad: &str| Check {
            name: name.to_owned(),
            ok,
            why: if ok { good } else { bad }.to_owned(),
        };
        let led = status.tenants.iter().any(|led| led.leader.is_some());
        let lines = match serves.lines.as_slice() {
            [] => {
                format!("{} serves its line", serves.stands_by_for.as_deref().unwrap_or("nobody"))
            }
            lines => format!("serves {}", lines.join(" and ")),
        };
        Readiness {
            may_take_calls: stands_by || (led && !status.refuses_new_calls),
            may_hold_calls: true,
            started: stands_by || status.started,
            checks: vec![
                check(
                    "lines",
                    stands_by || !serves.lines.is_empty(),
                    &lines,
                    "no node has said that it serves any",
                ),
                check("routing", stands_by || status.routing, "known", "no node has sent it yet"),
                check("leader", stands_by || led, "known", "no node leads a tenant's shard"),
            ],
        }
    }

    fn metrics(&self) -> String {
        (self.metrics)()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn part_is_served_only_where_nobody_has_the_whole() {
        let api = "127.0.0.1:1".parse().unwrap();
        let peers = [Peer { name: "gw-a".into(), vip: api, api, copies: None }];
        let asked = |copies: &[&str], sealed: bool, part_here: bool| {
            let known = json!({"copies": copies, "sealed": sealed});
            whole_elsewhere(&known, "gw-b", part_here, &peers).map(|peer| peer.name.as_str())
        };
        // Its copy here lags behind the seal.
        assert_eq!(asked(&["gw-a"], true, true), Some("gw-a"));
        assert_eq!(asked(&["gw-a", "gw-b"], true, true), None);
        assert_eq!(asked(&["gw-a"], false, true), None);
        assert_eq!(asked(&["gw-a"], false, false), Some("gw-a"));
        assert_eq!(asked(&["gw-c"], true, true), None);
    }
}
