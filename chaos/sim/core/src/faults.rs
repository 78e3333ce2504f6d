//! Faults strike, last, and are mended.

use tandem_core::command::{Command, OperatorCommand, RequestedState};
use tandem_core::ids::{AgentId, CallId, EntityId};

use crate::consensus::NODES;
use crate::draws::For;
use crate::event::{Damage, Event};
use crate::limits;
use crate::links::GATEWAYS;
use crate::names;
use crate::network::{CONNECT_MS_MAX, Weather};
use crate::plan::{Fault, Wish};
use crate::plant::Plant;
use crate::simulation::Simulation;

/// A stream is broken at once when a process dies; a silent way is noticed late.
const RESET_MS: u64 = 3;
const SILENCE_MS: u64 = 2_000;

impl Simulation {
    pub fn on_strike(&mut self, s: usize) {
        let strike = self.strikes[s].clone();
        self.note_coverage(strike.fault);
        self.struck += 1;
        self.trouble_at = self.now;
        self.tell(|_| ("fault".into(), format!("{:?} for {} ms", strike.fault, strike.lasts_ms)));
        let leader = self.consensus.leader.filter(|n| self.nodes[*n].is_up());
        let damage = match strike.fault {
            Fault::KillLeader { empty_disk } => leader.map(|node| {
                self.kill_node(node);
                Damage::NodeDown { node, empty_disk }
            }),
            Fault::KillFollower { empty_disk } => {
                let follower = (0..NODES).find(|n| Some(*n) != leader && self.nodes[*n].alive);
                follower.map(|node| {
                    self.kill_node(node);
                    Damage::NodeDown { node, empty_disk }
                })
            }
            Fault::StopWitness => {
                self.consensus.witness_up = false;
                Some(Damage::Witness)
            }
            Fault::MoveLeader => {
                self.move_leader();
                None
            }
            Fault::CutLeader => leader.map(|node| {
                self.nodes[node].cut = true;
                self.reachable_tail = self.consensus.uncommitted();
                self.expect_election(false);
                Damage::NodeCut { node }
            }),
            Fault::PauseLeader => leader.map(|node| {
                self.nodes[node].paused = true;
                self.reachable_tail = self.consensus.uncommitted();
                self.expect_election(false);
                Damage::NodePaused { node }
            }),
            Fault::CutLink { gateway, node } => Some(self.cut_link(gateway, node, strike.lasts_ms)),
            Fault::KillGateway { gateway } => self.gateways[gateway].is_up().then(|| {
                self.kill_gateway(gateway);
                Damage::GatewayDown { gateway }
            }),
            Fault::PauseGateway { gateway } => self.gateways[gateway].is_up().then(|| {
                self.gateways[gateway].paused = true;
                self.replace_paused(gateway);
                Damage::GatewayPaused { gateway }
            }),
            Fault::JumpClock { node, ms } => {
                self.nodes[node].wall_ahead_ms += ms;
                self.wake_deadlines(node);
                None
            }
            Fault::PanicActor { pick, times } => {
                if let Some(node) = leader {
                    self.panic_actor(node, pick, times);
                }
                None
            }
            Fault::PanicCommand => {
                self.consensus.panics += 1;
                None
            }
            Fault::SlowCommits { ms } => {
                self.consensus.slow_ms = ms;
                Some(Damage::Slow)
            }
            Fault::Overload => {
                self.consensus.overloaded = true;
                Some(Damage::Overload)
            }
            Fault::LoseProposals { percent } => {
                self.consensus.loses_percent = percent;
                Some(Damage::Losing)
            }
            Fault::Loss { percent } => {
                self.weather.loss_percent = percent;
                Some(Damage::Network)
            }
            Fault::Duplicates { percent } => {
                self.weather.duplicates_percent = percent;
                Some(Damage::Network)
            }
            Fault::Jitter { ms } => {
                self.weather.jitter_ms = ms;
                Some(Damage::Network)
            }
            Fault::PhoneGone { agent } => {
                let peer = usize::from(agent);
                self.peers[peer].alive = false;
                Some(Damage::Phone { peer })
            }
            Fault::SwitchGone { switch } => {
                let peer = self.peer_of_switch(switch);
                self.peers[peer].alive = false;
                Some(Damage::Switch { peer })
            }
            Fault::PhoneMoves { agent } => {
                if self.peers[usize::from(agent)].alive {
                    self.move_peer(usize::from(agent));
                }
                None
            }
            Fault::PhoneReboots { agent } => {
                if self.peers[usize::from(agent)].alive {
                    self.reboot_peer(usize::from(agent));
                }
                None
            }
            Fault::Ask { agent, wish } => {
                self.ask(agent, wish);
                None
            }
            Fault::Release { pick } => {
                let lot = |call: &&CallId| names::of(&[pick, call.0]);
                let struck = self.front().calls.keys().min_by_key(lot).copied();
                if let Some(call) = struck {
                    self.operate(Command::Operator(OperatorCommand::ReleaseCall { call }));
                }
                None
            }
        };
        if let Some(damage) = damage {
            self.damages.insert(s, damage);
            self.schedule.put(self.now + strike.lasts_ms, Event::Over(s, damage));
        }
    }

