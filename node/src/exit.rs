//! Exit codes: 0 done, 1 failed, 2 usage, 3 refused because unsafe, 4 timed out. An error that is
//! none of these types is a failure.

use std::process::ExitCode;

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const UNSAFE: u8 = 3;
const TIMED_OUT: u8 = 4;

/// The command line asks for something that there is not.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// The cluster refuses: it would not be safe, or not now.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unsafe(pub String);

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TimedOut(pub String);

pub fn code_of(error: &anyhow::Error) -> ExitCode {
    let code = if error.is::<Usage>() {
        USAGE
    } else if error.is::<Unsafe>() {
        UNSAFE
    } else if error.is::<TimedOut>() {
        TIMED_OUT
    } else {
        FAILED
    };
    ExitCode::from(code)
}
