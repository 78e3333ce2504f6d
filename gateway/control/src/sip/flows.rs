//! Connections over which somebody has proven a password: whoever registered over one is to be
//! known as gone with it (RFC 5626 §4.2.1 lets the phone open another).

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use lru::LruCache;
use tandem_sip::ConnectionId;

use crate::limits;

#[derive(Debug)]
pub struct Flows(LruCache<ConnectionId, BTreeSet<u32>>);

impl Default for Flows {
    fn default() -> Self {
        Self(LruCache::new(NonZeroUsize::new(limits::FLOWS_MAX).unwrap_or(NonZeroUsize::MIN)))
    }
}

impl Flows {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn note(&mut self, connection: ConnectionId, tenant: u32) {
        self.0.get_or_insert_mut(connection, BTreeSet::new).insert(tenant);
    }

    /// It is gone; the tenants of whom somebody has registered over it.
    pub fn take(&mut self, connection: ConnectionId) -> BTreeSet<u32> {
        self.0.pop(&connection).unwrap_or_default()
    }
}
