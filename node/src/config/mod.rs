//! Configuration files: TOML, read into types, every mistake told with file, line, key and what
//! was expected.

mod address;
mod cluster;
mod dev;
mod flow;
mod outward;
mod reader;
pub mod render;
mod sip;
mod sounds;
mod tenant;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

pub use address::Address;
pub use cluster::{Cluster, Gateway, Member, Process, Role, SHARDS_MAX, Tls};
pub use dev::Dev;
pub use reader::Mistake;
use reader::{Reader, Source};
pub use sip::{Sip, SipTls, WebSocket};
pub use sounds::Sounds;

/// A file may be this long.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Everything that a file may say. One format serves `tandem dev`, the servers and
/// `tandem config check`.
#[derive(Clone, Debug, PartialEq)]
pub struct File {
    pub dev: Dev,
    /// `None`: the demo tenant.
    pub tenant: Option<tandem_core::config::Config>,
    pub sounds: Sounds,
    pub cluster: Option<Cluster>,
    pub tls: Option<Tls>,
    pub sip: Option<Sip>,
    pub address: Option<Address>,
    pub process: Option<Process>,
}

#[derive(Debug)]
pub enum Error {
    Unreadable {
        path: PathBuf,
        why: std::io::Error,
    },
    TooLong {
        path: PathBuf,
    },
    Mistakes {
        path: PathBuf,
        mistakes: Vec<Mistake>,
    },
    /// A server was given a file without a table that it needs.
    Missing {
        path: PathBuf,
        table: &'static str,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, why } => {
                write!(f, "the configuration file {} can't be read: {why}", path.display())
            }
            Self::TooLong { path } => write!(
                f,
                "the configuration file {} is longer than {FILE_BYTES_MAX} bytes",
                path.display()
            ),
            Self::Mistakes { path, mistakes } => {
                for (at, mistake) in mistakes.iter().enumerate() {
                    let end = if at + 1 < mistakes.len() { "\n" } else { "" };
                    write!(f, "{}:{mistake}{end}", path.display())?;
                }
                Ok(())
            }
            Self::Missing { path, table } => {
                write!(f, "{}: the table [{table}] is missing; a server needs it", path.display())
            }
        }
    }
}

impl std::error::Error for Error {}

pub fn load(path: &Path) -> Result<File, Error> {
    let unreadable = |why| Error::Unreadable { path: path.to_owned(), why };
    if std::fs::metadata(path).map_err(unreadable)?.len() > FILE_BYTES_MAX {
        return Err(Error::TooLong { path: path.to_owned() });
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    parse(&text).map_err(|mistakes| Error::Mistakes { path: path.to_owned(), mistakes })
}

pub fn parse(text: &str) -> Result<File, Vec<Mistake>> {
    let source = Source::new(text);
    let table = source.parse();
    let root = Reader::new(&source, table.get_ref(), 0..0, "");
    let (sounds, names) = sounds::read(&root);
    let cluster = cluster::read_cluster(&root);
    let file = File {
        dev: dev::read(&root),
        tenant: tenant::read(&root, &names),
        sounds,
        address: address::read(&root, cluster.as_ref()),
        cluster,
        tls: cluster::read_tls(&root),
        sip: sip::read(&root),
        process: cluster::read_process(&root),
    };
    root.finish();
    drop(table);
    let mistakes = source.into_mistakes();
    if mistakes.is_empty() { Ok(file) } else { Err(mistakes) }
}

impl File {
    /// The tenant of a file that is about nothing else.
    ///
    /// # Errors
    /// In one sentence, which table is missing, or stands in the cluster's file.
    pub fn only_tenant(self) -> Result<tandem_core::config::Config, String> {
        let others = [
            ("cluster", self.cluster.is_some()),
            ("tls", self.tls.is_some()),
            ("sip", self.sip.is_some()),
            ("address", self.address.is_some()),
            ("process", self.process.is_some()),
        ];
        if let Some((table, _)) = others.into_iter().find(|(_, given)| *given) {
            return Err(format!(
                "[{table}] is no table of a tenant: it stands in the cluster's file"
            ));
        }
        let missing = "the table [tenant] is missing, with the tenant's name and realm";
        self.tenant.ok_or_else(|| missing.to_owned())
    }
}

/// What a server needs of a file.
pub struct Server {
    pub cluster: Cluster,
    pub tls: Tls,
    /// Of a gateway.
    pub sip: Sip,
    /// Of a gateway; none: its address is there.
    pub address: Option<Address>,
    pub process: Process,
    pub tenant: Option<tandem_core::config::Config>,
    pub sounds: Sounds,
}

pub fn load_server(path: &Path) -> Result<Server, Error> {
    let file = load(path)?;
    let missing = |table| Error::Missing { path: path.to_owned(), table };
    Ok(Server {
        cluster: file.cluster.ok_or_else(|| missing("cluster"))?,
        tls: file.tls.ok_or_else(|| missing("tls"))?,
        sip: file.sip.unwrap_or_default(),
        address: file.address,
        process: file.process.ok_or_else(|| missing("process"))?,
        tenant: file.tenant,
        sounds: file.sounds,
    })
}
