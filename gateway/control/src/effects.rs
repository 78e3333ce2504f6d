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
        if self.leader(number).is_none() {
            self.note_leaders(now);
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
            Body::Respond { transaction, response } => {
                self.respond(now, shard, transaction, response);
            }
            Body::Send { request, destination, carrier } => {
                self.send(now, shard, request, *destination, *carrier);
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
            Body::Media(plan) => {
                self.outputs.push_back(Output::Media { tenant: shard, plan: plan.clone() });
            }
        }
    }

    fn respond(
        &mut self,
        now: Millis,
        tenant: u32,
        transaction: &TransactionKey,
        response: &Response,
    ) {
        let key = key_of(transaction);
        if let Meets::Refused { first } = self.refused.meet(&key) {
            if first && response.status < 300 {
                self.undo(tenant, transaction);
            }
            return;
        }
        let adopt = || {
            let way = Way::of_response(response)?;
            Some((tenant, self.tenants.proven(tenant, way)))
        };
        let answered = self.servers.respond(now, &key, response, adopt);
        if let Some(transmit) = answered.transmit {
            count_response(response.status);
            if response.status == 481 {
                let source = transmit.way.to.ip();
                self.on_unknown_dialog(now, &response.headers.cseq.method, source);
            }
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
    pub(crate) fn undo(&mut self, tenant: u32, transaction: &TransactionKey) {
        let cancel = GatewayEvent::Cancel { transaction: transaction.clone(), q850: None };
        self.raise(tenant, cancel, About::Existing);
        let no_ack = GatewayEvent::AckTimeout { transaction: transaction.clone() };
        self.raise(tenant, no_ack, About::Existing);
    }

    pub(crate) fn send(
        &mut self,
        now: Millis,
        tenant: u32,
        request: &Request,
        peer: SocketAddr,
        carrier: Carrier,
    ) {
        let way = self.tenants.proven(tenant, Way::of_request(request, peer, carrier));
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
