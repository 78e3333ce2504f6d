//! Rows of another node: for a voter whose own are gone, before its groups start, and for one whose own are
//! not to be used (see `mending`). The log of the first no longer goes back to where its state ends. Its log and
//! votes are whole, so it is the voter that it was; and what another node has applied is committed, so it may be
//! taken in however far the own log has come.

use std::collections::HashSet;
use std::time::Duration;

use tandem_storage::log::Log;
use tandem_storage::raft::{ShardId, SnapshotMeta, Vote};
use tandem_storage::snapshot::Received;
use tandem_storage::state::State;
use tokio::sync::mpsc;
use tonic::{Request, Status};

use crate::link::{self, Me};
use crate::members::{Member, Role};
use crate::snapshot::{self, PARTS_MAX};
use crate::{Options, Tls, pb};

/// As long as nobody has the rows, the others are asked again after this,
const AGAIN_MS: u64 = 500;
/// and so often; then whoever starts the process may try again.
const ATTEMPTS_MAX: u32 = 120;

#[derive(Debug, thiserror::Error)]
#[error(
    "TD0426 the rows of {shard} are gone up to entry {index}, and no node has sent its own: {why}"
)]
pub struct Error {
    shard: ShardId,
    index: u64,
    why: String,
}

/// Gets the rows that neither the state nor the log has.
///
/// # Errors
/// Where no other node gives them.
pub async fn what_is_gone(options: &Options, log: &Log, state: &State) -> Result<(), Error> {
    for shard in log.shards() {
        let Some(purged) = log.shard(shard).purged() else { continue };
        let applied = state.applied(shard).ok().and_then(|(applied, _)| applied);
        if applied < Some(purged) {
            pull(options, shard, purged.index, state).await?;
        }
    }
    Ok(())
}

async fn pull(options: &Options, shard: ShardId, index: u64, state: &State) -> Result<(), Error> {
    let mut why = "there is no other node".to_owned();
    let others = |member: &&Member| member.role == Role::Node && member.id != options.me;
    tracing::warn!(%shard, index, "TD0427 rows are gone; another node is asked for its own");
    for _ in 0..ATTEMPTS_MAX {
        for member in options.members.iter().filter(others) {
            match pull_from(options, member, shard, index, state).await {
                Ok(()) => return Ok(()),
                Err(error) => why = format!("{}: {error}", member.name),
            }
        }
        tokio::time::sleep(Duration::from_millis(AGAIN_MS)).await;
    }
    Err(Error { shard, index, why })
}

async fn pull_from(
    options: &Options,
    member: &Member,
    shard: ShardId,
    index: u64,
    state: &State,
) -> Result<(), String> {
    let me = options.members.iter().find(|member| member.id == options.me);
    let me = me.ok_or("this voter is no member")?;
    let asking = Asking { speaker: crate::speaker(options, me), tls: options.tls.clone() };
    let (of, received) = asking.rows(member, shard, index, state).await?;
    let last = of.last_log_id;
    let (state, keeps_rows) = (state.clone(), me.role == Role::Node);
    let taken = tokio::task::spawn_blocking(move || {
        if keeps_rows {
            state.replace(shard, received, &of)?;
        } else {
            state.settle(shard, &of)?;
        }
        state.let_in(shard);
        Ok::<(), tandem_storage::state::Error>(())
    });
    taken.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    tracing::info!(%shard, ?last, from = member.name, "rows are there again");
    Ok(())
}

/// As whom another node is asked for its rows.
pub(crate) struct Asking {
    pub speaker: Me,
    pub tls: Tls,
}

impl Asking {
    /// What a node has applied of a shard, at `index` or later.
    ///
    /// # Errors
    /// In one sentence.
    pub async fn rows(
        &self,
        of: &Member,
        shard: ShardId,
        index: u64,
        state: &State,
    ) -> Result<(SnapshotMeta, Received), String> {
        let address = of.address.to_string();
        let channel =
            link::connect(&address, &self.tls.client()).await.map_err(|e| e.to_string())?;
        let mut client = pb::peer_client::PeerClient::new(channel)
            .max_decoding_message_size(link::MESSAGE_BYTES_MAX);
        let mut request = Request::new(pb::PullRequest { shard: u32::from(shard.0), index });
        self.speaker.introduce(request.metadata_mut()).map_err(|e| e.to_string())?;
        let said = |status: Status| status.message().to_owned();
        let mut parts = client.pull(request).await.map_err(said)?.into_inner();
        let head = snapshot::head(&mut parts).await.map_err(said)?;
        let last = head.meta.last_log_id;
        if head.shard != shard || last.is_none_or(|last| last.index < index) {
            return Err(format!("it sent rows of {} up to {last:?}", head.shard));
        }
        let received = snapshot::receive_rows(state, shard, parts).await.map_err(said)?;
        Ok((head.meta, received))
    }
}

/// The stream of a shard's rows to a voter, as of its group's `vote`.
pub fn answer(
    state: &State,
    shard: ShardId,
    of: Vote,
    index: u64,
    to: Role,
) -> Result<impl futures::Stream<Item = pb::SnapshotPart> + use<>, Status> {
    if state.out_since(shard).is_some() {
        return Err(Status::failed_precondition("its own are not what the group has"));
    }
    let applied = state.applied(shard).map_err(|error| Status::internal(error.to_string()))?;
    if applied.0.is_none_or(|applied| applied.index < index) {
        return Err(Status::failed_precondition("it has not come so far itself"));
    }
    let (parts, outgoing) = mpsc::channel(PARTS_MAX);
    let here = state.here(shard);
    tokio::task::spawn_blocking(move || {
        let mut take = |part| parts.blocking_send(snapshot::encoded(shard, &of, part)).is_ok();
        // Where the disk fails, the stream ends without an end.
        if let Err(error) = here.read(to == Role::Node, &HashSet::new(), &mut take) {
            tracing::error!(%shard, %error, "TD0429 rows of a snapshot can't be read");
        }
    });
    Ok(snapshot::paced(outgoing))
}
