//! Asterisk's REST interface: the one way to have a channel hold its peer.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::listen::WITHIN;
use crate::tenant::ASTERISK;

/// The name of the application that channels are given to (`Stasis` in the dialplan).
pub const APP: &str = "tandem";
const PORT: u16 = 28_088;
const ANSWER: Duration = Duration::from_secs(10);

pub fn http_conf() -> String {
    format!("[general]\nenabled=yes\nbindaddr={}\nbindport={PORT}\n", ASTERISK.ip())
}

pub fn ari_conf() -> String {
    format!("[general]\nenabled=yes\n[{APP}]\ntype=user\npassword={APP}\n")
}

/// The application; it ends with this.
pub struct Ari {
    client: reqwest::Client,
    /// Ids of channels that were given to it.
    given: mpsc::UnboundedReceiver<String>,
}

impl Ari {
    pub async fn open() -> Result<Self> {
        let at = format!("{}:{PORT}", ASTERISK.ip());
        let url = format!("ws://{at}/ari/events?app={APP}&api_key={APP}:{APP}");
        let stream = TcpStream::connect(&at).await.context("Asterisk's HTTP port")?;
        let request = url.into_client_request()?;
        let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await?;
        let (said, given) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok(frame)) = socket.next().await {
                let Ok(event) = serde_json::from_slice::<Value>(&frame.into_data()) else {
                    continue;
                };
                let channel = event["channel"]["id"].as_str();
                if let (Some("StasisStart"), Some(id)) = (event["type"].as_str(), channel)
                    && said.send(id.to_owned()).is_err()
                {
                    return;
                }
            }
        });
        let client = reqwest::Client::builder().timeout(ANSWER).build()?;
        Ok(Self { client, given })
    }

    /// The next channel that it is given.
    pub async fn given(&mut self) -> Result<String> {
        let id = timeout(WITHIN, self.given.recv()).await.context("Asterisk gives no channel")?;
        id.context("Asterisk has closed its events")
    }

    pub async fn hold(&self, channel: &str, held: bool) -> Result<()> {
        let ip = ASTERISK.ip();
        let url = format!("http://{ip}:{PORT}/ari/channels/{channel}/hold?api_key={APP}:{APP}");
        let request = if held { self.client.post(&url) } else { self.client.delete(&url) };
        let status = request.send().await?.status();
        ensure!(status.is_success(), "hold {held} was answered {status}");
        Ok(())
    }
}
