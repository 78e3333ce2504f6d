//! Requests of peers: absorbed, refused at the edge, or reported to the cluster.

use std::net::IpAddr;
use std::sync::Arc;

use tandem_core::command::{GatewayEvent, Inbound};
use tandem_core::config::Config;
use tandem_core::limits::SESSION_EXPIRES_S_MIN;
use tandem_sip::reason::Q850;
use tandem_sip::transaction::Key;
use tandem_sip::{Flow, Method, Millis, Request, Response, Way};

use crate::admission::Asks;
use crate::control::{Control, count_response};
use crate::ledger::{About, Full};
use crate::limits;
use crate::sip::servers::AckOf;
use crate::sip::suspects::{self, Meets};
use crate::sip::{Transmit, dtmf, edge, name_of};

impl Control {
    pub(crate) fn on_request(&mut self, now: Millis, unix_ms: u64, flow: &Flow, request: Request) {
        count_request(&request.method);
        let key = name_of(&request);
        if request.method == Method::Ack {
            self.on_ack(now, &key, request);
            return;
        }
        if self.servers.knows(&key) {
            metrics::counter!("tandem_sip_retransmissions_absorbed_total").increment(1);
            if let Some(transmit) = self.servers.on_repeated(&key) {
                self.transmit(transmit);
            }
            return;
        }
        if suspects::is_scanner(&request) && !request.is_in_dialog() {
            self.on_scanner(now, flow, &request);
            return;
        }
        if request.method == Method::Cancel {
            self.on_cancel(now, flow, key, request);
            return;
        }
        let tenant = self.tenants.of_request(flow, &request);
        let session_s_min = self.session_s_min(tenant);
        if let Err(refusal) = edge::check(&request, session_s_min) {
            self.answer(flow, &refusal);
            return;
        }
        match (&request.method, request.is_in_dialog()) {
            (Method::Register, _) | (Method::Subscribe | Method::Message, false) => {
                self.on_proving(now, unix_ms, flow, (tenant, &key), request);
            }
            (Method::Options, false) => {
                let answer = if self.refuses_new_calls(now, tenant) {
                    edge::unavailable(&request, limits::RETRY_AFTER_S)
                } else {
                    edge::capabilities(&request)
                };
                self.answer(flow, &answer);
            }
            (_, false) if self.is_too_much(now, flow, tenant, &request) => {}
            (_, false) => self.on_new_call(now, flow, (tenant, key), request),
            (_, true) => self.on_in_dialog(now, flow, (tenant, key), request),
        }
    }

    fn session_s_min(&self, tenant: u32) -> u32 {
        let config = self.tenants.get(tenant).map(|tenant| &tenant.config);
        config.map_or(SESSION_EXPIRES_S_MIN, Config::session_expires_s_min)
    }

    /// An answer that keeps no state: a repeated request gets it anew.
    pub(crate) fn answer(&mut self, flow: &Flow, response: &Response) {
        count_response(response.status);
        // Nothing was promised to whoever has gone already: no connection is opened for it.
        let way = Way { open: None, ..flow.way_back(response) };
        self.transmit(Transmit { bytes: response.to_bytes(), way, ticket: None });
    }

    /// There is no room for a request. By UDP its sender sends it again; what a connection has
    /// delivered never comes again.
    fn lose(&mut self, flow: &Flow, request: &Request) {
        if flow.is_reliable() {
            self.answer(flow, &edge::unavailable(request, limits::RETRY_AFTER_S));
        }
    }

    /// Starts a server transaction; false where there is no room.
    pub(crate) fn begin(
        &mut self,
        now: Millis,
        flow: &Flow,
        (tenant, key): (u32, &Key),
        request: &Request,
    ) -> bool {
        if self.servers.is_full() {
            metrics::counter!("tandem_sip_dropped_total", "reason" => "transactions").increment(1);
            self.lose(flow, request);
            return false;
        }
        let way = self.tenants.proven(tenant, flow.way_back(&request.respond(100, None, None)));
        // What a refusal is made of; the body is of no use to it.
        let kept = Request { body: Vec::new(), ..request.clone() };
        self.servers.begin(now, key.clone(), tenant, kept, way);
        true
    }

