//! Who plays in the demo: seven agents who answer or ring, callers, and SIPp as a peer that is
//! not ours.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tandem_media::endpoint::EndpointPool;
use tandem_tests::phone::{CallEnd, Incoming, Options, Phone};
use tandem_tests::sipp::{Load, Sipp};
use tandem_tests::{Api, Cluster};

use crate::snapshot::Snapshot;
use crate::verdict::Verdict;

/// A packet spacing that a listener would begin to notice.
pub const SPACING_MS_MAX: u64 = 60;
/// Where the gateway itself dies, its calls are silent for a moment. A generous bound: the benchmark's are far lower.
pub const TAKEOVER_MS_MAX: u64 = 500;
/// What a gateway that dies takes along of a recording: a chunk that is not on the other box yet, and the moment.
const RECORDING_GAP_MS_MAX: u64 = 2_500;
const SETUP_S_MAX: u64 = 10;
const REGISTER_S: u32 = 300;
const SIPP_LOAD: Load = Load { calls: 2, per_s: 2, talk_ms: 20_000 };
const SIPP_S_MAX: u64 = 60;

/// What a caller of the demo is there to show.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Talks with an agent.
    Talks,
    /// Hears an agent's phone ring, behind music.
    Rings,
    Waits,
    /// Talks to the echo.
    Echo,
    /// Talks to the echo and hangs up in the moment of the failover.
    HangsUp,
}

struct Caller {
    phone: Phone,
    call_id: String,
    part: Part,
}

pub struct Cast {
    agents: Vec<Phone>,
    callers: Vec<Caller>,
    /// The second bye of `HangsUp`.
    hung_up: Option<String>,
    sipp: Option<Sipp>,
    vips: Vec<SocketAddr>,
    pool: Arc<EndpointPool>,
}

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

impl Cast {
    /// The agents register, half of them on each gateway.
    pub async fn new(cluster: &Cluster, pool: Arc<EndpointPool>) -> Result<Self> {
        let vips = cluster
            .processes()?
            .sip
            .iter()
            .map(|vip| vip.vip.parse().with_context(|| format!("VIP {}", vip.vip)))
            .collect::<Result<Vec<SocketAddr>>>()?;
        let mut agents = Vec::new();
        for number in 1001..=1007_u32 {
            let incoming =
                if number == 1004 { Incoming::Ring } else { Incoming::Answer { after_ms: 300 } };
            let options = Options {
                user: number.to_string(),
                password: format!("tandem-{number}"),
                server: vips[number as usize % vips.len()],
                bind: LOCAL,
                incoming,
                tone_hz: 300 + 50 * (number - 1000),
                srtp: false,
                domain: None,
            };
            let phone = Phone::start(options, Arc::clone(&pool)).await?;
            let status = phone.register(REGISTER_S).await?;
            if status != 200 {
                bail!("REGISTER of agent {number} was answered {status}");
            }
            agents.push(phone);
        }
        Ok(Self { agents, callers: Vec::new(), hung_up: None, sipp: None, vips, pool })
    }

    /// Everybody calls, one after the other, until each plays the part.
    pub async fn call_in(&mut self, api: &Api) -> Result<()> {
        self.start_sipp()?;
        let script: &[(&str, Part, usize)] = &[
            ("4001", Part::Talks, 3),
            ("4002", Part::Talks, 3),
            ("4003", Part::Echo, 2),
            ("4003", Part::HangsUp, 1),
            ("4001", Part::Rings, 1),
            ("4001", Part::Waits, 3),
            ("4002", Part::Waits, 1),
        ];
        for (number, part, count) in script {
            for _ in 0..*count {
                self.call(number, *part, api).await?;
            }
        }
        Ok(())
    }

    async fn call(&mut self, number: &str, part: Part, api: &Api) -> Result<()> {
        let n = self.callers.len();
        let options = Options {
            user: format!("1380000{n:04}"),
            password: String::new(),
            server: self.vips[n % self.vips.len()],
            bind: LOCAL,
            incoming: Incoming::Reject { status: 486 },
            tone_hz: 1000 + 50 * u32::try_from(n)?,
            srtp: false,
            domain: None,
        };
        let phone = Phone::start(options, Arc::clone(&self.pool)).await?;
        let call_id = phone.dial(number)?;
        phone.answered(&call_id, Duration::from_secs(SETUP_S_MAX)).await?;
        let wanted = match part {
            Part::Talks => "connected",
            Part::Rings | Part::Waits => "queued",
            Part::Echo | Part::HangsUp => "in_flow",
        };
        let path = format!("/v1/calls?sip_call_id={call_id}");
        api.until(&path, Duration::from_secs(SETUP_S_MAX), |page| {
            let call = page["items"].get(0)?;
            let rings = call["agent"].is_string();
            (call["state"] == wanted && (part != Part::Rings || rings)).then_some(())
        })
        .await?;
        self.callers.push(Caller { phone, call_id, part });
        Ok(())
    }

