//! The runtime of one tenant: on becoming leader it builds the tree, on losing it tears it down;
//! between, it routes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use ractor::{Actor as _, ActorRef};
use tandem_core::command::{Command, GatewayEvent, Keyed, OperatorCommand, Origin};
use tandem_core::deadline::Deadline;
use tandem_core::effect::EffectId;
use tandem_core::ids::{EntityId, GatewayId};
use tandem_core::log_time::Source;
use tandem_core::{Reply, World};
use tandem_sip::Millis;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::actor::{self, Place};
use crate::limits;
use crate::ports::{Consensus, Leadership, Link, ProposeError, Verdict};
use crate::proposer::Proposer;
use crate::replica::{Released, Replica};
use crate::supervisor::{Kind, Order, Supervisor};
use crate::survival;
use crate::tenants::standing::in_epoch;

pub struct Options {
    pub node: String,
    pub replica: Arc<Replica>,
    /// In which the tenant came to the group.
    pub epoch: u64,
    pub consensus: Arc<dyn Consensus>,
    pub link: Arc<dyn Link>,
    /// Whether the disk has no room for more than what lives: no call begins then.
    pub full: watch::Receiver<bool>,
}

/// The tree of one term.
struct Tree {
    place: Arc<Place>,
    supervisors: BTreeMap<Kind, ActorRef<Order>>,
}

struct Shared {
    node: String,
    replica: Arc<Replica>,
    epoch: u64,
    proposer: Proposer,
    link: Arc<dyn Link>,
    tree: Mutex<Option<Arc<Tree>>>,
    /// Whose actors have nothing to do any more.
    paused: Mutex<Vec<Arc<Tree>>>,
    admissions: Arc<AtomicUsize>,
    full: watch::Receiver<bool>,
    serving: watch::Sender<Leadership>,
    stopped: watch::Sender<bool>,
    /// Those that hold nothing which must be ended in order.
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// A handle; clones are the same runtime.
#[derive(Clone)]
pub struct ShardRuntime {
    shared: Arc<Shared>,
}

impl ShardRuntime {
    pub fn start(options: Options) -> Self {
        let Options { node, replica, epoch, consensus, link, full } = options;
        let (leadership, releases) = (consensus.leadership(), replica.listen());
        let proposer = Proposer::new(consensus, Arc::clone(replica.clock()));
        let shared = Arc::new(Shared {
            node,
            replica,
            epoch,
            proposer,
            link,
            tree: Mutex::new(None),
            paused: Mutex::default(),
            admissions: Arc::default(),
            full,
            serving: watch::channel(Leadership::default()).0,
            stopped: watch::Sender::new(false),
            tasks: Mutex::default(),
        });
        let runtime = Self { shared };
        let counting = leadership.clone();
        survival::expose();
        tokio::spawn(runtime.clone().follow_leadership(leadership));
        let tasks = vec![
            tokio::spawn(runtime.clone().release(releases, counting)),
            tokio::spawn(runtime.clone().watch_deadlines()),
            tokio::spawn(runtime.clone().trim()),
        ];
        *runtime.shared.tasks.lock() = tasks;
        runtime
    }

    /// The tenant is on its way to another group: nothing more is done for it. Its actors stay, idle, so
    /// that their end takes no time from the move.
    pub fn pause(&self) {
        self.shared.stopped.send_replace(true);
        for task in std::mem::take(&mut *self.shared.tasks.lock()) {
            task.abort();
        }
        let tree = self.shared.tree.lock().take();
        self.shared.paused.lock().extend(tree);
        self.shared.serving.send_modify(|told| told.leading = false);
    }

    /// The tenant is not here any more.
    pub fn stop(&self) {
        self.pause();
        for tree in std::mem::take(&mut *self.shared.paused.lock()) {
            tree.stop();
        }
    }

    /// Who leads, in terms that grow over the tenant's moves, and whether the actors here serve.
    pub fn serving(&self) -> watch::Receiver<Leadership> {
        self.shared.serving.subscribe()
    }

