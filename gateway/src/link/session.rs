//! The sessions of one line: one with each node that there is a connection with.

use std::time::Duration;

use futures::StreamExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

use super::client::{Client, Clients};
use super::pb;
use crate::limits;

/// What sessions tell the line's control task. A node is named by its place.
#[derive(Debug)]
pub enum Input {
    Connected { node: usize, up: mpsc::Sender<pb::Up> },
    Down { node: usize, body: pb::down::Body },
    Disconnected { node: usize },
}

/// Logs in to each node as often as it takes, until the control task is gone.
pub async fn keep(clients: Clients, hello: pb::Hello, control: mpsc::Sender<Input>) {
    let mut sessions = JoinSet::new();
    for node in 0..clients.len() {
        sessions.spawn(keep_one(node, clients.clone(), hello.clone(), control.clone()));
    }
    while sessions.join_next().await.is_some() {}
}

async fn keep_one(node: usize, clients: Clients, hello: pb::Hello, control: mpsc::Sender<Input>) {
    let Some(place) = clients.get(node) else { return };
    let mut place = place.subscribe();
    let mut wait_ms = limits::CONNECT_WAIT_MS_MIN;
    loop {
        let client = tokio::select! {
            client = place.wait_for(Option::is_some) => client.ok().and_then(|found| found.clone()),
            () = control.closed() => None,
        };
        let Some(client) = client else { return };
        match session(node, client, &hello, &control).await {
            Ok(()) => wait_ms = limits::CONNECT_WAIT_MS_MIN,
            Err(why) => tracing::debug!(line = hello.gateway, node, why, "no session"),
        }
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        wait_ms = (wait_ms * 2).min(limits::CONNECT_WAIT_MS_MAX);
    }
}

/// One session. `Ok` where the node had welcomed us, so that the next attempt comes soon.
async fn session(
    node: usize,
    mut client: Client,
    hello: &pb::Hello,
    control: &mpsc::Sender<Input>,
) -> Result<(), String> {
    let (up, messages) = mpsc::channel(limits::UP_MAX);
    let first = pb::Up { body: Some(pb::up::Body::Hello(hello.clone())) };
    up.try_send(first).map_err(|error| error.to_string())?;
    let stream = client.session(ReceiverStream::new(messages)).await;
    let mut down = stream.map_err(|status| status.message().to_owned())?.into_inner();
    let say = async |input| control.send(input).await.map_err(|_| "the line ends".to_owned());
    say(Input::Connected { node, up }).await?;
    tracing::info!(line = hello.gateway, node, "session opened");
    let mut welcomed = false;
    let why = loop {
        match down.next().await {
            Some(Ok(pb::Down { body: Some(body) })) => {
                welcomed |= matches!(body, pb::down::Body::Welcome(_));
                say(Input::Down { node, body }).await?;
            }
            // A message of a later version, which this one can do without.
            Some(Ok(pb::Down { body: None })) => {}
            Some(Err(status)) => break status.message().to_owned(),
            None => break "the node hung up".to_owned(),
        }
    };
    tracing::info!(line = hello.gateway, node, why, "session closed");
    say(Input::Disconnected { node }).await?;
    if welcomed { Ok(()) } else { Err(why) }
}
