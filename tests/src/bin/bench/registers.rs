//! Storms of registrations: 1,000 phones, each with a socket of its own, register within five seconds, once more
//! as often as they do to stay, and then all in the same moment, as where the power comes back.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use hdrhistogram::Histogram;
use tandem_sip::{CSeq, Headers, Message, Method, NameAddr, Param, Request, Transport, Uri, Via};
use tandem_tests::Cluster;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::load::users;
use crate::tenant::Tenant;
use crate::usage::Usage;
use crate::{pids, print_histogram};

const PHONES: u32 = 1_000;
const STORMS: [(&str, Duration); 3] = [
    ("a first REGISTER each", Duration::from_secs(5)),
    ("registered again", Duration::from_secs(5)),
    ("registered again", Duration::ZERO),
];
const EXPIRES_S: u32 = 3_600;
/// RFC 3261 §17.1.2.1: a request is sent again after T1, 2·T1 … T2, until 64·T1 are over.
const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);
const HIGHEST_US: u64 = 60_000_000;
const DATAGRAM_BYTES_MAX: usize = 4_096;

struct Phone {
    user: String,
    socket: UdpSocket,
    own: SocketAddr,
    server: SocketAddr,
    call_id: String,
    cseq: u32,
}

/// One phone's way from the first REGISTER to the 200.
struct Registered {
    took: Duration,
    repeats: u64,
}

pub async fn run(dir: &Path) -> Result<()> {
    let users = users(PHONES);
    let file = dir.join("bench.toml");
    let tenant = Tenant { agents: &users, channels: 10, record: false, acw_ms: 0 };
    std::fs::write(&file, tenant.config()?)?;
    let cluster = Cluster::start(dir, &["--config", file.to_str().context("UTF-8 path")?])?;
    let vips = cluster.processes()?.sip;
    let vips = vips.iter().map(|sip| Ok(sip.vip.parse()?)).collect::<Result<Vec<SocketAddr>>>()?;
    let mut phones = Vec::new();
    for (at, user) in users.iter().enumerate() {
        phones.push(Phone::open(user, vips[at % vips.len()]).await?);
    }
    for (storm, within) in STORMS {
        let usage = Usage::begin(pids(&cluster)?)?;
        let what = format!("{PHONES} phones in {} s, {storm}", within.as_secs());
        phones = blow(&what, phones, within).await?;
        usage.print(&what)?;
    }
    cluster.stop()?;
    Ok(())
}

/// All phones at an even rate. Gives them back; an error where one has not got its 200.
async fn blow(what: &str, phones: Vec<Phone>, within: Duration) -> Result<Vec<Phone>> {
    let begin = Instant::now();
    let every = within / PHONES;
    let mut tasks = JoinSet::new();
    for (at, mut phone) in (0_u32..).zip(phones) {
        tasks.spawn(async move {
            sleep_until(begin + every * at).await;
            let outcome = phone.register().await;
            (phone, outcome)
        });
    }
    let mut took_us = Histogram::<u64>::new_with_bounds(1, HIGHEST_US, 3)?;
    let mut failed = BTreeMap::<String, u64>::new();
    let (mut repeats, mut back) = (0, Vec::new());
    while let Some(task) = tasks.join_next().await {
        let (phone, outcome) = task?;
        back.push(phone);
        match outcome {
            Ok(registered) => {
                let took = u64::try_from(registered.took.as_micros()).unwrap_or(u64::MAX);
                took_us.saturating_record(took);
                repeats += registered.repeats;
            }
            Err(error) => *failed.entry(error.to_string()).or_default() += 1,
        }
    }
    print_histogram(&format!("{what}: REGISTER → 200"), "µs", &took_us);
    let seconds = begin.elapsed().as_secs_f64();
    println!("  {} got 200 in {seconds:.2} s, {repeats} messages repeated", took_us.len());
    for (why, count) in &failed {
        println!("  failed: {count} x {why}");
    }
    ensure!(failed.is_empty(), "{} phones are not registered", failed.values().sum::<u64>());
    Ok(back)
}

