//! baresip as the phone of an agent: it is driven by its control port (module `ctrl_tcp`), plays a
//! tone and answers by itself.

use std::io::{BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tandem_tests::house::House;
use tandem_tests::phone::{CallEnd, Incoming, Phone};

use crate::report::Report;

const AGENT: &str = "1001";
/// An agent with a phone of ours, for it to call.
const COLLEAGUE: &str = "1002";
const TONE_HZ: u32 = 1_000;
const WITHIN: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const SIP_PORT: u16 = 28_260;
const CONTROL_PORT: u16 = 28_270;

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
    fn transport(&self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::TlsSrtp { .. } => "tls",
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::TlsSrtp { .. } => "tls, srtp",
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

/// A running baresip. Dropping it ends it.
struct Baresip {
    child: Child,
    control: TcpStream,
    events: Receiver<serde_json::Value>,
    _dir: tempfile::TempDir,
}

impl Baresip {
    fn start(server: SocketAddr, way: &Way) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let transport = way.transport();
        let mut config = format!(
            "poll_method epoll\nsip_listen 127.0.0.1:{SIP_PORT}\nnet_interface 127.0.0.1\n\
             call_local_timeout 60\ncall_max_calls 4\n\
             audio_source ausine,{TONE_HZ}\naudio_player aubridge,nobody\naudio_alert aubridge,nobody\n\
             ausrc_srate 48000\nausrc_channels 2\nauplay_srate 48000\nauplay_channels 1\nausrc_format s16\nauplay_format s16\n\
             rtp_ports 45100-45199\nctrl_tcp_listen 127.0.0.1:{CONTROL_PORT}\n\
             module_path /usr/lib/baresip/modules\nmodule g711.so\nmodule ausine.so\nmodule aubridge.so\n\
             module_tmp uuid.so\nmodule_tmp account.so\nmodule_app menu.so\nmodule_app ctrl_tcp.so\n"
        );
        config.push_str(&way.config());
        std::fs::write(dir.path().join("config"), config)?;
        let account = format!(
            "<sip:{AGENT}@{server};transport={transport}>;auth_user={AGENT};auth_pass=tandem-{AGENT};\
             outbound=\"sip:{server};transport={transport}\";answermode=auto;regint=300;audio_codecs=PCMU,PCMA{}\n",
            way.account()
        );
        std::fs::write(dir.path().join("accounts"), account)?;
        std::fs::write(dir.path().join("contacts"), "")?;
        let child = Command::new("baresip")
            .arg("-f")
            .arg(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start baresip (Debian: baresip-core)")?;
        let deadline = Instant::now() + WITHIN;
        let control = loop {
            match TcpStream::connect(("127.0.0.1", CONTROL_PORT)) {
                Ok(control) => break control,
                Err(error) if Instant::now() >= deadline => {
                    return Err(error).context("baresip opens no control port");
                }
                Err(_) => std::thread::sleep(LOOK_AGAIN),
            }
        };
        let (said, events) = mpsc::channel();
        let reader = control.try_clone()?;
        std::thread::spawn(move || {
            let mut reader = BufReader::new(reader);
            while let Some(message) = read_netstring(&mut reader) {
                if said.send(message).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, control, events, _dir: dir })
    }

    fn tell(&mut self, command: &str, params: &str) -> Result<()> {
        let text = serde_json::json!({ "command": command, "params": params }).to_string();
        write!(self.control, "{}:{text},", text.len())?;
        Ok(())
    }

    /// Waits for an event of this type; those before it are passed over.
    fn until(&self, kind: &str) -> Result<()> {
        let deadline = Instant::now() + WITHIN;
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(message) = self.events.recv_timeout(left) else {
                bail!("no {kind} within {WITHIN:?}, only {seen:?}");
            };
            match message["type"].as_str() {
                Some(found) if found == kind => return Ok(()),
                Some(other) => seen.push(other.to_owned()),
                None => {}
            }
        }
    }
}

impl Drop for Baresip {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `LENGTH:JSON,`
fn read_netstring(reader: &mut impl std::io::BufRead) -> Option<serde_json::Value> {
    let mut length = Vec::new();
    reader.read_until(b':', &mut length).ok()?;
    let length = std::str::from_utf8(length.strip_suffix(b":")?).ok()?.parse::<usize>().ok()?;
    let mut text = vec![0; length + 1];
    reader.read_exact(&mut text).ok()?;
    serde_json::from_slice(&text[..length]).ok()
}

pub async fn try_all(
    house: &House,
    server: SocketAddr,
    way: &Way,
    talk: Duration,
    report: &mut Report,
) {
    let peer = format!("baresip, {}", way.name());
    let mut baresip = match Baresip::start(server, way) {
        Ok(baresip) => baresip,
        Err(error) => {
            report.note(&peer, "registers", Err(error));
            return;
        }
    };
    // It may have registered before its control port was open, so the cluster is asked.
    if !report.note(&peer, "registers", house.agent_is(AGENT, "ready").await) {
        return;
    }
    let called = is_called(house, &mut baresip, talk, report, &peer).await;
    report.note(&peer, "is called", called);
    report.note(&peer, "calls a colleague", calls(house, &mut baresip, talk).await);
    report.note(&peer, "calls the echo", calls_echo(house, &mut baresip, talk).await);
}

/// What the phone hears of its one call.
async fn hears(phone: &Phone, call_id: &str, hz: Option<u32>) -> Result<()> {
    let deadline = Instant::now() + WITHIN;
    loop {
        let media = phone.with_calls(|calls| calls.get(call_id)?.media.clone());
        let heard = media.context("the call has no media")?.heard_hz(200);
        let same = match (heard, hz) {
            (Some(heard), Some(hz)) => heard.abs_diff(hz) <= 10,
            (heard, hz) => heard == hz,
        };
        if same {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "heard {heard:?} Hz instead of {hz:?}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The tone is there all the time.
async fn keeps_hearing(phone: &Phone, call_id: &str, talk: Duration) -> Result<()> {
    hears(phone, call_id, Some(TONE_HZ)).await?;
    let media = phone.with_calls(|calls| calls.get(call_id)?.media.clone());
    let media = media.context("the call has no media")?;
    media.mark();
    let until = Instant::now() + talk;
    while Instant::now() < until {
        tokio::time::sleep(LOOK_AGAIN).await;
        let heard = media.heard_hz(200);
        let same = heard.is_some_and(|heard| heard.abs_diff(TONE_HZ) <= 10);
        ensure!(same, "heard {heard:?} Hz in between");
    }
    let stats = media.stats();
    let expected = u64::try_from(talk.as_millis())? / 20;
    ensure!(stats.received * 10 > expected * 9, "{} of {expected} packets", stats.received);
    Ok(())
}

async fn is_called(
    house: &House,
    baresip: &mut Baresip,
    talk: Duration,
    report: &mut Report,
    peer: &str,
) -> Result<()> {
    let caller = house.caller("13800000001", 1).await?;
    let call_id = house.call(&caller, AGENT, "connected").await?;
    baresip.until("CALL_ESTABLISHED")?;
    report.note(peer, "audio to us", keeps_hearing(&caller, &call_id, talk).await);
    let hold = async {
        baresip.tell("hold", "")?;
        house.agent_is(AGENT, "held").await?;
        baresip.tell("resume", "")?;
        house.agent_is(AGENT, "talking").await?;
        hears(&caller, &call_id, Some(TONE_HZ)).await
    };
    let went = hold.await;
    report.note(peer, "holds and retrieves", went);
    ensure!(caller.hang_up(&call_id).await? == 200, "our BYE is not answered 200");
    baresip.until("CALL_CLOSED")?;
    house.agent_is(AGENT, "ready").await
}

async fn calls(house: &House, baresip: &mut Baresip, talk: Duration) -> Result<()> {
    let colleague = house.agent(COLLEAGUE, 1, Incoming::Answer { after_ms: 50 }).await?;
    baresip.tell("dial", COLLEAGUE)?;
    baresip.until("CALL_ESTABLISHED")?;
    let call_id = colleague
        .until("a call", WITHIN, |calls| {
            let live = calls.values().find(|call| call.end == CallEnd::Live)?;
            live.answered_at.map(|_| live.call_id.clone())
        })
        .await?;
    keeps_hearing(&colleague, &call_id, talk).await?;
    baresip.tell("hangup", "")?;
    colleague.ended(&call_id, WITHIN).await?;
    house.agent_is(COLLEAGUE, "ready").await?;
    house.agent_is(AGENT, "ready").await
}

async fn calls_echo(house: &House, baresip: &mut Baresip, talk: Duration) -> Result<()> {
    baresip.tell("dial", "4003")?;
    baresip.until("CALL_ESTABLISHED")?;
    tokio::time::sleep(talk).await;
    let live = house.api.items("/v1/calls").await?;
    ensure!(live.len() == 1, "{} calls live", live.len());
    baresip.tell("hangup", "")?;
    baresip.until("CALL_CLOSED")?;
    house.agent_is(AGENT, "ready").await
}
