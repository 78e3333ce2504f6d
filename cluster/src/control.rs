//! A supervisor's line to a voter, kept open so that an obituary takes no handshake.

use std::time::Duration;

use tonic::transport::{ClientTlsConfig, Endpoint};

use crate::pb;

const REPORT_MS_MAX: u64 = 1_000;

#[derive(Clone)]
pub struct Line {
    client: pb::control_client::ControlClient<tonic::transport::Channel>,
}

impl Line {
    /// Connects when it is first needed, and again whenever it was lost.
    ///
    /// # Errors
    /// Where the address or the certificates make no sense.
    pub fn open(address: &str, tls: ClientTlsConfig) -> Result<Self, tonic::transport::Error> {
        let channel = Endpoint::from_shared(format!("https://{address}"))?
            .tls_config(tls)?
            .tcp_nodelay(true)
            .timeout(Duration::from_millis(REPORT_MS_MAX))
            .connect_lazy();
        Ok(Self { client: pb::control_client::ControlClient::new(channel) })
    }

    /// # Errors
    /// Where the voter is away.
    pub async fn report(&self, process: &str, incarnation: u64) -> Result<(), tonic::Status> {
        let obituary = pb::Obituary { process: process.to_owned(), incarnation };
        self.client.clone().report(obituary).await.map(|_| ())
    }
}
