//! What holds now, and how it is renewed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::ring;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ServerConfig};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

use crate::facts::{Facts, Moment};
use crate::files::{Files, Material, Stamp, Texts};
use crate::judge::{self, End};
use crate::looks::Looks;
use crate::quiet::Quiet;
use crate::verifiers::{Clients, Servers};
use crate::{Error, limits};

const HTTP2: &[u8] = b"h2";

/// Shared by whoever accepts and opens connections; each takes what holds at that moment, and a
/// connection keeps what it began with.
#[derive(Debug)]
pub struct Live {
    files: Files,
    /// Whose certificate it must be; none where it was given as texts, which nobody judges.
    name: Option<String>,
    current: ArcSwap<Current>,
    complaints: Arc<Complaints>,
    /// Of the files as they were before they were first read.
    read: [Option<Stamp>; 3],
}

#[derive(Debug)]
pub(crate) struct Current {
    pub server: Arc<ServerConfig>,
    /// Without who tells of what it refuses: see [`Live::calling`].
    client: ClientConfig,
    servers: Arc<WebPkiServerVerifier>,
    facts: Facts,
    authorities: Vec<Facts>,
}

/// What is said when a handshake fails; who does not give up would fill the log.
#[derive(Debug, Default)]
pub(crate) struct Complaints(Mutex<Quiet>);

impl Complaints {
    /// We do not let somebody in.
    pub fn refused(&self, why: &str) {
        if self.says(why) {
            tracing::warn!(
                why,
                "TD0467 a process was refused: it does not prove to be of this cluster"
            );
        }
    }

    /// We refuse whom we have called, or somebody refuses us.
    pub fn apart(&self, from: &str, why: &str) {
        if self.says(&format!("{from}: {why}")) {
            tracing::warn!(
                from,
                why,
                "TD0468 a process can't be talked to: one of us does not prove to be of this cluster"
            );
        }
    }

    #[cfg(test)]
    pub fn said(&self) -> Vec<String> {
        self.0.lock().said()
    }

    fn says(&self, what: &str) -> bool {
        metrics::counter!("tandem_certificate_refusals_total").increment(1);
        self.0.lock().says(what, Instant::now())
    }
}

impl Live {
    /// `name`: of the process whose certificate it is. Blocks for a moment where the files are just
    /// being replaced: nobody can replace three at once.
    ///
    /// # Errors
    /// What is wrong with it at this moment, in one sentence.
    pub fn open(files: Files, name: &str) -> Result<Arc<Self>, Error> {
        let complaints = Arc::<Complaints>::default();
        let begun = Instant::now();
        let (read, current) = loop {
            let read = files.stamps();
            let waited = begun.elapsed() >= Duration::from_millis(limits::REPLACED_MS_MAX);
            match load(&files, Some(name), &complaints) {
                Ok(current) => break (read, current),
                Err(error) if waited || !error.may_be_half_replaced() => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(limits::REPLACED_LOOK_MS)),
            }
        };
        current.show();
        let current = ArcSwap::from_pointee(current);
        Ok(Arc::new(Self { files, name: Some(name.to_owned()), current, complaints, read }))
    }

    /// What stays as it is, whatever it is worth: for tests and whoever has no files.
    ///
    /// # Errors
    /// Where a text holds nothing of its kind.
    pub fn of(texts: &Texts) -> Result<Arc<Self>, Error> {
        let given = || PathBuf::from("a given text");
        let files = Files { ca: given(), certificate: given(), key: given() };
        let complaints = Arc::<Complaints>::default();
        let material = Material::of(files.clone(), texts)?;
        let facts = material.facts()?;
        let current = ArcSwap::from_pointee(Current::of(&material, facts, &complaints)?);
        Ok(Arc::new(Self { files, name: None, current, complaints, read: Default::default() }))
    }

    /// For one connection to `address`.
    pub(crate) fn calling(&self, address: &str) -> Arc<ClientConfig> {
        let current = self.current();
        let inner = Arc::clone(&current.servers);
        let (address, complaints) = (address.to_owned(), Arc::clone(&self.complaints));
        let mut config = current.client.clone();
        let verifier = Arc::new(Servers { inner, address, complaints });
        config.dangerous().set_certificate_verifier(verifier);
        Arc::new(config)
    }

    pub(crate) fn current(&self) -> Arc<Current> {
        self.current.load_full()
    }

    pub(crate) fn complaints(&self) -> &Complaints {
        &self.complaints
    }

    /// Takes what the files hold now, for connections to come.
    ///
    /// # Errors
    /// What is wrong with it, in one sentence; what held before holds on.
    pub fn reload(&self) -> Result<(), Error> {
        let next = load(&self.files, self.name.as_deref(), &self.complaints)?;
        let before = self.current.swap(Arc::new(next));
        before.hide();
        self.current().show();
        Ok(())
    }

    /// Reloads when a file has changed and rests, and at once when asked to. For ever.
    ///
    /// Files are looked at, not watched: what replaces them may be a link to a folder that is
    /// swapped, which a watch on the file does not see.
    pub async fn keep(self: Arc<Self>, asked: Arc<Notify>) {
        let mut alarm = Alarm::default();
        let mut looks = Looks::new(self.read.clone());
        let mut look = interval(Duration::from_millis(limits::LOOK_MS));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let at_once = tokio::select! {
                _ = look.tick() => false,
                () = asked.notified() => true,
            };
            self.alarm(&mut alarm);
            if looks.on_look(self.files.stamps(), at_once, Instant::now()) {
                let reloaded = self.reload();
                looks.on_read(reloaded.is_ok(), Instant::now());
                self.tell(reloaded);
            }
        }
    }

    fn tell(&self, reloaded: Result<(), Error>) {
        let result = if reloaded.is_ok() { "ok" } else { "refused" };
        metrics::counter!("tandem_certificate_reloads_total", "result" => result).increment(1);
        match reloaded {
            Ok(()) => {
                let Current { facts, .. } = &*self.current();
                let Facts { subject, issuer, until, .. } = facts;
                tracing::info!(subject, issuer, %until, "the certificate was read");
            }
            Err(error) => {
                tracing::warn!(%error, "TD0460 the new certificate is of no use: the old one is kept");
            }
        }
    }

    fn alarm(&self, alarm: &mut Alarm) {
        let current = self.current();
        let now = Moment::now();
        // Whose end comes first ends it for all.
        let all = current.authorities.iter().filter(|it| it.subject == current.facts.issuer);
        let Some(first) = all.chain([&current.facts]).min_by_key(|facts| facts.until) else {
            return;
        };
        let Facts { subject, until, .. } = first;
        let file = self.files.certificate.display();
        match alarm.on_look(judge::end(*until, now), Instant::now()) {
            None | Some(End::Far) => {}
            Some(End::Near) => {
                tracing::warn!(subject, %until, %file, "TD0461 a certificate ends within 30 days: `tandem ca issue` a new one");
            }
            Some(End::Urgent) => {
                tracing::error!(subject, %until, %file, "TD0462 a certificate ends within 7 days: `tandem ca issue` a new one now");
            }
            Some(End::Over) => {
                tracing::error!(subject, %until, %file, "TD0463 a certificate is over: nobody takes a new connection of this process");
            }
        }
    }
}

