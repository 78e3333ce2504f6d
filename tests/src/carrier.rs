//! A carrier's switch outside of calls: it hears requests over UDP, remembers them, and answers
//! each as its test says.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tandem_media::endpoint::EndpointPool;
use tandem_sip::{Message, Method, Request, Response, parse};
use tokio::net::UdpSocket;
use tokio::sync::watch;

use crate::phone::{Incoming, Options, Phone};

/// A carrier that takes calls: a phone of ours that nobody has registered, beside the house of that
/// block.
pub async fn takes(block: u8, incoming: Incoming) -> Result<Phone> {
    let options = Options {
        user: "carrier".into(),
        password: String::new(),
        server: SocketAddr::from(([127, 0, block, 10], 5060)),
        bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
        incoming,
        tone_hz: 700,
        srtp: false,
        domain: None,
    };
    Phone::start(options, Arc::new(EndpointPool::start()?)).await
}

/// None: it says nothing.
pub type Answer = Box<dyn FnMut(&Request) -> Option<Response> + Send>;

const DATAGRAM_BYTES_MAX: usize = 65_536;

pub struct Carrier {
    pub address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    heard: watch::Receiver<Vec<Request>>,
    task: tokio::task::JoinHandle<()>,
}

impl Carrier {
    pub async fn start(
        answer: impl FnMut(&Request) -> Option<Response> + Send + 'static,
    ) -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        let address = socket.local_addr()?;
        let answer: Arc<Mutex<Answer>> = Arc::new(Mutex::new(Box::new(answer)));
        let (tell, heard) = watch::channel(Vec::new());
        let task = tokio::spawn(serve(socket, Arc::clone(&answer), tell));
        Ok(Self { address, answer, heard, task })
    }

    /// From now on.
    pub fn answers(&self, answer: impl FnMut(&Request) -> Option<Response> + Send + 'static) {
        *self.answer.lock().expect("no test panics within") = Box::new(answer);
    }

    /// What it has heard so far, with what was repeated.
    pub fn heard(&self, method: &Method) -> Vec<Request> {
        let heard = self.heard.borrow();
        heard.iter().filter(|request| request.method == *method).cloned().collect()
    }

    /// The first request that it has heard, or hears, which is wanted.
    pub async fn hears(
        &self,
        within: Duration,
        wanted: impl Fn(&Request) -> bool,
    ) -> Result<Request> {
        let mut heard = self.heard.clone();
        let found = heard.wait_for(|heard| heard.iter().any(&wanted));
        let heard = tokio::time::timeout(within, found).await.context("it was not heard")??;
        heard.iter().find(|request| wanted(request)).cloned().context("it was heard")
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: UdpSocket, answer: Arc<Mutex<Answer>>, tell: watch::Sender<Vec<Request>>) {
    let mut bytes = vec![0; DATAGRAM_BYTES_MAX];
    while let Ok((len, from)) = socket.recv_from(&mut bytes).await {
        let Ok(Message::Request(request)) = parse(&bytes[..len]) else { continue };
        let answered = (answer.lock().expect("no test panics within"))(&request);
        tell.send_modify(|heard| heard.push(request));
        if let Some(response) = answered {
            // Where it is gone nobody waits for the answer.
            socket.send_to(&response.to_bytes(), from).await.ok();
        }
    }
}
