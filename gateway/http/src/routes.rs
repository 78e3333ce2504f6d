//! The table of paths.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use tower_http::limit::RequestBodyLimitLayer;

use crate::backend::Backend;
use crate::problem::Problem;
use crate::{TokenHash, health, limits, openapi, recordings, trace, v1};

#[derive(Clone)]
pub(crate) struct Api {
    pub backend: Arc<dyn Backend>,
    pub token: TokenHash,
    pub client: reqwest::Client,
}

pub(crate) fn router(backend: Arc<dyn Backend>, token: TokenHash) -> Router {
    let api = Api { backend, token, client: reqwest::Client::new() };
    let guarded = Router::new()
        .route("/v1/calls", get(v1::calls).post(v1::originate))
        .route("/v1/calls/{id}", get(v1::call).delete(v1::release_call))
        .route("/v1/calls/{id}/trace", get(trace::of_call))
        .route("/v1/calls/{id}/transfer", post(v1::transfer))
        .route("/v1/calls/{id}/recording/pause", post(recordings::pause))
        .route("/v1/calls/{id}/recording/resume", post(recordings::resume))
        .route("/v1/calls/{id}/consult", post(v1::consult).delete(v1::cancel_consult))
        .route("/v1/calls/{id}/consult/conference", post(v1::conference))
        .route("/v1/calls/{id}/consult/complete", post(v1::complete_consult))
        .route("/v1/queues", get(v1::queues))
        .route("/v1/queues/{name}", get(v1::queue))
        .route("/v1/agents", get(v1::agents))
        .route("/v1/agents/{id}", get(v1::agent))
        .route("/v1/agents/{id}/state", post(v1::set_agent_state))
        .route("/v1/trunks", get(v1::trunks))
        .route("/v1/trunks/{name}/channels", get(v1::channels))
        .route("/v1/cdrs", get(v1::cdrs))
        .route("/v1/recordings", get(recordings::recordings))
        .route("/v1/recordings/{id}", get(recordings::recording))
        .route("/v1/recordings/{id}/audio", get(recordings::recording_audio))
        .route("/v1/recordings/{id}/verify", get(recordings::verify))
        .route("/v1/recordings/{id}/repair", post(recordings::repair))
        .route("/v1/cluster", get(v1::cluster))
        .route("/v1/tenants", get(v1::tenants))
        .route("/v1/tenants/{tenant}/move", post(v1::move_tenant))
        .route("/v1/cluster/members", get(v1::members).post(v1::add_member))
        .route("/v1/cluster/members/{name}", delete(v1::remove_member))
        .route("/v1/cluster/members/{name}/replace", post(v1::replace_member))
        .route("/v1/cluster/shards/{shard}/leader", post(v1::move_leader))
        .route_layer(middleware::from_fn_with_state(api.clone(), require_token));
    Router::new()
        .merge(guarded)
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/startupz", get(health::startupz))
        .route("/metrics", get(health::metrics))
        .route("/openapi.json", get(openapi::document))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(RequestBodyLimitLayer::new(limits::BODY_BYTES_MAX))
        .with_state(api)
}

async fn require_token(State(api): State<Api>, request: Request, next: Next) -> Response {
    let admitted = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .is_some_and(|(_, token)| api.token.admits(token.trim()));
    if !admitted {
        return Problem::new(
            StatusCode::UNAUTHORIZED,
            "send the header `Authorization: Bearer TOKEN` with the token of the cluster's token file",
        )
        .into_response();
    }
    next.run(request).await
}

async fn no_such_path(request: Request) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("there is no path {:?}", request.uri().path()))
}

async fn no_such_method(request: Request) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{} does not take {}", request.uri().path(), request.method()),
    )
}