    pub fn replica(&self) -> &Arc<Replica> {
        &self.shared.replica
    }

    fn tree(&self) -> Option<Arc<Tree>> {
        self.shared.tree.lock().clone()
    }

    /// An event of a gateway. Without a tree it is dropped: the gateway keeps it for the leader.
    pub fn on_event(&self, origin: Origin, event: GatewayEvent) {
        let Some(tree) = self.tree() else { return };
        match self.shared.replica.read(|world| world.route(&event).filter(|id| world.has(id))) {
            Some(entity) => tree.order(&entity.clone(), Order::Event { entity, origin, event }),
            None => self.admit(&tree, origin, event),
        }
    }

    /// Events that make an entity, or are for none: pipelined, and refused where too many are
    /// under way.
    fn admit(&self, tree: &Arc<Tree>, origin: Origin, event: GatewayEvent) {
        let place = &tree.place;
        let new_call = matches!(event, GatewayEvent::Invite(_));
        let under_way = Arc::clone(&self.shared.admissions);
        let is_full = under_way.load(Ordering::Relaxed) >= limits::ADMISSIONS_MAX
            || *self.shared.full.borrow();
        if new_call && is_full {
            let verdict = Verdict::Overloaded { retry_after_s: limits::RETRY_AFTER_S };
            self.shared.link.accepted(&origin, self.shared.replica.tenant(), verdict);
            metrics::counter!("tandem_admissions_refused_total").increment(1);
            return;
        }
        if !new_call {
            actor::on_event(place, origin, event);
            return;
        }
        under_way.fetch_add(1, Ordering::Relaxed);
        let proposed = place.proposer.propose(Some(origin.clone()), Command::Gateway(event));
        let place = Arc::clone(place);
        tokio::spawn(async move {
            let counted = proposed.await;
            under_way.fetch_sub(1, Ordering::Relaxed);
            if let Some(verdict) = actor::verdict(false, counted) {
                place.link.accepted(&origin, place.replica.tenant(), verdict);
            }
        });
    }

    /// Gateways have done these.
    pub fn on_done(&self, effects: Vec<EffectId>) {
        if self.shared.proposer.done(effects) && self.tree().is_some() {
            tokio::spawn(self.shared.proposer.propose(None, Command::Trim));
        }
    }

    /// A gateway has a session here: what it has not done is sent to it.
    pub fn on_session(&self, gateway: &GatewayId) {
        let Some(tree) = self.tree() else { return };
        for supervisor in tree.supervisors.values() {
            // A supervisor that is gone belongs to a tree that is being torn down.
            let _ = supervisor.cast(Order::PerformFor(gateway.clone()));
        }
        self.perform_unowned(&tree, Some(gateway));
    }

    /// Effects that belong to no entity with an actor.
    fn perform_unowned(&self, tree: &Tree, gateway: Option<&GatewayId>) {
        let undone: Vec<_> = self.shared.replica.read(|world| {
            let undone = world.outbox.values().filter(|effect| {
                gateway.is_none_or(|gateway| effect.gateway == *gateway)
                    && (Kind::of(&effect.entity).is_none() || !world.has(&effect.entity))
            });
            undone.cloned().collect()
        });
        for effect in &undone {
            self.shared.link.effect(tree.place.term, effect);
        }
    }

    /// # Errors
    /// Where it was not committed here.
    pub async fn propose(&self, command: Command) -> Result<Reply, ProposeError> {
        if self.tree().is_none() {
            return Err(ProposeError::NotLeading);
        }
        if *self.shared.full.borrow() && begins_a_call(&command) {
            metrics::counter!("tandem_admissions_refused_total").increment(1);
            return Err(ProposeError::Overloaded);
        }
        self.shared.proposer.propose(None, command).await
    }

    /// For tests of supervision. False where there is no such actor here.
    pub fn panic_actor(&self, entity: &EntityId) -> bool {
        let known = self.shared.replica.read(|world| world.has(entity));
        match self.tree() {
            Some(tree) if known && Kind::of(entity).is_some() => {
                tree.order(entity, Order::Panic(entity.clone()));
                true
            }
            Some(_) | None => false,
        }
    }

