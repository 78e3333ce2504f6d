//! Recordings: what there is, the audio, whether it is what was recorded; and what is not to be recorded.

use std::path::PathBuf;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Request};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tower_http::services::ServeFile;

use crate::backend::{Audio, Command, Gateway, Open};
use crate::limits;
use crate::problem::Problem;
use crate::routes::{Api, TENANT};
use crate::v1::{Answer, PROXIED, Params, accept, executed, idempotency_key, list, one};

pub(crate) async fn recordings(api: Api, params: Params) -> Answer {
    let params = accept(params, &["call", "since", "limit", "cursor"])?;
    list(&api, "recordings", params).await
}

pub(crate) async fn recording(api: Api, Path(id): Path<String>) -> Answer {
    one(&api, "recording", id).await
}

pub(crate) async fn recording_audio(
    api: Api,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    match api.backend.recording_audio(&id).await? {
        None => Err(Problem::not_found("audio of recording", &id)),
        Some(Audio::File(path)) => serve_file(path, request).await,
        Some(Audio::Open(open)) => serve_open(open).await,
        Some(Audio::Peer { base, here }) if !request.headers().contains_key(PROXIED) => {
            match (fetch_from_peer(&api, &base, &id, request.headers()).await, here) {
                (Err(_), Some(open)) => serve_open(open).await,
                (answer, _) => answer,
            }
        }
        Some(Audio::Peer { here: Some(open), .. }) => serve_open(open).await,
        Some(Audio::Peer { here: None, .. }) => {
            Err(Problem::not_found("copy here of recording", &id))
        }
    }
}

/// Ranges are honoured, so that a player can seek.
async fn serve_file(path: PathBuf, request: Request) -> Result<Response, Problem> {
    let mut files = ServeFile::new_with_mime(
        &path,
        &"audio/wav".parse().map_err(|_| {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "audio/wav is not a media type")
        })?,
    );
    let response = files.try_call(request).await.map_err(|error| {
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the recording can't be read: {error}"),
        )
    })?;
    Ok(response.map(Body::new))
}

