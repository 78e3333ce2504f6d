//! Health and metrics of a process that has no API of its own.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tandem_http::backend::Readiness;
use tokio::net::TcpListener;

use super::process::Shutdown;

/// Asked at each request.
pub type Health = Arc<dyn Fn() -> Readiness + Send + Sync>;

#[derive(Clone)]
struct Process {
    health: Health,
    metrics: PrometheusHandle,
}

/// # Errors
/// In one sentence, where the address can't be had.
pub async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            anyhow::anyhow!("{address} is in use by another process")
        }
        _ => anyhow::anyhow!("{address} can't be bound: {error}"),
    })
}

pub fn router(health: Health, metrics: PrometheusHandle) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/startupz", get(startupz))
        .route("/metrics", get(exposition))
        .with_state(Process { health, metrics })
}

pub async fn serve(listener: TcpListener, router: Router, shutdown: Shutdown) -> Result<()> {
    axum::serve(listener, router).with_graceful_shutdown(shutdown.wait()).await?;
    Ok(())
}

async fn readyz(State(process): State<Process>, RawQuery(query): RawQuery) -> Response {
    let readiness = (process.health)();
    let status = verdict(readiness.may_take_calls);
    let verbose =
        query.is_some_and(|query| query.split('&').any(|part| part.starts_with("verbose")));
    if !verbose {
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

async fn startupz(State(process): State<Process>) -> Response {
    let started = (process.health)().started;
    (verdict(started), if started { "ok\n" } else { "starting\n" }).into_response()
}

async fn exposition(State(process): State<Process>) -> Response {
    let text = crate::telemetry::metrics::render(&process.metrics);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

fn verdict(ok: bool) -> StatusCode {
    if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
