use tandem_sip::Millis;
use tandem_sip::protobuf::{Encode, Writer};
use tandem_sip::reason::Q850;

use super::trunk::cdr_outward_from;
use super::{Error, narrow, need, q850_from, transfers_from};
use crate::call::state::Unreached;
use crate::cdr::{Cdr, Disposition, LegQuality, Manifest, Side};
use crate::command::{Gap, Quality};
use crate::ids::{AgentId, CallId, FlowId, LegId, QueueId, RecordingId};
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
        to.some_text(20, self.flow.as_ref().map(|flow| &*flow.0));
        to.texts(21, self.flow_path.iter().map(|step| &**step));
        to.messages(25, &self.transfers);
        to.some_uint(26, self.q850.map(Q850::get));
        to.some_text(27, self.asserted.as_deref());
        to.some_text(28, self.diverted_from.as_deref());
        to.some_message(60, self.outward.as_ref());
        to.some_fixed(70, self.joined.map(|call| call.0));
    }
}

pub(super) fn side_from(text: &str) -> Result<Side, Error> {
    [Side::Caller, Side::Agent, Side::Callee, Side::System, Side::Operator]
        .into_iter()
        .find(|known| known.as_str() == text)
        .ok_or_else(|| Error::Unknown("side", text.to_owned()))
}

fn disposition_from(text: &str) -> Result<Disposition, Error> {
    [
        Disposition::Answered,
        Disposition::Abandoned,
        Disposition::NoAnswer,
        Disposition::Busy,
        Disposition::Rejected,
        Disposition::Failed,
    ]
    .into_iter()
    .find(|known| known.as_str() == text)
    .ok_or_else(|| Error::Unknown("disposition", text.to_owned()))
}

pub(super) fn unreached_from(row: proto::call::Unreached) -> Result<Unreached, Error> {
    Ok(Unreached {
        status: narrow(row.status, "unreached.status")?,
        how: disposition_from(&row.disposition)?,
        by: side_from(&row.by)?,
    })
}

pub(crate) fn cdr_from(cdr: proto::Cdr) -> Result<Cdr, Error> {
    let disposition = disposition_from(&cdr.disposition)?;
    let hung_up_by = side_from(&cdr.hung_up_by)?;
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
        flow: cdr.flow.map(FlowId::from),
        flow_path: cdr.flow_path.into_iter().map(Into::into).collect(),
        transfers: transfers_from(cdr.transfers)?,
        q850: q850_from(cdr.q850, "cdr.q850")?,
        asserted: cdr.asserted,
        diverted_from: cdr.diverted_from,
        outward: cdr.outward.map(cdr_outward_from).transpose()?,
        joined: cdr.joined.map(CallId),
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
        to.messages(9, &self.pauses);
        to.flag(10, self.cut);
        to.some_uint(11, self.began_at.map(|at| at.0));
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
        pauses: manifest.pauses.into_iter().map(Gap::from).collect(),
        cut: manifest.cut,
        began_at: manifest.began_at.map(Millis),
    }
}

impl Encode for Quality {
    fn encode(&self, to: &mut Writer) {
        to.fixed(1, self.call.0);
        to.fixed(2, self.leg.0);
        to.some_text(3, self.role.map(Side::as_str));
        to.text(4, self.codec.name());
        to.uint(5, self.packets_sent);
        to.uint(6, self.packets_received);
        to.uint(7, self.packets_lost);
        to.uint(8, self.packets_late);
        to.uint(9, self.packets_duplicate);
        to.uint(10, self.jitter_us);
        to.some_uint(11, self.round_trip_us);
        to.some_uint(12, self.mos_x100);
    }
}

impl TryFrom<proto::Quality> for Quality {
    type Error = Error;

    fn try_from(quality: proto::Quality) -> Result<Self, Error> {
        let mos_x100 = quality.mos_x100.map(|mos| narrow(mos, "quality.mos_x100"));
        Ok(Self {
            call: CallId(quality.call),
            leg: LegId(quality.leg),
            role: quality.role.as_deref().map(side_from).transpose()?,
            codec: tandem_sip::wire::codec(&quality.codec)?,
            packets_sent: quality.packets_sent,
            packets_received: quality.packets_received,
            packets_lost: quality.packets_lost,
            packets_late: quality.packets_late,
            packets_duplicate: quality.packets_duplicate,
            jitter_us: quality.jitter_us,
            round_trip_us: quality.round_trip_us,
            mos_x100: mos_x100.transpose()?,
        })
    }
}

impl Encode for LegQuality {
    fn encode(&self, to: &mut Writer) {
        to.text(1, &self.gateway.0);
        to.message(2, &self.quality);
        to.uint(3, self.incarnation);
    }
}

pub(crate) fn leg_quality_from(row: proto::LegQuality) -> Result<LegQuality, Error> {
    Ok(LegQuality {
        gateway: row.gateway.into(),
        incarnation: row.incarnation,
        quality: need(row.quality, "leg_quality.quality")?.try_into()?,
    })
}
