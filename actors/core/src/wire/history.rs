use tandem_sip::Millis;

use super::Error;
use crate::cdr::{Cdr, Disposition, Manifest, Side};
use crate::command::Gap;
use crate::ids::{AgentId, CallId, GatewayId, QueueId, RecordingId};
use crate::proto;

impl From<&Cdr> for proto::Cdr {
    fn from(cdr: &Cdr) -> Self {
        Self {
            call: cdr.call.0,
            sip_call_id: cdr.sip_call_id.clone(),
            from: cdr.from.clone(),
            to: cdr.to.clone(),
            channel: cdr.channel.as_ref().map(Into::into),
            started_at: cdr.started_at.0,
            answered_at: cdr.answered_at.map(|at| at.0),
            queued_at: cdr.queued_at.map(|at| at.0),
            connected_at: cdr.connected_at.map(|at| at.0),
            ended_at: cdr.ended_at.0,
            queue: cdr.queue.as_ref().map(|queue| queue.0.clone()),
            agent: cdr.agent.as_ref().map(|agent| agent.0.clone()),
            disposition: cdr.disposition.as_str().to_owned(),
            hung_up_by: cdr.hung_up_by.as_str().to_owned(),
            cause: cdr.cause.clone(),
            takeovers: cdr.takeovers,
            recording: cdr.recording.map(|recording| recording.0),
        }
    }
}

pub(crate) fn cdr_from(cdr: proto::Cdr) -> Result<Cdr, Error> {
    let disposition = [
        Disposition::Answered,
        Disposition::Abandoned,
        Disposition::NoAnswer,
        Disposition::Busy,
        Disposition::Rejected,
        Disposition::Failed,
    ]
    .into_iter()
    .find(|known| known.as_str() == cdr.disposition)
    .ok_or_else(|| Error::Unknown("disposition", cdr.disposition.clone()))?;
    let hung_up_by = [Side::Caller, Side::Agent, Side::Callee, Side::System, Side::Operator]
        .into_iter()
        .find(|known| known.as_str() == cdr.hung_up_by)
        .ok_or_else(|| Error::Unknown("side", cdr.hung_up_by.clone()))?;
    Ok(Cdr {
        call: CallId(cdr.call),
        sip_call_id: cdr.sip_call_id,
        from: cdr.from,
        to: cdr.to,
        channel: cdr.channel.map(TryInto::try_into).transpose()?,
        started_at: Millis(cdr.started_at),
        answered_at: cdr.answered_at.map(Millis),
        queued_at: cdr.queued_at.map(Millis),
        connected_at: cdr.connected_at.map(Millis),
        ended_at: Millis(cdr.ended_at),
        queue: cdr.queue.map(QueueId),
        agent: cdr.agent.map(AgentId),
        disposition,
        hung_up_by,
        cause: cdr.cause,
        takeovers: cdr.takeovers,
        recording: cdr.recording.map(RecordingId),
    })
}

impl From<&Manifest> for proto::Manifest {
    fn from(manifest: &Manifest) -> Self {
        Self {
            recording: manifest.recording.0,
            call: manifest.call.0,
            gateway: manifest.gateway.0.clone(),
            duration_ms: manifest.duration_ms,
            chunks: manifest.chunks,
            gaps: manifest.gaps.iter().map(Into::into).collect(),
            sealed: manifest.sealed,
            hash: manifest.hash.clone(),
        }
    }
}

pub(crate) fn manifest_from(manifest: proto::Manifest) -> Manifest {
    Manifest {
        recording: RecordingId(manifest.recording),
        call: CallId(manifest.call),
        gateway: GatewayId(manifest.gateway),
        duration_ms: manifest.duration_ms,
        chunks: manifest.chunks,
        gaps: manifest.gaps.into_iter().map(Gap::from).collect(),
        sealed: manifest.sealed,
        hash: manifest.hash,
    }
}