/// One that grows, or that its gateway has left: what there is by now, under a header that says so
/// much.
async fn serve_open(open: Open) -> Result<Response, Problem> {
    let Open { path, header, bytes } = open;
    let unreadable = |error: std::io::Error| {
        let detail = format!("the recording can't be read: {error}");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    };
    let mut file = tokio::fs::File::open(&path).await.map_err(unreadable)?;
    let from = std::io::SeekFrom::Start(header.len() as u64);
    file.seek(from).await.map_err(unreadable)?;
    let length = header.len() as u64 + bytes;
    let rest = futures::stream::try_unfold(file.take(bytes), async |mut file| {
        let mut block = vec![0; limits::AUDIO_BLOCK_BYTES];
        let read = file.read(&mut block).await?;
        block.truncate(read);
        Ok::<_, std::io::Error>((read > 0).then_some((block, file)))
    });
    let begin = futures::stream::once(async { Ok(header) });
    let mut response = Body::from_stream(begin.chain(rest)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("audio/wav"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("none"));
    Ok(response)
}

/// What another gateway says of a recording of the same tenant.
fn url(api: &Api, base: &str, id: &str, what: &str) -> Option<reqwest::Url> {
    let mut url = reqwest::Url::parse(base).ok()?;
    url.path_segments_mut().ok()?.extend(["v1", "recordings", id, what]);
    if let Some(tenant) = &api.tenant {
        url.query_pairs_mut().append_pair(TENANT, tenant);
    }
    Some(url)
}

/// The copy of another gateway, streamed through.
async fn fetch_from_peer(
    api: &Api,
    base: &str,
    id: &str,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let unreachable = |error: reqwest::Error| Problem {
        status: StatusCode::SERVICE_UNAVAILABLE,
        detail: format!("the gateway that holds this recording does not answer: {error}"),
        retry_after_s: Some(1),
    };
    let url = url(api, base, id, "audio").ok_or_else(|| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{base:?} is no URL of a gateway"))
    })?;
    let mut ask = api
        .client
        .get(url)
        .header(PROXIED, "1")
        .timeout(Duration::from_millis(limits::PEER_ANSWER_MS_MAX));
    for name in [header::AUTHORIZATION, header::RANGE] {
        if let Some(value) = headers.get(&name) {
            ask = ask.header(name, value);
        }
    }
    let answer = ask.send().await.map_err(unreachable)?;
    let status = answer.status();
    let media_type = answer.headers().get(header::CONTENT_TYPE).cloned();
    let range = answer.headers().get(header::CONTENT_RANGE).cloned();
    let mut response = (status, Body::from_stream(answer.bytes_stream())).into_response();
    for (name, value) in [(header::CONTENT_TYPE, media_type), (header::CONTENT_RANGE, range)] {
        if let Some(value) = value {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

pub(crate) async fn pause(api: Api, id: Path<String>, headers: HeaderMap) -> Answer {
    pause_or_resume(api, id, &headers, true).await
}

pub(crate) async fn resume(api: Api, id: Path<String>, headers: HeaderMap) -> Answer {
    pause_or_resume(api, id, &headers, false).await
}

async fn pause_or_resume(
    api: Api,
    Path(id): Path<String>,
    headers: &HeaderMap,
    paused: bool,
) -> Answer {
    let key = idempotency_key(headers)?;
    let command = Command::PauseRecording { call: id.clone(), paused };
    let call = executed(&api, command, key, ("call", &id)).await?;
    Ok(Json(call.unwrap_or(Value::Null)))
}

/// Each copy is read again where it lies.
pub(crate) async fn verify(api: Api, id: Path<String>, headers: HeaderMap) -> Answer {
    look(api, id, &headers, false).await
}

/// The same, and what is damaged is made right from a copy that is not.
pub(crate) async fn repair(api: Api, id: Path<String>, headers: HeaderMap) -> Answer {
    look(api, id, &headers, true).await
}

async fn look(api: Api, Path(id): Path<String>, headers: &HeaderMap, repair: bool) -> Answer {
    if id.len() > limits::NAME_BYTES_MAX {
        return Err(Problem::not_found("recording", "with so long a name"));
    }
    let mut copies: Vec<Value> = Vec::new();
    copies.extend(api.backend.verify_recording(&id, repair).await?);
    let mut missing = Vec::new();
    if !headers.contains_key(PROXIED) {
        let others = api.backend.gateways();
        let asked = others.iter().map(|gateway| ask(&api, gateway, &id, headers, repair));
        for (gateway, answer) in others.iter().zip(join_all(asked).await) {
            match answer {
                Some(more) => copies.extend(more),
                None => missing.push(gateway.name.clone()),
            }
        }
    }
    if copies.is_empty() {
        return Err(Problem::not_found("copy of recording", &id));
    }
    copies.sort_by(|a, b| a["gateway"].as_str().cmp(&b["gateway"].as_str()));
    Ok(Json(json!({"id": id, "copies": copies, "missing": missing})))
}

/// `None`: it does not say.
async fn ask(
    api: &Api,
    gateway: &Gateway,
    id: &str,
    headers: &HeaderMap,
    repair: bool,
) -> Option<Vec<Value>> {
    let (method, last) = if repair { (Method::POST, "repair") } else { (Method::GET, "verify") };
    let url = url(api, &gateway.base, id, last)?;
    let mut request = api
        .client
        .request(method, url)
        .header(PROXIED, "1")
        .timeout(Duration::from_millis(limits::PEER_VERIFY_MS_MAX));
    if let Some(token) = headers.get(header::AUTHORIZATION) {
        request = request.header(header::AUTHORIZATION, token);
    }
    let answer = request.send().await.ok()?;
    if answer.status() == reqwest::StatusCode::NOT_FOUND {
        return Some(Vec::new());
    }
    let mut body: Value = answer.error_for_status().ok()?.json().await.ok()?;
    match body["copies"].take() {
        Value::Array(copies) => Some(copies),
        _ => None,
    }
}
