//! The disk of a voter's log, as its health shows it and as tests trouble it.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::post;
use serde::Deserialize;
use tandem_cluster::budget::Used;
use tandem_http::backend::Check;
use tandem_storage::faults::Faults;
use tokio::sync::watch;

/// Asked at each request; an error says what is wrong, with its code.
pub type DiskCheck = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

pub fn check(disk: &DiskCheck) -> Check {
    let found = disk();
    let ok = found.is_ok();
    Check { name: "disk".to_owned(), ok, why: found.err().unwrap_or_else(|| "writes".to_owned()) }
}

/// Whether new calls may begin.
pub fn check_room(room: &DiskCheck) -> Check {
    let found = room();
    let ok = found.is_ok();
    let why = found.err().unwrap_or_else(|| "is left for log and state".to_owned());
    Check { name: "room".to_owned(), ok, why }
}

/// Whether log or state are at the end of their budgets, as that changes.
pub fn full(mut used: watch::Receiver<Used>) -> watch::Receiver<bool> {
    let (told, full) = watch::channel(used.borrow_and_update().check().is_err());
    tokio::spawn(async move {
        while used.changed().await.is_ok() {
            told.send_replace(used.borrow_and_update().check().is_err());
        }
    });
    full
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
