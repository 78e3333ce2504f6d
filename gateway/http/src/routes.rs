//! The table of paths.

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use tower_http::limit::RequestBodyLimitLayer;

use crate::backend::Backend;
use crate::problem::Problem;
use crate::{TokenHash, health, limits, openapi, recordings, trace, v1};

/// For a handler: what it asks is of the tenant that the request names.
#[derive(Clone)]
pub(crate) struct Api {
    pub backend: Arc<dyn Backend>,
    /// By name; none is the first one.
    pub tenant: Option<String>,
    pub token: TokenHash,
    pub client: reqwest::Client,
}

pub(crate) fn router(backend: Arc<dyn Backend>, token: TokenHash) -> Router {
    let api = Api { backend, tenant: None, token, client: reqwest::Client::new() };
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
        .route("/v1/cluster/drains/{name}", put(v1::drain).delete(v1::undrain))
        .route("/v1/cluster/shards/{shard}/leader", post(v1::move_leader))
        .layer(RequestBodyLimitLayer::new(limits::BODY_BYTES_MAX));
    let long = Router::new()
        .route("/v1/tenants/{tenant}", put(v1::put_tenant))
        .layer(RequestBodyLimitLayer::new(limits::TENANT_BYTES_MAX));
    let token = middleware::from_fn_with_state(api.clone(), require_token);
    Router::new()
        .merge(guarded.merge(long).route_layer(token))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/startupz", get(health::startupz))
        .route("/metrics", get(health::metrics))
        .route("/openapi.json", get(openapi::document))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .with_state(api)
}

/// The query's parameter that says whose a request is, on every path that is about calls and agents.
pub(crate) const TENANT: &str = "tenant";

impl FromRequestParts<Self> for Api {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Self) -> Result<Self, Problem> {
        let given = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        // What can't be read is refused by whoever reads the rest.
        let given = given.map(|Query(given)| given).unwrap_or_default();
        let mut named =
            given.into_iter().filter(|(name, _)| name == TENANT).map(|(_, value)| value);
        let Some(tenant) = named.next() else { return Ok(state.clone()) };
        if named.next().is_some() {
            return Err(Problem::bad_request(format!("parameter {TENANT:?} stands twice")));
        }
        if tenant.is_empty() || tenant.len() > limits::NAME_BYTES_MAX {
            let most = limits::NAME_BYTES_MAX;
            let expected = format!("{TENANT} is a tenant's name of 1 to {most} bytes");
            return Err(Problem::bad_request(expected));
        }
        let backend = Arc::clone(&state.backend).of_tenant(&tenant);
        Ok(Self { backend, tenant: Some(tenant), ..state.clone() })
    }
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