    fn on_new_call(
        &mut self,
        now: Millis,
        flow: &Flow,
        (tenant, key): (u32, Key),
        mut request: Request,
    ) {
        if self.is_leaderless(now, tenant) {
            self.refuse_new_call(now, flow, (tenant, &key), &request);
            return;
        }
        if !self.tenants.is_complete() {
            // A life that has just begun: the last one may have brought this call to the cluster,
            // which answers it then. A refusal would take it away.
            if self.early.len() < limits::EARLY_MAX {
                self.early.push((flow.clone(), request));
            } else {
                self.answer(flow, &edge::unavailable(&request, limits::RETRY_AFTER_S));
            }
            return;
        }
        if self.servers.is_merged(&key, &request, flow.carrier) {
            self.answer(flow, &edge::answer(&request, 482));
            return;
        }
        if !self.servers.has_room_for_calls() {
            metrics::counter!("tandem_sip_overload_refusals_total").increment(1);
            self.answer(flow, &edge::unavailable(&request, limits::RETRY_AFTER_S));
            return;
        }
        let offer = match edge::take_offer(&mut request) {
            Ok(offer) => offer,
            Err(refusal) => {
                self.answer(flow, &refusal);
                return;
            }
        };
        if !self.begin(now, flow, (tenant, &key), &request) {
            return;
        }
        let transaction = self.transaction(&key);
        if self.is_turned_away(now, Asks::NewCall, &transaction) {
            return;
        }
        self.refused.forget(&key);
        strip_credentials(&mut request);
        let event = GatewayEvent::Invite(Inbound {
            transaction: transaction.clone(),
            source: flow.remote,
            carrier: flow.carrier,
            request: request.into(),
            offer,
            names: flow.names.to_vec(),
        });
        if self.try_raise(tenant, event, About::NewCall(transaction.clone())) == Err(Full) {
            self.refuse_for_overload(now, &transaction, limits::RETRY_AFTER_S);
        }
    }

    /// With a transaction, so that the same INVITE is refused again though a leader is there by
    /// then: the caller has heard the first refusal, perhaps (RFC 3261 §17.2.1).
    fn refuse_new_call(&mut self, now: Millis, flow: &Flow, of: (u32, &Key), request: &Request) {
        if self.begin(now, flow, of, request) {
            let transaction = self.transaction(of.1);
            self.refuse(now, &transaction, limits::RETRY_AFTER_S);
        }
    }

    /// New calls of before there was routing are taken now; one that came twice is absorbed.
    pub(crate) fn take_early(&mut self, now: Millis) {
        for (flow, request) in std::mem::take(&mut self.early) {
            let key = name_of(&request);
            if !self.servers.knows(&key) {
                let tenant = self.tenants.of_request(&flow, &request);
                self.on_new_call(now, &flow, (tenant, key), request);
            }
        }
    }

    /// Nobody leads: new calls of before there was routing are refused.
    pub(crate) fn refuse_early(&mut self, now: Millis) {
        for (flow, request) in std::mem::take(&mut self.early) {
            let key = name_of(&request);
            if !self.servers.knows(&key) {
                let tenant = self.tenants.of_request(&flow, &request);
                self.refuse_new_call(now, &flow, (tenant, &key), &request);
            }
        }
    }

    fn on_in_dialog(
        &mut self,
        now: Millis,
        flow: &Flow,
        (tenant, key): (u32, Key),
        mut request: Request,
    ) {
        let offer = match edge::take_offer(&mut request) {
            Ok(offer) => offer,
            Err(refusal) => {
                self.answer(flow, &refusal);
                return;
            }
        };
        if !self.begin(now, flow, (tenant, &key), &request) {
            return;
        }
        strip_credentials(&mut request);
        let digit = dtmf::take_digit(&mut request);
        let request = Arc::new(request);
        let repeated = Arc::clone(&request);
        let inbound = Inbound {
            transaction: self.transaction(&key),
            source: flow.remote,
            carrier: flow.carrier,
            request,
            offer,
            names: flow.names.to_vec(),
        };
        let event = match digit {
            Some(digit) => GatewayEvent::Info { inbound, digit },
            None => GatewayEvent::Request(inbound),
        };
        if self.try_raise(tenant, event, About::Existing) == Err(Full) {
            self.servers.forget(&key);
            self.lose(flow, &repeated);
        } else if repeated.method == Method::Prack {
            self.servers.on_prack(&repeated);
        } else if repeated.method == Method::Bye && self.is_leaderless(now, tenant) {
            self.honour_bye(now, &key, &repeated);
        }
    }

    /// Nobody decides, and who hangs up has hung up: it is answered here, and booked when somebody leads.
    pub(crate) fn honour_bye(&mut self, now: Millis, key: &Key, bye: &Request) {
        let answered = self.servers.respond(now, key, &edge::answer(bye, 200), || None);
        if let Some(transmit) = answered.transmit {
            count_response(200);
            self.transmit(transmit);
        }
    }

    /// A scanner hears once that it is not wanted.
    fn on_scanner(&mut self, now: Millis, flow: &Flow, request: &Request) {
        metrics::counter!("tandem_sip_scanners_total").increment(1);
        if self.suspects.on_scanner(now, flow.remote.ip()) != Meets::Silence {
            tracing::info!(source = %flow.remote, "a scanner");
            let mut answer = edge::answer(request, 403);
            answer.reason = "Forbidden (scanners are not served)".into();
            self.answer(flow, &answer);
        }
    }

