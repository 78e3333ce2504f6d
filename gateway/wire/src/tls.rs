//! What TLS of SIP is done with (RFC 3261 §26.3, RFC 5922): a certificate, its key and the roots
//! that are trusted, from files that may change while connections live.

use std::fs::Metadata;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tandem_sip::Proof;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

use crate::limits;
use crate::verifiers::{AnyClient, AnyServer};

/// PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The certificate that we show, and what leads from it to a root.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Who is believed: servers that we call, and clients that a trunk wants to know. Without any
    /// nobody is.
    pub roots: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path} can't be read: {why}")]
    Unreadable { path: PathBuf, why: io::Error },
    #[error("{path} is longer than {max} bytes", max = limits::PEM_BYTES_MAX)]
    TooLong { path: PathBuf },
    #[error("{path} holds no certificate in PEM")]
    NoCertificate { path: PathBuf },
    #[error("{path} holds no private key in PEM")]
    NoKey { path: PathBuf },
    #[error("{path} holds a certificate that can't be used: {why}")]
    Certificate { path: PathBuf, why: rustls::Error },
    #[error("{path} can't be used as roots: {why}")]
    Roots { path: PathBuf, why: String },
}

/// Shared by whoever accepts and opens connections; each takes what holds at that moment, and a
/// connection keeps what it began with.
#[derive(Debug)]
pub struct Tls {
    files: Files,
    current: ArcSwap<Current>,
}

#[derive(Debug)]
pub(crate) struct Current {
    /// Asks for a certificate, and takes any: what it is worth is judged afterwards.
    pub server: Arc<ServerConfig>,
    /// None where there are no roots.
    verified: Option<Arc<ClientConfig>>,
    unverified: Arc<ClientConfig>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
}

impl Tls {
    /// # Errors
    /// Which file can't be used, and why.
    pub fn open(files: Files) -> Result<Arc<Self>, Error> {
        let current = ArcSwap::from_pointee(load(&files)?);
        Ok(Arc::new(Self { files, current }))
    }

    pub(crate) fn current(&self) -> Arc<Current> {
        self.current.load_full()
    }

    /// Takes what the files hold now, for connections to come.
    ///
    /// # Errors
    /// Which file can't be used, and why; what held before holds on.
    pub fn reload(&self) -> Result<(), Error> {
        self.current.store(Arc::new(load(&self.files)?));
        Ok(())
    }

    /// Reloads when a file has changed and rests, and at once when asked to. For ever.
    ///
    /// Files are looked at, not watched: what replaces them may be a link to a folder that is
    /// swapped, which a watch on the file does not see.
    pub async fn keep(self: Arc<Self>, asked: Arc<Notify>) {
        let mut taken = self.stamps();
        let mut seen = taken.clone();
        let mut look = interval(Duration::from_millis(limits::CERTIFICATE_LOOK_MS));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let at_once = tokio::select! {
                _ = look.tick() => false,
                () = asked.notified() => true,
            };
            let now = self.stamps();
            // Certificate and key are two files: whoever replaces them does so one after the other.
            let rests = now == seen;
            seen.clone_from(&now);
            if !at_once && (now == taken || !rests) {
                continue;
            }
            taken = now;
            self.tell(self.reload());
        }
    }

    fn tell(&self, reloaded: Result<(), Error>) {
        let result = if reloaded.is_ok() { "ok" } else { "refused" };
        metrics::counter!("tandem_sip_certificate_reloads_total", "result" => result).increment(1);
        let certificate = self.files.certificate.display();
        match reloaded {
            Ok(()) => tracing::info!(%certificate, "the SIP certificate was read anew"),
            Err(error) => {
                tracing::warn!(%error, "TD0305 the new SIP certificate is of no use: the old one is kept");
            }
        }
    }

    fn stamps(&self) -> Vec<Option<Stamp>> {
        let files = [&self.files.certificate, &self.files.key];
        files.into_iter().chain(&self.files.roots).map(|path| Stamp::of(path)).collect()
    }
}

/// What tells one content of a file from the next.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let of = |file: Metadata| Self {
            device: file.dev(),
            inode: file.ino(),
            length: file.len(),
            changed: (file.mtime(), file.mtime_nsec()),
        };
        std::fs::metadata(path).ok().map(of)
    }
}

