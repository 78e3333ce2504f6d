//! How the service address of a line comes to this host, and leaves it: by nothing (it is there anyway), by the
//! kernel's own interface, or by a command that asks somebody else.
//!
//! ```text
//! lease held ── take ── bind ── announce ── serve ─┬─ lease over ── drop ─┬─ lease held again ── take ── announce
//!                                                  │                      └─ another serves the line: nothing is left
//!                                                  └─ line lost, given back or ended ── drop
//! ```
//!
//! An address on an interface has a life of [`limits::VALID_S`] in the kernel, and is kept alive by whoever holds the lease: of a process that
//! was killed or stands still nothing remains that would answer for the address. That needs `CAP_NET_ADMIN`; `CAP_NET_RAW` is for
//! announcing it to neighbours, and for hearing whether another host answers for it, too.
//!
//! Read in this order: [`addresses`] is what the gateway uses, [`keeping`] decides what is due, [`interface`] and [`hook`] are the
//! two ways, [`claim`] is what goes over the wire, [`neighbours`] its sockets.

pub mod addresses;
pub mod claim;
mod error;
pub mod hook;
pub mod interface;
pub mod keeping;
pub mod limits;
mod neighbours;
mod netlink;

pub use addresses::{Addresses, Held};
pub use error::Error;
pub use hook::Hook;

/// How lines of this process get their addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// They are there, or moved by somebody else.
    #[default]
    AsIs,
    /// `prefix`: its length, where it is not the whole address.
    Interface {
        name: String,
        prefix: Option<u8>,
    },
    Hook(Hook),
}