    /// Mends what a fault broke, once.
    pub fn on_over(&mut self, s: usize, damage: Damage) {
        if self.damages.remove(&s).is_none() {
            return;
        }
        // Another fault of the same kind may still last.
        if self.damages.values().any(|other| *other == damage) {
            return;
        }
        self.tell(|_| ("mended".into(), format!("{damage:?}")));
        self.trouble_at = self.now;
        match damage {
            Damage::NodeDown { node, empty_disk } => self.start_node(node, empty_disk),
            Damage::NodeCut { node } => {
                self.nodes[node].cut = false;
                self.reachable_tail = u64::MAX;
                self.wake_replicas();
            }
            Damage::NodePaused { node } => self.resume_node(node),
            Damage::Witness => self.consensus.witness_up = true,
            Damage::GatewayDown { gateway } => self.start_gateway(gateway),
            Damage::GatewayPaused { gateway } => self.resume_gateway(gateway),
            Damage::LinkCut { gateway, node } => self.mend_link(gateway, node),
            Damage::Slow => self.consensus.slow_ms = 0,
            Damage::Overload => self.consensus.overloaded = false,
            Damage::Losing => self.consensus.loses_percent = 0,
            Damage::Network => self.weather = Weather::default(),
            Damage::Phone { peer } => self.reboot_peer(peer),
            Damage::Switch { peer } => self.restart_switch(peer),
        }
    }

    /// Faults have stopped: what is still broken is mended.
    pub fn on_heal(&mut self) {
        let damages: Vec<(usize, Damage)> =
            self.damages.iter().map(|(s, damage)| (*s, *damage)).collect();
        for (s, damage) in damages {
            self.on_over(s, damage);
        }
        self.consensus.panics = 0;
        self.healed = true;
        self.schedule.put(self.now + crate::liveness::LOOK_MS, Event::Rest);
    }

    // --- nodes -----------------------------------------------------------------------------------

    fn kill_node(&mut self, n: usize) {
        let stored = self.nodes[n].replica.stored;
        let flushed = self.nodes[n].replica.flushed();
        let owner = names::of(&[n as u64, self.now]);
        let left = self.draws.at(For::Death, owner).between(flushed, stored.max(flushed));
        let node = &mut self.nodes[n];
        node.replica.lose(left);
        node.tear_down();
        node.alive = false;
        node.paused = false;
        node.life += 1;
        node.believes = None;
        node.pending.clear();
        node.done.clear();
        node.backlog.clear();
        node.wake_at = None;
        node.applying = false;
        for g in 0..GATEWAYS {
            self.break_stream(g, n, RESET_MS);
            self.links.of(g, n).node_open = false;
        }
        if self.consensus.leader == Some(n) {
            // A process that comes back leads nothing any more.
            self.consensus.leader = None;
            self.expect_election(true);
        }
    }

    fn start_node(&mut self, n: usize, empty_disk: bool) {
        if self.nodes[n].alive {
            return;
        }
        if empty_disk {
            self.nodes[n].replica.lose_disk();
            let other = NODES - 1 - n;
            // From another's snapshot, or from the log's beginning, which the witness keeps.
            let owner = names::of(&[n as u64, self.now]);
            if self.nodes[other].alive && self.draws.at(For::Snapshot, owner).percent(60) {
                let (head, tail) = self.nodes.split_at_mut(1);
                let (taker, giver) =
                    if n == 0 { (&mut head[0], &tail[0]) } else { (&mut tail[0], &head[0]) };
                taker.replica.take_snapshot(&giver.replica);
            }
        }
        if let Err(what) = self.nodes[n].replica.restore() {
            self.fail("replicas", what);
        }
        self.begin_time(n);
        self.nodes[n].alive = true;
        self.compared = 0;
        let life = self.nodes[n].life;
        self.schedule.put(self.now + 1, Event::Trim { node: n, life });
        self.wake_replica(n);
        for g in 0..GATEWAYS {
            if self.gateways[g].alive {
                self.connect_later(g, n, CONNECT_MS_MAX);
            }
        }
    }

    fn resume_node(&mut self, n: usize) {
        if !self.nodes[n].alive {
            return;
        }
        self.nodes[n].paused = false;
        let late = std::mem::take(&mut self.nodes[n].backlog);
        for event in late {
            self.handle(event);
        }
        self.nodes[n].wake_at = None;
        self.wake_deadlines(n);
        self.wake_replica(n);
    }

    fn move_leader(&mut self) {
        let Some(old) = self.consensus.leader else { return };
        let node = NODES - 1 - old;
        if self.nodes[node].is_voter() && self.nodes[old].is_voter() && self.has_quorum() {
            let kept = self.consensus.uncommitted();
            self.elect(node, kept);
        }
    }

    // --- gateways and links ------------------------------------------------------------------------