    /// A SIP peer that is not ours: calls to the echo that last over the kill.
    fn start_sipp(&mut self) -> Result<()> {
        let vip = self.vips.first().context("there is no VIP")?;
        self.sipp = Some(Sipp::call(*vip, "4003", SIPP_LOAD)?);
        Ok(())
    }

    fn media_callers(&self) -> impl Iterator<Item = &Caller> {
        self.callers.iter().filter(|caller| caller.part != Part::HangsUp)
    }

    /// From now on packet spacing counts.
    pub fn mark(&self) {
        let phones = self.agents.iter().chain(self.callers.iter().map(|caller| &caller.phone));
        for phone in phones {
            phone.with_calls(|calls| {
                for endpoint in calls.values().filter_map(|call| call.media.as_ref()) {
                    endpoint.mark();
                }
            });
        }
    }

    /// The BYE of one caller, sent at once; its final status.
    pub async fn hang_up_in_failover(&mut self) -> Option<u16> {
        let caller = self.callers.iter().find(|caller| caller.part == Part::HangsUp)?;
        self.hung_up = Some(caller.call_id.clone());
        caller.phone.hang_up(&caller.call_id).await.ok()
    }

    pub fn hung_up_in_failover(&self) -> Option<&str> {
        self.hung_up.as_deref()
    }

    /// The longest spacing of packets since the mark, for each side that listens.
    pub fn judge_audio(&self, verdict: &mut Verdict, died: &str, spacing_ms_max: u64) {
        let listeners = self
            .agents
            .iter()
            .map(|phone| ("agent", phone))
            .chain(self.media_callers().map(|caller| ("caller", &caller.phone)));
        for (role, phone) in listeners {
            phone.with_calls(|calls| {
                for call in calls.values().filter(|call| call.end == CallEnd::Live) {
                    let Some(endpoint) = call.media.as_ref() else { continue };
                    let stats = endpoint.stats();
                    let kept = stats.received > 0 && stats.spacing_ms_max <= spacing_ms_max;
                    verdict.judge(
                        &format!("{died} killed: audio of {role} {} ({})", phone.user, call.peer),
                        kept,
                        &match spacing_ms_max {
                            SPACING_MS_MAX => format!(
                                "longest spacing {} ms, lost {}",
                                stats.spacing_ms_max, stats.lost
                            ),
                            // Its numbers go on ahead of what the dead one may have sent.
                            _ => format!("longest spacing {} ms", stats.spacing_ms_max),
                        },
                    );
                }
            });
        }
    }

    fn agent(&self, id: &str) -> Result<&Phone> {
        self.agents.iter().find(|phone| phone.user == id).with_context(|| format!("agent {id}"))
    }

    /// The ringing agent picks up; then each waiting caller is served in the order of before.
    pub async fn serve_the_queue(
        &self,
        api: &Api,
        before: &Snapshot,
        verdict: &mut Verdict,
    ) -> Result<()> {
        let ringing = self.agent("1004")?;
        let offered = ringing.with_calls(|calls| calls.keys().next().cloned());
        let call_id = offered.context("agent 1004 does not ring")?;
        ringing.answer(&call_id)?;
        ringing.set_incoming(Incoming::Answer { after_ms: 100 })?;
        let rang = self.callers.iter().find(|caller| caller.part == Part::Rings);
        let rang = rang.context("no caller rings")?;
        let connected = self.connected(api, &rang.call_id).await;
        verdict.judge(
            "ringing call, answered after the kills",
            connected.is_ok(),
            "connected to 1004",
        );

        let waiting: Vec<String> = before
            .queues
            .get("support")
            .map(|entries| entries.iter().map(|(call, _)| call.clone()).collect())
            .unwrap_or_default();
        let mut served = Vec::new();
        for caller in self.callers.iter().filter(|caller| caller.part == Part::Talks).take(3) {
            caller.phone.hang_up(&caller.call_id).await?;
            // The agent's after-call work ends, and the head of the queue is next.
            let head = self.next_connected(api, &waiting, &served).await?;
            served.push(head);
        }
        let expected: Vec<String> =
            waiting.iter().filter(|call| !is_call_of(before, rang, call)).cloned().collect();
        verdict.judge(
            "waiting callers, served in order",
            served == expected,
            &format!("{} of {} in their order", served.len(), expected.len()),
        );
        Ok(())
    }

    async fn connected(&self, api: &Api, sip_call_id: &str) -> Result<()> {
        let path = format!("/v1/calls?sip_call_id={sip_call_id}");
        api.until(&path, Duration::from_secs(SETUP_S_MAX), |page| {
            (page["items"].get(0)?["state"] == "connected").then_some(())
        })
        .await
    }

    /// The next of `waiting` that talks to an agent and is not in `served`.
    async fn next_connected(
        &self,
        api: &Api,
        waiting: &[String],
        served: &[String],
    ) -> Result<String> {
        api.until("/v1/calls", Duration::from_secs(SETUP_S_MAX), |page| {
            let calls = page["items"].as_array()?;
            calls.iter().filter(|call| call["state"] == "connected").find_map(|call| {
                let id = call["id"].as_str()?;
                let new = waiting.iter().any(|w| w == id)
                    && !served.iter().any(|s| s == id)
                    && call["agent"] != "1004";
                new.then(|| id.to_owned())
            })
        })
        .await
    }

