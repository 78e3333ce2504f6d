//! The phone as a test holds it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use parking_lot::Mutex;
use tandem_media::endpoint::EndpointPool;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::agent::{Agent, Command};
use super::call::{Call, CallEnd, Ended, Incoming, Options, Violation};
use super::exchange::Exchanges;

pub(super) struct Shared {
    pub calls: Mutex<BTreeMap<String, Call>>,
    pub violations: Mutex<Vec<Violation>>,
    pub changed: watch::Sender<u64>,
}

/// A handle; the phone lives until it is dropped.
pub struct Phone {
    commands: mpsc::UnboundedSender<Command>,
    shared: Arc<Shared>,
    pub address: SocketAddr,
    pub user: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Phone {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Phone {
    pub async fn start(options: Options, pool: Arc<EndpointPool>) -> Result<Self> {
        let socket = UdpSocket::bind((options.bind, 0)).await?;
        let address = socket.local_addr()?;
        let (commands, inbox) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            calls: Mutex::default(),
            violations: Mutex::default(),
            changed: watch::channel(0).0,
        });
        let agent = Agent {
            options: options.clone(),
            address,
            socket,
            pool,
            shared: Arc::clone(&shared),
            exchanges: Exchanges::default(),
            commands: commands.clone(),
            register_cseq: 0,
            answer_at: BTreeMap::new(),
            seen_branches: BTreeSet::new(),
            answers: BTreeMap::new(),
        };
        let task = tokio::spawn(agent.run(inbox));
        Ok(Self { commands, shared, address, user: options.user, task })
    }

    /// Registers, with the digest answer to the challenge. Gives the final status.
    pub async fn register(&self, expires_s: u32) -> Result<u16> {
        let (done, answer) = oneshot::channel();
        self.commands.send(Command::Register { expires_s, done }).ok().context("phone is gone")?;
        answer.await?
    }

    /// Sends an INVITE; gives the Call-ID at once.
    pub fn dial(&self, number: &str) -> Result<String> {
        let call_id = format!("{:016x}@phone", rand::random::<u64>());
        self.commands
            .send(Command::Dial { number: number.to_owned(), call_id: call_id.clone() })
            .ok()
            .context("phone is gone")?;
        Ok(call_id)
    }

    /// Sends BYE; gives its final status.
    pub async fn hang_up(&self, call_id: &str) -> Result<u16> {
        let (done, answer) = oneshot::channel();
        self.commands
            .send(Command::HangUp { call_id: call_id.to_owned(), done })
            .ok()
            .context("phone is gone")?;
        answer.await?
    }

    /// Asks that the other party of the call goes on to the number; the status of the REFER.
    pub async fn refer(&self, call_id: &str, to: &str) -> Result<u16> {
        let (done, answer) = oneshot::channel();
        let (call_id, to) = (call_id.to_owned(), to.to_owned());
        self.commands.send(Command::Refer { call_id, to, done }).ok().context("phone is gone")?;
        answer.await?
    }

    /// The Call-ID of the last call that came in and is not over.
    pub async fn called(&self, within: Duration) -> Result<String> {
        self.until("a call", within, |calls| {
            let live = calls.values().filter(|call| call.incoming && call.end == CallEnd::Live);
            live.max_by_key(|call| call.invited_at).map(|call| call.call_id.clone())
        })
        .await
    }

    pub fn cancel(&self, call_id: &str) -> Result<()> {
        let command = Command::Cancel { call_id: call_id.to_owned() };
        self.commands.send(command).ok().context("phone is gone")
    }

    /// Picks up a ringing call.
    pub fn answer(&self, call_id: &str) -> Result<()> {
        let command = Command::Answer { call_id: call_id.to_owned() };
        self.commands.send(command).ok().context("phone is gone")
    }

    pub fn set_incoming(&self, incoming: Incoming) -> Result<()> {
        self.commands.send(Command::SetIncoming(incoming)).ok().context("phone is gone")
    }

    pub fn with_calls<R>(&self, look: impl FnOnce(&BTreeMap<String, Call>) -> R) -> R {
        look(&self.shared.calls.lock())
    }

    pub fn with_calls_mut<R>(&self, change: impl FnOnce(&mut BTreeMap<String, Call>) -> R) -> R {
        change(&mut self.shared.calls.lock())
    }

    /// Drops a call that is over, with its RTP socket.
    pub fn forget(&self, call_id: &str) {
        self.shared.calls.lock().remove(call_id);
    }

    pub fn violations(&self) -> Vec<Violation> {
        self.shared.violations.lock().clone()
    }

    /// Waits until `found` gives something of the phone's calls.
    pub async fn until<T>(
        &self,
        what: &str,
        within: Duration,
        mut found: impl FnMut(&BTreeMap<String, Call>) -> Option<T>,
    ) -> Result<T> {
        let mut changed = self.shared.changed.subscribe();
        let deadline = Instant::now() + within;
        loop {
            if let Some(value) = self.with_calls(&mut found) {
                return Ok(value);
            }
            match tokio::time::timeout_at(deadline, changed.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => bail!("phone {} is gone", self.user),
                Err(_) => {
                    bail!("phone {}: {what} did not happen within {within:?}", self.user)
                }
            }
        }
    }

    /// Waits until the call is answered; gives the time from INVITE to 200.
    pub async fn answered(&self, call_id: &str, within: Duration) -> Result<Duration> {
        self.until("answer", within, |calls| {
            let call = calls.get(call_id)?;
            call.answered_at.map(|at| at.duration_since(call.invited_at))
        })
        .await
    }

    pub async fn ended(&self, call_id: &str, within: Duration) -> Result<Ended> {
        self.until("end of call", within, |calls| match calls.get(call_id)?.end {
            CallEnd::Live => None,
            CallEnd::Over(ended) => Some(ended),
        })
        .await
    }
}
