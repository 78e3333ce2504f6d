//! Raft's messages to and from frames.

use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use tandem_storage::raft::{LogId, TypeConfig};
use tandem_storage::wire::{Error, entry, entry_from, log_id, log_id_from, vote, vote_from};

use crate::pb;

fn need<T>(field: Option<T>, name: &'static str) -> Result<T, Error> {
    field.ok_or(Error::Missing(name))
}

fn id(of: Option<&LogId>) -> Option<tandem_storage::proto::LogId> {
    of.map(log_id)
}

pub fn append(request: &AppendEntriesRequest<TypeConfig>) -> pb::AppendRequest {
    pb::AppendRequest {
        vote: Some(vote(&request.vote)),
        prev: id(request.prev_log_id.as_ref()),
        entries: request.entries.iter().map(entry).collect(),
        committed: id(request.leader_commit.as_ref()),
    }
}

pub fn append_from(request: pb::AppendRequest) -> Result<AppendEntriesRequest<TypeConfig>, Error> {
    Ok(AppendEntriesRequest {
        vote: vote_from(need(request.vote, "append.vote")?),
        prev_log_id: request.prev.map(log_id_from),
        entries: request.entries.into_iter().map(entry_from).collect::<Result<_, _>>()?,
        leader_commit: request.committed.map(log_id_from),
    })
}

pub fn append_reply(reply: &AppendEntriesResponse<TypeConfig>) -> pb::AppendReply {
    use pb::append_reply::{Partial, Result as To};
    let result = match reply {
        AppendEntriesResponse::Success => To::Success(true),
        AppendEntriesResponse::PartialSuccess(matched) => {
            To::Partial(Partial { matched: id(matched.as_ref()) })
        }
        AppendEntriesResponse::Conflict => To::Conflict(true),
        AppendEntriesResponse::HigherVote(higher) => To::Higher(vote(higher)),
    };
    pb::AppendReply { result: Some(result) }
}

pub fn append_reply_from(
    reply: pb::AppendReply,
) -> Result<AppendEntriesResponse<TypeConfig>, Error> {
    use pb::append_reply::Result as From;
    Ok(match need(reply.result, "append_reply.result")? {
        From::Success(_) => AppendEntriesResponse::Success,
        From::Partial(partial) => {
            AppendEntriesResponse::PartialSuccess(partial.matched.map(log_id_from))
        }
        From::Conflict(_) => AppendEntriesResponse::Conflict,
        From::Higher(higher) => AppendEntriesResponse::HigherVote(vote_from(higher)),
    })
}

pub fn vote_request(request: &VoteRequest<TypeConfig>) -> pb::VoteRequest {
    pb::VoteRequest {
        vote: Some(vote(&request.vote)),
        last: id(request.last_log_id.as_ref()),
        leadership_transfer: request.leadership_transfer,
    }
}

pub fn vote_request_from(request: pb::VoteRequest) -> Result<VoteRequest<TypeConfig>, Error> {
    let mut asked = VoteRequest::new(
        vote_from(need(request.vote, "vote.vote")?),
        request.last.map(log_id_from),
    );
    asked.leadership_transfer = request.leadership_transfer;
    Ok(asked)
}

pub fn vote_reply(reply: &VoteResponse<TypeConfig>) -> pb::VoteReply {
    pb::VoteReply {
        vote: Some(vote(&reply.vote)),
        granted: reply.vote_granted,
        last: id(reply.last_log_id.as_ref()),
    }
}

pub fn vote_reply_from(reply: pb::VoteReply) -> Result<VoteResponse<TypeConfig>, Error> {
    Ok(VoteResponse {
        vote: vote_from(need(reply.vote, "vote_reply.vote")?),
        vote_granted: reply.granted,
        last_log_id: reply.last.map(log_id_from),
    })
}

pub fn transfer(request: &TransferLeaderRequest<TypeConfig>) -> pb::TransferRequest {
    pb::TransferRequest {
        from: Some(vote(request.from_leader())),
        to: *request.to_node_id(),
        last: id(request.last_log_id()),
    }
}

pub fn transfer_from(
    request: pb::TransferRequest,
) -> Result<TransferLeaderRequest<TypeConfig>, Error> {
    let from = vote_from(need(request.from, "transfer.from")?);
    Ok(TransferLeaderRequest::new(from, request.to, request.last.map(log_id_from)))
}
