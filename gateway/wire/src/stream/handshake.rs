//! From a connection to one with TLS: bounded in time and number, and the cause of each failure
//! counted.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::Error as Tls;
use tokio::time::error::Elapsed;

use super::Shared;

/// One of the handshakes that are in progress, for as long as it lives.
pub struct Handshake {
    shared: Arc<Shared>,
    source: IpAddr,
}

impl Handshake {
    /// None where there are too many, with the reason.
    pub fn begin(shared: &Arc<Shared>, source: IpAddr) -> Result<Self, &'static str> {
        let mut handshakes = shared.handshakes.lock();
        if handshakes.all() >= shared.bounds.handshakes_max {
            return Err("handshakes");
        }
        if handshakes.of(source) >= shared.bounds.handshakes_per_source_max {
            return Err("handshakes_of_source");
        }
        handshakes.add(source);
        Ok(Self { shared: Arc::clone(shared), source })
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.shared.handshakes.lock().take(self.source);
    }
}

/// Counts how a handshake ended.
pub fn count<T>(side: &'static str, ended: &Result<std::io::Result<T>, Elapsed>) {
    let result = match ended {
        Ok(Ok(_)) => "ok",
        Err(_) => "slow",
        Ok(Err(error)) => word(error),
    };
    metrics::counter!("tandem_sip_tls_handshakes_total", "side" => side, "result" => result)
        .increment(1);
}

/// Whoever answers can't prove who it is.
pub fn is_unproven(error: &std::io::Error) -> bool {
    matches!(of(error), Some(Tls::InvalidCertificate(_) | Tls::NoCertificatesPresented))
}

fn word(error: &std::io::Error) -> &'static str {
    match of(error) {
        Some(Tls::PeerIncompatible(_) | Tls::PeerMisbehaved(_)) => "incompatible",
        Some(Tls::InvalidCertificate(_) | Tls::NoCertificatesPresented) => "certificate",
        Some(Tls::AlertReceived(_)) => "refused_by_peer",
        Some(_) => "junk",
        None => "broken",
    }
}

fn of(error: &std::io::Error) -> Option<&Tls> {
    error.get_ref()?.downcast_ref()
}
