//! The phone as a test holds it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use parking_lot::Mutex;
use tandem_media::endpoint::EndpointPool;
use tandem_sip::sdp::Codec;
use tandem_sip::{Method, Request};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::agent::{Agent, Command};
use super::call::{Call, CallEnd, Ended, Incoming, Options, Violation};
use super::exchange::Exchanges;
use super::line::{Line, Over};

const HEARD_EVERY: Duration = Duration::from_millis(20);

pub(super) struct Shared {
    pub calls: Mutex<BTreeMap<String, Call>>,
    pub violations: Mutex<Vec<Violation>>,
    /// What the phone adds to its INVITE, its answers and its BYE.
    pub headers: Mutex<Vec<(String, String)>>,
    /// What it answers to a method within a dialog, where that is no 200.
    pub denied: Mutex<Vec<(Method, u16)>>,
    /// What it speaks, what it would like best first.
    pub codecs: Mutex<Vec<Codec>>,
    /// REGISTERs that were taken.
    pub registrations: AtomicU32,
    pub changed: watch::Sender<u64>,
}

/// No packet spacing above this may be the media path's doing; a loaded test machine gets some
/// slack on top.
pub const SPACING_MS_MAX: u64 = 60 + 60;

/// A handle; the phone lives until it is dropped.
pub struct Phone {
    commands: mpsc::UnboundedSender<Command>,
    shared: Arc<Shared>,
    pub address: SocketAddr,
    pub user: String,
    away: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Phone {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Phone {
    /// Over UDP.
    pub async fn start(options: Options, pool: Arc<EndpointPool>) -> Result<Self> {
        Self::start_over(&Over::Udp, options, pool).await
    }

    pub async fn start_over(
        over: &Over,
        options: Options,
        pool: Arc<EndpointPool>,
    ) -> Result<Self> {
        let (line, address) = Line::open(over, options.bind, options.server).await?;
        let (reliable, away) = (line.transport().is_reliable(), line.away());
        let (commands, inbox) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            calls: Mutex::default(),
            violations: Mutex::default(),
            headers: Mutex::default(),
            denied: Mutex::default(),
            codecs: Mutex::new(vec![Codec::Pcmu, Codec::Pcma]),
            registrations: AtomicU32::new(0),
            changed: watch::channel(0).0,
        });
        let agent = Agent {
            options: options.clone(),
            address,
            line,
            pool,
            shared: Arc::clone(&shared),
            exchanges: Exchanges::new(reliable),
            commands: commands.clone(),
            register_cseq: 0,
            registered_s: None,
            register_at: None,
            moved: None,
            answer_at: BTreeMap::new(),
            seen_branches: BTreeSet::new(),
            answers: BTreeMap::new(),
        };
        let task = tokio::spawn(agent.run(inbox));
        Ok(Self { commands, shared, address, user: options.user, away, task })
    }

    /// From now on it does not come back where its connection is gone.
    pub fn stay_away(&self) {
        self.away.store(true, Ordering::Relaxed);
    }

    /// Registers, with the digest answer to the challenge. Gives the final status.
    pub async fn register(&self, expires_s: u32) -> Result<u16> {
        let (done, answer) = oneshot::channel();
        self.commands.send(Command::Register { expires_s, done }).ok().context("phone is gone")?;
        answer.await?
    }

    /// REGISTERs of it that were taken so far.
    pub fn registrations(&self) -> u32 {
        self.shared.registrations.load(Ordering::Relaxed)
    }