    // --- leadership ----------------------------------------------------------------------------

    async fn follow_leadership(self, mut leadership: watch::Receiver<Leadership>) {
        let mut stopped = self.shared.stopped.subscribe();
        while !*stopped.borrow_and_update() {
            let now = *leadership.borrow_and_update();
            self.shared.proposer.clock().on_leadership(now);
            let now = Leadership { term: in_epoch(self.shared.epoch, now.term), ..now };
            let term = self.tree().map(|tree| tree.place.term);
            if term.is_some() && term != Some(now.term) || !now.leading {
                self.tear_down();
            }
            if now.leading && self.tree().is_none() {
                self.build(now).await;
            } else {
                let serving = Leadership { leading: self.tree().is_some(), ..now };
                self.shared.serving.send_if_modified(|told| replace(told, serving));
            }
            tokio::select! {
                changed = leadership.changed() => if changed.is_err() { break },
                _ = stopped.changed() => {}
            }
        }
        self.tear_down();
    }

    /// Elected is the first command of the term; then every live entity gets its actor.
    async fn build(&self, now: Leadership) {
        let dark = self.shared.proposer.clock().on_elected() == Source::WallClock;
        let elected = Command::Elected { node: self.shared.node.clone(), dark };
        if let Err(error) = self.shared.proposer.propose(None, elected).await {
            tracing::warn!(term = now.term, %error, "led too shortly to begin");
            return;
        }
        let shard = format!("s{}", self.shared.replica.clock().shard());
        if let Ok(at) = SystemTime::now().duration_since(UNIX_EPOCH) {
            metrics::gauge!("tandem_shard_first_commit_timestamp_seconds", "shard" => shard)
                .set(at.as_secs_f64());
        }
        let begun = Instant::now();
        let place = Arc::new(Place {
            term: now.term,
            replica: Arc::clone(&self.shared.replica),
            proposer: self.shared.proposer.clone(),
            link: Arc::clone(&self.shared.link),
        });
        let mut supervisors = BTreeMap::new();
        for kind in Kind::ALL {
            match Supervisor::spawn(None, Supervisor, (kind, Arc::clone(&place))).await {
                Ok((supervisor, _)) => {
                    supervisors.insert(kind, supervisor);
                }
                Err(error) => {
                    tracing::error!(%error, "TD0105 a supervisor can't be started");
                    return;
                }
            }
        }
        let tree = Arc::new(Tree { place, supervisors });
        // What is released from here on goes to the actors; what was before is in the outbox.
        *self.shared.tree.lock() = Some(Arc::clone(&tree));
        let mut live: BTreeMap<Kind, Vec<EntityId>> = BTreeMap::new();
        for entity in self.shared.replica.read(|world| world.entities().collect::<Vec<_>>()) {
            if let Some(kind) = Kind::of(&entity) {
                live.entry(kind).or_default().push(entity);
            }
        }
        for (kind, entities) in live {
            if let Some(supervisor) = tree.supervisors.get(&kind) {
                let _ = supervisor.cast(Order::Live { entities, rehydrate: true });
            }
        }
        self.perform_unowned(&tree, None);
        let took = begun.elapsed();
        metrics::histogram!("tandem_actors_begin_seconds").record(took);
        tracing::info!(term = now.term, ms = took.as_millis(), "the actors serve");
        self.shared.serving.send_if_modified(|told| replace(told, now));
    }

    fn tear_down(&self) {
        let Some(tree) = self.shared.tree.lock().take() else { return };
        tree.stop();
        self.shared.serving.send_modify(|told| told.leading = false);
    }

    // --- what was committed ----------------------------------------------------------------------

