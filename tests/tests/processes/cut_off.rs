//! Service addresses that move between hosts: a box is cut off, or dies without anybody who tells of it. Network namespaces, with a
//! switch between them; nothing proves a death, only leases say so.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tandem_tests::boxes::network::{Cut, Family, Place};
use tandem_tests::boxes::{Boxes, Guests};
use tandem_tests::house::House;
use tandem_tests::phone::{Incoming, Phone};

const CUT: u8 = 232;
const KILL: u8 = 233;
const CUT_V6: u8 = 234;
const HOOKS: u8 = 235;
const WITHIN: Duration = Duration::from_secs(20);
/// Generous; how long it is, is a benchmark's to say.
const GAP_MS_MAX: u64 = 3_000;
const LOOK: Duration = Duration::from_millis(5);
/// Long enough to hear whether two send.
const LISTEN: Duration = Duration::from_secs(2);

/// Two clusters on two cores would starve each other.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Callers at the line of A's gateway in three states, and one at that of B's.
struct Scene {
    guests: Guests,
    talker: (Phone, String),
    waiter: (Phone, String),
    ringer: (Phone, String),
    other: (Phone, String),
    agent: Phone,
}

impl Scene {
    async fn set(boxes: &Boxes) -> Result<Self> {
        let guests = Guests::of(boxes, Place::B)?;
        guests.served_in(Place::A, Place::A).await?;
        guests.served_in(Place::B, Place::B).await?;
        let agent = guests.agent("1001", Place::A, Incoming::Ring).await?;
        let call = async |user: &str, line, number: &str, state: &str| {
            let phone = guests.caller(user, line).await?;
            let call = guests.call(&phone, number, state).await?;
            Ok::<_, anyhow::Error>((phone, call))
        };
        let talker = call("13800000001", Place::A, "4003", "in_flow").await?;
        let ringer = call("13800000002", Place::A, "4001", "queued").await?;
        guests.api.agent_is("1001", "reserved", WITHIN).await?;
        let waiter = call("13800000003", Place::A, "4002", "queued").await?;
        let other = call("13800000004", Place::B, "4003", "in_flow").await?;
        Ok(Self { guests, talker, waiter, ringer, other, agent })
    }

    fn callers(&self) -> [&(Phone, String); 4] {
        [&self.talker, &self.waiter, &self.ringer, &self.other]
    }

    fn mark(&self) {
        self.callers().into_iter().for_each(|(phone, _)| phone.mark());
    }

    /// All are heard again; the longest silence of each.
    async fn gaps_ms(&self) -> Result<Vec<u64>> {
        let mut gaps = Vec::new();
        for (phone, call) in self.callers() {
            phone.receives(call, 50, WITHIN).await?;
            gaps.push(phone.spacing_ms_max(call).context("audio")?);
        }
        Ok(gaps)
    }

    /// Packets a second that the talker gets: two senders would make twice as many.
    async fn one_sends(&self) -> Result<()> {
        let (phone, call) = &self.talker;
        let count = || {
            phone.with_calls(|calls| {
                let media = calls.get(call).and_then(|call| call.media.as_ref());
                media.map_or(0, |media| media.stats().received)
            })
        };
        let (before, begun) = (count(), Instant::now());
        tokio::time::sleep(LISTEN).await;
        let rate = (count() - before) as f64 / begun.elapsed().as_secs_f64();
        ensure!((45.0..55.0).contains(&rate), "{rate} packets a second: two send, or none");
        Ok(())
    }

    /// The agent picks up what rang through it, and all end as their callers wish.
    async fn end(self) -> Result<()> {
        let offered = self.agent.called(WITHIN).await?;
        self.agent.answer(&offered)?;
        self.guests.api.call_is(&self.ringer.1, "connected", WITHIN).await?;
        for (phone, call) in self.callers() {
            let status = phone.hang_up(call).await?;
            ensure!(status == 200, "BYE of {} was answered {status}", phone.user);
            self.guests.api.cdr(call, WITHIN).await?;
        }
        for phone in self.callers().map(|(phone, _)| phone).into_iter().chain([&self.agent]) {
            ensure!(phone.violations().is_empty(), "{}: {:?}", phone.user, phone.violations());
        }
        Ok(())
    }
}

async fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<Duration> {
    let begun = Instant::now();
    while !is_so()? {
        ensure!(begun.elapsed() < WITHIN, "{what}");
        tokio::time::sleep(LOOK).await;
    }
    Ok(begun.elapsed())
}

/// Until B sends from service addresses of both lines; what A had sent up to then.
async fn taken_over(boxes: &Boxes) -> Result<u64> {
    let vip = boxes.vip(Place::A);
    until("B gets the address of A's line", || boxes.network.has(Place::B, vip)).await?;
    Ok(boxes.network.served()?.0)
}

