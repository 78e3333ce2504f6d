//! Every bound of the wire, and what happens at it.

/// Datagrams that are read at one wake-up before other work gets its turn.
pub const BATCH_MAX: usize = 64;
/// Receive and send buffer that is asked of the kernel; it gives what `net.core.rmem_max` allows.
pub const SOCKET_BUFFER_BYTES: usize = 8 * 1024 * 1024;
/// Messages that wait for the handler. Beyond it everything is dropped and counted: over UDP the
/// peer sends again.
pub const IN_FLIGHT_MAX: usize = 8_192;
/// From this many waiting messages on, new calls are answered 503.
pub const IN_FLIGHT_NEW_CALLS_MAX: usize = IN_FLIGHT_MAX / 2;
/// From this many waiting messages on, whatever belongs to no dialog is answered 503.
pub const IN_FLIGHT_OUTSIDE_MAX: usize = IN_FLIGHT_MAX / 4 * 3;
/// Addresses whose datagrams are counted. Beyond it the table starts anew.
pub const SOURCES_MAX: usize = 16_384;
/// Datagrams of one address in one second; the rest of that second's are dropped unread.
pub const SOURCE_DATAGRAMS_PER_S_MAX: u32 = 20_000;
/// Refusals of malformed or overload requests to one address in one second, so that nobody uses
/// us to flood somebody.
pub const SOURCE_REFUSALS_PER_S_MAX: u32 = 200;
/// `Retry-After` of a 503, seconds.
pub const RETRY_AFTER_S: u32 = 5;

const _: () = assert!(IN_FLIGHT_NEW_CALLS_MAX < IN_FLIGHT_OUTSIDE_MAX);
const _: () = assert!(IN_FLIGHT_OUTSIDE_MAX < IN_FLIGHT_MAX);