impl Phone {
    async fn open(user: &str, server: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).await?;
        let own = socket.local_addr()?;
        let call_id = format!("{:016x}@storm", rand::random::<u64>());
        Ok(Self { user: user.to_owned(), socket, own, server, call_id, cseq: 0 })
    }

    async fn register(&mut self) -> Result<Registered> {
        let begun = Instant::now();
        let mut repeats = 0;
        let challenge = match self.ask(None, &mut repeats).await? {
            (200, _) => return Ok(Registered { took: begun.elapsed(), repeats }),
            (401, Some(challenge)) => challenge,
            (status, _) => bail!("answered {status}"),
        };
        let (to, password) = (self.uri(None).to_string(), format!("tandem-{}", self.user));
        let cnonce = format!("{:08x}", rand::random::<u32>());
        let proof =
            tandem_sip::digest::answer(&challenge, &self.user, &password, "REGISTER", &to, &cnonce);
        let proof = proof.map_err(|error| anyhow::anyhow!("{error}"))?;
        match self.ask(Some(proof), &mut repeats).await? {
            (200, _) => Ok(Registered { took: begun.elapsed(), repeats }),
            (status, _) => bail!("answered {status} to the password"),
        }
    }

    /// One transaction: the final status and the challenge, where there is one.
    async fn ask(
        &mut self,
        proof: Option<String>,
        repeats: &mut u64,
    ) -> Result<(u16, Option<String>)> {
        let request = self.request(proof);
        let (bytes, over) = (request.to_bytes(), Instant::now() + 64 * T1);
        let mut interval = T1;
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            // What is lost is sent again, as on any network.
            let _ = self.socket.send_to(&bytes, self.server).await;
            let again = Instant::now() + interval;
            while let Ok(received) = timeout_at(again, self.socket.recv_from(&mut buffer)).await {
                let Ok((length, _)) = received else { continue };
                let Ok(Message::Response(response)) = tandem_sip::parse(&buffer[..length]) else {
                    continue;
                };
                if response.status >= 200 && response.headers.cseq.number == self.cseq {
                    let challenge = response.headers.other("WWW-Authenticate").map(str::to_owned);
                    return Ok((response.status, challenge));
                }
            }
            ensure!(Instant::now() < over, "no answer in {} s", (64 * T1).as_secs());
            interval = T2.min(interval * 2);
            *repeats += 1;
        }
    }

    fn request(&mut self, proof: Option<String>) -> Request {
        self.cseq += 1;
        let of_record = NameAddr::new(self.uri(Some(&self.user)));
        let mut from = of_record.clone();
        from.set_tag("storm");
        let ip = self.own.ip().to_string();
        let branch = format!("z9hG4bK{:016x}", rand::random::<u64>());
        let mut headers = Headers {
            via: vec![Via {
                transport: Transport::Udp,
                host: ip.clone(),
                port: Some(self.own.port()),
                params: vec![Param { name: "branch".into(), value: Some(branch) }],
            }],
            from,
            to: of_record,
            call_id: self.call_id.clone(),
            cseq: CSeq { number: self.cseq, method: Method::Register },
            contact: vec![NameAddr::new(Uri::sip(Some(&self.user), &ip, Some(self.own.port())))],
            route: Vec::new(),
            record_route: Vec::new(),
            max_forwards: Some(70),
            expires: Some(EXPIRES_S),
            content_type: None,
            other: Vec::new(),
        };
        if let Some(proof) = proof {
            headers.push_other("Authorization", &proof);
        }
        Request { method: Method::Register, uri: self.uri(None), headers, body: Vec::new() }
    }

    fn uri(&self, user: Option<&str>) -> Uri {
        Uri::sip(user, &self.server.ip().to_string(), Some(self.server.port()))
    }
}