impl Current {
    /// What a client has proven to be called by its certificates: nothing, where no root vouches
    /// for them.
    pub fn names_of(&self, certificates: Option<&[CertificateDer<'_>]>) -> Arc<[String]> {
        let (Some(verifier), Some([own, rest @ ..])) = (&self.clients, certificates) else {
            return Arc::default();
        };
        match verifier.verify_client_cert(own, rest, UnixTime::now()) {
            Ok(_) => names(own).into(),
            Err(error) => {
                tracing::debug!(%error, "a client's certificate proves nothing");
                Arc::default()
            }
        }
    }

    /// How to call somebody who must prove as much, and by which name.
    pub fn client(
        &self,
        to: SocketAddr,
        proof: &Proof,
    ) -> Option<(Arc<ClientConfig>, ServerName<'static>)> {
        let address = ServerName::IpAddress(to.ip().into());
        match proof {
            Proof::Nothing => Some((Arc::clone(&self.unverified), address)),
            Proof::Address => Some((self.verified.clone()?, address)),
            Proof::Name(name) => {
                let name = ServerName::try_from(name.to_string()).ok()?;
                Some((self.verified.clone()?, name))
            }
        }
    }
}

/// The names of a certificate: DNS names, and hosts of SIP URIs (RFC 5922 §7.1).
fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else { return Vec::new() };
    let hosts = certificate.valid_uri_names().filter_map(|uri| uri.strip_prefix("sip:"));
    // One with a user part is a person's, not a server's.
    let hosts = hosts.filter(|host| !host.contains('@'));
    certificate
        .valid_dns_names()
        .chain(hosts)
        .map(str::to_ascii_lowercase)
        .take(limits::NAMES_MAX)
        .collect()
}

fn load(files: &Files) -> Result<Current, Error> {
    let provider = Arc::new(ring::default_provider());
    let chain = certificates(&files.certificate)?;
    let key = key(&files.key)?;
    let roots = files.roots.as_deref().map(roots).transpose()?;
    let clients = match (&roots, &files.roots) {
        (Some(roots), Some(path)) => {
            let roots = Arc::clone(roots);
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
            let why = |error: rustls::server::VerifierBuilderError| error.to_string();
            Some(verifier.map_err(|e| Error::Roots { path: path.clone(), why: why(e) })?)
        }
        _ => None,
    };
    let unusable = |why| Error::Certificate { path: files.certificate.clone(), why };
    let server = |asks: Option<&Arc<dyn ClientCertVerifier>>| {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13, &TLS12])?;
        let builder = match asks {
            Some(clients) => {
                let any = AnyClient(Arc::clone(clients));
                builder.with_client_cert_verifier(Arc::new(any))
            }
            None => builder.with_no_client_auth(),
        };
        builder.with_single_cert(chain.clone(), key.clone_key()).map(Arc::new)
    };
    let client = |roots: Option<&Arc<RootCertStore>>| {
        let builder = client_builder(&provider)?;
        let builder = match roots {
            Some(roots) => builder.with_root_certificates(Arc::clone(roots)),
            None => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyServer(Arc::clone(&provider)))),
        };
        builder.with_client_auth_cert(chain.clone(), key.clone_key()).map(Arc::new)
    };
    Ok(Current {
        server: server(clients.as_ref()).map_err(unusable)?,
        verified: roots.as_ref().map(|roots| client(Some(roots))).transpose().map_err(unusable)?,
        unverified: client(None).map_err(unusable)?,
        clients,
    })
}

fn client_builder(
    provider: &Arc<CryptoProvider>,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13, &TLS12])
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let unreadable = |why| Error::Unreadable { path: path.to_owned(), why };
    if std::fs::metadata(path).map_err(unreadable)?.len() > limits::PEM_BYTES_MAX {
        return Err(Error::TooLong { path: path.to_owned() });
    }
    std::fs::read(path).map_err(unreadable)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let none = || Error::NoCertificate { path: path.to_owned() };
    let read = CertificateDer::pem_slice_iter(&read(path)?).collect::<Result<Vec<_>, _>>();
    read.ok().filter(|certificates| !certificates.is_empty()).ok_or_else(none)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|_| Error::NoKey { path: path.to_owned() })
}

fn roots(path: &Path) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        let unusable =
            |why: rustls::Error| Error::Roots { path: path.to_owned(), why: why.to_string() };
        roots.add(certificate).map_err(unusable)?;
    }
    Ok(Arc::new(roots))
}
