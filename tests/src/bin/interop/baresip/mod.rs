//! baresip as the phone of an agent.

mod process;
mod transfers;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use tandem_tests::house::House;
use tandem_tests::phone::{Incoming, Phone};

use crate::listen::{
    COLLEAGUE_HZ, COMES, CUSTOMER_HZ, WITHIN, has_heard, hears, hears_music_instead_of,
    keeps_hearing,
};
use crate::report::{Feature, Report};
use crate::tenant::{ECHO, FLOW, KEYS, PHONES};
use process::Baresip;

const TONE_HZ: u32 = 1_000;
/// Its own voice is listened to so long.
const ECHO_TALK: Duration = Duration::from_secs(5);

/// How baresip reaches the cluster.
pub enum Way {
    Udp,
    Tcp,
    /// TLS with these roots, and SRTP alone.
    TlsSrtp {
        roots: PathBuf,
    },
}

impl Way {
    /// Each has agents and ports of its own.
    fn place(&self) -> u16 {
        match self {
            Self::Udp => 0,
            Self::Tcp => 1,
            Self::TlsSrtp { .. } => 2,
        }
    }

    fn transport(&self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::TlsSrtp { .. } => "tls",
        }
    }

    fn peer(&self) -> &'static str {
        match self {
            Self::Udp => "baresip, udp",
            Self::Tcp => "baresip, tcp",
            Self::TlsSrtp { .. } => "baresip, tls, srtp",
        }
    }

    fn config(&self) -> String {
        match self {
            Self::Udp | Self::Tcp => String::new(),
            Self::TlsSrtp { roots } => {
                format!("sip_cafile {}\nsip_verify_server yes\nmodule srtp.so\n", roots.display())
            }
        }
    }

    fn account(&self) -> &'static str {
        match self {
            Self::Udp | Self::Tcp => "",
            Self::TlsSrtp { .. } => ";mediaenc=srtp-mand",
        }
    }
}

/// baresip at work: its agent, a colleague and a customer with phones of ours.
struct Desk<'h> {
    house: &'h House,
    baresip: Baresip,
    agent: &'static str,
    colleague: Phone,
    customer: Phone,
}

pub async fn try_all(
    house: &House,
    server: SocketAddr,
    way: &Way,
    talk: Duration,
    report: &Report,
) {
    let peer = way.peer();
    let mut desk = match Desk::open(house, server, way).await {
        Ok(desk) => desk,
        Err(error) => {
            report.note(peer, Feature::Registers, Err(error));
            return;
        }
    };
    report.note(peer, Feature::Registers, Ok(()));
    report.note(peer, Feature::IsCalled, desk.is_called(talk).await);
    report.note(peer, Feature::CallsColleague, desk.calls_colleague(talk).await);
    report.note(peer, Feature::CallsEcho, desk.calls_echo().await);
    report.note(peer, Feature::Holds, desk.holds().await);
    report.note(peer, Feature::SendsKeys, desk.sends_keys().await);
    report.note(peer, Feature::Transfers, desk.transfers().await);
    report.note(peer, Feature::AsksAndTransfers, desk.asks_and_transfers().await);
}

impl<'h> Desk<'h> {
    async fn open(house: &'h House, server: SocketAddr, way: &Way) -> Result<Self> {
        let (agent, colleague) = PHONES[usize::from(way.place())];
        let baresip = Baresip::start(server, agent, way).await?;
        // It may have registered before its control port was open, so the cluster is asked.
        house.agent_is(agent, "ready").await?;
        let quick = Incoming::Answer { after_ms: 50 };
        let colleague = house.agent_with_tone(colleague, 1, quick, COLLEAGUE_HZ).await?;
        let busy = Incoming::Reject { status: 486 };
        let number = format!("1380000{agent}");
        let customer = house.phone_with_tone(&number, 0, busy, CUSTOMER_HZ).await?;
        Ok(Self { house, baresip, agent, colleague, customer })
    }

