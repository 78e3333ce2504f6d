//! What a call said and did, put together from all gateways.

use std::time::Duration;

use axum::Json;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use futures::future::join_all;
use serde_json::{Value, json};

use crate::backend::Gateway;
use crate::limits;
use crate::problem::Problem;
use crate::routes::Api;
use crate::v1::PROXIED;

pub(crate) async fn of_call(
    api: Api,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    if id.len() > limits::NAME_BYTES_MAX {
        return Err(Problem::not_found("call", "with so long a name"));
    }
    let mut items = api.backend.call_trace(&id).await?;
    let mut missing = Vec::new();
    if !headers.contains_key(PROXIED) {
        let others = api.backend.gateways();
        let asked = others.iter().map(|gateway| ask(&api, gateway, &id, &headers));
        for (gateway, answer) in others.iter().zip(join_all(asked).await) {
            match answer {
                Some(more) => items.extend(more),
                None => missing.push(gateway.name.clone()),
            }
        }
    }
    if items.is_empty() {
        let detail = format!(
            "no gateway has seen call {id:?} in the last day, or its trace has given way to later ones"
        );
        return Err(Problem::new(StatusCode::NOT_FOUND, detail));
    }
    items.sort_by_key(|item| item["at_us"].as_u64());
    Ok(Json(json!({"call": id, "items": items, "missing": missing})))
}

/// `None`: it does not say.
async fn ask(api: &Api, gateway: &Gateway, id: &str, headers: &HeaderMap) -> Option<Vec<Value>> {
    let mut url = reqwest::Url::parse(&gateway.base).ok()?;
    url.path_segments_mut().ok()?.extend(["v1", "calls", id, "trace"]);
    let mut request = api
        .client
        .get(url)
        .header(PROXIED, "1")
        .timeout(Duration::from_millis(limits::PEER_TRACE_MS_MAX));
    if let Some(token) = headers.get(header::AUTHORIZATION) {
        request = request.header(header::AUTHORIZATION, token);
    }
    let answer = request.send().await.ok()?;
    if answer.status() == reqwest::StatusCode::NOT_FOUND {
        return Some(Vec::new());
    }
    let mut body: Value = answer.error_for_status().ok()?.json().await.ok()?;
    match body["items"].take() {
        Value::Array(items) => Some(items),
        _ => None,
    }
}
