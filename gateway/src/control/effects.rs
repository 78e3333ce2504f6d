//! Effects of the leaders: each is done once, in the order in which they come.

use std::sync::Arc;

use tandem_core::command::TransactionKey;
use tandem_core::effect::{Body, Effect};
use tandem_core::wire;
use tandem_sip::{Method, Request, Response};

use super::{Control, count_response, key_of};
use crate::link::ledger::Verdict;
use crate::link::pb;
use crate::sip::Transmit;

impl Control {
    pub(super) fn on_effect(&mut self, message: pb::Effect) {
        let effect = match wire::decode_effect(&message.effect) {
            Ok(effect) => effect,
            Err(error) => {
                // It stays in the outbox until a build that knows it takes over.
                metrics::counter!("tandem_effects_unreadable_total").increment(1);
                tracing::error!(%error, "TD0303 unreadable effect");
                return;
            }
        };
        if effect.gateway != self.identity.name {
            tracing::warn!(gateway = %effect.gateway, "an effect of another gateway");
            return;
        }
        let now = self.now();
        let shard = self.shards.entry(message.shard).or_default();
        let verdict = shard.fence.judge(message.term, effect.id);
        match verdict {
            Verdict::Fenced => {
                metrics::counter!("tandem_fenced_effects_total").increment(1);
                tracing::warn!(
                    term = message.term,
                    known = shard.fence.term(),
                    "an effect of an old leader"
                );
                return;
            }
            Verdict::Repeated | Verdict::Do => {
                shard.note_done(now, effect.id);
                // Its term may be news: whoever led in a lower one leads no more.
                shard.elect();
            }
        }
        if verdict == Verdict::Do {
            self.perform(effect);
        }
        if self.leader().is_none() {
            self.note_leader();
        }
    }

    fn perform(&mut self, effect: Effect) {
        let kind = match &effect.body {
            Body::Respond { .. } => "respond",
            Body::Send { .. } => "send",
            Body::Media(_) => "media",
        };
        metrics::counter!("tandem_effects_total", "kind" => kind).increment(1);
        match effect.body {
            Body::Respond { transaction, response } => self.respond(&transaction, &response),
            Body::Send { request, destination } => {
                self.send(Arc::unwrap_or_clone(request), destination);
            }
            Body::Media(plan) => {
                if let Err(why) = self.media.apply(&plan) {
                    metrics::counter!("tandem_media_plans_refused_total").increment(1);
                    tracing::error!(call = %plan.call, why, "TD0304 media plan refused");
                }
            }
        }
    }

    fn respond(&mut self, transaction: &TransactionKey, response: &Response) {
        let key = key_of(transaction);
        let now = self.now();
        let answered = self.servers.respond(now, &key, response);
        if let Some(transmit) = answered.transmit {
            count_response(response.status);
            self.transmit(&transmit);
        }
        if let Some(ms) = answered.first_after_ms
            && key.method == Method::Invite.as_str()
        {
            #[expect(clippy::cast_precision_loss, reason = "a histogram holds no integers")]
            let seconds = ms as f64 / 1_000.0;
            metrics::histogram!("tandem_sip_invite_to_100_seconds").record(seconds);
        }
    }

    fn send(&mut self, request: Request, to: std::net::SocketAddr) {
        let now = self.now();
        if request.method == Method::Ack {
            let transmit = Transmit { bytes: request.to_bytes(), to };
            self.transmit(&transmit);
            self.acks.put(now, &request, transmit);
        } else if let Some(transmit) = self.clients.send(now, request, to) {
            self.transmit(&transmit);
        }
    }
}