    /// A customer who hears baresip: the Call-IDs of both legs.
    async fn serves(&mut self, number: &str) -> Result<(String, String)> {
        self.baresip.forget_heard()?;
        let customer = self.house.call(&self.customer, number, "connected").await?;
        let own = self.baresip.until("CALL_ESTABLISHED").await?;
        hears(&self.customer, &customer, TONE_HZ).await?;
        Ok((customer, own))
    }

    async fn is_called(&mut self, talk: Duration) -> Result<()> {
        let (call, _) = self.serves(self.agent).await?;
        keeps_hearing(&self.customer, &call, TONE_HZ, talk, COMES).await?;
        ensure!(self.customer.hang_up(&call).await? == 200, "our BYE is not answered 200");
        self.baresip.until("CALL_CLOSED").await?;
        has_heard(&self.baresip.heard()?, CUSTOMER_HZ, talk).await?;
        self.house.agent_is(self.agent, "ready").await
    }

    async fn calls_colleague(&mut self, talk: Duration) -> Result<()> {
        self.baresip.forget_heard()?;
        self.baresip.tell("dial", &self.colleague.user).await?;
        let call = self.colleague.called(WITHIN).await?;
        self.baresip.until("CALL_ESTABLISHED").await?;
        keeps_hearing(&self.colleague, &call, TONE_HZ, talk, COMES).await?;
        self.baresip.tell("hangup", "").await?;
        self.colleague.ended(&call, WITHIN).await?;
        has_heard(&self.baresip.heard()?, COLLEAGUE_HZ, talk).await?;
        self.house.agent_is(&self.colleague.user, "ready").await?;
        self.house.agent_is(self.agent, "ready").await
    }

    async fn calls_echo(&mut self) -> Result<()> {
        self.baresip.forget_heard()?;
        self.baresip.tell("dial", ECHO).await?;
        self.baresip.until("CALL_ESTABLISHED").await?;
        // Nobody else hears it: how long it lasts is all there is.
        tokio::time::sleep(ECHO_TALK).await;
        self.baresip.tell("hangup", "").await?;
        self.baresip.until("CALL_CLOSED").await?;
        let whole = ECHO_TALK - Duration::from_secs(1);
        has_heard(&self.baresip.heard()?, TONE_HZ, whole).await?;
        self.house.agent_is(self.agent, "ready").await
    }

    async fn holds(&mut self) -> Result<()> {
        let (call, _) = self.serves(self.agent).await?;
        self.baresip.tell("hold", "").await?;
        self.house.agent_is(self.agent, "held").await?;
        hears_music_instead_of(&self.customer, &call, TONE_HZ).await?;
        self.baresip.tell("resume", "").await?;
        self.house.agent_is(self.agent, "talking").await?;
        hears(&self.customer, &call, TONE_HZ).await?;
        self.ends(&call).await
    }

    /// RFC 4733: it has no other way.
    async fn sends_keys(&mut self) -> Result<()> {
        self.baresip.tell("dial", FLOW).await?;
        let call = self.baresip.until("CALL_ESTABLISHED").await?;
        self.house.flow_is(&call, |flow| flow["step"] == "ask").await?;
        for (at, key) in KEYS.char_indices() {
            self.baresip.tell("sndcode", &key.to_string()).await?;
            let so_far = &KEYS[..=at];
            self.house.flow_is(&call, |flow| flow["digits"] == so_far).await?;
        }
        self.baresip.tell("sndcode", "#").await?;
        self.house.flow_is(&call, |flow| flow["step"] == "right").await?;
        self.baresip.tell("hangup", "").await?;
        self.baresip.until("CALL_CLOSED").await?;
        self.house.agent_is(self.agent, "ready").await
    }

    /// The customer hangs up on baresip.
    async fn ends(&mut self, call: &str) -> Result<()> {
        ensure!(self.customer.hang_up(call).await? == 200, "our BYE is not answered 200");
        self.baresip.until("CALL_CLOSED").await?;
        self.house.agent_is(self.agent, "ready").await
    }
}
