//! `tandem ca`: the cluster's authority, its certificates, and the way to a new one.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tandem_pki::facts::Moment;
use tandem_pki::identity::SUPERVISOR;
use tandem_pki::judge::{End, end};
use tandem_pki::{Facts, files};

use crate::ca::authority::parse;
use crate::ca::folder::{Folder, Member, Stand};
use crate::ca::rotation::{Phase, Step, shows};
use crate::exit::Unsafe;

/// Of a process's answer to what it trusts.
const ANSWER_MS_MAX: u64 = 5_000;

#[derive(Debug, Subcommand)]
pub enum Ca {
    /// Make a cluster's authority: its key and its certificate
    Init(Init),
    /// Make the key and the certificate of one process
    Issue(Issue),
    /// Whose certificates these are, of which authority, from when till when
    Show(Show),
    /// Take the next step to a new authority, and say what comes then
    Rotate(Rotate),
}

#[derive(Debug, Args)]
pub struct Init {
    /// Where the authority lies; its key stays there
    #[arg(long)]
    dir: PathBuf,
    /// The cluster's id, as its processes' files have it
    #[arg(long)]
    cluster: String,
    /// It is good for so long
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    years: u32,
}

#[derive(Debug, Args)]
pub struct Issue {
    /// Of the process, for instance node-a, gateway-b or supervisor
    name: String,
    /// Where the authority lies
    #[arg(long)]
    dir: PathBuf,
    /// An address that the process answers to; those that it had, where none is given
    #[arg(long = "address")]
    addresses: Vec<IpAddr>,
    /// It is good for so long
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
    /// Write key, certificate and authorities there, and keep no key beside the authority
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Show {
    /// PEM files with certificates
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct Rotate {
    /// Where the authority lies
    #[arg(long)]
    dir: PathBuf,
    /// Only say where it stands and what comes next
    #[arg(long)]
    show: bool,
    /// Ask this process whether it has taken the step before: its HTTP address, for instance
    /// 127.0.0.11:8101; may be given for each
    #[arg(long = "process", value_name = "ADDRESS")]
    processes: Vec<std::net::SocketAddr>,
    /// Every process has taken the step before: nobody is asked
    #[arg(long, conflicts_with = "processes")]
    taken_everywhere: bool,
    /// A new authority is good for so long
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    years: u32,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub fn run(command: &Ca) -> Result<()> {
    match command {
        Ca::Init(Init { dir, cluster, years }) => {
            let facts = Folder::init(dir, cluster, *years)?;
            println!(
                "the authority {:?} is in {}, until {}",
                facts.subject,
                dir.display(),
                facts.until
            );
            println!("next: tandem ca issue NAME --dir {}", dir.display());
            Ok(())
        }
        Ca::Issue(Issue { name, dir, addresses, days, out }) => {
            let made = Folder::open(dir)?.issue(name, addresses, *days, out.as_deref())?;
            println!("{}: {}", made.certificate.display(), in_words(&made.facts));
            Ok(())
        }
        Ca::Show(Show { files, json }) => show(files, *json),
        Ca::Rotate(asked) => rotate(asked),
    }
}

fn show(paths: &[PathBuf], as_json: bool) -> Result<()> {
    let mut all = Vec::new();
    for path in paths {
        let certificates = parse(path, &files::read(path)?)?;
        all.extend(certificates.into_iter().map(|(facts, _)| (path, facts)));
    }
    if as_json {
        let rows: Vec<Value> = all.iter().map(|(path, facts)| row(path, facts)).collect();
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        for (path, facts) in all {
            println!("{}: {}", path.display(), in_words(&facts));
        }
    }
    Ok(())
}

fn row(path: &Path, facts: &Facts) -> Value {
    json!({
        "file": path,
        "subject": facts.subject,
        "issuer": facts.issuer,
        "names": facts.names,
        "authority": facts.is_authority,
        "from": facts.from.rfc3339(),
        "until": facts.until.rfc3339(),
        "days_left": Moment::now().days_until(facts.until),
        "sha256": facts.fingerprint,
    })
}

fn in_words(facts: &Facts) -> String {
    let now = Moment::now();
    let days = now.days_until(facts.until);
    let left = match end(facts.until, now) {
        _ if now < facts.from => "not yet good".to_owned(),
        End::Over => "over".to_owned(),
        End::Far => format!("{days} days left"),
        End::Near | End::Urgent => format!("only {days} days left"),
    };
    let Facts { subject, issuer, from, until, .. } = facts;
    let what = match facts.is_authority {
        true => format!("the authority {subject:?}"),
        false => format!("{subject}, of the authority {issuer:?}, as {}", facts.names.join(", ")),
    };
    format!("{what}, from {from} until {until} ({left})")
}

fn rotate(asked: &Rotate) -> Result<()> {
    let folder = Folder::open(&asked.dir)?;
    let mut done = None;
    if !asked.show {
        everybody_is_there(asked, &folder.stand()?)?;
        done = Some(folder.step(asked.years)?);
    }
    let stand = folder.stand()?;
    if asked.json {
        let phase = match stand.phase {
            Phase::Steady => "steady",
            Phase::Trusted => "trusted",
            Phase::Signed => "signed",
        };
        let behind: Vec<_> = stand.behind().map(|it| it.facts.subject.as_str()).collect();
        let text = json!({
            "phase": phase,
            "authority": stand.signer.subject,
            "successor": stand.successor.as_ref().map(|it| &it.subject),
            "done": done.map(|step| step.to_string()),
            "next": stand.phase.next().to_string(),
            "behind": behind,
        });
        println!("{}", serde_json::to_string_pretty(&text)?);
        return Ok(());
    }
    if let Some(done) = done {
        println!("done: {done}");
    }
    println!("next: {}", next(&asked.dir, &stand));
    Ok(())
}

/// What an operator does now.
fn next(dir: &Path, stand: &Stand) -> String {
    let again = format!("`tandem ca rotate --dir {}`", dir.display());
    let bundle = dir.join("ca.pem");
    match stand.phase {
        Phase::Steady => format!(
            "nothing, once every process has {}; {again} begins the way to a new authority",
            bundle.display()
        ),
        Phase::Trusted => format!(
            "bring {} to every process, which takes it within seconds (at once on SIGHUP); then {again} to {}",
            bundle.display(),
            Step::Sign
        ),
        Phase::Signed => {
            let behind: Vec<_> = stand.behind().map(|it| it.facts.subject.as_str()).collect();
            let first = match behind.is_empty() {
                true => String::new(),
                false => format!("`tandem ca issue` for {}; ", behind.join(", ")),
            };
            format!(
                "{first}bring each new key and certificate to its process, which takes it within seconds; then {again} to {}",
                Step::Drop
            )
        }
    }
}

/// Every process has taken the step before, or nobody goes on.
fn everybody_is_there(asked: &Rotate, stand: &Stand) -> Result<()> {
    let (needs, step) = (stand.needs(), stand.phase.next());
    if asked.taken_everywhere || step == Step::Trust {
        return Ok(());
    }
    if asked.processes.is_empty() {
        bail!(Unsafe(format!(
            "before it is safe to {step}, each process must show {needs}: name them all with --process ADDRESS, \
             or say --taken-everywhere"
        )));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let said = runtime.block_on(async {
        let within = Duration::from_millis(ANSWER_MS_MAX);
        let client = reqwest::Client::builder().timeout(within).build()?;
        let mut said = Vec::new();
        for process in &asked.processes {
            let url = format!("http://{process}/metrics");
            let answer =
                client.get(&url).send().await.and_then(reqwest::Response::error_for_status);
            let answer =
                answer.with_context(|| format!("{process} does not say what it trusts"))?;
            let text = answer.text().await?;
            if !needs.are_met(&text) {
                bail!(Unsafe(format!(
                    "{process} does not show yet {needs}: it is not safe to {step}"
                )));
            }
            said.push(text);
        }
        anyhow::Ok(said)
    })?;
    // A supervisor has no address to be asked at.
    let mut others = stand.good().filter(|it| it.facts.subject != SUPERVISOR);
    let unseen = others.find(|it| !said.iter().any(|text| shows(text, it.facts.short())));
    if let Some(Member { facts, certificate, .. }) = unseen {
        bail!(Unsafe(format!(
            "no process that was asked shows the certificate of {} in {}: name its process, too, bring it the \
             certificate, or take the file away if it is gone for good",
            facts.subject,
            certificate.display()
        )));
    }
    Ok(())
}
