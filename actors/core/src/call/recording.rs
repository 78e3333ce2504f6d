//! A call's recording: paused and resumed by whoever serves the caller, and what gateways tell of it.
//!
//! What they tell is history: it is written as rows that the world does not keep, for the call may
//! be long over.

use super::media;
use crate::cdr::Manifest;
use crate::command::Recorded;
use crate::draft::Draft;
use crate::ids::{CallId, EntityId, GatewayId};
use crate::limits;
use crate::world::Rejection;

/// Asked for what is so already, it is done.
pub fn on_pause(draft: &mut Draft<'_>, id: CallId, paused: bool) -> Result<(), Rejection> {
    let call = draft.call(&id).filter(|call| call.is_live());
    let call = call.ok_or_else(|| Rejection::NotFound(format!("call {:?}", id.to_string())))?;
    if call.recording.is_none() {
        return Err(Rejection::Refused(format!("call {id} is not recorded")));
    }
    let changes = call.recording_paused != paused;
    draft.writes.about = Some(EntityId::Call(id));
    if changes {
        if let Some(call) = draft.call_mut(&id) {
            call.recording_paused = paused;
        }
        media::plan(draft, id);
    }
    Ok(())
}

pub fn on_recorded(draft: &mut Draft<'_>, line: &GatewayId, recorded: &Recorded) {
    draft.writes.manifests.push(Manifest {
        recording: recorded.recording,
        call: recorded.call,
        gateway: holder(&recorded.holder, line),
        duration_ms: recorded.duration_ms,
        chunks: recorded.chunks,
        gaps: recorded.gaps.clone(),
        sealed: true,
        hash: recorded.hash.clone(),
        pauses: recorded.pauses.clone(),
        cut: false,
        began_at: recorded.began_at,
    });
}

pub fn on_holdings(draft: &mut Draft<'_>, line: &GatewayId, holdings: &[Manifest]) {
    for holding in holdings.iter().take(limits::HOLDINGS_MAX) {
        let gateway = holder(&holding.gateway, line);
        draft.writes.holdings.push(Manifest { gateway, ..holding.clone() });
    }
}

/// Who has a file is a process, and a line goes from one process to another: that one is named. An older
/// gateway names nobody, and serves the line of its own name alone.
fn holder(named: &GatewayId, line: &GatewayId) -> GatewayId {
    if named.0.is_empty() { line.clone() } else { named.clone() }
}
