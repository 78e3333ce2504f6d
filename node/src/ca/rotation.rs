//! From one authority to the next, without a moment in which two processes do not trust each other.
//! Pure: where a rotation stands follows from what lies in the folder, so that whoever is
//! interrupted goes on.
//!
//! ```text
//! Steady ──trust──▶ Trusted ──sign──▶ Signed ──drop──▶ Steady
//! ```
//!
//! `trust`: a new authority is made, and trusted beside the old one. `sign`: every process gets a
//! certificate of the new one. `drop`: the old one is trusted no more. Before the next step every
//! process must have taken the one before.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// One authority.
    Steady,
    /// Both are trusted, the old one signs.
    Trusted,
    /// Both are trusted, the new one has signed.
    Signed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Trust,
    Sign,
    Drop,
}

/// What lies in the folder; authorities by their public keys.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    pub trusted: &'a [&'a [u8]],
    pub signer: &'a [u8],
    /// Made, to be the next one.
    pub successor: Option<&'a [u8]>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("ca.key is the key of no authority in ca.pem")]
    Stranger,
    #[error("ca.pem holds {0} authorities: a rotation has two")]
    TooMany(usize),
}

impl Phase {
    pub fn of(found: Found<'_>) -> Result<Self, Error> {
        let Found { trusted, signer, successor } = found;
        if !trusted.contains(&signer) {
            return Err(Error::Stranger);
        }
        match (trusted.len(), successor) {
            (2, Some(successor)) if trusted.contains(&successor) => Ok(Self::Trusted),
            // One whose key was written, and then nothing more, is made anew.
            (1, _) => Ok(Self::Steady),
            (2, None) => Ok(Self::Signed),
            (many, _) => Err(Error::TooMany(many)),
        }
    }

    pub fn next(self) -> Step {
        match self {
            Self::Steady => Step::Trust,
            Self::Trusted => Step::Sign,
            Self::Signed => Step::Drop,
        }
    }
}

/// What every process must have taken before a step, by what its metrics say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Needs {
    Nothing,
    /// It trusts this authority.
    Trusts(String),
    /// It shows one of these certificates.
    Shows(Vec<String>),
}

impl Needs {
    /// `metrics`: the Prometheus text of a process.
    pub fn are_met(&self, metrics: &str) -> bool {
        match self {
            Self::Nothing => true,
            Self::Trusts(authority) => {
                says(metrics, "tandem_certificate_authority_trusted", authority)
            }
            Self::Shows(own) => own.iter().any(|it| shows(metrics, it)),
        }
    }
}

/// Whether a process shows this certificate.
pub fn shows(metrics: &str, certificate: &str) -> bool {
    says(metrics, "tandem_certificate_in_use", certificate)
}

fn says(metrics: &str, name: &str, label: &str) -> bool {
    metrics.lines().any(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'))
            && line.contains(&format!("\"{label}\""))
            && line.split_whitespace().last() == Some("1")
    })
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "nothing",
            Self::Trusts(_) => "that it trusts the new authority",
            Self::Shows(_) => "that it has taken its certificate of the new authority",
        })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trust => "trust a new authority beside the old one",
            Self::Sign => "sign every certificate anew with the new authority",
            Self::Drop => "trust the old authority no more",
        })
    }
}

/// The name of the authority after this one.
pub fn successor_of(name: &str) -> String {
    let (stem, number) = name.rsplit_once(" #").unwrap_or((name, "1"));
    match number.parse::<u32>() {
        Ok(number) => format!("{stem} #{}", number.saturating_add(1)),
        Err(_) => format!("{name} #2"),
    }
}
