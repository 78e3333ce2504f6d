//! `make interop`: phones and a PBX that are not ours, against a cluster of real processes. Prints
//! what each can do with us; exits 0 only if all of it works.
//!
//! The peers are Debian's: baresip of this machine, and Asterisk of Debian 11 in a folder of its
//! own, for Debian 12 has none.

mod asterisk;
mod baresip;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tandem_tests::house::House;

use baresip::Way;
use report::Report;

/// Third octets of the clusters' addresses.
const BLOCK: u8 = 71;
const PROTECTED_BLOCK: u8 = 72;

/// Phones over TLS must talk over SRTP.
const PROTECTED: &str = r#"
[tenant]
name = "demo"
realm = "demo.tandem"
srtp = "required"

[[trunk]]
name = "carrier"
channels = 30

[[agent]]
id = "1001"
password = "tandem-1001"

[[agent]]
id = "1002"
password = "tandem-1002"

[[number]]
digits = "4003"
echo = true
"#;

struct Flags {
    /// The root of a Debian with Asterisk; none: it is left out.
    asterisk: Option<PathBuf>,
    /// How long each conversation is listened to.
    talk: Duration,
}

fn flags() -> Result<Flags> {
    let mut flags = Flags { asterisk: None, talk: Duration::from_secs(5) };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--asterisk" => {
                flags.asterisk = Some(args.next().context("--asterisk needs a folder")?.into());
            }
            "--seconds" => {
                let seconds = args.next().context("--seconds needs a number")?;
                flags.talk = Duration::from_secs(seconds.parse().context("--seconds")?);
            }
            "--help" => {
                println!("tandem-interop [--asterisk ROOT] [--seconds N]");
                std::process::exit(0);
            }
            other => anyhow::bail!("unknown option {other}; there are --asterisk and --seconds"),
        }
    }
    Ok(flags)
}

fn main() -> ExitCode {
    let run = || -> Result<bool> {
        let flags = flags()?;
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?
            .block_on(interop(&flags))
    };
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the peers could not be tried: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn interop(flags: &Flags) -> Result<bool> {
    let house = House::open(BLOCK).await?;
    let mut report = Report::default();
    for way in [Way::Udp, Way::Tcp] {
        baresip::try_all(&house, house.vips[0], &way, flags.talk, &mut report).await;
    }
    match &flags.asterisk {
        Some(root) => asterisk::try_all(&house, root, flags.talk, &mut report).await,
        None => println!("Asterisk is left out: no --asterisk ROOT"),
    }
    house.cluster.stop()?;
    let house = House::open_with(PROTECTED_BLOCK, PROTECTED).await?;
    let processes = house.cluster.processes()?;
    let way = Way::TlsSrtp { roots: processes.sip_ca_file };
    let server = processes.sip[0].tls.parse()?;
    baresip::try_all(&house, server, &way, flags.talk, &mut report).await;
    house.cluster.stop()?;
    report.print();
    Ok(report.all_work())
}
