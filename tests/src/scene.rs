//! The states in which calls can be when something dies. A scene is played by phones of ours, and by hand where a phone would be
//! too quick: it is entered, something dies, it goes on as its people wish, and is looked at when all is over.

mod by_hand;
mod loss;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::task::JoinHandle;

use self::by_hand::ByHand;
pub use self::loss::Loss;
use crate::house::House;
use crate::phone::{CallEnd, Ended, Incoming, Phone};

const WITHIN: Duration = Duration::from_secs(20);
const QUICK: Incoming = Incoming::Answer { after_ms: 50 };
/// A second of audio: what is missing lies behind it.
const PACKETS: u64 = 50;

/// What is so when something dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// An INVITE is on its way, and was not answered by 100.
    Invited,
    /// The called phone was invited, and has said nothing.
    Called,
    Ringing,
    /// A 180 was said reliably, and has no PRACK.
    Reliable,
    /// CANCEL and the called phone's 200 cross.
    Cancelling,
    /// A 200 was said, and has no ACK.
    Unacknowledged,
    Talking,
    Held,
    /// A request to hold is on its way.
    Holding,
    /// A re-INVITE is on its way.
    Reinviting,
    /// A REFER is on its way.
    Referring,
    /// A BYE is on its way.
    HangingUp,
    /// A REGISTER is on its way.
    Registering,
    /// A menu's prompt plays.
    Prompt,
    /// Music, and nobody to talk to.
    Queued,
    Announcement,
}

impl State {
    pub const ALL: [Self; 16] = [
        Self::Invited,
        Self::Called,
        Self::Ringing,
        Self::Reliable,
        Self::Cancelling,
        Self::Unacknowledged,
        Self::Talking,
        Self::Held,
        Self::Holding,
        Self::Reinviting,
        Self::Referring,
        Self::HangingUp,
        Self::Registering,
        Self::Prompt,
        Self::Queued,
        Self::Announcement,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Invited => "before 100",
            Self::Called => "called, nothing said",
            Self::Ringing => "ringing",
            Self::Reliable => "reliable 180, no PRACK",
            Self::Cancelling => "CANCEL and 200 cross",
            Self::Unacknowledged => "200, no ACK",
            Self::Talking => "talking",
            Self::Held => "on hold",
            Self::Holding => "UPDATE to hold",
            Self::Reinviting => "re-INVITE",
            Self::Referring => "REFER",
            Self::HangingUp => "BYE",
            Self::Registering => "REGISTER",
            Self::Prompt => "menu",
            Self::Queued => "in queue",
            Self::Announcement => "announcement",
        }
    }

    /// Nothing is on its way.
    fn is_at_rest(self) -> bool {
        match self {
            Self::Ringing
            | Self::Talking
            | Self::Held
            | Self::Prompt
            | Self::Queued
            | Self::Announcement => true,
            Self::Invited
            | Self::Called
            | Self::Reliable
            | Self::Cancelling
            | Self::Unacknowledged
            | Self::Holding
            | Self::Reinviting
            | Self::Referring
            | Self::HangingUp
            | Self::Registering => false,
        }
    }

    /// Two talk, before anything else happens.
    fn begins_with_talk(self) -> bool {
        matches!(
            self,
            Self::Talking | Self::Held | Self::Holding | Self::Referring | Self::HangingUp
        )
    }
}

/// What its people talk SIP over. TLS and WebSockets are agents': their callers are a carrier's, over UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Over {
    Udp,
    /// With phones that listen at their Contact.
    Tcp,
    Tls,
    Ws,
}

impl Over {
    pub const ALL: [Self; 4] = [Self::Udp, Self::Tcp, Self::Tls, Self::Ws];