/// The line is A's again, its address nobody else's, and who calls there is served.
async fn back_at_a(boxes: &Boxes, guests: &Guests) -> Result<()> {
    guests.served_in(Place::A, Place::A).await?;
    let vip = boxes.vip(Place::A);
    until("A has its address", || boxes.network.has(Place::A, vip)).await?;
    ensure!(!boxes.network.has(Place::B, vip)?, "B has it, too");
    let late = guests.caller("13800000009", Place::A).await?;
    let call = guests.call(&late, "4003", "in_flow").await?;
    late.receives(&call, 10, WITHIN).await?;
    ensure!(late.hang_up(&call).await? == 200, "BYE");
    Ok(())
}

async fn cut_off(block: u8, family: Family) -> Result<()> {
    let boxes = Boxes::open_over(block, family).await?;
    let scene = Scene::set(&boxes).await?;
    let (vip, network) = (boxes.vip(Place::A), &boxes.network);
    ensure!(network.has(Place::A, vip)? && !network.has(Place::B, vip)?, "before");
    scene.mark();
    network.cut(Cut::Whole(Place::A))?;
    let sent_by_a = taken_over(&boxes).await?;
    let gaps = scene.gaps_ms().await?;
    println!(
        "box a cut off ({family:?}): gaps {gaps:?} ms (talking, queued, ringing, at the other)"
    );
    ensure!(gaps.iter().all(|gap| *gap <= GAP_MS_MAX), "{gaps:?}");
    ensure!(gaps[3] < 200, "who was served by the other heard it: {gaps:?}");
    // Nobody told A of anything: it has done that by itself.
    ensure!(!network.has(Place::A, vip)?, "the cut box still has the address");
    ensure!(network.served()?.0 == sent_by_a, "A has sent after B had the line");

    network.heal()?;
    boxes.settled().await?;
    scene.one_sends().await?;
    ensure!(scene.guests.place_of(Place::A).await? == Place::B, "calls live there");
    ensure!(!network.has(Place::A, vip)?, "A took the address of a line that is B's");
    ensure!(network.served()?.0 == sent_by_a, "A has served when it was back");
    let guests = Guests::of(&boxes, Place::B)?;
    scene.end().await?;
    back_at_a(&boxes, &guests).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_on_at_the_other_box_when_theirs_is_cut_off_which_has_silenced_itself_before()
-> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    cut_off(CUT, Family::V4).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_on_at_the_other_box_over_ipv6() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    cut_off(CUT_V6, Family::V6).await
}

/// The host lives on and has the address, whose process is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_on_when_a_box_dies_and_nobody_tells() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let boxes = Boxes::open(KILL).await?;
    let scene = Scene::set(&boxes).await?;
    let dead = [boxes.node_in(Place::A)?, boxes.gateway_in(Place::A)?];
    scene.mark();
    for process in dead {
        boxes.kill(&process.name)?;
    }
    let killed = Instant::now();
    taken_over(&boxes).await?;
    let gaps = scene.gaps_ms().await?;
    println!("box a killed: gaps {gaps:?} ms (talking, queued, ringing, at the other)");
    ensure!(gaps.iter().all(|gap| *gap <= GAP_MS_MAX), "{gaps:?}");
    let vip = boxes.vip(Place::A);
    until("the address leaves the dead box", || Ok(!boxes.network.has(Place::A, vip)?)).await?;
    println!("its address had left it {:?} after the kill", killed.elapsed());
    boxes.restore().await?;
    ensure!(scene.guests.place_of(Place::A).await? == Place::B, "calls live there");
    scene.one_sends().await?;
    let guests = Guests::of(&boxes, Place::B)?;
    scene.end().await?;
    back_at_a(&boxes, &guests).await
}

/// It moves addresses by `ip`, writes down what it was asked for, and hangs or fails where a file beside it says so.
const SCRIPT: &str = r#"
echo "$TANDEM_ACTION $TANDEM_LINE $TANDEM_ADDRESS" >> said
for process in gateway-a gateway-b; do
  grep -q "/$process.toml" /proc/$PPID/cmdline || continue
  [ -e "hang-$TANDEM_ACTION-at-$process" ] && sleep 600
  [ -e "fail-$TANDEM_ACTION-at-$process" ] && exit 1
done
case $TANDEM_ACTION in
  take) ip addr replace "$TANDEM_ADDRESS/32" dev lo;;
  drop) ip addr del "$TANDEM_ADDRESS/32" dev lo;;
esac
"#;

