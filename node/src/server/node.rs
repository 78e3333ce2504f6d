//! `tandem node`: consensus, the tenant's shard with its actors, the gateways' link, health.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::routing::post;
use tandem_http::backend::{Check, Readiness};
use tokio::sync::watch;

use super::desk::Desk;
use super::disk::{self, DiskCheck};
use super::http::{self, Health};
use super::link::{self, LinkServer};
use super::meta::{self, Meta};
use super::process::{self, Shutdown, Started};
use super::sessions::Sessions;
use super::shard::Shard;
use super::tasks;
use super::wiring::{self, Parts};

pub fn run(path: &Path, incarnation: Option<u64>) -> Result<()> {
    let started = process::start(path, incarnation, "node")?;
    process::run(async move |shutdown| {
        process::keep_certificates(&started)?;
        let sessions = Arc::new(Sessions::default());
        let parts = tokio::select! {
            parts = wiring::node(&started, Arc::clone(&sessions)) => parts?,
            () = shutdown.clone().wait() => return Ok(()),
        };
        serve(&started, parts, sessions, shutdown).await
    })
}

/// Until something fails or the process is asked to stop.
pub async fn serve(
    started: &Started,
    parts: Parts,
    sessions: Arc<Sessions>,
    shutdown: Shutdown,
) -> Result<()> {
    let process = &started.config.process;
    let members = &started.config.cluster.members;
    let me = members.iter().find(|member| member.name == process.name);
    let me = me.with_context(|| format!("{} is no [[cluster.member]]", process.name))?;
    let link = me.link.with_context(|| format!("{} has no link address", process.name))?;
    let link = http::bind(link).await?;
    let health_listener = http::bind(me.http).await?;

    let (told_leading, leading) = watch::channel(Vec::new());
    let (told_routing, routing) = watch::channel(Vec::new());
    let Parts {
        shard,
        meta,
        cluster,
        move_leader,
        members: roster,
        change_members,
        tenants,
        move_tenant,
        nodes,
        disk,
        faults,
    } = parts;
    let shards = started.config.cluster.shards;
    let other_shards = meta::other_shards(Arc::clone(&meta), shards);
    let given = started.config.tenant.clone().unwrap_or_else(tandem_core::demo::demo_config);
    tokio::spawn(meta::keep(Arc::clone(&meta), given, shards));
    tokio::spawn(tasks::tell_leading(Arc::clone(&shard), told_leading));
    tokio::spawn(tasks::tell_routing(Arc::clone(&meta), shard.id(), told_routing));
    tokio::spawn(tasks::configure(Arc::clone(&shard), Arc::clone(&meta)));

    let desk = Arc::new(Desk {
        name: process.name.clone(),
        shard: Arc::clone(&shard),
        leading,
        routing,
        nodes,
        cluster,
        move_leader,
        members: roster,
        change_members,
        tenants,
        move_tenant,
    });
    let health = health(Arc::clone(&shard), meta, disk);
    let mut router = disk::with_faults(http::router(health, started.metrics.clone()), faults);
    if process.fault_injection {
        let faults = post(panic_actor).with_state(shard);
        router = router.route("/fault/panic/{kind}/{*id}", faults);
    }
    tokio::select! {
        ended = link::listen(link, LinkServer { node: desk, sessions }, Arc::clone(&started.certificates)) => ended,
        ended = http::serve(health_listener, router, shutdown.clone()) => ended,
        known = other_shards => Err(meta::wrong_shards(known, shards)),
        () = shutdown.wait() => Ok(()),
    }
}

/// A node is ready when somebody leads both shards, the tenant is configured and its disk writes.
fn health(shard: Arc<dyn Shard>, meta: Arc<dyn Meta>, disk: DiskCheck) -> Health {
    Arc::new(move || {
        let lead = *shard.lead().borrow();
        let mut configured = false;
        shard.look(&mut |world| configured = world.config.is_some());
        let stored = meta.get(meta::CONFIG).is_some();
        let check = |name: &str, ok: bool, why: &str, why_not: &str| Check {
            name: name.to_owned(),
            ok,
            why: if ok { why } else { why_not }.to_owned(),
        };
        let disk = disk::check(&disk);
        let writes = disk.ok;
        let checks = vec![
            check("meta shard", stored, "holds the tenant", "does not hold the tenant yet"),
            check(
                "tenant shard",
                configured,
                if lead.here { "is led from here" } else { "follows" },
                "has no configuration yet",
            ),
            disk,
        ];
        Readiness {
            may_take_calls: stored && configured && writes,
            may_hold_calls: configured,
            started: true,
            checks,
        }
    })
}

/// `POST /fault/panic/call/ID`: the next thing that the actor does is to panic.
async fn panic_actor(
    State(shard): State<Arc<dyn Shard>>,
    UrlPath((kind, id)): UrlPath<(String, String)>,
) -> StatusCode {
    let found = super::shard::entity(&kind, &id).is_some_and(|entity| shard.panic_actor(&entity));
    if found { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }
}