    pub fn name(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Ws => "WS",
        }
    }

    /// Whether anything of a state goes over it, and nothing that is lost with a connection: over those nobody says again what
    /// a process was given that is dead.
    pub fn has(self, state: State) -> bool {
        match self {
            Self::Udp => true,
            Self::Tcp => state.is_at_rest(),
            Self::Tls | Self::Ws => {
                matches!(state, State::Ringing | State::Talking | State::Held)
            }
        }
    }

    fn of_callers(self) -> Self {
        match self {
            Self::Udp | Self::Tls | Self::Ws => Self::Udp,
            Self::Tcp => Self::Tcp,
        }
    }

    async fn phone(
        self,
        house: &House,
        user: &str,
        at: usize,
        incoming: Incoming,
    ) -> Result<Phone> {
        match self {
            Self::Udp => house.phone(user, at, incoming).await,
            Self::Tcp => house.phone_over_tcp(user, at, incoming, true).await,
            Self::Tls => house.phone_over_tls(user, at, incoming).await,
            Self::Ws => house.phone_over_ws(user, at, incoming).await,
        }
    }
}

/// What was on its way when something died; its status.
type UnderWay = JoinHandle<Result<u16>>;

pub struct Scene<'a> {
    house: &'a House,
    state: State,
    over: Over,
    /// The service address that its people use, by its place in the list.
    at: usize,
    caller: Arc<Phone>,
    /// The agents that are in it, of the first the call's leg.
    agents: Vec<Arc<Phone>>,
    offered: String,
    call: String,
    hand: Option<ByHand>,
    /// What the API said of it.
    before: Value,
    under_way: Option<UnderWay>,
}

impl<'a> Scene<'a> {
    /// Until its people are in that state.
    ///
    /// # Errors
    /// They don't come to be.
    pub async fn enter(house: &'a House, state: State, over: Over, at: usize) -> Result<Self> {
        let incoming = Incoming::Reject { status: 486 };
        let caller = over.of_callers().phone(house, "13800000001", at, incoming).await?;
        let caller = Arc::new(caller);
        let agents = Vec::new();
        let (offered, call) = (String::new(), String::new());
        let (hand, before, under_way) = (None, Value::Null, None);
        let mut scene =
            Self { house, state, over, at, caller, agents, offered, call, hand, before, under_way };
        scene.begin().await.with_context(|| format!("{:?} is not entered", state))?;
        Ok(scene)
    }

    async fn agent(&mut self, id: &str, incoming: Incoming) -> Result<Arc<Phone>> {
        let phone = self.over.phone(self.house, id, self.at, incoming).await?;
        let agent = Arc::new(self.house.registered(phone, id).await?);
        self.agents.push(Arc::clone(&agent));
        Ok(agent)
    }

    async fn begin(&mut self) -> Result<()> {
        let house = self.house;
        if self.state.begins_with_talk() {
            let agent = self.agent("1001", QUICK).await?;
            if self.state == State::Referring {
                self.agent("1002", QUICK).await?;
            }
            self.call = house.call(&self.caller, "1001", "connected").await?;
            self.offered = agent.called(WITHIN).await?;
        }
        match self.state {
            State::Invited | State::Registering => {}
            State::Called | State::Reliable | State::Unacknowledged | State::Reinviting => {
                if self.state == State::Reliable {
                    self.agent("1001", Incoming::Ring).await?;
                }
                self.hand = Some(ByHand::enter(house, self.state, self.at, &self.caller).await?);
            }
            State::Ringing | State::Cancelling => {
                let agent = self.agent("1001", Incoming::Ring).await?;
                self.call = self.caller.dial("1001")?;
                self.offered = agent.called(WITHIN).await?;
                let call = self.call.clone();
                let rings = |calls: &std::collections::BTreeMap<String, crate::phone::Call>| {
                    calls.get(&call).filter(|call| call.ringing).map(|_| ())
                };
                self.caller.until("a 180", WITHIN, rings).await?;
            }
            State::Talking | State::Holding | State::Referring | State::HangingUp => {}
            State::Held => {
                let status = self.agents[0].hold(&self.offered, true).await?;
                ensure!(status == 200, "hold was answered {status}");
            }
            State::Prompt => self.call = house.call(&self.caller, "4000", "in_flow").await?,
            State::Queued => {
                self.call = house.call(&self.caller, "4002", "queued").await?;
                self.before = house.api.get("/v1/queues/sales").await?["waiting"].clone();
            }
            State::Announcement => self.call = house.call(&self.caller, "4004", "in_flow").await?,
        }
        if self.is_heard() {
            self.caller.receives(&self.call, 10, WITHIN).await?;
            self.caller.mark();
        }
        Ok(())
    }