struct Hooks<'a> {
    dir: &'a Path,
    house: House,
}

impl Hooks<'_> {
    fn set(&self, what: &str, set: bool) -> Result<()> {
        let file = self.dir.join(what);
        if set {
            std::fs::write(file, "")?
        } else {
            std::fs::remove_file(file)?
        }
        Ok(())
    }

    fn said(&self) -> Result<Vec<String>> {
        let said = std::fs::read_to_string(self.dir.join("said"))?;
        Ok(said.lines().map(str::to_owned).collect())
    }

    fn log(&self, process: &str) -> Result<String> {
        let file = self.house.cluster.dir().join("logs").join(format!("{process}.log"));
        Ok(std::fs::read_to_string(file)?)
    }

    async fn serves(&self, process: &str) -> Result<()> {
        let serving = || {
            let sip = self.house.cluster.processes()?.sip;
            Ok(sip.first().context("an address")?.serving == process)
        };
        until(&format!("the first line is served by {process}"), serving).await.map(drop)
    }

    async fn logs(&self, process: &str, code: &str) -> Result<()> {
        let what = format!("{process} says {code}");
        until(&what, || Ok(self.log(process)?.contains(code))).await.map(drop)
    }
}

fn on_loopback(address: &str) -> Result<bool> {
    let listed =
        std::process::Command::new("ip").args(["-o", "addr", "show", "dev", "lo"]).output()?;
    Ok(String::from_utf8_lossy(&listed.stdout).contains(&format!(" {address}/32 ")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hook_moves_addresses_and_one_that_hangs_or_fails_costs_its_line_no_more_than_its_limit()
-> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let dir = tempfile::tempdir()?;
    let script = dir.path().join("hook");
    std::fs::write(&script, format!("cd {}\n{SCRIPT}", dir.path().display()))?;
    let config = format!("[address]\nhook = [\"/bin/sh\", {:?}]\n", script);
    let house = House::open_with(HOOKS, &config).await?;
    let hooks = Hooks { dir: dir.path(), house };
    let vips: Vec<String> = hooks.house.vips.iter().map(|vip| vip.ip().to_string()).collect();
    for (line, vip) in ["gateway-a", "gateway-b"].iter().zip(&vips) {
        ensure!(hooks.said()?.contains(&format!("take {line} {vip}")), "{:?}", hooks.said()?);
        ensure!(on_loopback(vip)?, "{vip}");
    }
    let caller = hooks.house.caller("13800000001", 0).await?;
    let call = hooks.house.call(&caller, "4003", "in_flow").await.context("the first call")?;

    // It hangs where the line is to go on: killed, the line is given back, and tried again.
    hooks.set("hang-take-at-gateway-b", true)?;
    hooks.house.cluster.bury("gateway-a").await?;
    hooks.logs("gateway-b", "TD0350").await?;
    ensure!(hooks.log("gateway-b")?.contains("was killed, for it was not done within 2s"));
    hooks.set("hang-take-at-gateway-b", false)?;
    hooks.serves("gateway-b").await?;
    caller.receives(&call, 50, WITHIN).await?;
    ensure!(caller.hang_up(&call).await? == 200, "BYE");
    hooks.house.cdr(&call).await?;

    // It fails at the line's own process: the other serves it until that one can.
    hooks.set("fail-take-at-gateway-a", true)?;
    hooks.house.cluster.revive("gateway-a")?;
    hooks.logs("gateway-a", "TD0350").await?;
    hooks.serves("gateway-b").await?;
    let again = hooks.house.call(&caller, "4003", "in_flow").await.with_context(|| {
        let logs = ["gateway-a", "gateway-b"].map(|process| hooks.log(process).unwrap_or_default());
        logs.join("\n")
    })?;
    hooks.set("fail-take-at-gateway-a", false)?;
    ensure!(caller.hang_up(&again).await? == 200, "BYE");
    hooks.serves("gateway-a").await?;

    // What can't be taken away is told, and keeps nobody from ending.
    hooks.set("fail-drop-at-gateway-b", true)?;
    ensure!(!hooks.log("gateway-b")?.contains("TD0351"), "{}", hooks.log("gateway-b")?);
    hooks.house.cluster.stop_one("gateway-b")?;
    hooks.logs("gateway-b", "TD0351").await?;
    let Hooks { house, .. } = hooks;
    house.cluster.stop()?;
    ensure!(!on_loopback(&vips[0])?, "the address of a line that has ended is away");
    // What its hook would not take away.
    for vip in &vips {
        let address = format!("{vip}/32");
        std::process::Command::new("ip").args(["addr", "del", &address, "dev", "lo"]).output()?;
    }
    Ok(())
}
