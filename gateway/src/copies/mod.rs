//! Recordings on two boxes while they run: a gateway sends what it records to another, which has
//! it on its disk before it says so.
//!
//! [`sender`] reads from the recordings' folder, so that what the other has not yet waits on the
//! disk; [`keeper`] writes what comes and syncs it in batches; [`service`] is its ear on the network.
//! Where to go on is asked and never guessed: whoever was away for a second or a day, the other says
//! how far it is, with a hash of all that there is.

pub mod keeper;
pub mod repair;
pub mod sender;
pub mod service;
mod session;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tandem_media::record::board::Board;
use tandem_media::record::custody::{Custody, copies_in};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::limits;
use crate::link::client::Way;
use crate::media::Told;
use crate::obituaries::{Death, Obituaries};
use crate::options::{Error, Options};
use crate::run::{self, Tasks};

/// Generated messages, client and server.
#[allow(clippy::all)]
pub mod pb {
    tonic::include_proto!("tandem.copies.v1");
}

/// Where copies of other gateways' recordings lie, within the recordings' folder.
pub fn folder(options: &Options) -> PathBuf {
    copies_in(&options.recordings())
}

/// Takes other gateways' recordings, and obituaries of supervisors, and sends this one's recordings.
///
/// # Errors
/// What can't be bound or written.
pub async fn start(
    options: &Options,
    board: Arc<Board>,
    custody: Arc<Custody>,
    report: mpsc::Sender<Told>,
    deaths: mpsc::Sender<Death>,
    tasks: &mut Tasks,
) -> Result<(), Error> {
    if let Some(address) = options.copies {
        let bound = run::bind(address).await;
        let listener = bound.map_err(|why| Error::CopiesAddress { address, why })?;
        let (orders, ordered) = mpsc::channel(limits::COPIES_ORDERS_MAX);
        custody.open_copies().map_err(Error::CopiesFolder)?;
        let (name, custody) = (options.name.clone(), Arc::clone(&custody));
        let runtime = Handle::current();
        std::thread::Builder::new()
            .name("copies".into())
            .spawn(move || keeper::Keeper::new(name, custody, ordered, report).run(&runtime))
            .map_err(Error::CopiesFolder)?;
        let folders = [options.recordings(), folder(options)];
        let service = service::Service { orders, sessions: AtomicU64::new(1), folders };
        let tls = options.tls.clone();
        let obituaries = Obituaries { deaths };
        tasks.spawn(async move { service::listen(listener, service, obituaries, tls).await });
    }
    if let Some(to) = &options.copy_to
        && let Some(way) = way_to(options, to)?
    {
        let (name, to, dir) = (options.name.clone(), to.clone(), options.recordings());
        let sender = sender::Sender { name, to, way, dir, board, custody };
        tasks.spawn(async move {
            sender.keep().await;
            Ok(())
        });
    }
    Ok(())
}

/// Where another gateway takes copies; none where it takes none.
///
/// # Errors
/// Its address is of no use.
pub(crate) fn way_to(options: &Options, name: &str) -> Result<Option<Way>, Error> {
    let peer = options.peers.iter().find(|peer| peer.name == name);
    let Some(address) = peer.and_then(|peer| peer.copies) else { return Ok(None) };
    Way::to(name, address, options.tls.as_ref()).map(Some).map_err(Error::Copies)
}
