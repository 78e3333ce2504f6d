//! A supervisor's line to a voter or a gateway, kept open so that an obituary takes no handshake.

use std::collections::VecDeque;
use std::time::Duration;

use tandem_pki::Connector;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

use crate::link::RECONNECT_MS;
use crate::pb;

/// Obituaries that it has not heard yet; the oldest is forgotten first, and timers find out.
const UNHEARD_MAX: usize = 64;
const CONNECT_MS_MAX: u64 = 1_000;

#[derive(Clone)]
pub struct Line {
    obituaries: mpsc::Sender<pb::Obituary>,
}

impl Line {
    /// Connects at once, and again whenever it was lost, for as long as the runtime lives.
    ///
    /// # Errors
    /// Where the address makes no sense.
    pub fn open(address: &str, tls: Connector) -> Result<Self, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?
            .connect_timeout(Duration::from_millis(CONNECT_MS_MAX));
        let (obituaries, queue) = mpsc::channel(UNHEARD_MAX);
        let (address, unheard) = (address.to_owned(), VecDeque::new());
        let keeper = Keeper { address, endpoint, tls, queue, unheard };
        tokio::spawn(keeper.keep());
        Ok(Self { obituaries })
    }

    /// Told as soon as it can be reached; false where too many wait already.
    pub fn report(&self, process: &str, incarnation: u64) -> bool {
        let obituary = pb::Obituary { process: process.to_owned(), incarnation };
        self.obituaries.try_send(obituary).is_ok()
    }
}

struct Keeper {
    address: String,
    endpoint: Endpoint,
    tls: Connector,
    queue: mpsc::Receiver<pb::Obituary>,
    /// In the order in which they were told.
    unheard: VecDeque<pb::Obituary>,
}

impl Keeper {
    async fn keep(mut self) {
        while !self.queue.is_closed() {
            if let Err(error) = self.session().await {
                tracing::debug!(address = self.address, %error, "line of a supervisor");
            }
            tokio::time::sleep(Duration::from_millis(RECONNECT_MS)).await;
        }
    }

    /// Ends without an error where nobody reports any more.
    async fn session(&mut self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let channel = self.endpoint.connect_with_connector(self.tls.clone()).await?;
        let mut client = pb::control_client::ControlClient::new(channel);
        let (sender, told) = mpsc::channel(2 * UNHEARD_MAX);
        let mut heard = client.obituaries(ReceiverStream::new(told)).await?.into_inner();
        for obituary in &self.unheard {
            sender.try_send(obituary.clone())?;
        }
        loop {
            tokio::select! {
                obituary = self.queue.recv() => {
                    let Some(obituary) = obituary else { return Ok(()) };
                    if self.unheard.len() == UNHEARD_MAX {
                        self.unheard.pop_front();
                    }
                    self.unheard.push_back(obituary.clone());
                    sender.try_send(obituary)?;
                }
                answer = heard.message() => match answer? {
                    Some(pb::Heard {}) => {
                        self.unheard.pop_front();
                    }
                    None => return Err("the process has ended".into()),
                },
            }
        }
    }
}
