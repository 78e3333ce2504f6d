//! The calls of `/v1`. Each turns a request into a query or a command and the answer into JSON;
//! none decides anything.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::Value;

use crate::backend::{AgentState, Command, Executed};
use crate::limits;
use crate::openapi::CALL_STATES;
use crate::problem::Problem;
use crate::routes::{Api, TENANT};

pub(crate) type Answer = Result<Json<Value>, Problem>;
/// In the order in which they stand, each as often as it stands.
pub(crate) type Params = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// The header by which one gateway asks another for a file: it is not passed on again.
pub(crate) const PROXIED: &str = "x-tandem-proxied";

/// Takes the parameters that `known` names, each once; checks those whose values are a closed set.
pub(crate) fn accept(params: Params, known: &[&str]) -> Result<BTreeMap<String, String>, Problem> {
    let Query(given) = params.map_err(|error| Problem::bad_request(error.body_text()))?;
    let mut params = BTreeMap::new();
    // Whose they are, the router has read.
    for (name, value) in given.into_iter().filter(|(name, _)| name != TENANT) {
        if !known.contains(&name.as_str()) {
            return Err(Problem::bad_request(format!(
                "there is no parameter {name:?}; this call takes: {}",
                known.join(", ")
            )));
        }
        if value.len() > limits::NAME_BYTES_MAX {
            return Err(Problem::bad_request(format!(
                "parameter {name:?} is longer than {} bytes",
                limits::NAME_BYTES_MAX
            )));
        }
        if params.contains_key(&name) {
            return Err(Problem::bad_request(format!("parameter {name:?} stands twice")));
        }
        params.insert(name, value);
    }
    if let Some(state) = params.get("state")
        && !CALL_STATES.contains(&state.as_str())
    {
        let states = CALL_STATES.join(", ");
        return Err(Problem::bad_request(format!("state is {state:?}; expected one of {states}")));
    }
    if let Some(limit) = params.get("limit") {
        let fits = limit.parse::<u32>().is_ok_and(|n| (1..=limits::PAGE_ITEMS_MAX).contains(&n));
        if !fits {
            return Err(Problem::bad_request(format!(
                "limit is {limit:?}; expected 1 to {}",
                limits::PAGE_ITEMS_MAX
            )));
        }
    }
    Ok(params)
}

pub(crate) async fn list(
    api: &Api,
    kind: &'static str,
    mut params: BTreeMap<String, String>,
) -> Answer {
    params.entry("limit".into()).or_insert_with(|| limits::PAGE_ITEMS_DEFAULT.to_string());
    match api.backend.query(kind, params).await? {
        Some(page) => Ok(Json(page)),
        None => Ok(Json(serde_json::json!({"items": [], "next": null}))),
    }
}

pub(crate) async fn one(api: &Api, kind: &'static str, name: String) -> Answer {
    if name.len() > limits::NAME_BYTES_MAX {
        return Err(Problem::not_found(kind, "with so long a name"));
    }
    let params = BTreeMap::from([("name".to_owned(), name.clone())]);
    match api.backend.query(kind, params).await? {
        Some(value) => Ok(Json(value)),
        None => Err(Problem::not_found(kind, &name)),
    }
}

pub(crate) async fn calls(api: Api, params: Params) -> Answer {
    let params = accept(params, &["state", "sip_call_id", "limit", "cursor"])?;
    list(&api, "calls", params).await
}

pub(crate) async fn call(api: Api, Path(id): Path<String>) -> Answer {
    one(&api, "call", id).await
}

