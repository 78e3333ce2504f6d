//! The HTTP API of a gateway: JSON views of the cluster's state, operators' commands, health
//! and metrics.
//!
//! Reading order: [`backend`] is what the API needs of its process, [`problem`] how it refuses,
//! [`routes`] the table of paths, [`openapi`] the same table for machines.

pub mod backend;
mod health;
pub mod limits;
mod openapi;
pub mod problem;
mod recordings;
mod routes;
mod trace;
mod v1;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::net::TcpListener;

pub use backend::Backend;
pub use problem::Problem;

/// The BLAKE3 hash of a bearer token; the token itself is never kept.
#[derive(Clone, Copy)]
pub struct TokenHash(blake3::Hash);

impl TokenHash {
    pub fn of(token: &str) -> Self {
        Self(blake3::hash(token.trim().as_bytes()))
    }

    /// From 64 hex digits, as a configuration carries it.
    pub fn from_hex(hex: &str) -> Option<Self> {
        blake3::Hash::from_hex(hex).ok().map(Self)
    }

    pub fn to_hex(self) -> String {
        self.0.to_hex().to_string()
    }

    /// `blake3::Hash` compares in constant time.
    fn admits(&self, token: &str) -> bool {
        self.0 == blake3::hash(token.as_bytes())
    }
}

/// Serves the API until `shutdown` completes.
///
/// # Errors
/// Whatever the listener's `accept` returns that axum doesn't retry.
pub async fn serve(
    listener: TcpListener,
    backend: Arc<dyn Backend>,
    token: TokenHash,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, routes::router(backend, token)).with_graceful_shutdown(shutdown).await
}
