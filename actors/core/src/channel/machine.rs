//! Channels that are seized and given back. Callers get the lowest, calls outward the highest, so
//! that both meet only when the trunk is full.

use super::state::{Channel, State};
use crate::draft::Draft;
use crate::ids::{CallId, ChannelId, TrunkId};

pub fn seize_in(draft: &mut Draft<'_>, call: CallId, trunk: &TrunkId) -> Option<ChannelId> {
    let number = idle(draft, trunk).min()?;
    Some(seize(draft, trunk, number, State::SeizedIn { call }))
}

pub fn seize_out(draft: &mut Draft<'_>, call: CallId, trunk: &TrunkId) -> Option<ChannelId> {
    let number = idle(draft, trunk).max()?;
    Some(seize(draft, trunk, number, State::SeizedOut { call }))
}

pub fn has_idle(draft: &Draft<'_>, trunk: &TrunkId) -> bool {
    idle(draft, trunk).next().is_some()
}

fn idle<'d>(draft: &'d Draft<'_>, trunk: &'d TrunkId) -> impl Iterator<Item = u16> + 'd {
    let channels =
        draft.config().and_then(|config| config.trunk(trunk)).map_or(0, |trunk| trunk.channels);
    let written = |number: &u16| {
        draft.writes.channels.get(&ChannelId { trunk: trunk.clone(), number: *number }).is_some()
    };
    let known = draft.world.idle_channels(trunk).filter(move |number| !written(number));
    let left = draft.writes.channels.iter().filter(move |(id, channel)| {
        channel.is_none() && id.trunk == *trunk && (1..=channels).contains(&id.number)
    });
    let all = left.map(|(id, _)| id.number).chain(known);
    all.filter(|number| draft.world.may_use_channel(trunk, *number))
}

fn seize(draft: &mut Draft<'_>, trunk: &TrunkId, number: u16, state: State) -> ChannelId {
    let id = ChannelId { trunk: trunk.clone(), number };
    draft.put_channel(Channel { id: id.clone(), state, since: draft.now });
    id
}

/// The call that has it is answered.
pub fn on_answered(draft: &mut Draft<'_>, id: &ChannelId, call: CallId) {
    let now = draft.now;
    if let Some(channel) = draft.channel_mut(id) {
        channel.state = State::Active { call };
        channel.since = now;
    }
}

/// Its leg goes on in another call.
pub fn on_moved(draft: &mut Draft<'_>, id: &ChannelId, to: CallId) {
    let Some(channel) = draft.channel_mut(id) else { return };
    match &mut channel.state {
        State::SeizedIn { call } | State::SeizedOut { call } | State::Active { call } => *call = to,
        State::Guard { .. } => {}
    }
}

pub fn release(draft: &mut Draft<'_>, id: &ChannelId) {
    let guard_ms =
        draft.config().and_then(|config| config.trunk(&id.trunk)).map_or(0, |trunk| trunk.guard_ms);
    let now = draft.now;
    if guard_ms == 0 {
        draft.writes.channels.insert(id.clone(), None);
    } else if let Some(channel) = draft.channel_mut(id) {
        channel.state = State::Guard { until: now.after(guard_ms) };
        channel.since = now;
    }
}
