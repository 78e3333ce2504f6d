//! The gateway process: it owns sockets, transactions and media, and obeys the leaders.

pub mod link;
