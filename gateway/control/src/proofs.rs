//! Requests of agents' phones that need a password: REGISTER, and SUBSCRIBE and MESSAGE outside of dialogs.

use tandem_core::command::{GatewayEvent, Register};
use tandem_core::ids::AgentId;
use tandem_sip::transaction::Key;
use tandem_sip::{Flow, Method, Millis, Request};

use crate::admission::Asks;
use crate::control::Control;
use crate::ledger::{About, Full};
use crate::limits;
use crate::requests::strip_credentials;
use crate::sip::registrar::Verdict;
use crate::sip::suspects::Meets;
use crate::sip::{contacts, edge};

impl Control {
    pub(crate) fn on_proving(
        &mut self,
        now: Millis,
        unix_ms: u64,
        flow: &Flow,
        (tenant, key): (u32, &Key),
        mut request: Request,
    ) {
        self.nonce_counter += 1;
        let whole = self.tenants.is_complete();
        let Some(known) = self.tenants.get(tenant).filter(|_| whole) else {
            self.answer(flow, &edge::unavailable(&request, limits::RETRY_AFTER_S));
            return;
        };
        let (registrar, counter) = (&known.registrar, self.nonce_counter);
        let source = flow.remote.ip();
        let Some(claim) = registrar.claim(&request) else {
            match self.suspects.on_challenge(now, source) {
                Meets::Served => {
                    let challenge = registrar.challenge(&request, unix_ms, counter, false);
                    self.answer(flow, &challenge);
                }
                meets @ (Meets::Refused { .. } | Meets::Silence) => {
                    self.put_off(flow, &request, meets, "challenges");
                }
            }
            return;
        };
        // The same name with another tenant is another account.
        let account = registrar.account(&claim.username);
        let meets = self.suspects.on_attempt(now, source, &account);
        if meets != Meets::Served {
            self.put_off(flow, &request, meets, "passwords");
            return;
        }
        match registrar.judge(&request, &claim, unix_ms) {
            Verdict::Proven(agent) => {
                if !self.nonces.take(&claim.nonce, claim.nc.as_deref()) {
                    metrics::counter!("tandem_sip_replays_refused_total").increment(1);
                    let challenge = registrar.challenge(&request, unix_ms, counter, true);
                    self.answer(flow, &challenge);
                    return;
                }
                self.suspects.on_proven(now, source, &account);
                let checked = match request.method {
                    Method::Register => contacts::check(&request),
                    _ => Ok(()),
                };
                if let Err(refusal) = checked {
                    self.answer(flow, &refusal);
                    return;
                }
                if let Some(connection) = flow.carrier.connection() {
                    self.flows.note(connection, tenant);
                }
                if request.method != Method::Message {
                    request.body = Vec::new();
                }
                if !self.begin(now, flow, (tenant, key), &request) {
                    return;
                }
                self.on_proven(now, flow, (tenant, key), request, agent);
            }
            Verdict::Stale => {
                let challenge = registrar.challenge(&request, unix_ms, counter, true);
                self.answer(flow, &challenge);
            }
            Verdict::Wrong { nonce_is_good } => {
                let known = registrar.knows(&claim.username);
                self.suspects.on_wrong(now, source, &account, known);
                metrics::counter!("tandem_sip_registrations_refused_total").increment(1);
                let method = &request.method;
                tracing::info!(source = %flow.remote, "a {method} proved no password");
                let answer = if nonce_is_good {
                    edge::answer(&request, 403)
                } else {
                    registrar.challenge(&request, unix_ms, counter, false)
                };
                self.answer(flow, &answer);
            }
        }
    }

    fn on_proven(
        &mut self,
        now: Millis,
        flow: &Flow,
        (tenant, key): (u32, &Key),
        mut request: Request,
        agent: AgentId,
    ) {
        let transaction = self.transaction(key);
        if self.is_turned_away(now, Asks::Agent, &transaction) {
            return;
        }
        strip_credentials(&mut request);
        let method = request.method.clone();
        let proven = Register {
            transaction: transaction.clone(),
            source: flow.remote,
            carrier: flow.carrier,
            request: request.into(),
            agent,
        };
        let event = match method {
            Method::Subscribe => GatewayEvent::Subscribe(proven),
            Method::Message => GatewayEvent::Message(proven),
            _ => GatewayEvent::Register(proven),
        };
        if self.try_raise(tenant, event, About::Register(transaction.clone())) == Err(Full) {
            self.refuse_for_overload(now, &transaction, limits::RETRY_AFTER_S);
        }
    }
}
