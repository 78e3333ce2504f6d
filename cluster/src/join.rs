//! Which replica a data folder is of. A new folder has a name of its own, drawn at random, and no
//! replica's id; it gets one from those who have it in their groups' configurations, or, where all
//! of them are new, from the first node, which founds. So nobody comes back under an id that has
//! voted: what a voter has promised lies in its folder, and the id goes with that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tandem_storage::raft::NodeId;
use tokio::sync::watch;
use tonic::Request;
use tonic::transport::Server;

use crate::link::{self, Me};
use crate::members::Member;
use crate::service::Service;
use crate::{Error, Tls, pb};

/// Between two rounds of questions.
const AGAIN_MS: u64 = 50;
/// The same once nothing but an operator can help.
const WAITING_MS: u64 = 250;
const ANSWER_MS_MAX: u64 = 2_000;

/// Who asks.
#[derive(Clone)]
pub struct Joining {
    pub cluster: String,
    /// Itself, with its folder's name and without an id.
    pub me: Member,
    /// All that its file names, itself among them, in the file's order.
    pub given: Vec<Member>,
    pub incarnation: u64,
    pub tls: Tls,
}

impl Joining {
    fn speaker(&self) -> Me {
        Me {
            cluster: self.cluster.clone(),
            name: self.me.name.clone(),
            replica: 0,
            incarnation: self.incarnation,
        }
    }
}

/// What was found out; to be written down before anything is done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub id: NodeId,
    /// It makes the groups out of these members.
    pub founds: bool,
    pub members: Vec<Member>,
}

/// What one of the others has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It is as new as we are.
    Fresh(Member),
    /// It runs, and knows of these; the id is ours where it is not 0.
    Runs { id: NodeId, members: Vec<Member> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Be(Identity),
    /// Somebody has to answer first.
    Ask,
    /// The cluster is there and does not know this folder.
    Wait,
}

/// Pure: what follows from what the others have said, by their names.
pub fn decide(me: &Member, given: &[Member], said: &BTreeMap<String, Said>) -> Decision {
    let mut stranger = false;
    for answer in said.values() {
        match answer {
            Said::Runs { id: 0, .. } => stranger = true,
            Said::Runs { id, members } => {
                let members = members.clone();
                return Decision::Be(Identity { id: *id, founds: false, members });
            }
            Said::Fresh(_) => {}
        }
    }
    if stranger {
        return Decision::Wait;
    }
    let first = given.iter().find(|member| !member.is_witness());
    if first.is_none_or(|first| first.name != me.name) {
        return Decision::Ask;
    }
    // One that does not answer may have voted.
    let folder = |member: &Member| match said.get(&member.name) {
        _ if member.name == me.name => Some(me.folder.clone()),
        Some(Said::Fresh(fresh)) => Some(fresh.folder.clone()),
        Some(Said::Runs { .. }) | None => None,
    };
    let numbered = (1..)
        .zip(given)
        .map(|(id, member)| Some(Member { id, folder: folder(member)?, ..member.clone() }));
    match numbered.collect::<Option<Vec<Member>>>() {
        Some(members) => {
            let id = members.iter().find(|member| member.name == me.name).map_or(0, |it| it.id);
            Decision::Be(Identity { id, founds: true, members })
        }
        None => Decision::Ask,
    }
}

/// Until it is known which replica the folder is of; meanwhile whoever asks is told that it is new.
/// `waits` is true while nothing but an operator can help.
///
/// # Errors
/// A busy address.
pub async fn identity(joining: &Joining, waits: &watch::Sender<bool>) -> Result<Identity, Error> {
    let address = joining.me.address;
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(|error| Error::Bind { address, error })?;
    let service = Service::fresh(joining.cluster.clone(), joining.me.clone());
    let certificates = Arc::clone(&joining.tls.certificates);
    let incoming = tandem_pki::server::incoming(listener, certificates);
    let server = Server::builder()
        .add_service(pb::peer_server::PeerServer::new(service))
        .serve_with_incoming(incoming);
    tokio::select! {
        ended = server => Err(Error::Start(match ended {
            Ok(()) => "the voters' service has ended".to_owned(),
            Err(error) => error.to_string(),
        })),
        found = found_out(joining, waits) => Ok(found),
    }
}

async fn found_out(joining: &Joining, waits: &watch::Sender<bool>) -> Identity {
    let speaker = Arc::new(joining.speaker());
    loop {
        let others = joining.given.iter().filter(|member| member.name != joining.me.name);
        let asked = others.map(|member| {
            let speaker = Arc::clone(&speaker);
            async move {
                let address = member.address.to_string();
                let said = ask(&address, &joining.tls, &speaker, &joining.me.folder).await;
                if let Err(why) = &said {
                    tracing::debug!(peer = member.name, why, "does not say which replica we are");
                }
                Some((member.name.clone(), said.ok()?))
            }
        });
        let said = futures::future::join_all(asked).await.into_iter().flatten().collect();
        let pause_ms = match decide(&joining.me, &joining.given, &said) {
            Decision::Be(identity) => return identity,
            Decision::Ask => AGAIN_MS,
            Decision::Wait => {
                let name = &joining.me.name;
                if !waits.send_replace(true) {
                    tracing::warn!("{}", why_it_waits(name));
                }
                WAITING_MS
            }
        };
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    }
}

/// In one sentence.
pub fn why_it_waits(name: &str) -> String {
    format!(
        "TD0450 the folder of {name} is empty, and the cluster is there: this process votes for nobody and \
         holds nothing until `tandem cluster replace {name}` (or `add`, if it is new) lets it in"
    )
}

/// Asks whoever listens at an address which replica a folder is of.
///
/// # Errors
/// In one sentence.
pub async fn ask(address: &str, tls: &Tls, me: &Me, folder: &str) -> Result<Said, String> {
    let within = Duration::from_millis(ANSWER_MS_MAX);
    let asked = tokio::time::timeout(within, try_ask(address, tls, me, folder));
    let reply = asked.await.map_err(|_| "no answer in time".to_owned())??;
    let members = reply.members.iter().map(Member::of_seat).collect::<Option<Vec<_>>>();
    let fresh = reply.self_.as_ref().and_then(Member::of_seat);
    match (reply.fresh, fresh, members) {
        (true, Some(fresh), _) => Ok(Said::Fresh(fresh)),
        (false, _, Some(members)) => Ok(Said::Runs { id: reply.id, members }),
        (_, _, _) => Err("its answer can't be read".to_owned()),
    }
}

async fn try_ask(address: &str, tls: &Tls, me: &Me, folder: &str) -> Result<pb::JoinReply, String> {
    let channel = link::connect(address, &tls.client()).await.map_err(|error| error.to_string())?;
    let mut client = pb::peer_client::PeerClient::new(channel);
    let mut request = Request::new(pb::JoinRequest { folder: folder.to_owned() });
    me.introduce(request.metadata_mut()).map_err(|error| error.to_string())?;
    let reply = client.join(request).await.map_err(|status| status.message().to_owned())?;
    Ok(reply.into_inner())
}

#[cfg(test)]
mod tests;
