//! Effects of the leaders: each is done once, in the order in which they come.

use std::net::SocketAddr;
use std::sync::Arc;

use tandem_core::command::{GatewayEvent, TransactionKey};
use tandem_core::effect::{Body, Effect};
use tandem_sip::{Carrier, Method, Millis, Request, Response, Way};

use crate::control::{Control, Output, count_response, key_of};
use crate::ledger::{About, Verdict};
use crate::sip::notifies::Notify;
use crate::sip::refused::Meets;
use crate::sip::{Transmit, too_long_for_udp};

impl Control {
    /// Does an effect, once, unless it is of a leader that leads no more.
    pub fn on_effect(
        &mut self,
        now: Millis,
        shard: u32,
        term: u64,
        effect: &Arc<Effect>,
    ) -> Verdict {
        if effect.gateway != self.identity.name {
            tracing::warn!(gateway = %effect.gateway, "an effect of another gateway");
            return Verdict::Fenced;
        }
        let number = shard;
        let shard = self.shards.entry(number).or_default();
        let verdict = shard.fence.judge(term, effect.id);
        if verdict == Verdict::Fenced {
            metrics::counter!("tandem_fenced_effects_total").increment(1);
            tracing::warn!(term, known = shard.fence.term(), "an effect of an old leader");
            return verdict;
        }
        let waits = match &effect.body {
            Body::Notify { request, .. } => {
                verdict == Verdict::Do || self.notifies.holds((number, effect.id), request)
            }
            Body::Respond { .. } | Body::Send { .. } | Body::Media(_) => false,
        };
        if !waits {
            shard.note_done(now, effect.id);
        }
        // Its term may be news: whoever led in a lower one leads no more.
        shard.elect();
        if verdict == Verdict::Do {
            self.perform(now, number, effect);
        }
        if self.leader().is_none() {
            self.note_leader(now);
        }
        verdict
    }

    fn perform(&mut self, now: Millis, shard: u32, effect: &Effect) {
        let kind = match &effect.body {
            Body::Respond { .. } => "respond",
            Body::Send { .. } => "send",
            Body::Media(_) => "media",
            Body::Notify { .. } => "notify",
        };
        metrics::counter!("tandem_effects_total", "kind" => kind).increment(1);
        match &effect.body {
            Body::Respond { transaction, response } => self.respond(now, transaction, response),
            Body::Send { request, destination, carrier } => {
                self.send(now, request, *destination, *carrier);
            }
            Body::Notify { request, destination, carrier } => self.notify(
                now,
                Notify {
                    of: (shard, effect.id),
                    request: Arc::clone(request),
                    destination: *destination,
                    carrier: *carrier,
                },
            ),
            Body::Media(plan) => self.outputs.push_back(Output::Media(plan.clone())),
        }
    }

    fn respond(&mut self, now: Millis, transaction: &TransactionKey, response: &Response) {
        let key = key_of(transaction);
        if let Meets::Refused { first } = self.refused.meet(&key) {
            if first && response.status < 300 {
                self.undo(transaction);
            }
            return;
        }
        let answered = self.servers.respond(now, &key, response);
        if let Some(transmit) = answered.transmit {
            count_response(response.status);
            self.transmit(transmit);
        }
        if let Some(ms) = answered.first_after_ms
            && key.method == Method::Invite.as_str()
        {
            #[expect(clippy::cast_precision_loss, reason = "a histogram holds no integers")]
            let seconds = ms as f64 / 1_000.0;
            metrics::histogram!("tandem_sip_invite_to_100_seconds").record(seconds);
        }
    }

    /// The caller was refused here, and the cluster has its call: it must hear that nobody waits.
    /// The one event where the call is not answered yet, the other where it is.
    pub(crate) fn undo(&mut self, transaction: &TransactionKey) {
        let cancel = GatewayEvent::Cancel { transaction: transaction.clone(), q850: None };
        self.raise(cancel, About::Existing);
        let no_ack = GatewayEvent::AckTimeout { transaction: transaction.clone() };
        self.raise(no_ack, About::Existing);
    }

    pub(crate) fn send(
        &mut self,
        now: Millis,
        request: &Request,
        peer: SocketAddr,
        carrier: Carrier,
    ) {
        let way = Way::of_request(request, peer, carrier);
        if request.method == Method::Ack {
            let ack = Transmit { bytes: request.to_bytes(), way, ticket: None };
            // An ACK has no transaction to hear of a failure: where the 2xx comes again, the
            // connection was none, and the datagram is the other way.
            let first = match too_long_for_udp(request, &ack.bytes, &ack.way) {
                Some((longer, way)) => Transmit { bytes: longer.to_bytes(), way, ticket: None },
                None => ack.clone(),
            };
            self.transmit(first);
            self.acks.put(now, request, ack);
        } else if let Some(transmit) = self.clients.send(now, request.clone(), way) {
            self.transmit(transmit);
        }
    }
}
