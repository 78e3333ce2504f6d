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
use super::hashes::Hashes;
use super::http::{self, Health};
use super::leases;
use super::link::{self, LinkServer};
use super::meta;
use super::process::{self, Shutdown, Started};
use super::put::Puts;
use super::sessions::Sessions;
use super::shard::Shard;
use super::tasks;
use super::tenants::{FIRST, Tenants};
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
        lines,
        cluster,
        move_leader,
        members: roster,
        change_members,
        drain,
        tenants: places,
        move_tenant,
        nodes,
        disk,
        room,
        hashes,
        faults,
    } = parts;
    let shards = started.config.cluster.shards;
    let other_shards = meta::other_shards(Arc::clone(&meta), shards);
    let given = started.config.tenant.clone().unwrap_or_else(tandem_core::demo::demo_config);
    tokio::spawn(meta::keep(Arc::clone(&meta), given, shards));
    tokio::spawn(tasks::tell_routing(Arc::clone(&meta), told_routing));
    let of = Arc::clone(&shard);
    let serves = Arc::clone(&meta);
    let tenants = Tenants::start(
        Arc::clone(&meta),
        move |number| of(number),
        move |all, shard| {
            tokio::spawn(tasks::tell_leading(Arc::clone(&shard), told_leading.clone()));
            tokio::spawn(tasks::configure(Arc::clone(&shard), Arc::clone(&serves)));
            tokio::spawn(leases::keep(shard, Arc::clone(&serves), Arc::clone(all)));
        },
    );
    let puts = Arc::new(Puts { meta: Arc::clone(&meta), shards });

    let desk = Arc::new(Desk {
        name: process.name.clone(),
        tenants: Arc::clone(&tenants),
        leading,
        routing,
        nodes,
        cluster,
        move_leader,
        members: roster,
        change_members,
        drain,
        places,
        move_tenant,
        put_tenant: Arc::new(move |asked| {
            let puts = Arc::clone(&puts);
            Box::pin(async move { puts.put(&asked).await })
        }),
    });
    let health = health(tenants, disk, room, hashes);
    let mut router = disk::with_faults(http::router(health, started.metrics.clone()), faults);
    if process.fault_injection {
        let faults = post(panic_actor).with_state(shard(FIRST));
        router = router.route("/fault/panic/{kind}/{*id}", faults);
    }
    tokio::select! {
        ended = link::listen(link, LinkServer { node: desk, sessions, lines }, Arc::clone(&started.certificates)) => ended,
        ended = http::serve(health_listener, router, shutdown.clone()) => ended,
        known = other_shards => Err(meta::wrong_shards(known, shards)),
        () = shutdown.wait() => Ok(()),
    }
}

/// A node is ready when it knows the tenants, each of them is configured, its disk writes and has room, and its
/// state is the leader's.
fn health(tenants: Arc<Tenants>, disk: DiskCheck, room: DiskCheck, hashes: Hashes) -> Health {
    Arc::new(move || {
        let all = tenants.all();
        let mut unconfigured = Vec::new();
        let mut led = 0;
        for tenant in all.values() {
            led += usize::from(tenant.shard.lead().borrow().here);
            let mut configured = false;
            tenant.shard.look(&mut |world| configured = world.config.is_some());
            if !configured {
                unconfigured.push(tenant.name().to_owned());
            }
        }
        let stored = all.get(&FIRST).is_some_and(|first| first.config.is_some());
        let configured = unconfigured.is_empty();
        let check = |name: &str, ok: bool, why: &str, why_not: &str| Check {
            name: name.to_owned(),
            ok,
            why: if ok { why } else { why_not }.to_owned(),
        };
        let (disk, room, state) = (disk::check(&disk), disk::check_room(&room), hashes.check());
        let is_sound = disk.ok && room.ok && state.ok;
        let checks = vec![
            check("meta shard", stored, "holds the tenant", "does not hold the tenant yet"),
            check(
                "tenant shard",
                configured,
                &format!("{led} of {} tenants are led from here", all.len()),
                &format!("no configuration yet of {}", unconfigured.join(", ")),
            ),
            disk,
            room,
            state,
        ];
        Readiness {
            may_take_calls: stored && configured && is_sound,
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
