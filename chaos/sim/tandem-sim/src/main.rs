//! `tandem-sim`: one simulated run, or many. Exit codes: 0 nothing was found, 1 a violation,
//! 2 usage.

mod run;

use std::process::ExitCode;

use clap::Parser;
use tandem_sim_core::Plant;

/// A run is made of small copies: a third of its time went into the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Simulates the core of Tandem: same seed and build, same run.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Flags {
    /// The core alone: machines, outbox and takeover rules.
    #[arg(long)]
    core: bool,
    /// The run.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Many runs, the last one excluded.
    #[arg(long, value_name = "FROM..TO", conflicts_with = "seed", value_parser = run::seeds)]
    seeds: Option<run::Seeds>,
    /// How long callers call and faults strike, in virtual time.
    #[arg(long = "virtual", value_name = "TIME", default_value = "90s", value_parser = run::duration_ms)]
    virtual_ms: u64,
    /// The core as a call-centre laboratory: a TOML file, or erlang-a, erlang-c, impatient, morning, support.
    #[arg(long, value_name = "SCENARIO", requires = "core", conflicts_with_all = ["seeds", "plant"])]
    acd: Option<String>,
    /// Switches a planted bug on.
    #[arg(long, value_name = "NAME")]
    plant: Option<Plant>,
    /// Names the planted bugs, one a line.
    #[arg(long)]
    list_plants: bool,
    /// Only these of the planned faults: numbers with commas, or "none"; 7:150 lasts 150 ms only.
    #[arg(long, value_name = "LIST", value_parser = run::faults, requires = "seed")]
    keep_faults: Option<run::Faults>,
    /// Only these of the planned calls.
    #[arg(long, value_name = "LIST", value_parser = run::list, requires = "seed")]
    keep_calls: Option<run::List>,
    /// Tells the whole story of one run.
    #[arg(long, requires = "seed")]
    story: bool,
    /// Writes the log of one run, for `tandem replay FILE`.
    #[arg(long, value_name = "FILE", requires = "seed", conflicts_with = "seeds")]
    trace: Option<std::path::PathBuf>,
    /// Does not cut a failing run down to what it needs.
    #[arg(long)]
    no_shrink: bool,
    /// Fails where a batch leaves a cell of the coverage table empty, or a seed has too little to do.
    #[arg(long, requires = "seeds")]
    require_coverage: bool,
}

fn main() -> ExitCode {
    match Flags::try_parse() {
        Ok(flags) => run::run(&flags),
        Err(error) => {
            // Help and version are no mistakes.
            let code = if error.use_stderr() { 2 } else { 0 };
            if code == 2 {
                eprintln!("{}", sentence(&error));
            } else {
                print!("{error}");
            }
            ExitCode::from(code)
        }
    }
}

/// The first line says what is wrong; the rest is usage.
fn sentence(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}