/// When the end of a certificate is spoken of: as soon as it comes nearer, and again once a day.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    told: Option<(End, Instant)>,
}

impl Alarm {
    pub fn on_look(&mut self, end: End, now: Instant) -> Option<End> {
        let again = Duration::from_secs(limits::ALARM_AGAIN_S);
        let known =
            |(told, at): (End, Instant)| told == end && now.saturating_duration_since(at) < again;
        if self.told.is_some_and(known) {
            return None;
        }
        self.told = Some((end, now));
        Some(end)
    }
}

fn load(files: &Files, name: Option<&str>, says: &Arc<Complaints>) -> Result<Current, Error> {
    let material = Material::read(files)?;
    let facts = match name {
        Some(name) => judge::judge(&material, name, Moment::now())?,
        None => material.facts()?,
    };
    Current::of(&material, facts, says)
}

impl Current {
    fn of(material: &Material, facts: Facts, says: &Arc<Complaints>) -> Result<Self, Error> {
        let provider = Arc::new(ring::default_provider());
        let (chain, roots) = (&material.chain, judge::roots(material)?);
        let untrusted = |why: String| Error::Unusable { path: material.files.ca.clone(), why };
        let unusable = |why: rustls::Error| Error::Unusable {
            path: material.files.certificate.clone(),
            why: why.to_string(),
        };
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
        let clients = clients.build().map_err(|error| untrusted(error.to_string()))?;
        let servers =
            WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
        let servers = servers.map_err(|error| untrusted(error.to_string()))?;
        let clients = Arc::new(Clients { inner: clients, complaints: Arc::clone(says) });
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(unusable)?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain.clone(), material.key.clone_key())
            .map_err(unusable)?;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(unusable)?
            .with_webpki_verifier(Arc::clone(&servers))
            .with_client_auth_cert(chain.clone(), material.key.clone_key())
            .map_err(unusable)?;
        // A session that is resumed shows no certificate, and would outlive the end of one.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        client.resumption = Resumption::disabled();
        server.alpn_protocols.push(HTTP2.into());
        client.alpn_protocols.push(HTTP2.into());
        let authorities = material.authorities()?;
        Ok(Self { server: Arc::new(server), client, servers, facts, authorities })
    }

    fn show(&self) {
        let ends = |certificate: &'static str, until: Moment| {
            metrics::gauge!("tandem_certificate_expires_timestamp_seconds", "certificate" => certificate)
                .set(until.0 as f64);
        };
        ends("process", self.facts.until);
        if let Some(until) = self.authorities.iter().map(|it| it.until).min() {
            ends("authority", until);
        }
        self.set(1.0);
    }

    fn hide(&self) {
        self.set(0.0);
    }

    /// Who goes from one authority to the next must know how far every process is.
    fn set(&self, now: f64) {
        for authority in &self.authorities {
            let short = authority.short().to_owned();
            metrics::gauge!("tandem_certificate_authority_trusted", "authority" => short).set(now);
        }
        let short = self.facts.short().to_owned();
        metrics::gauge!("tandem_certificate_in_use", "certificate" => short).set(now);
    }
}
