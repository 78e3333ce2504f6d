//! Responses to requests of ours.

use tandem_core::command::GatewayEvent;
use tandem_sip::{Method, Millis, Response, reliable};

use crate::control::Control;
use crate::ledger::About;
use crate::sip::clients::News;
use crate::sip::edge;

impl Control {
    pub(crate) fn on_response(&mut self, now: Millis, response: Response) {
        let (news, ack) = self.clients.on_response(now, &response);
        if let Some(ack) = ack {
            self.transmit(ack);
        }
        let invite = response.headers.cseq.method == Method::Invite;
        match news {
            News::New if self.is_of_carriers(now, &response) => {}
            News::New if self.is_of_notifies(now, &response) => {}
            News::New => self.report(response),
            News::RepeatedSuccess => self.acknowledge_again(&response),
            News::Nothing => {}
            News::Unknown if invite && self.is_of_ours(&response) => {
                if response.is_success() && self.acks.of(&response).is_some() {
                    self.acknowledge_again(&response);
                } else if (!response.is_provisional() || reliable::rseq(&response).is_some())
                    && self.tenants.is_complete()
                    && self.strays.note(&response)
                {
                    // Of an earlier life: the core knows the branch, or drops it. Before there is
                    // routing nothing can be reported; the peer repeats it.
                    self.report(response);
                }
            }
            News::Unknown => {
                metrics::counter!("tandem_sip_dropped_total", "reason" => "no_transaction")
                    .increment(1);
            }
        }
    }

    /// RFC 3261 §18.1.2: a response whose topmost Via is not ours is dropped.
    fn is_of_ours(&self, response: &Response) -> bool {
        response.headers.via.len() == 1
            && response
                .headers
                .top_via()
                .is_some_and(|via| via.sent_by() == self.identity.vip.to_string())
    }

    fn acknowledge_again(&mut self, response: &Response) {
        if let Some(transmit) = self.acks.of(response).cloned() {
            self.transmit(transmit);
        }
    }

    fn report(&mut self, mut response: Response) {
        let branch = response.headers.branch().to_owned();
        let answer =
            edge::take_answer(response.headers.content_type.as_deref(), &mut response.body);
        let tenant = self.tenants.of_text(&branch);
        let event = GatewayEvent::Response { branch, response: Box::new(response), answer };
        self.raise(tenant, event, About::Existing);
    }
}
