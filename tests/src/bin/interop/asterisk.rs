//! Asterisk as a trunk that sends calls, and as a farm of phones that register as agents. It runs
//! within a Debian of its own (`chroot`), driven by its command line.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tandem_media::tones;
use tandem_tests::house::House;
use tandem_tests::phone::{CallEnd, Incoming, Phone};

use crate::report::Report;

/// Agents whose phones are Asterisk's.
const FARM: std::ops::RangeInclusive<u16> = 1005..=1008;
const TONE_HZ: u32 = 800;
const WITHIN: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(200);
const SIP_PORT: u16 = 28_060;
/// Within its root.
const FOLDER: &str = "tmp/tandem";

/// A running Asterisk. Dropping it ends it.
struct Asterisk {
    child: Child,
    root: PathBuf,
}

impl Asterisk {
    fn start(root: &Path, house: &House, talk: Duration) -> Result<Self> {
        let folder = root.join(FOLDER);
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
        for (name, text) in files(house, talk) {
            std::fs::write(folder.join(name), text)?;
        }
        let child = Command::new("chroot")
            .arg(root)
            .args(["/usr/sbin/asterisk", "-f", "-C"])
            .arg(format!("/{FOLDER}/asterisk.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start asterisk")?;
        Ok(Self { child, root: root.to_owned() })
    }

    /// What its command line says.
    fn ask(&self, command: &str) -> Result<String> {
        let output = Command::new("chroot")
            .arg(&self.root)
            .args(["/usr/sbin/asterisk", "-C"])
            .arg(format!("/{FOLDER}/asterisk.conf"))
            .args(["-rx", command])
            .stdin(Stdio::null())
            .output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn until(&self, command: &str, done: impl Fn(&str) -> bool) -> Result<()> {
        let deadline = Instant::now() + WITHIN;
        loop {
            let said = self.ask(command)?;
            if done(&said) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("{command}: {said}");
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

impl Drop for Asterisk {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.ask("core stop now");
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn files(house: &House, talk: Duration) -> Vec<(&'static str, String)> {
    let vip = house.vips[0];
    let seconds = talk.as_secs() + 5;
    let mut pjsip = format!(
        "[udp]\ntype=transport\nprotocol=udp\nbind=127.0.0.1:{SIP_PORT}\n\
         [tcp]\ntype=transport\nprotocol=tcp\nbind=127.0.0.1:{SIP_PORT}\n"
    );
    for (name, transport, param) in
        [("tandem", "udp", ""), ("tandem-tcp", "tcp", "\\;transport=tcp")]
    {
        pjsip.push_str(&format!(
            "[{name}]\ntype=endpoint\ntransport={transport}\ncontext=called\ndisallow=all\nallow=alaw,ulaw\n\
             aors={name}\ndirect_media=no\ndtmf_mode=rfc4733\nfrom_user=13800009999\n\
             [{name}]\ntype=aor\ncontact=sip:{vip}{param}\n"
        ));
    }
    pjsip.push_str(&format!("[tandem]\ntype=identify\nendpoint=tandem\nmatch={}\n", vip.ip()));
    for agent in FARM {
        pjsip.push_str(&format!(
            "[agent{agent}]\ntype=registration\ntransport=udp\nserver_uri=sip:{vip}\nclient_uri=sip:{agent}@{vip}\n\
             contact_user={agent}\noutbound_auth=agent{agent}\nexpiration=300\nretry_interval=5\n\
             [agent{agent}]\ntype=auth\nauth_type=userpass\nusername={agent}\npassword=tandem-{agent}\n"
        ));
    }
    let folder = format!("/{FOLDER}");
    let asterisk = format!(
        "[directories]\nastetcdir => {folder}\nastmoddir => /usr/lib/asterisk/modules\nastvarlibdir => /var/lib/asterisk\n\
         astdatadir => /usr/share/asterisk\nastdbdir => {folder}\nastspooldir => {folder}\nastrundir => {folder}\nastlogdir => {folder}\n\
         [options]\n"
    );
    let dialplan = format!(
        "[called]\nexten => _X.,1,Answer()\nsame => n,PlayTones({TONE_HZ})\nsame => n,Wait({seconds})\nsame => n,Hangup()\n\
         [calls]\nexten => tone,1,PlayTones({TONE_HZ})\nsame => n,Wait({seconds})\nsame => n,Hangup()\n\
         exten => digits,1,SendDTMF(1234)\nsame => n,PlayTones({TONE_HZ})\nsame => n,Wait({seconds})\nsame => n,Hangup()\n\
         exten => echo,1,MixMonitor({folder}/both.wav,r({folder}/heard.wav))\nsame => n,PlayTones({TONE_HZ})\n\
         same => n,Wait({seconds})\nsame => n,StopMixMonitor()\nsame => n,Hangup()\n"
    );
    vec![
        ("asterisk.conf", asterisk),
        ("modules.conf", "[modules]\nautoload=yes\nnoload => chan_sip.so\nnoload => chan_skinny.so\nnoload => chan_mgcp.so\nnoload => chan_unistim.so\nnoload => chan_iax2.so\nnoload => pbx_dundi.so\nnoload => res_hep.so\n".into()),
        ("logger.conf", "[general]\n[logfiles]\nmessages => notice,warning,error\n".into()),
        ("rtp.conf", "[general]\nrtpstart=28100\nrtpend=28199\n".into()),
        ("extensions.conf", dialplan),
        ("pjsip.conf", pjsip),
    ]
}

pub async fn try_all(house: &House, root: &Path, talk: Duration, report: &mut Report) {
    let peer = "Asterisk";
    let asterisk = match Asterisk::start(root, house, talk) {
        Ok(asterisk) => asterisk,
        Err(error) => {
            report.note(peer, "registers", Err(error));
            return;
        }
    };
    if report.note(peer, "registers", registers(house, &asterisk).await) {
        report.note(peer, "is called", is_called(house, &asterisk, talk).await);
    }
    report.note(peer, "calls the echo", calls_echo(house, &asterisk, "tandem", talk).await);
    let queue = calls_queue(house, &asterisk, talk).await;
    report.note(peer, "calls a queue", queue);
    report.note(peer, "sends digits", sends_digits(house, &asterisk).await);
    let by_tcp = calls_echo(house, &asterisk, "tandem-tcp", talk).await;
    report.note("Asterisk, tcp", "calls the echo", by_tcp);
}

async fn registers(house: &House, asterisk: &Asterisk) -> Result<()> {
    asterisk.until("core waitfullybooted", |said| said.contains("fully booted"))?;
    let phones = FARM.count();
    asterisk
        .until("pjsip show registrations", |said| said.matches("Registered").count() == phones)?;
    for agent in FARM {
        house.agent_is(&agent.to_string(), "ready").await?;
    }
    Ok(())
}

/// The tone is heard all the time.
async fn listens(phone: &Phone, call_id: &str, talk: Duration) -> Result<()> {
    let media = phone.with_calls(|calls| calls.get(call_id)?.media.clone());
    let media = media.context("the call has no media")?;
    let same = |heard: Option<u32>| heard.is_some_and(|hz| hz.abs_diff(TONE_HZ) <= 10);
    let deadline = Instant::now() + WITHIN;
    while !same(media.heard_hz(200)) {
        ensure!(Instant::now() < deadline, "heard {:?} Hz", media.heard_hz(200));
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    let until = Instant::now() + talk;
    while Instant::now() < until {
        tokio::time::sleep(LOOK_AGAIN).await;
        let heard = media.heard_hz(200);
        ensure!(same(heard), "heard {heard:?} Hz in between");
    }
    Ok(())
}

async fn is_called(house: &House, asterisk: &Asterisk, talk: Duration) -> Result<()> {
    let caller = house.caller("13800000002", 0).await?;
    for agent in FARM {
        let call_id = house.call(&caller, &agent.to_string(), "connected").await?;
        let talk = if agent == *FARM.start() { talk } else { Duration::from_secs(1) };
        listens(&caller, &call_id, talk).await?;
        ensure!(caller.hang_up(&call_id).await? == 200, "our BYE is not answered 200");
        house.agent_is(&agent.to_string(), "ready").await?;
    }
    asterisk.until("core show channels concise", |said| said.trim().is_empty())
}

async fn calls_echo(house: &House, asterisk: &Asterisk, by: &str, talk: Duration) -> Result<()> {
    asterisk.ask(&format!("channel originate PJSIP/4003@{by} extension echo@calls"))?;
    let one = |page: &serde_json::Value| (page["items"].as_array()?.len() == 1).then_some(());
    house.api.until("/v1/calls", WITHIN, one).await?;
    // Asterisk hangs up some seconds after.
    let none = |page: &serde_json::Value| page["items"].as_array()?.is_empty().then_some(());
    house.api.until("/v1/calls", talk + WITHIN, none).await?;
    asterisk.until("core show channels concise", |said| said.trim().is_empty())?;
    let path = asterisk.root.join(FOLDER).join("heard.wav");
    let mut wav = hound::WavReader::open(&path).context("what Asterisk has heard")?;
    let samples = wav.samples::<i16>().collect::<Result<Vec<_>, _>>()?;
    ensure!(samples.len() as u64 >= talk.as_secs() * 8_000, "only {} samples", samples.len());
    // From the second second on, a fifth of a second at a time.
    let parts = samples[8_000..].chunks_exact(1_600);
    let (same, all) = parts.fold((0, 0), |(same, all), part| {
        let heard = tones::dominant_hz(part).is_some_and(|hz| hz.abs_diff(TONE_HZ) <= 10);
        (same + u32::from(heard), all + 1)
    });
    ensure!(same * 10 >= all * 9, "the tone came back in {same} of {all} parts");
    Ok(())
}

/// The first call of an agent's phone of ours.
async fn answered(agent: &Phone) -> Result<String> {
    agent
        .until("a call", WITHIN, |calls| {
            let live = calls.values().find(|call| call.end == CallEnd::Live)?;
            live.answered_at.map(|_| live.call_id.clone())
        })
        .await
}

async fn calls_queue(house: &House, asterisk: &Asterisk, talk: Duration) -> Result<()> {
    // Phones that were tried before are gone, and would be rung all the same.
    let away = serde_json::json!({"state": "not_ready", "reason": "their phones are gone"});
    for gone in ["1001", "1002"] {
        let (status, said) = house.api.post(&format!("/v1/agents/{gone}/state"), &away).await?;
        ensure!(status == 200, "agent {gone}: {status} {said}");
    }
    let agent = house.agent("1003", 1, Incoming::Answer { after_ms: 500 }).await?;
    asterisk.ask("channel originate PJSIP/4001@tandem extension tone@calls")?;
    let call_id = answered(&agent).await?;
    house.agent_is("1003", "talking").await?;
    listens(&agent, &call_id, talk).await?;
    ensure!(agent.hang_up(&call_id).await? == 200, "our BYE is not answered 200");
    house.agent_is("1003", "ready").await?;
    asterisk.until("core show channels concise", |said| said.trim().is_empty())
}

async fn sends_digits(house: &House, asterisk: &Asterisk) -> Result<()> {
    let agent = house.agent("1004", 1, Incoming::Answer { after_ms: 50 }).await?;
    asterisk.ask("channel originate PJSIP/1004@tandem extension digits@calls")?;
    let call_id = answered(&agent).await?;
    let media = agent.with_calls(|calls| calls.get(&call_id)?.media.clone());
    let media = media.context("the call has no media")?;
    let deadline = Instant::now() + WITHIN;
    while media.stats().telephone_events < 4 {
        ensure!(Instant::now() < deadline, "{} events", media.stats().telephone_events);
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    ensure!(agent.hang_up(&call_id).await? == 200, "our BYE is not answered 200");
    asterisk.until("core show channels concise", |said| said.trim().is_empty())
}
