//! The tenants that there are, and whose a request is.
//!
//! Within a dialog its tag says it: the core draws tags that name the tenant ([`tandem_core::tenant_of`]), so that a
//! gateway's next life knows, too. Outside of dialogs, in this order: the dialog that an INVITE replaces; the
//! domain that is called (RFC 3261 §10.2: phones register in their tenant's); the trunk whose sources name the
//! peer, and where several tenants have such a one, whose number is called; the sender's domain; a trunk that
//! names no sources, whose tenant has the number. What is nobody's is the first one's, which refuses it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tandem_core::config::{Config, Trunk};
use tandem_core::tenant_of;
use tandem_core::trunk::numbers::rewritten;
use tandem_sip::{Flow, Method, Proof, Request, Way, replaces};

use crate::link::Routing;
use crate::sip::registrar::Registrar;
use crate::sip::suspects::Admitted;

#[derive(Debug)]
pub(crate) struct Tenant {
    pub name: Arc<str>,
    pub registrar: Registrar,
    pub admitted: Admitted,
    pub config: Config,
}

#[derive(Debug, Default)]
pub(crate) struct Tenants {
    known: BTreeMap<u32, Tenant>,
    /// A node has told of all that there were.
    complete: bool,
}

impl Tenants {
    /// Takes in what a node says. False where its key is of no use.
    pub fn learn(&mut self, routing: &Routing) -> bool {
        let Some(registrar) = Registrar::new(&routing.config, &routing.nonce_key) else {
            return false;
        };
        let admitted = Admitted::of(&routing.config);
        // Secrets are the registrar's alone.
        let config = Config { agents: Vec::new(), ..(*routing.config).clone() };
        let name = config.tenant.as_str().into();
        self.known.insert(routing.shard, Tenant { name, registrar, admitted, config });
        let all: BTreeSet<u32> = routing.all.iter().copied().collect();
        self.known.retain(|number, _| *number == routing.shard || all.contains(number));
        self.complete |= all.iter().all(|number| self.known.contains_key(number));
        true
    }

    /// Whose a request is can be said.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    pub fn get(&self, number: u32) -> Option<&Tenant> {
        self.known.get(&number)
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &Tenant)> {
        self.known.iter().map(|(number, tenant)| (*number, tenant))
    }

    /// The one with the lowest number; before any is known the one that every cluster has.
    pub fn first(&self) -> u32 {
        self.known.keys().next().copied().unwrap_or_default()
    }

    /// Who answers a connection of ours must prove who it is, where the tenant's configuration does not say
    /// otherwise.
    pub fn proven(&self, tenant: u32, mut way: Way) -> Way {
        if let (true, Some(open)) = (way.carrier.is_secure(), way.open)
            && self.get(tenant).is_some_and(|tenant| !tenant.config.verifies(open.ip()))
        {
            way.proof = Proof::Nothing;
        }
        way
    }

    /// Whose dialog or transaction a tag or branch of ours names.
    pub fn of_text(&self, text: &str) -> u32 {
        let named = u32::from(tenant_of(text));
        if self.complete && !self.known.contains_key(&named) { self.first() } else { named }
    }

    pub fn of_request(&self, flow: &Flow, request: &Request) -> u32 {
        if let Some(tag) = request.headers.to_tag() {
            return self.of_text(tag);
        }
        self.replaced(request)
            .or_else(|| self.domain(&request.uri.host))
            .or_else(|| self.domain(&request.headers.to.uri.host))
            .or_else(|| self.trunk(flow, request))
            .or_else(|| self.domain(&request.headers.from.uri.host))
            .or_else(|| self.number(flow, request))
            .unwrap_or_else(|| self.first())
    }

    /// Of two tags one is ours; a peer's names a tenant by chance at most, and then one that is not.
    fn replaced(&self, request: &Request) -> Option<u32> {
        let replaced = replaces::of_headers(&request.headers).ok()??;
        let tags = [&replaced.to_tag, &replaced.from_tag];
        let named = tags.map(|tag| u32::from(tenant_of(tag)));
        Some(named.into_iter().find(|named| *named != 0 && self.known.contains_key(named)))
            .map(|named| named.unwrap_or_else(|| self.first()))
    }

    fn domain(&self, host: &str) -> Option<u32> {
        let of = |tenant: &Tenant| tenant.config.realm.eq_ignore_ascii_case(host);
        self.known.iter().find(|(_, tenant)| of(tenant)).map(|(number, _)| *number)
    }

    fn trunk(&self, flow: &Flow, request: &Request) -> Option<u32> {
        let named = |trunk: &Trunk| !trunk.sources.is_empty() || trunk.tls.client_name.is_some();
        let all = self.with_trunk(flow, request, named);
        let called = all.iter().find(|(_, called)| *called);
        called.or_else(|| all.first()).map(|(number, _)| *number)
    }

    fn number(&self, flow: &Flow, request: &Request) -> Option<u32> {
        let all = self.with_trunk(flow, request, |_| true);
        all.iter().find(|(_, called)| *called).map(|(number, _)| *number)
    }

    /// Those with such a trunk, by which the peer may call, and whether it calls a number of theirs.
    fn with_trunk(
        &self,
        flow: &Flow,
        request: &Request,
        is_such: impl Fn(&Trunk) -> bool,
    ) -> Vec<(u32, bool)> {
        if request.method != Method::Invite {
            return Vec::new();
        }
        let dialled = request.uri.user.as_deref().unwrap_or_default();
        let of = |(number, tenant): (&u32, &Tenant)| {
            let config = &tenant.config;
            let admits = |trunk: &&Trunk| trunk.admits(flow.remote.ip(), &flow.names);
            let mut trunks = config.trunks.iter().filter(admits).filter(|trunk| is_such(trunk));
            let first = trunks.next()?;
            let has = |trunk: &Trunk| {
                let digits = rewritten(&trunk.incoming.called, dialled);
                config.numbers.iter().any(|number| number.digits == digits)
            };
            Some((*number, has(first) || trunks.any(has)))
        };
        self.known.iter().filter_map(of).collect()
    }
}