    /// More calls of a stranger than are looked at. One that nobody can place is let through: its
    /// source may be a trunk's.
    fn is_too_much(&mut self, now: Millis, flow: &Flow, tenant: u32, request: &Request) -> bool {
        let whole = self.tenants.is_complete();
        let Some(tenant) = self.tenants.get(tenant).filter(|_| whole) else { return false };
        let meets = self.suspects.on_invite(now, flow.remote.ip(), &tenant.admitted);
        if meets == Meets::Served {
            return false;
        }
        self.put_off(flow, request, meets, "invites");
        true
    }

    /// It is answered 481 (RFC 3261 §12.2.2) and changes nothing. Late packets of before a takeover are counted; many of one
    /// source are a forger's, or a peer's that has lost its calls.
    pub(crate) fn on_unknown_dialog(&mut self, now: Millis, method: &Method, source: IpAddr) {
        let method = label_of(method);
        metrics::counter!("tandem_sip_unknown_dialogs_total", "method" => method).increment(1);
        if self.suspects.on_unknown_dialog(now, source) {
            tracing::warn!(%source, method, "TD0360 many requests name calls that nobody knows");
        }
    }

    /// 503, or not a word.
    pub(crate) fn put_off(
        &mut self,
        flow: &Flow,
        request: &Request,
        meets: Meets,
        what: &'static str,
    ) {
        metrics::counter!("tandem_sip_strangers_put_off_total", "what" => what).increment(1);
        if let Meets::Refused { retry_after_s } = meets {
            self.answer(flow, &edge::unavailable(request, retry_after_s));
        }
    }

    /// RFC 3261 §9.2: a transaction of its own, answered at once.
    fn on_cancel(&mut self, now: Millis, flow: &Flow, key: Key, request: Request) {
        let invite = Key { method: Method::Invite.as_str().to_owned(), ..key.clone() };
        let Some(pending) = self.servers.is_pending(&invite) else {
            self.on_unknown_dialog(now, &Method::Cancel, flow.remote.ip());
            self.answer(flow, &edge::answer(&request, 481));
            return;
        };
        let tenant = self.servers.tenant_of(&invite).unwrap_or_else(|| self.tenants.first());
        if !self.begin(now, flow, (tenant, &key), &request) {
            return;
        }
        if pending {
            let transaction = self.transaction(&invite);
            let q850 = Q850::of_reason(&request.headers);
            let event = GatewayEvent::Cancel { transaction, q850 };
            if self.try_raise(tenant, event, About::Existing) == Err(Full) {
                self.servers.forget(&key);
                self.lose(flow, &request);
                return;
            }
        }
        // Its tag is that of the INVITE's answers (§9.2), where there was one.
        let mut answer = edge::answer(&request, 200);
        if let Some(tag) = self.servers.tag_of(&invite) {
            answer.headers.to.set_tag(tag);
        }
        let answered = self.servers.respond(now, &key, &answer, || None);
        if let Some(transmit) = answered.transmit {
            count_response(200);
            self.transmit(transmit);
        }
    }

    fn on_ack(&mut self, now: Millis, key: &Key, mut ack: Request) {
        let tenant = self.tenants.of_text(ack.headers.to_tag().unwrap_or_default());
        match self.servers.on_ack(now, key, &ack) {
            AckOf::Success => {
                let answer = edge::take_answer(ack.headers.content_type.as_deref(), &mut ack.body);
                let event = GatewayEvent::Ack {
                    local_tag: ack.headers.to_tag().unwrap_or_default().to_owned(),
                    cseq: ack.headers.cseq.number,
                    call_id: ack.headers.call_id,
                    answer,
                };
                self.raise(tenant, event, About::Existing);
            }
            AckOf::Refusal => {
                // The tag is another's.
                let tenant = self.servers.tenant_of(key).unwrap_or(tenant);
                let transaction = self.transaction(key);
                self.raise(tenant, GatewayEvent::AckTimeout { transaction }, About::Existing);
            }
            AckOf::Repeated | AckOf::Failure => {}
            AckOf::Unknown => {
                metrics::counter!("tandem_sip_dropped_total", "reason" => "no_dialog").increment(1);
            }
        }
    }
}

/// What proves a password goes into no log.
pub(crate) fn strip_credentials(request: &mut Request) {
    request.headers.remove_other("Authorization");
    request.headers.remove_other("Proxy-Authorization");
}

fn count_request(method: &Method) {
    metrics::counter!("tandem_sip_requests_total", "method" => label_of(method)).increment(1);
}

/// A label for each method that we know; others share one, for a peer may invent many.
fn label_of(method: &Method) -> &'static str {
    match method {
        Method::Invite => "INVITE",
        Method::Ack => "ACK",
        Method::Bye => "BYE",
        Method::Cancel => "CANCEL",
        Method::Register => "REGISTER",
        Method::Options => "OPTIONS",
        Method::Prack => "PRACK",
        Method::Update => "UPDATE",
        Method::Info => "INFO",
        Method::Refer => "REFER",
        Method::Notify => "NOTIFY",
        Method::Subscribe => "SUBSCRIBE",
        Method::Message => "MESSAGE",
        Method::Publish => "PUBLISH",
        Method::Other(_) => "other",
    }
}