    /// Whether the caller hears something all the time.
    fn is_heard(&self) -> bool {
        matches!(
            self.state,
            State::Talking
                | State::Held
                | State::Holding
                | State::Referring
                | State::Prompt
                | State::Queued
                | State::Announcement
        )
    }

    /// What is to be on its way is sent, and nobody waits for anything.
    ///
    /// # Errors
    /// A phone is gone.
    pub async fn strike(&mut self) -> Result<()> {
        let (caller, agents) = (Arc::clone(&self.caller), self.agents.clone());
        let (call, offered) = (self.call.clone(), self.offered.clone());
        match self.state {
            State::Invited => self.call = caller.dial("4003")?,
            State::Cancelling => {
                caller.cancel(&call)?;
                agents[0].answer(&offered)?;
            }
            State::Holding => {
                let hold = async move { agents[0].hold(&offered, true).await };
                self.under_way = Some(tokio::spawn(hold));
            }
            State::Referring => {
                let refer = async move { agents[0].refer(&offered, "1002").await };
                self.under_way = Some(tokio::spawn(refer));
            }
            State::HangingUp => {
                self.under_way = Some(tokio::spawn(async move { caller.hang_up(&call).await }));
            }
            State::Registering => {
                let phone = self.house.phone("1003", self.at, QUICK).await?;
                let phone = Arc::new(phone);
                self.agents.push(Arc::clone(&phone));
                self.under_way = Some(tokio::spawn(async move { phone.register(600).await }));
            }
            State::Reinviting => {
                if let Some(hand) = &self.hand {
                    hand.strike().await?;
                }
            }
            State::Called
            | State::Ringing
            | State::Reliable
            | State::Unacknowledged
            | State::Talking
            | State::Held
            | State::Prompt
            | State::Queued
            | State::Announcement => {}
        }
        Ok(())
    }

    /// All goes on as its people wish, and is looked at. The longest time in which the caller heard nothing, in
    /// milliseconds, where there was something to hear.
    ///
    /// # Errors
    /// What was lost.
    pub async fn leave(mut self) -> Result<Option<u64>> {
        let state = self.state;
        let gap = self.go_on().await.with_context(|| format!("{state:?} does not go on"))?;
        self.look().await.with_context(|| format!("{state:?} is left in disorder"))?;
        Ok(gap)
    }

