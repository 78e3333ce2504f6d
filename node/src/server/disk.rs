//! The disk of a voter's log, as its health shows it and as tests trouble it.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::post;
use serde::Deserialize;
use tandem_http::backend::Check;
use tandem_storage::faults::Faults;

/// Asked at each request; an error says what is wrong, with its code.
pub type DiskCheck = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

pub fn check(disk: &DiskCheck) -> Check {
    let found = disk();
    let ok = found.is_ok();
    Check { name: "disk".to_owned(), ok, why: found.err().unwrap_or_else(|| "writes".to_owned()) }
}

/// The same with what tests may do to the disk, where this process lets them.
pub fn with_faults(router: Router, faults: Option<Faults>) -> Router {
    let Some(faults) = faults else { return router };
    tracing::warn!("fault injection is on: never do this in production");
    let routes = Router::new()
        .route("/fault/disk/stall", post(stall))
        .route("/fault/disk/fail", post(fail))
        .with_state(faults);
    router.merge(routes)
}

#[derive(Deserialize)]
struct Stall {
    ms: u64,
}

/// `POST /fault/disk/stall?ms=4000`: writes wait until then.
async fn stall(State(faults): State<Faults>, Query(Stall { ms }): Query<Stall>) -> StatusCode {
    faults.stall(ms);
    StatusCode::NO_CONTENT
}

/// `POST /fault/disk/fail`: every write fails, for the rest of the process's life.
async fn fail(State(faults): State<Faults>) -> StatusCode {
    faults.fail();
    StatusCode::NO_CONTENT
}