    /// Both ends learn it soon: the other end's process is dead.
    fn break_stream(&mut self, g: usize, n: usize, within_ms: u64) {
        let owner = names::of(&[g as u64, n as u64, self.now]);
        let at = self.now + self.draws.at(For::Break, owner).between(1, within_ms);
        let serial = self.links.of(g, n).serial;
        self.schedule.put(at, Event::GatewayHears { gateway: g, node: n, serial });
        self.schedule.put(at, Event::NodeHears { gateway: g, node: n, serial });
    }

    fn cut_link(&mut self, g: usize, n: usize, lasts_ms: u64) -> Damage {
        let until = self.now + lasts_ms;
        let link = self.links.of(g, n);
        link.cut_until = link.cut_until.max(until);
        // Perhaps it lasts shorter than anybody's patience: then everything comes late.
        let owner = names::of(&[g as u64, n as u64, self.now]);
        let patience_ms = self.draws.at(For::Patience, owner).between(50, SILENCE_MS);
        if patience_ms < lasts_ms {
            self.break_stream(g, n, patience_ms);
        }
        Damage::LinkCut { gateway: g, node: n }
    }

    fn mend_link(&mut self, g: usize, n: usize) {
        let now = self.now;
        let link = self.links.of(g, n);
        link.cut_until = now;
        let serial = link.serial;
        let (up, down) = (std::mem::take(&mut link.held_up), std::mem::take(&mut link.held_down));
        for message in up {
            self.on_up(g, n, serial, message);
        }
        for message in down {
            self.on_down_arrived(g, n, serial, message);
        }
    }

    pub fn kill_gateway(&mut self, g: usize) {
        self.on_gateway_dead(g);
        let gateway = &mut self.gateways[g];
        gateway.alive = false;
        gateway.paused = false;
        gateway.servers_of_vip = gateway.servers_of_vip.saturating_sub(1);
        gateway.backlog.clear();
        gateway.backlog_packets = 0;
        gateway.begin(0, 0);
        for n in 0..NODES {
            self.break_stream(g, n, RESET_MS);
            self.links.of(g, n).gateway_open = false;
        }
    }

    pub fn start_gateway(&mut self, g: usize) {
        if self.gateways[g].alive {
            return;
        }
        let (now, began_at_index) = (self.now, self.consensus.committed);
        let gateway = &mut self.gateways[g];
        gateway.alive = true;
        gateway.incarnation += 1;
        gateway.servers_of_vip += 1;
        gateway.begin(now, began_at_index);
        let life = gateway.incarnation;
        self.schedule.put(now + limits::LEASE_RENEW_MS, Event::Renew { gateway: g, life });
        self.watch.fence.starts(g);
        self.check_vips();
        for n in 0..NODES {
            self.links.of(g, n).connecting = false;
            self.connect_later(g, n, CONNECT_MS_MAX);
        }
    }

    fn resume_gateway(&mut self, g: usize) {
        self.wake_zombie(g);
        if !(self.gateways[g].alive && self.gateways[g].paused) {
            return;
        }
        self.wake_past_check(g);
        let gateway = &mut self.gateways[g];
        gateway.paused = false;
        gateway.backlog_packets = 0;
        let late = std::mem::take(&mut gateway.backlog);
        for event in late {
            self.handle(event);
        }
        self.gateways[g].state.wake_at = None;
        self.serve_gateway(g);
        self.check_again(g);
    }

    /// A planted bug: the supervisor replaces what is merely stopped.
    fn replace_paused(&mut self, g: usize) {
        if self.options.has(Plant::TwoServers) {
            self.gateways[g].servers_of_vip += 1;
            self.check_vips();
        }
    }

    fn check_vips(&mut self) {
        let checked = crate::inv_vip::check(&self.gateways);
        self.check("vip", checked);
    }

    // --- people ------------------------------------------------------------------------------------

    fn ask(&mut self, agent: u16, wish: Wish) {
        let state = match wish {
            Wish::Ready => RequestedState::Ready,
            Wish::NotReady => RequestedState::NotReady { reason: "break".into() },
            Wish::LoggedOut => RequestedState::LoggedOut,
        };
        let agent = AgentId::from((1_001 + u32::from(agent)).to_string());
        self.operate(Command::Operator(OperatorCommand::SetAgentState { agent, state }));
    }

    /// Agents who are not ready come back, by and by.
    pub fn on_desk(&mut self) {
        let resting: Vec<AgentId> = self
            .front()
            .agents
            .values()
            .filter(|agent| {
                agent.is_registered() && matches!(agent.state_name(), "not_ready" | "logged_out")
            })
            .map(|agent| agent.id.clone())
            .collect();
        for agent in resting {
            let name = names::entity(&EntityId::Agent(agent.clone()));
            if self.draws.at(For::Desk, names::of(&[name, self.now])).percent(40) {
                let state = RequestedState::Ready;
                self.operate(Command::Operator(OperatorCommand::SetAgentState { agent, state }));
            }
        }
        self.transfer_one();
        self.pause_one();
        self.consult_one();
        self.schedule.put(self.now + DESK_MS, Event::Desk);
    }
}

/// How often agents look at their desks.
const DESK_MS: u64 = 700;
