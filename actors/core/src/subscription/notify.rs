//! NOTIFYs (RFC 6665 §4.2.2): each has the whole state, so only the newest counts. Its gateway keeps
//! it back while one before it waits for its answer.

use std::collections::BTreeSet;
use std::sync::Arc;

use tandem_sip::{Method, Uri};

use super::lamp;
use super::state::{Package, State};
use crate::draft::Draft;
use crate::effect::Body;
use crate::ids::{AgentId, EntityId, SubscriptionId};

/// RFC 6665 §4.2.2: it was not refreshed, or was taken back; the phone may subscribe anew.
const OVER: &str = "terminated;reason=timeout";

/// Tells what is so now.
pub fn notify(draft: &mut Draft<'_>, id: SubscriptionId) {
    let Some(known) = draft.subscription(&id) else { return };
    let (gateway, carrier, peer) = (known.gateway.clone(), known.carrier, known.peer);
    let of = known.dialog.local.uri.clone();
    let lines = known.watched().map(|agent| lamp::lines(draft, agent)).unwrap_or_default();
    let body = match &known.package {
        Package::Dialog(watched) => {
            lamp::document(draft, &watched.agent, &of, watched.version, &lines)
        }
        Package::MessageSummary => summary(&known.subscriber, &of),
    };
    let state = match known.state {
        State::Active { expires_at } => {
            format!("active;expires={}", expires_at.since(draft.now) / 1_000)
        }
        State::Over { .. } => OVER.to_owned(),
    };
    let via = draft.via(&gateway, carrier);
    let contact = draft.contact(&gateway, carrier);
    let Some(known) = draft.subscription_mut(&id) else { return };
    if let Package::Dialog(watched) = &mut known.package {
        watched.version = watched.version.saturating_add(1);
        watched.told = lines;
    }
    let name = known.package.name();
    let event = match &known.event_id {
        Some(id) => format!("{name};id={id}"),
        None => name.to_owned(),
    };
    let subscriber = known.subscriber.clone();
    let mut request = Arc::make_mut(&mut known.dialog).request(Method::Notify, via, Some(contact));
    request.headers.push_other("Event", &event);
    request.headers.push_other("Subscription-State", &state);
    request.headers.content_type = Some(Package::content_type(name).into());
    request.body = body.into_bytes();
    let body = Body::Notify { request: Arc::new(request), destination: peer, carrier };
    draft.effect(EntityId::Agent(subscriber), &gateway, body);
}

/// There is no voice mail, so nothing waits (RFC 3842 §5.2).
fn summary(agent: &AgentId, of: &Uri) -> String {
    let account = Uri::sip(Some(&agent.0), &of.host, of.port);
    format!("Messages-Waiting: no\r\nMessage-Account: {account}\r\n")
}

/// Whoever watches an agent whose legs this entry has changed is told so by it. Where nobody watches
/// it costs nothing.
pub fn tell_watchers(draft: &mut Draft<'_>) {
    if !draft.world.has_watchers() {
        return;
    }
    for agent in changed(draft) {
        let now = lamp::lines(draft, &agent);
        let watchers: Vec<SubscriptionId> = draft.world.watchers(&agent).collect();
        for id in watchers {
            let Some(known) = draft.subscription(&id).filter(|known| known.is_active()) else {
                continue;
            };
            let Package::Dialog(watched) = &known.package else { continue };
            if watched.told != now {
                notify(draft, id);
            }
        }
    }
}

/// Agents of the calls that are written, as they were and as they are.
fn changed(draft: &Draft<'_>) -> BTreeSet<AgentId> {
    let written = draft.writes.calls.iter();
    let calls = written.flat_map(|(id, new)| [draft.world.calls.get(id), new.as_ref()]);
    let of_calls = calls.flatten().flat_map(|call| {
        call.calling_agent.iter().chain(call.legs.iter().filter_map(|leg| leg.agent()))
    });
    let agents = of_calls.chain(draft.writes.agents.iter().map(|(id, _)| id));
    agents.filter(|agent| draft.world.is_watched(agent)).cloned().collect()
}
