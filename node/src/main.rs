//! Tandem: a call centre that does not drop calls.

mod ca;
mod cli;
mod config;
mod dev;
mod exit;
mod incarnation;
mod replay;
mod server;
mod telemetry;

use std::process::ExitCode;

use clap::Parser as _;

/// Commands are made of small pieces: a third of what a commit took went into the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// mimalloc asks for huge pages wherever the kernel gives them on demand: a quiet witness held 130 MiB instead of 70.
fn go_without_huge_pages() {
    // SAFETY: prctl(2) with PR_SET_THP_DISABLE takes plain numbers; the last three must be zero.
    if unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) } != 0 {
        tracing::debug!("transparent huge pages stay on");
    }
}

fn main() -> ExitCode {
    go_without_huge_pages();
    let cli = cli::Cli::parse();
    // One provider for the whole process; a second call finds it installed, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match cli::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            exit::code_of(&error)
        }
    }
}
