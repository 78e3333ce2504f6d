//! Health and metrics: no token, so that an orchestrator can ask.

use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::routes::Api;

/// The process runs.
pub(crate) async fn livez() -> &'static str {
    "ok\n"
}

/// 200 where the gateway may take new calls. `?verbose` lists the checks, a line each.
pub(crate) async fn readyz(State(api): State<Api>, RawQuery(query): RawQuery) -> Response {
    let readiness = api.backend.readiness();
    let status = verdict(readiness.may_take_calls);
    if !query.is_some_and(|query| query.split('&').any(|part| part.starts_with("verbose"))) {
        return (status, if readiness.may_take_calls { "ok\n" } else { "not ready\n" })
            .into_response();
    }
    let mut text = String::new();
    for check in &readiness.checks {
        let sign = if check.ok { "[+]" } else { "[-]" };
        text.push_str(&format!("{sign} {}: {}\n", check.name, check.why));
    }
    text.push_str(&format!(
        "may take new calls: {}\nmay hold calls: {}\n",
        readiness.may_take_calls, readiness.may_hold_calls
    ));
    (status, text).into_response()
}

pub(crate) async fn startupz(State(api): State<Api>) -> Response {
    let started = api.backend.readiness().started;
    (verdict(started), if started { "ok\n" } else { "starting\n" }).into_response()
}

pub(crate) async fn metrics(State(api): State<Api>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], api.backend.metrics())
        .into_response()
}

fn verdict(ok: bool) -> StatusCode {
    if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
