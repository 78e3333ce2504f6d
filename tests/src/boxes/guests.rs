//! Phones outside of the boxes, which reach each line at its service address, wherever that is served.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tandem_media::endpoint::EndpointPool;
use tokio::time::Instant;

use super::Boxes;
use super::network::Place;
use crate::Api;
use crate::phone::{Incoming, Options, Phone};

const SIP_PORT: u16 = 5060;
const SETUP_WITHIN: Duration = Duration::from_secs(15);
const REGISTER_S: u32 = 600;
const LOOK: Duration = Duration::from_millis(10);

pub struct Guests {
    /// Of a gateway that is not to be cut off.
    pub api: Api,
    vips: [SocketAddr; 2],
    /// Of the gateways in A and B.
    names: [String; 2],
    bind: IpAddr,
    pool: Arc<EndpointPool>,
}

impl Guests {
    /// `witness`: the box whose gateway is asked.
    pub fn of(boxes: &Boxes, witness: Place) -> Result<Self> {
        let vips = [Place::A, Place::B].map(|place| SocketAddr::new(boxes.vip(place), SIP_PORT));
        let name = |place| Ok::<_, anyhow::Error>(boxes.gateway_in(place)?.name.clone());
        let names = [name(Place::A)?, name(Place::B)?];
        let bind = boxes.network.outside_address(boxes.family);
        let pool = Arc::new(EndpointPool::start()?);
        Ok(Self { api: boxes.api_of(witness)?, vips, names, bind, pool })
    }

    fn vip(&self, line: Place) -> SocketAddr {
        self.vips[usize::from(line == Place::B)]
    }

    pub async fn phone(&self, user: &str, line: Place, incoming: Incoming) -> Result<Phone> {
        let options = Options {
            user: user.to_owned(),
            password: format!("tandem-{user}"),
            server: self.vip(line),
            bind: self.bind,
            incoming,
            tone_hz: 440,
            srtp: false,
            domain: None,
        };
        Phone::start(options, Arc::clone(&self.pool)).await
    }

    /// Of the trunk.
    pub async fn caller(&self, user: &str, line: Place) -> Result<Phone> {
        self.phone(user, line, Incoming::Reject { status: 486 }).await
    }

    /// A registered agent who is ready.
    pub async fn agent(&self, id: &str, line: Place, incoming: Incoming) -> Result<Phone> {
        let phone = self.phone(id, line, incoming).await?;
        let status = phone.register(REGISTER_S).await?;
        ensure!(status == 200, "REGISTER of {id} was answered {status}");
        self.api.agent_is(id, "ready", SETUP_WITHIN).await?;
        Ok(phone)
    }

    /// Dials, is answered, and is in `state`.
    pub async fn call(&self, phone: &Phone, number: &str, state: &str) -> Result<String> {
        let call = phone.dial(number)?;
        phone.answered(&call, SETUP_WITHIN).await?;
        self.api.call_is(&call, state, SETUP_WITHIN).await?;
        Ok(call)
    }

    /// Until a line is served by the gateway in a box.
    pub async fn served_in(&self, line: Place, place: Place) -> Result<()> {
        let vip = self.vip(line).to_string();
        let begun = Instant::now();
        loop {
            let by = self.serving(&vip).await;
            if by.as_ref().is_ok_and(|by| *by == Some(place)) {
                return Ok(());
            }
            ensure!(begun.elapsed() < SETUP_WITHIN, "{vip} is served by {by:?}, not in {place:?}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The box where a line is served.
    pub async fn place_of(&self, line: Place) -> Result<Place> {
        let vip = self.vip(line).to_string();
        self.serving(&vip).await?.with_context(|| format!("nobody serves {vip}"))
    }

    async fn serving(&self, vip: &str) -> Result<Option<Place>> {
        let status = self.api.get("/v1/cluster").await?;
        let rows = status["gateways"].as_array().context("gateways")?;
        let mut serving = rows.iter().filter(|row| {
            row["vips"].as_array().is_some_and(|vips| vips.iter().any(|it| it == vip))
        });
        let name = serving.next().and_then(|row| row["name"].as_str());
        let at = name.and_then(|name| self.names.iter().position(|known| known == name));
        Ok(at.map(|at| [Place::A, Place::B][at]))
    }
}
