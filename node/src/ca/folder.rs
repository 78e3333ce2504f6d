//! Where an authority lies, with the certificates that it has signed.
//!
//! | file | what |
//! | --- | --- |
//! | `ca.pem` | the authorities that are trusted: every process has a copy |
//! | `ca.key` | the key of the one that signs: nobody else has it |
//! | `next.key` | while one follows the other: the key of the next |
//! | `NAME.pem`, `NAME.key` | of a process whose files are here |
//! | `issued/NAME.pem` | of a process whose key is elsewhere |

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use tandem_pki::facts::Moment;
use tandem_pki::{CLUSTER_NAME, Facts};

use super::authority::{Authority, Validity, parse, read};
use super::rotation::{Found, Needs, Phase, Step, successor_of};
use crate::dev::folder::{replace, write_private};
use crate::exit::Unsafe;

const DAYS_PER_YEAR: u32 = 365;
const SECONDS_PER_DAY: i64 = 24 * 3_600;
const CERTIFICATES_MAX: usize = 1_024;

pub struct Folder {
    root: PathBuf,
}

/// A certificate that the authority has signed.
pub struct Member {
    pub facts: Facts,
    pub certificate: PathBuf,
    /// Where its key is, if it is here.
    pub key: Option<PathBuf>,
}

/// Where a rotation stands.
pub struct Stand {
    pub phase: Phase,
    pub signer: Facts,
    pub successor: Option<Facts>,
    pub members: Vec<Member>,
}

impl Stand {
    /// Those that are not over.
    pub fn good(&self) -> impl Iterator<Item = &Member> {
        let now = Moment::now();
        self.members.iter().filter(move |it| it.facts.until >= now)
    }

    /// Signed by another authority than the one that signs, and still good.
    pub fn behind(&self) -> impl Iterator<Item = &Member> {
        self.good().filter(|it| it.facts.issuer != self.signer.subject)
    }

    pub fn needs(&self) -> Needs {
        match self.phase.next() {
            Step::Trust => Needs::Nothing,
            Step::Sign => {
                let short = self.successor.as_ref().map_or("", Facts::short);
                Needs::Trusts(short.to_owned())
            }
            Step::Drop => {
                let new = self.members.iter().filter(|it| it.facts.issuer == self.signer.subject);
                Needs::Shows(new.map(|it| it.facts.short().to_owned()).collect())
            }
        }
    }
}

impl Folder {
    /// Makes the authority of a cluster.
    pub fn init(root: &Path, cluster: &str, years: u32) -> Result<Facts> {
        let folder = Self { root: root.to_owned() };
        for path in [folder.key(), folder.bundle()] {
            ensure!(!path.exists(), "{} is there: it is not overwritten", path.display());
        }
        fs::create_dir_all(root)
            .map_err(|error| anyhow::anyhow!("{} can't be made: {error}", root.display()))?;
        let days = Validity::Days(years.saturating_mul(DAYS_PER_YEAR));
        let authority = Authority::make(&format!("tandem {cluster}"), days)?;
        write_private(&folder.key(), authority.key_pem().as_bytes())?;
        replace(&folder.bundle(), authority.pem.as_bytes(), 0o644)?;
        authority.facts()
    }

    pub fn open(root: &Path) -> Result<Self> {
        let folder = Self { root: root.to_owned() };
        let key = folder.key();
        ensure!(key.exists(), "{} is not there: begin with `tandem ca init`", key.display());
        Ok(folder)
    }

    pub fn bundle(&self) -> PathBuf {
        self.root.join("ca.pem")
    }

    fn key(&self) -> PathBuf {
        self.root.join("ca.key")
    }

    fn next_key(&self) -> PathBuf {
        self.root.join("next.key")
    }

    fn trusted(&self) -> Result<Vec<(Facts, String)>> {
        let path = self.bundle();
        let text = read(&path)?.with_context(|| format!("{} is not there", path.display()))?;
        parse(&path, &text)
    }

