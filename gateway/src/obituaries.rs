//! What a supervisor tells of processes that it has reaped: the same as it tells voters.

use std::pin::Pin;

use futures::{Stream, StreamExt as _};
use tandem_pki::identity;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use self::pb::control_server::Control;

/// Generated messages, client and server.
#[allow(clippy::all)]
pub mod pb {
    tonic::include_proto!("tandem.cluster.v1");
}

/// A life of a process that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    pub process: String,
    pub incarnation: u64,
}

pub struct Obituaries {
    pub deaths: mpsc::Sender<Death>,
}

#[tonic::async_trait]
impl Control for Obituaries {
    type ObituariesStream = Pin<Box<dyn Stream<Item = Result<pb::Heard, Status>> + Send>>;

    async fn obituaries(
        &self,
        request: Request<Streaming<pb::Obituary>>,
    ) -> Result<Response<Self::ObituariesStream>, Status> {
        identity::require(&request, identity::SUPERVISOR)?;
        let deaths = self.deaths.clone();
        let heard = request.into_inner().then(move |obituary| {
            let deaths = deaths.clone();
            async move {
                let pb::Obituary { process, incarnation } = obituary?;
                let told = deaths.send(Death { process, incarnation }).await;
                told.map_err(|_| Status::unavailable("the gateway ends"))?;
                Ok(pb::Heard {})
            }
        });
        Ok(Response::new(Box::pin(heard)))
    }
}
