use tandem_sip::Millis;
use tandem_sip::protobuf::{Encode, Writer};

use super::{Error, transfers_from};
use crate::cdr::{Cdr, Disposition, Manifest, Side};
use crate::command::Gap;
use crate::ids::{AgentId, CallId, QueueId, RecordingId};
use crate::proto;

impl Encode for Cdr {
    fn encode(&self, to: &mut Writer) {
        to.fixed(1, self.call.0);
        to.text(2, &self.sip_call_id);
        to.text(3, &self.from);
        to.text(4, &self.to);
        to.some_message(5, self.channel.as_ref());
        to.uint(6, self.started_at.0);
        to.some_uint(7, self.answered_at.map(|at| at.0));
        to.some_uint(8, self.queued_at.map(|at| at.0));
        to.some_uint(9, self.connected_at.map(|at| at.0));
        to.uint(10, self.ended_at.0);
        to.some_text(11, self.queue.as_ref().map(|queue| &*queue.0));
        to.some_text(12, self.agent.as_ref().map(|agent| &*agent.0));
        to.text(13, self.disposition.as_str());
        to.text(14, self.hung_up_by.as_str());
        to.text(15, &self.cause);
        to.uint(16, self.takeovers);
        to.some_fixed(17, self.recording.map(|recording| recording.0));
        to.messages(25, &self.transfers);
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
        queue: cdr.queue.map(QueueId::from),
        agent: cdr.agent.map(AgentId::from),
        disposition,
        hung_up_by,
        cause: cdr.cause,
        takeovers: cdr.takeovers,
        recording: cdr.recording.map(RecordingId),
        transfers: transfers_from(cdr.transfers)?,
    })
}

impl Encode for Manifest {
    fn encode(&self, to: &mut Writer) {
        to.fixed(1, self.recording.0);
        to.fixed(2, self.call.0);
        to.text(3, &self.gateway.0);
        to.uint(4, self.duration_ms);
        to.uint(5, self.chunks);
        to.messages(6, &self.gaps);
        to.flag(7, self.sealed);
        to.text(8, &self.hash);
    }
}

pub(crate) fn manifest_from(manifest: proto::Manifest) -> Manifest {
    Manifest {
        recording: RecordingId(manifest.recording),
        call: CallId(manifest.call),
        gateway: manifest.gateway.into(),
        duration_ms: manifest.duration_ms,
        chunks: manifest.chunks,
        gaps: manifest.gaps.into_iter().map(Gap::from).collect(),
        sealed: manifest.sealed,
        hash: manifest.hash,
    }
}