    /// A key and a certificate of one process. Nothing of `addresses`: those that it had.
    pub fn issue(
        &self,
        name: &str,
        addresses: &[IpAddr],
        days: u32,
        out: Option<&Path>,
    ) -> Result<Member> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        ensure!(
            !name.is_empty() && name.len() <= 63 && name.chars().all(plain),
            "{name:?} is no name of a process: letters, digits and hyphens, 63 at most"
        );
        ensure!(
            !["ca", "next"].contains(&name),
            "{name} is what the authority's own files are called"
        );
        let trusted = self.trusted()?;
        let authority = Authority::open(&self.key(), &trusted)?;
        let mut names = vec![name.to_owned(), CLUSTER_NAME.to_owned()];
        if addresses.is_empty() {
            let known = self.members(&trusted)?.into_iter().find(|it| it.facts.subject == name);
            let known = known.map(|it| it.facts.names).unwrap_or_default();
            names.extend(known.into_iter().filter(|it| it.parse::<IpAddr>().is_ok()));
        }
        names.extend(addresses.iter().map(ToString::to_string));
        let issued = authority.issue(name, names, Validity::Days(days))?;
        let home = out.unwrap_or(&self.root);
        fs::create_dir_all(home)
            .map_err(|error| anyhow::anyhow!("{} can't be made: {error}", home.display()))?;
        let (certificate, key) =
            (home.join(format!("{name}.pem")), home.join(format!("{name}.key")));
        issued.write(&certificate, &key)?;
        if out.is_some() {
            let bundle: String = trusted.iter().map(|(_, pem)| pem.as_str()).collect();
            replace(&home.join("ca.pem"), bundle.as_bytes(), 0o644)?;
            let noted = self.root.join("issued");
            fs::create_dir_all(&noted)?;
            replace(&noted.join(format!("{name}.pem")), issued.certificate.as_bytes(), 0o644)?;
        }
        let facts = parse(&certificate, &issued.certificate)?.swap_remove(0).0;
        Ok(Member { facts, certificate, key: Some(key) })
    }

    /// What the authorities have signed, as far as it is noted here.
    fn members(&self, trusted: &[(Facts, String)]) -> Result<Vec<Member>> {
        let mut found = Vec::new();
        for dir in [self.root.clone(), self.root.join("issued")] {
            let Ok(files) = fs::read_dir(&dir) else { continue };
            for file in files {
                let certificate = file?.path();
                if certificate.extension().is_none_or(|it| it != "pem")
                    || certificate == self.bundle()
                {
                    continue;
                }
                let Some(text) = read(&certificate)? else { continue };
                let Some((facts, _)) = parse(&certificate, &text)?.into_iter().next() else {
                    continue;
                };
                // Others have other authorities, for instance of SIP.
                if !trusted.iter().any(|(it, _)| it.subject == facts.issuer) {
                    continue;
                }
                let key = Some(certificate.with_extension("key")).filter(|key| key.exists());
                ensure!(
                    found.len() < CERTIFICATES_MAX,
                    "{} holds more than {CERTIFICATES_MAX} certificates",
                    dir.display()
                );
                found.push(Member { facts, certificate, key });
            }
        }
        found.sort_by(|a, b| a.facts.subject.cmp(&b.facts.subject));
        Ok(found)
    }

    pub fn stand(&self) -> Result<Stand> {
        let trusted = self.trusted()?;
        let signer = Authority::open(&self.key(), &trusted)?.facts()?;
        let successor = match self.next_key().exists() {
            true => Authority::open(&self.next_key(), &trusted).ok(),
            false => None,
        };
        let successor = successor.map(|it| it.facts()).transpose()?;
        let keys: Vec<&[u8]> = trusted.iter().map(|(it, _)| &*it.public_key).collect();
        let phase = Phase::of(Found {
            trusted: &keys,
            signer: &signer.public_key,
            successor: successor.as_ref().map(|it| &*it.public_key),
        })?;
        let members = self.members(&trusted)?;
        Ok(Stand { phase, signer, successor, members })
    }

    /// Takes the next step of a rotation, the same one again where it was interrupted.
    pub fn step(&self, years: u32) -> Result<Step> {
        let stand = self.stand()?;
        let step = stand.phase.next();
        let trusted = self.trusted()?;
        match step {
            Step::Trust => {
                let days = Validity::Days(years.saturating_mul(DAYS_PER_YEAR));
                let next = Authority::make(&successor_of(&stand.signer.subject), days)?;
                // Only with the certificate in the bundle is it the successor.
                write_private(&self.next_key(), next.key_pem().as_bytes())?;
                self.trust(trusted.iter().map(|(_, pem)| pem.as_str()).chain([&*next.pem]))?;
            }
            Step::Sign => {
                let next = Authority::open(&self.next_key(), &trusted)?;
                for Member { facts, certificate, key } in &stand.members {
                    let Some(key) = key else { continue };
                    let lasts = (facts.until.0 - facts.from.0) / SECONDS_PER_DAY;
                    let days = Validity::Days(u32::try_from(lasts).unwrap_or(1));
                    next.issue(&facts.subject, facts.names.clone(), days)?
                        .write(certificate, key)?;
                }
                let (from, to) = (self.next_key(), self.key());
                fs::rename(&from, &to).map_err(|error| {
                    anyhow::anyhow!("{} can't become {}: {error}", from.display(), to.display())
                })?;
            }
            Step::Drop => {
                let behind: Vec<_> = stand.behind().map(|it| it.facts.subject.as_str()).collect();
                if !behind.is_empty() {
                    bail!(Unsafe(format!(
                        "{} still have certificates of the old authority: `tandem ca issue` them anew, \
                         and bring them to their processes",
                        behind.join(", ")
                    )));
                }
                let own =
                    |(facts, _): &&(Facts, String)| facts.public_key == stand.signer.public_key;
                self.trust(trusted.iter().filter(own).map(|(_, pem)| pem.as_str()))?;
            }
        }
        Ok(step)
    }

    fn trust<'a>(&self, authorities: impl Iterator<Item = &'a str>) -> Result<()> {
        let bundle: String = authorities.collect();
        replace(&self.bundle(), bundle.as_bytes(), 0o644)
    }
}
