//! Responses to requests of ours.

use std::net::SocketAddr;

use tandem_core::command::GatewayEvent;
use tandem_sip::{Flow, Method, Millis, Response, Transport, reliable};

use crate::control::Control;
use crate::ledger::About;
use crate::sip::clients::News;
use crate::sip::edge;

impl Control {
    pub(crate) fn on_response(&mut self, now: Millis, flow: &Flow, response: Response) {
        let (news, ack) = self.clients.on_response(now, &response);
        if let Some(ack) = ack {
            self.transmit(ack);
        }
        let invite = response.headers.cseq.method == Method::Invite;
        match news {
            News::New if self.is_of_carriers(now, &response) => {}
            News::New if self.is_of_notifies(now, &response) => {}
            News::New => self.report(response),
            News::RepeatedSuccess => self.acknowledge_again(flow, &response),
            News::Nothing => {}
            News::Unknown if invite && self.is_of_ours(&response) => {
                if response.is_success() && self.acks.of(&response).is_some() {
                    self.acknowledge_again(flow, &response);
                } else if (!response.is_provisional() || reliable::rseq(&response).is_some())
                    && (self.tenants.is_complete() || !is_repeated(flow, &response))
                    && self.strays.note(&response)
                {
                    // Of an earlier life: the core knows the branch, or drops it. What the peer repeats is reported when
                    // there is routing; the rest waits for that here.
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
                .is_some_and(|via| via.sent_by() == self.sent_by(&via.transport))
    }

    /// What the Via of a request of ours says: each transport has a port of its own.
    fn sent_by(&self, transport: &Transport) -> String {
        let vip = self.identity.vip;
        let port = match transport {
            Transport::Udp | Transport::Tcp | Transport::Other(_) => vip.port(),
            Transport::Tls => tandem_sip::tls_port(vip.port()),
            Transport::Ws => tandem_sip::ws_port(vip.port()),
            Transport::Wss => tandem_sip::wss_port(vip.port()),
        };
        SocketAddr::new(vip.ip(), port).to_string()
    }

    /// Over the connection that the 2xx came over, where it came over one: the one that the dialog knows may be gone, with
    /// the gateway's last life or by itself.
    fn acknowledge_again(&mut self, flow: &Flow, response: &Response) {
        if let Some(mut transmit) = self.acks.of(response).cloned() {
            let way = &mut transmit.way;
            if flow.is_reliable() && flow.carrier.transport() == way.carrier.transport() {
                (way.carrier, way.to) = (flow.carrier, flow.remote);
            }
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

/// Whether the peer says it again: a failure over a connection it says once (RFC 3261 §17.2.1), a 2xx and a reliable 1xx until
/// they are acknowledged (§13.3.1.4, RFC 3262 §3).
fn is_repeated(flow: &Flow, response: &Response) -> bool {
    response.status < 300 || !flow.is_reliable()
}