    /// Until so many were taken.
    pub async fn registers(&self, times: u32, within: Duration) -> Result<()> {
        self.until("a registration", within, |_| (self.registrations() >= times).then_some(()))
            .await
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

    /// Until so many more packets of audio have come.
    pub async fn receives(&self, call_id: &str, packets: u64, within: Duration) -> Result<()> {
        let received =
            || self.with_calls(|calls| Some(calls.get(call_id)?.media.as_ref()?.stats().received));
        let enough = received().context("a call with media")? + packets;
        let deadline = Instant::now() + within;
        let mut look = tokio::time::interval(HEARD_EVERY);
        while received().is_some_and(|received| received < enough) {
            ensure!(Instant::now() < deadline, "phone {} hears nothing more", self.user);
            look.tick().await;
        }
        Ok(())
    }

    /// Until it hears a tone of so many hertz.
    pub async fn hears(&self, call_id: &str, hz: u32, within: Duration) -> Result<()> {
        let tone = || self.with_calls(|calls| calls.get(call_id)?.media.as_ref()?.heard_hz(200));
        let deadline = Instant::now() + within;
        let mut look = tokio::time::interval(HEARD_EVERY);
        while tone() != Some(hz) {
            ensure!(
                Instant::now() < deadline,
                "phone {} hears {:?}, not {hz} Hz",
                self.user,
                tone()
            );
            look.tick().await;
        }
        Ok(())
    }

    /// From now on its INVITE, its answers and its BYE have these headers, too.
    pub fn say(&self, headers: &[(&str, &str)]) {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        *self.shared.headers.lock() = headers.iter().map(owned).collect();
    }

    /// From now on requests of that method within a dialog are answered so.
    pub fn deny(&self, method: Method, status: u16) {
        self.shared.denied.lock().push((method, status));
    }

    /// From now on it offers and takes these codecs, in this order.
    pub fn speak(&self, codecs: &[Codec]) {
        *self.shared.codecs.lock() = codecs.to_vec();
    }

    /// Waits for the `nth` request of a method that comes to a call, from 0.
    pub async fn heard(
        &self,
        call_id: &str,
        method: &Method,
        nth: usize,
        within: Duration,
    ) -> Result<Request> {
        self.until(&format!("{method} {nth}"), within, |calls| {
            let heard = &calls.get(call_id)?.heard;
            heard.iter().filter(|request| request.method == *method).nth(nth).cloned()
        })
        .await
    }

    /// Asks that the other party of the call goes on to the number; the status of the REFER.
    pub async fn refer(&self, call_id: &str, to: &str) -> Result<u16> {
        self.refer_replacing(call_id, to, None).await
    }

    /// The same, to take the place of a dialog: see [`Self::dialog`].
    pub async fn refer_replacing(
        &self,
        call_id: &str,
        to: &str,
        replaces: Option<String>,
    ) -> Result<u16> {
        let (done, answer) = oneshot::channel();
        let (call_id, to) = (call_id.to_owned(), to.to_owned());
        let command = Command::Refer { call_id, to, replaces, done };
        self.commands.send(command).ok().context("phone is gone")?;
        answer.await?
    }

    /// The dialog of a call as Replaces names it for the other party (RFC 3891 §3), early or not.
    pub fn dialog(&self, call_id: &str) -> Result<String> {
        self.with_calls(|calls| {
            let call = calls.get(call_id).with_context(|| format!("no call {call_id}"))?;
            let early = call.incoming.then(|| (call.invite.headers.from_tag(), &call.local_tag));
            let early = early.and_then(|(theirs, ours)| Some((theirs?, ours.as_str())));
            let dialog = call.dialog.as_ref();
            let dialog = dialog.map(|it| (it.remote_tag.as_str(), it.local_tag.as_str()));
            let tags = dialog.or(early);
            let (to, from) = tags.with_context(|| format!("call {call_id} has no dialog"))?;
            Ok(format!("{call_id};to-tag={to};from-tag={from}"))
        })
    }

    /// Holds a call, or takes it back; the status of the UPDATE.
    pub async fn hold(&self, call_id: &str, held: bool) -> Result<u16> {
        let (done, answer) = oneshot::channel();
        let call_id = call_id.to_owned();
        let command = Command::Hold { call_id, held, done };
        self.commands.send(command).ok().context("phone is gone")?;
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

    /// Presses keys in a call, one after the other, in its RTP (RFC 4733).
    pub fn press(&self, call_id: &str, keys: &str) -> Result<()> {
        self.with_calls(|calls| {
            let media = calls.get(call_id).and_then(|call| call.media.as_ref());
            let media = media.with_context(|| format!("call {call_id} has no audio"))?;
            for key in keys.chars() {
                ensure!(media.press(key), "{key:?} is no key, or too many are pressed");
            }
            Ok(())
        })
    }

    /// The share of one frequency in what was heard last, 0 to 1.
    pub fn heard_share(&self, call_id: &str, hz: u32, last_ms: u32) -> f64 {
        self.with_calls(|calls| {
            let media = calls.get(call_id).and_then(|call| call.media.as_ref());
            media.map_or(0.0, |media| media.heard_share(hz, last_ms))
        })
    }

    /// How loud the last so many milliseconds of a call were; 0 for silence.
    pub fn heard_level(&self, call_id: &str, last_ms: u32) -> f64 {
        self.with_calls(|calls| {
            let media = calls.get(call_id).and_then(|call| call.media.as_ref());
            media.map_or(0.0, |media| media.heard_level(last_ms))
        })
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

    /// From now on it is looked how far apart packets are.
    pub fn mark(&self) {
        self.with_calls(|calls| {
            for endpoint in calls.values().filter_map(|call| call.media.as_ref()) {
                endpoint.mark();
            }
        });
    }

    /// The longest time between two packets since then; none where none came.
    pub fn spacing_ms_max(&self, call_id: &str) -> Option<u64> {
        self.with_calls(|calls| {
            let stats = calls.get(call_id)?.media.as_ref()?.stats();
            (stats.received > 0).then_some(stats.spacing_ms_max)
        })
    }

    /// # Panics
    /// Where there was a gap, or no audio at all.
    #[track_caller]
    pub fn heard_all(&self, call_id: &str) {
        let spacing = self.spacing_ms_max(call_id).expect("audio");
        assert!(spacing <= SPACING_MS_MAX, "{} heard nothing for {spacing} ms", self.user);
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

    /// Waits until the call is answered; gives the time from INVITE to 200. One that ends instead says how.
    pub async fn answered(&self, call_id: &str, within: Duration) -> Result<Duration> {
        let answer = self.until("answer", within, |calls| {
            let call = calls.get(call_id)?;
            match (call.answered_at, &call.end) {
                (Some(at), _) => Some(Ok(at.duration_since(call.invited_at))),
                (None, CallEnd::Live) => None,
                (None, CallEnd::Over(ended)) => Some(Err(*ended)),
            }
        });
        answer.await?.map_err(|ended| anyhow!("phone {}: no answer, but {ended:?}", self.user))
    }

    pub async fn ended(&self, call_id: &str, within: Duration) -> Result<Ended> {
        self.until("end of call", within, |calls| match calls.get(call_id)?.end {
            CallEnd::Live => None,
            CallEnd::Over(ended) => Some(ended),
        })
        .await
    }
}
