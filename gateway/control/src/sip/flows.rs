//! Connections over which somebody has proven a password: whoever registered over one is to be
//! known as gone with it (RFC 5626 §4.2.1 lets the phone open another).

use std::num::NonZeroUsize;

use lru::LruCache;
use tandem_sip::ConnectionId;

use crate::limits;

#[derive(Debug)]
pub struct Flows(LruCache<ConnectionId, ()>);

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

    pub fn note(&mut self, connection: ConnectionId) {
        self.0.put(connection, ());
    }

    /// It is gone; true where somebody has registered over it.
    pub fn take(&mut self, connection: ConnectionId) -> bool {
        self.0.pop(&connection).is_some()
    }
}