pub(crate) async fn release_call(api: Api, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    executed(&api, Command::ReleaseCall { call: id.clone() }, None, ("call", &id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Done, with the thing as it was then; or the refusal. `of` is what is not there where the
/// cluster does not say it better.
pub(crate) async fn executed(
    api: &Api,
    command: Command,
    key: Option<String>,
    of: (&str, &str),
) -> Result<Option<Value>, Problem> {
    match api.backend.execute(command, key).await? {
        Executed::Done(value) => Ok(value),
        Executed::NotFound(Some(what)) => {
            Err(Problem::new(StatusCode::NOT_FOUND, format!("there is no {what}")))
        }
        Executed::NotFound(None) => Err(Problem::not_found(of.0, of.1)),
        Executed::Refused(why) => Err(Problem::new(StatusCode::CONFLICT, why)),
        Executed::KeyReused => Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "this Idempotency-Key was used for another request before; take a new one",
        )),
    }
}

/// The client's name for a request, by which it counts once.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| (1..=limits::KEY_BYTES_MAX).contains(&key.len()));
    let key = key.ok_or_else(|| {
        let most = limits::KEY_BYTES_MAX;
        Problem::bad_request(format!("Idempotency-Key is 1 to {most} printable ASCII characters"))
    })?;
    Ok(Some(key.to_owned()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OriginateRequest {
    from: String,
    to: String,
}

/// Click-to-dial.
pub(crate) async fn originate(
    api: Api,
    headers: HeaderMap,
    body: Result<Json<OriginateRequest>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(OriginateRequest { from, to }) = body.map_err(unreadable)?;
    short("from", &from)?;
    short("to", &to)?;
    let key = idempotency_key(&headers)?;
    let command = Command::Originate { from: from.clone(), to };
    let call = executed(&api, command, key, ("extension", &from)).await?;
    // A key that was kept tells of the call as it was when it was placed.
    let call = call.unwrap_or(Value::Null);
    let mut response = (StatusCode::CREATED, Json(&call)).into_response();
    let id = call.get("id").and_then(Value::as_str).unwrap_or_default();
    if let Ok(location) = format!("/v1/calls/{id}").parse() {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TransferRequest {
    to: String,
}

/// A blind transfer.
pub(crate) async fn transfer(
    api: Api,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Result<Json<TransferRequest>, JsonRejection>,
) -> Answer {
    let Json(TransferRequest { to }) = body.map_err(unreadable)?;
    short("to", &to)?;
    let key = idempotency_key(&headers)?;
    let command = Command::TransferCall { call: id.clone(), to };
    let call = executed(&api, command, key, ("call", &id)).await?;
    Ok(Json(call.unwrap_or(Value::Null)))
}

/// The agent asks a colleague; the caller waits.
pub(crate) async fn consult(
    api: Api,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Result<Json<TransferRequest>, JsonRejection>,
) -> Answer {
    let Json(TransferRequest { to }) = body.map_err(unreadable)?;
    short("to", &to)?;
    let key = idempotency_key(&headers)?;
    of_consult(&api, Command::Consult { call: id.clone(), to }, key, &id).await
}

pub(crate) async fn conference(api: Api, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    let key = idempotency_key(&headers)?;
    of_consult(&api, Command::Conference { call: id.clone() }, key, &id).await
}

pub(crate) async fn complete_consult(
    api: Api,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let key = idempotency_key(&headers)?;
    of_consult(&api, Command::CompleteConsult { call: id.clone() }, key, &id).await
}

pub(crate) async fn cancel_consult(api: Api, Path(id): Path<String>) -> Answer {
    of_consult(&api, Command::CancelConsult { call: id.clone() }, None, &id).await
}

async fn of_consult(api: &Api, command: Command, key: Option<String>, id: &str) -> Answer {
    let call = executed(api, command, key, ("call", id)).await?;
    Ok(Json(call.unwrap_or(Value::Null)))
}

fn unreadable(error: JsonRejection) -> Problem {
    Problem::new(error.status(), error.body_text())
}

fn short(name: &str, text: &str) -> Result<(), Problem> {
    if text.len() <= limits::NAME_BYTES_MAX {
        return Ok(());
    }
    let most = limits::NAME_BYTES_MAX;
    Err(Problem::bad_request(format!("{name} is longer than {most} bytes")))
}

pub(crate) async fn queues(api: Api, params: Params) -> Answer {
    let params = accept(params, &["limit", "cursor"])?;
    list(&api, "queues", params).await
}

pub(crate) async fn queue(api: Api, Path(name): Path<String>) -> Answer {
    one(&api, "queue", name).await
}

pub(crate) async fn agents(api: Api, params: Params) -> Answer {
    let params = accept(params, &["limit", "cursor"])?;
    list(&api, "agents", params).await
}

pub(crate) async fn agent(api: Api, Path(id): Path<String>) -> Answer {
    one(&api, "agent", id).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AgentStateRequest {
    state: AgentState,
    reason: Option<String>,
}

pub(crate) async fn set_agent_state(
    api: Api,
    Path(agent): Path<String>,
    headers: HeaderMap,
    body: Result<Json<AgentStateRequest>, JsonRejection>,
) -> Answer {
    let Json(body) = body.map_err(unreadable)?;
    short("reason", body.reason.as_deref().unwrap_or_default())?;
    let key = idempotency_key(&headers)?;
    let command =
        Command::SetAgentState { agent: agent.clone(), state: body.state, reason: body.reason };
    match executed(&api, command, key, ("agent", &agent)).await? {
        Some(value) => Ok(Json(value)),
        None => one(&api, "agent", agent).await,
    }
}

pub(crate) async fn trunks(api: Api, params: Params) -> Answer {
    let params = accept(params, &["limit", "cursor"])?;
    list(&api, "trunks", params).await
}

pub(crate) async fn channels(api: Api, Path(name): Path<String>, params: Params) -> Answer {
    let mut params = accept(params, &["limit", "cursor"])?;
    params.insert("name".into(), name.clone());
    params.entry("limit".into()).or_insert_with(|| limits::PAGE_ITEMS_DEFAULT.to_string());
    match api.backend.query("channels", params).await? {
        Some(page) => Ok(Json(page)),
        None => Err(Problem::not_found("trunk", &name)),
    }
}

pub(crate) async fn cdrs(api: Api, params: Params) -> Answer {
    let params = accept(params, &["sip_call_id", "since", "call", "limit", "cursor"])?;
    list(&api, "cdrs", params).await
}

/// `within_ms`: what was seen last will do where no node tells anything newer in that time.
pub(crate) async fn cluster(api: Api, params: Params) -> Answer {
    let params = accept(params, &["within_ms"])?;
    let most = limits::WITHIN_MS_MAX;
    if let Some(within_ms) = params.get("within_ms")
        && !within_ms.parse().is_ok_and(|ms: u64| (1..=most).contains(&ms))
    {
        let why = format!("within_ms is {within_ms:?}; it is a number of 1 to {most}");
        return Err(Problem::bad_request(why));
    }
    told(&api, "cluster", params, "the cluster's state").await
}

/// What a node tells of more than one call.
async fn told(
    api: &Api,
    kind: &'static str,
    params: BTreeMap<String, String>,
    what: &str,
) -> Answer {
    let told = api.backend.query(kind, params).await?;
    told.map(Json).ok_or_else(|| {
        let why = format!("no node can tell {what} at the moment");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, why)
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LeaderRequest {
    node: String,
}

/// Done when another leads, or the one who is wished for does.
pub(crate) async fn move_leader(
    api: Api,
    Path(shard): Path<String>,
    body: Result<Json<LeaderRequest>, JsonRejection>,
) -> Result<StatusCode, Problem> {
    let Json(LeaderRequest { node }) = body.map_err(unreadable)?;
    short("shard", &shard)?;
    short("node", &node)?;
    let command = Command::MoveLeader { shard: shard.clone(), node };
    executed(&api, command, None, ("shard", &shard)).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn members(api: Api) -> Answer {
    told(&api, "members", BTreeMap::new(), "the cluster's members").await
}

/// Begun when it is answered; `GET /v1/cluster` tells what is left there.
pub(crate) async fn drain(api: Api, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    set_drained(&api, name, true).await?;
    Ok(StatusCode::ACCEPTED)
}

pub(crate) async fn undrain(api: Api, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    set_drained(&api, name, false).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn set_drained(api: &Api, name: String, drained: bool) -> Result<(), Problem> {
    short("name", &name)?;
    let command = Command::Drain { name: name.clone(), drained };
    executed(api, command, None, ("process or box", &name)).await?;
    Ok(())
}

pub(crate) async fn tenants(api: Api) -> Answer {
    told(&api, "tenants", BTreeMap::new(), "where tenants are").await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MoveRequest {
    shard: String,
}

/// Begun when it is answered; `GET /v1/tenants` tells when it is done.
pub(crate) async fn move_tenant(
    api: Api,
    Path(tenant): Path<String>,
    body: Result<Json<MoveRequest>, JsonRejection>,
) -> Result<StatusCode, Problem> {
    let Json(MoveRequest { shard }) = body.map_err(unreadable)?;
    short("tenant", &tenant)?;
    short("shard", &shard)?;
    let command = Command::MoveTenant { tenant: tenant.clone(), shard };
    executed(&api, command, None, ("tenant", &tenant)).await?;
    Ok(StatusCode::ACCEPTED)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TenantRequest {
    /// The tables of a configuration file that make a tenant, in TOML.
    config: String,
    shard: Option<String>,
}

/// Adds the tenant, or changes what it is. Done when it is answered; its leader has it a moment later.
pub(crate) async fn put_tenant(
    api: Api,
    Path(tenant): Path<String>,
    body: Result<Json<TenantRequest>, JsonRejection>,
) -> Result<StatusCode, Problem> {
    let Json(TenantRequest { config, shard }) = body.map_err(unreadable)?;
    short("tenant", &tenant)?;
    short("shard", shard.as_deref().unwrap_or_default())?;
    let command = Command::PutTenant { tenant: tenant.clone(), config, shard };
    executed(&api, command, None, ("tenant", &tenant)).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemberRequest {
    name: String,
    /// Where it listens for other voters.
    address: String,
    #[serde(default)]
    witness: bool,
}

/// Begun when it is answered; `GET /v1/cluster/members` tells when it is done.
pub(crate) async fn add_member(
    api: Api,
    body: Result<Json<MemberRequest>, JsonRejection>,
) -> Result<StatusCode, Problem> {
    let Json(MemberRequest { name, address, witness }) = body.map_err(unreadable)?;
    short("name", &name)?;
    short("address", &address)?;
    change_members(&api, Command::AddMember { name: name.clone(), address, witness }, &name).await
}

/// The same.
pub(crate) async fn remove_member(
    api: Api,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    short("name", &name)?;
    change_members(&api, Command::RemoveMember { name: name.clone() }, &name).await
}

/// The same.
pub(crate) async fn replace_member(
    api: Api,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    short("name", &name)?;
    change_members(&api, Command::ReplaceMember { name: name.clone() }, &name).await
}

async fn change_members(api: &Api, command: Command, name: &str) -> Result<StatusCode, Problem> {
    executed(api, command, None, ("member", name)).await?;
    Ok(StatusCode::ACCEPTED)
}
