//! A running baresip: told what to do by its control port (module `ctrl_tcp`), plays a tone, answers
//! by itself, and writes down what it says and hears.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{TONE_HZ, Way};
use crate::listen::{LOOK_AGAIN, WITHIN};

/// Ports of the first; each other's are above. All are below those that the kernel gives out. It binds
/// its media to every address, so they are above those of the gateways, too.
const SIP_PORT: u16 = 28_260;
const CONTROL_PORT: u16 = 28_265;
const NEXT: u16 = 10;
const RTP_PORT: u16 = 30_000;
const RTP_PORTS: u16 = 100;
/// Within its folder: its standard output, and what it hears.
const SAID: &str = "said";
const HEARD: &str = "heard";

/// Dropping it ends it.
pub struct Baresip {
    _child: Child,
    control: OwnedWriteHalf,
    events: mpsc::UnboundedReceiver<Value>,
    dir: tempfile::TempDir,
}

impl Baresip {
    pub async fn start(server: SocketAddr, agent: &str, way: &Way) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        std::fs::create_dir(dir.path().join(HEARD))?;
        let control = CONTROL_PORT + way.place() * NEXT;
        let config = config(way, control, &dir.path().join(HEARD).display().to_string());
        std::fs::write(dir.path().join("config"), config)?;
        let transport = way.transport();
        let account = format!(
            "<sip:{agent}@{server};transport={transport}>;auth_user={agent};auth_pass=tandem-{agent};\
             outbound=\"sip:{server};transport={transport}\";answermode=auto;regint=300;audio_codecs=PCMU,PCMA{}\n",
            way.account()
        );
        std::fs::write(dir.path().join("accounts"), account)?;
        std::fs::write(dir.path().join("contacts"), "")?;
        // Its trace of SIP (`-s`) is read while it runs.
        let child = Command::new("stdbuf")
            .args(["-oL", "baresip", "-s", "-f"])
            .arg(dir.path())
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(dir.path().join(SAID))?)
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("start baresip (Debian: baresip-core)")?;
        let deadline = Instant::now() + WITHIN;
        let control = loop {
            match TcpStream::connect(("127.0.0.1", control)).await {
                Ok(control) => break control,
                Err(error) if Instant::now() >= deadline => {
                    return Err(error).context("baresip opens no control port");
                }
                Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        };
        let (reader, control) = control.into_split();
        let (said, events) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut reader = BufReader::new(reader);
            while let Some(message) = read_netstring(&mut reader).await {
                if said.send(message).is_err() {
                    break;
                }
            }
        });
        Ok(Self { _child: child, control, events, dir })
    }

    /// Says a command of its menu.
    pub async fn tell(&mut self, command: &str, params: &str) -> Result<()> {
        let text = serde_json::json!({ "command": command, "params": params }).to_string();
        self.control.write_all(format!("{}:{text},", text.len()).as_bytes()).await?;
        Ok(())
    }

    /// Waits for an event of this type and gives its call's Call-ID; those before it are passed over.
    pub async fn until(&mut self, kind: &str) -> Result<String> {
        let deadline = Instant::now() + WITHIN;
        let mut seen = Vec::new();
        loop {
            let Ok(message) = tokio::time::timeout_at(deadline, self.events.recv()).await else {
                bail!("no {kind} within {WITHIN:?}, only {seen:?}");
            };
            let message = message.context("baresip has ended")?;
            match message["type"].as_str() {
                Some(found) if found == kind => {
                    return Ok(message["id"].as_str().unwrap_or_default().to_owned());
                }
                Some(other) => seen.push(other.to_owned()),
                None => {}
            }
        }
    }

    /// Forgets what it has heard. The module `sndfile` names a file after the second in which it began,
    /// so what is there afterwards is the next call's.
    pub fn forget_heard(&self) -> Result<()> {
        for file in std::fs::read_dir(self.dir.path().join(HEARD))? {
            std::fs::remove_file(file?.path())?;
        }
        Ok(())
    }

    /// The one file of what it has heard since.
    pub fn heard(&self) -> Result<PathBuf> {
        let mut found = Vec::new();
        for file in std::fs::read_dir(self.dir.path().join(HEARD))? {
            let path = file?.path();
            if path.to_string_lossy().ends_with("-dec.wav") {
                found.push(path);
            }
        }
        ensure!(found.len() == 1, "it has written {found:?}");
        found.pop().context("it has written nothing")
    }

    /// How Replaces names the dialog of a call that it has dialled (RFC 3891 §3): as in the last answer
    /// to its INVITE.
    pub fn dialog(&self, call_id: &str) -> Result<String> {
        let said = std::fs::read(self.dir.path().join(SAID))?;
        let said = String::from_utf8_lossy(&said);
        let is_answer = |message: &&str| {
            let has = |name: &str, value: &str| {
                header(message, name).is_some_and(|found| found.contains(value))
            };
            message.contains("SIP/2.0 200 ") && has("Call-ID", call_id) && has("CSeq", "INVITE")
        };
        let answer = said.split("\r\n\r\n").filter(is_answer).last();
        let answer = answer.with_context(|| format!("{call_id} was not answered"))?;
        let tag = |name| {
            let (_, after) = header(answer, name)?.split_once(";tag=")?;
            after.split(';').next()
        };
        let (to, from) = tag("To").zip(tag("From")).context("the answer has no tags")?;
        Ok(format!("{call_id};to-tag={to};from-tag={from}"))
    }
}

fn header<'m>(message: &'m str, name: &str) -> Option<&'m str> {
    message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn config(way: &Way, control: u16, heard: &str) -> String {
    let sip = SIP_PORT + way.place() * NEXT;
    let rtp = RTP_PORT + way.place() * RTP_PORTS;
    let more = way.config();
    format!(
        "poll_method epoll\nsip_listen 127.0.0.1:{sip}\nnet_interface 127.0.0.1\n\
         call_local_timeout 60\ncall_max_calls 4\n\
         audio_source ausine,{TONE_HZ}\naudio_player aubridge,nobody\naudio_alert aubridge,nobody\n\
         ausrc_srate 48000\nausrc_channels 2\nauplay_srate 48000\nauplay_channels 1\nausrc_format s16\nauplay_format s16\n\
         rtp_ports {rtp}-{}\nctrl_tcp_listen 127.0.0.1:{control}\nsnd_path {heard}\n\
         module_path /usr/lib/baresip/modules\nmodule g711.so\nmodule ausine.so\nmodule aubridge.so\nmodule sndfile.so\n\
         module_tmp uuid.so\nmodule_tmp account.so\nmodule_app menu.so\nmodule_app ctrl_tcp.so\n{more}",
        rtp + RTP_PORTS - 1
    )
}

/// `LENGTH:JSON,`
async fn read_netstring(reader: &mut BufReader<OwnedReadHalf>) -> Option<Value> {
    let mut length = Vec::new();
    reader.read_until(b':', &mut length).await.ok()?;
    let length = std::str::from_utf8(length.strip_suffix(b":")?).ok()?.parse::<usize>().ok()?;
    let mut text = vec![0; length + 1];
    reader.read_exact(&mut text).await.ok()?;
    serde_json::from_slice(&text[..length]).ok()
}