    async fn release(
        self,
        mut releases: mpsc::UnboundedReceiver<Released>,
        leadership: watch::Receiver<Leadership>,
    ) {
        while let Some(released) = releases.recv().await {
            survival::count(&released, *leadership.borrow());
            let Some(tree) = self.tree() else { continue };
            for entity in released.touched {
                let here = self.shared.replica.read(|world| world.has(&entity));
                let order = if here {
                    Order::Live { entities: vec![entity.clone()], rehydrate: false }
                } else {
                    Order::Gone(entity.clone())
                };
                tree.order(&entity, order);
            }
            for effect in released.effects {
                let owned = Kind::of(&effect.entity).is_some()
                    && self.shared.replica.read(|world| world.has(&effect.entity));
                if owned {
                    tree.order(&effect.entity.clone(), Order::Perform(effect));
                } else {
                    self.shared.link.effect(tree.place.term, &effect);
                }
            }
        }
    }

    /// Hands passed deadlines to their actors; one that does not come true is handed over again.
    async fn watch_deadlines(self) {
        let mut handed: BTreeMap<Deadline, Millis> = BTreeMap::new();
        let mut tick = tokio::time::interval(Duration::from_millis(limits::DEADLINE_TICK_MS));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut serving = self.serving();
        loop {
            tick.tick().await;
            let Some(tree) = self.tree() else {
                handed.clear();
                if serving.wait_for(|now| now.leading).await.is_err() {
                    return;
                }
                continue;
            };
            // A shard without deadlines has none before something is committed.
            let stored = self.shared.replica.next_stored();
            if self.shared.replica.read(World::next_deadline).is_none() {
                let no_more = serving.wait_for(|now| !now.leading);
                tokio::select! {
                    () = stored => {}
                    ended = no_more => if ended.is_err() { return },
                }
                continue;
            }
            let now = self.shared.proposer.clock().now();
            let due = self.shared.replica.due(now);
            handed.retain(|deadline, _| due.contains(deadline));
            for deadline in due {
                let fresh = handed
                    .get(&deadline)
                    .is_none_or(|at| now.since(*at) >= limits::DEADLINE_AGAIN_MS);
                if fresh {
                    handed.insert(deadline.clone(), now);
                    let entity = deadline.entity();
                    tree.order(&entity.clone(), Order::Due { entity, deadline });
                }
            }
        }
    }

    /// Acknowledgements don't wait for ever for an entry to ride on, nor a replica for the time.
    async fn trim(self) {
        let mut tick = tokio::time::interval(Duration::from_millis(limits::DONE_MS_MAX));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            // A shard without a tenant has nothing that time could do to it.
            let (used, outbox) =
                self.shared.replica.read(|world| (world.config.is_some(), world.outbox.len()));
            if !used {
                continue;
            }
            let tenant = self.shared.replica.tenant().to_string();
            metrics::gauge!("tandem_outbox_effects", "tenant" => tenant).set(outbox as f64);
            self.shared.proposer.clock().watch();
            let untold = self.shared.replica.clock().idle_ms() >= limits::TIME_TOLD_MS_MAX;
            if self.tree().is_some() && (untold || self.shared.proposer.has_done()) {
                tokio::spawn(self.shared.proposer.propose(None, Command::Trim));
            }
        }
    }
}

impl Tree {
    fn stop(&self) {
        for supervisor in self.supervisors.values() {
            supervisor.stop_children(None);
            supervisor.stop(None);
        }
    }

    fn order(&self, entity: &EntityId, order: Order) {
        if let Some(supervisor) = Kind::of(entity).and_then(|kind| self.supervisors.get(&kind)) {
            // A supervisor that is gone belongs to a tree that is being torn down.
            let _ = supervisor.cast(order);
        }
    }
}

fn replace(told: &mut Leadership, now: Leadership) -> bool {
    let changed = *told != now;
    *told = now;
    changed
}

fn begins_a_call(command: &Command) -> bool {
    let of_operator = match command {
        Command::Operator(command) | Command::Keyed(Keyed { command, .. }) => command,
        Command::Configure(_)
        | Command::Elected { .. }
        | Command::Gateway(_)
        | Command::Due(_)
        | Command::Quarantine { .. }
        | Command::Lease(_)
        | Command::Trim => return false,
    };
    matches!(of_operator, OperatorCommand::Originate { .. })
}