    pub async fn end_all(&self) {
        for caller in &self.callers {
            let live = caller.phone.with_calls(|calls| {
                calls.get(&caller.call_id).is_some_and(|call| call.end == CallEnd::Live)
            });
            if live {
                // A refusal shows in the records that are judged next.
                let _ = caller.phone.hang_up(&caller.call_id).await;
            }
        }
    }

    /// SIPp's own verdict: it exits 0 only if every call went by its scenario.
    pub async fn judge_sipp(&mut self, verdict: &mut Verdict) -> Result<()> {
        let Some(mut sipp) = self.sipp.take() else { return Ok(()) };
        let status = sipp.ended(Duration::from_secs(SIPP_S_MAX)).await?;
        verdict.judge(
            "SIPp's calls through the kills",
            status.success(),
            &format!("{} calls, exit {:?}", SIPP_LOAD.calls, status.code()),
        );
        Ok(())
    }

    /// One CDR a call; one sealed recording without a gap for each that talked to an agent.
    pub async fn judge_records(&self, api: &Api, verdict: &mut Verdict, wav: &Path) -> Result<()> {
        let mut single = 0;
        let mut takeovers = 0;
        for caller in &self.callers {
            let path = format!("/v1/cdrs?sip_call_id={}", caller.call_id);
            let found = api
                .until(&path, Duration::from_secs(SETUP_S_MAX), |page| {
                    let items = page["items"].as_array()?;
                    (!items.is_empty()).then(|| items.clone())
                })
                .await
                .unwrap_or_default();
            single += usize::from(found.len() == 1);
            takeovers += usize::from(found.iter().any(|cdr| cdr["takeovers"].as_u64() >= Some(1)));
        }
        let all = self.callers.len();
        verdict.judge("one CDR a call", single == all, &format!("{single} of {all}"));
        verdict.judge(
            "CDRs that tell of the takeover",
            takeovers == all,
            &format!("{takeovers} of {all}"),
        );
        self.judge_recordings(api, verdict, wav).await
    }

    async fn judge_recordings(&self, api: &Api, verdict: &mut Verdict, wav: &Path) -> Result<()> {
        let within = Duration::from_secs(SETUP_S_MAX);
        let recordings = api
            .until("/v1/recordings", within, |page| {
                let items = page["items"].as_array()?;
                let sealed = items.iter().all(|recording| recording["sealed"] == true);
                (sealed && !items.is_empty()).then(|| items.clone())
            })
            .await?;
        let gaps = recordings.iter().map(|r| r["gaps"].as_array().cloned().unwrap_or_default());
        let gaps: Vec<_> = gaps.collect();
        let lengths: Vec<u64> =
            gaps.iter().flatten().filter_map(|gap| gap["len_ms"].as_u64()).collect();
        // One where its gateway died, marked and short; none for the node.
        let kept = gaps.iter().all(|gaps| gaps.len() <= 1)
            && lengths.iter().all(|ms| *ms <= RECORDING_GAP_MS_MAX);
        verdict.judge(
            "recordings",
            kept,
            &format!(
                "{} sealed, {} with a marked gap, the longest of {} ms",
                recordings.len(),
                lengths.len(),
                lengths.iter().max().unwrap_or(&0)
            ),
        );
        // The longest one lived through the kills.
        let longest = recordings.iter().max_by_key(|r| r["duration_ms"].as_u64());
        let longest = longest.context("there is no recording")?;
        let id = longest["id"].as_str().context("recording id")?;
        let bytes = api.bytes(&format!("/v1/recordings/{id}/audio")).await?;
        std::fs::write(wav, &bytes)?;
        let reader = hound::WavReader::new(bytes.as_slice())?;
        let spec = reader.spec();
        let length_ms = u64::from(reader.duration()) * 1000 / u64::from(spec.sample_rate);
        let duration_ms = longest["duration_ms"].as_u64().unwrap_or_default();
        verdict.judge(
            "the recording's audio",
            spec.channels == 2 && length_ms.abs_diff(duration_ms) < 1000,
            &format!("{} channels, {length_ms} ms, manifest says {duration_ms} ms", spec.channels),
        );
        Ok(())
    }

    /// What the phones themselves hold against the cluster.
    pub fn judge_peers(&self, verdict: &mut Verdict) {
        let phones = self.agents.iter().chain(self.callers.iter().map(|caller| &caller.phone));
        let violations: Vec<_> = phones.flat_map(Phone::violations).collect();
        let detail = if violations.is_empty() {
            "no second transaction, CSeq only upwards".to_owned()
        } else {
            format!("{violations:?}")
        };
        verdict.judge("SIP as the phones saw it", violations.is_empty(), &detail);
    }
}

fn is_call_of(snapshot: &Snapshot, caller: &Caller, call: &str) -> bool {
    snapshot.calls.get(&caller.call_id).is_some_and(|known| known.id == call)
}