    async fn go_on(&mut self) -> Result<Option<u64>> {
        let gap = if self.is_heard() { self.hears_again().await? } else { None };
        let status = match self.under_way.take() {
            Some(under_way) => Some(under_way.await??),
            None => None,
        };
        let (house, caller, call) = (self.house, &self.caller, self.call.as_str());
        match self.state {
            State::Invited => {
                caller.answered(call, WITHIN).await?;
                caller.receives(call, 10, WITHIN).await?;
                self.hang_up().await?;
            }
            State::Called | State::Reliable | State::Unacknowledged | State::Reinviting => {
                let hand = self.hand.as_mut().context("a hand")?;
                let agent = self.agents.first().map(Arc::as_ref);
                self.call = hand.go_on(house, &self.caller, agent).await?;
            }
            State::Ringing => {
                self.agents[0].answer(&self.offered)?;
                caller.answered(call, WITHIN).await?;
                house.call_is(call, "connected").await?;
                self.hang_up().await?;
            }
            State::Cancelling => {
                let over = |calls: &std::collections::BTreeMap<String, crate::phone::Call>| {
                    let call = calls.get(call)?;
                    let is_over = call.end != CallEnd::Live;
                    (is_over || call.answered_at.is_some()).then_some(is_over)
                };
                if !caller.until("487 or 200", WITHIN, over).await? {
                    // RFC 3261 §9.1: who is answered all the same hangs up.
                    self.hang_up().await?;
                }
            }
            State::Talking => self.hang_up().await?,
            State::Held | State::Holding => {
                ensure!(status.is_none_or(|status| status == 200), "hold: {status:?}");
                let shown = house.item(&format!("/v1/calls?sip_call_id={call}")).await?;
                ensure!(shown["held"] == true, "{shown}");
                let status = self.agents[0].hold(&self.offered, false).await?;
                ensure!(status == 200, "the call was taken back with {status}");
                caller.hears(call, 440, WITHIN).await?;
                self.hang_up().await?;
            }
            State::Referring => {
                ensure!(status == Some(202), "REFER was answered {status:?}");
                let sent_on = self.agents[1].called(WITHIN).await?;
                let path = format!("/v1/calls?sip_call_id={call}");
                let talks = |page: &Value| {
                    let call = &page["items"][0];
                    (call["agent"] == "1002" && call["state"] == "connected").then_some(())
                };
                house.api.until(&path, WITHIN, talks).await?;
                caller.receives(call, 10, WITHIN).await?;
                self.hang_up().await?;
                self.agents[1].ended(&sent_on, WITHIN).await?;
            }
            State::HangingUp => {
                ensure!(status == Some(200), "BYE was answered {status:?}");
                let ended = self.agents[0].ended(&self.offered, WITHIN).await?;
                ensure!(ended == Ended::ByPeer, "{ended:?}");
            }
            State::Registering => {
                ensure!(status == Some(200), "REGISTER was answered {status:?}");
                let agent = house.api.get("/v1/agents/1003").await?;
                ensure!(agent["registered"] == true, "{agent}");
            }
            State::Prompt => {
                caller.press(call, "2")?;
                house.call_is(call, "queued").await?;
                self.hang_up().await?;
            }
            State::Queued => {
                let waiting = house.api.get("/v1/queues/sales").await?["waiting"].clone();
                ensure!(waiting == self.before, "{waiting} waits, and {} waited", self.before);
                self.hang_up().await?;
            }
            State::Announcement => {
                let ended = caller.ended(call, WITHIN).await?;
                ensure!(ended == Ended::ByPeer, "{ended:?}");
            }
        }
        Ok(gap)
    }

    async fn hears_again(&self) -> Result<Option<u64>> {
        self.caller.receives(&self.call, PACKETS, WITHIN).await?;
        Ok(self.caller.spacing_ms_max(&self.call))
    }

    async fn hang_up(&self) -> Result<()> {
        let status = self.caller.hang_up(&self.call).await?;
        ensure!(status == 200, "BYE was answered {status}");
        Ok(())
    }

    /// One record, nothing that lives on, nobody who saw what must not be.
    async fn look(&self) -> Result<()> {
        if !self.call.is_empty() {
            self.house.cdr(&self.call).await?;
        }
        let live = |page: &Value| page["items"].as_array()?.is_empty().then_some(());
        self.house.api.until("/v1/calls", WITHIN, live).await?;
        let busy = |page: &Value| {
            let channels = page["items"].as_array()?;
            channels.iter().all(|channel| channel["state"] == "idle").then_some(())
        };
        let path = "/v1/trunks/carrier/channels?limit=200";
        self.house.api.until(path, WITHIN, busy).await.context("a channel is stuck")?;
        for agent in &self.agents {
            self.house.agent_is(&agent.user, "ready").await?;
        }
        for phone in self.agents.iter().chain([&self.caller]) {
            let violations = phone.violations();
            ensure!(violations.is_empty(), "{} saw {violations:?}", phone.user);
            if self.agents.iter().any(|agent| Arc::ptr_eq(agent, phone)) {
                let status = phone.register(0).await?;
                ensure!(status == 200, "who goes home was answered {status}");
            }
        }
        Ok(())
    }
}
