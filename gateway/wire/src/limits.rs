//! Every bound of the wire, and what happens at it.

use std::time::Duration;

/// Datagrams that are read at one wake-up before other work gets its turn.
pub const BATCH_MAX: usize = 64;
/// Receive and send buffer that is asked of the kernel; it gives what `net.core.rmem_max` allows.
pub const SOCKET_BUFFER_BYTES: usize = 8 * 1024 * 1024;
/// Messages that wait for the handler. Beyond it everything is dropped and counted: over UDP the
/// peer sends again.
pub const IN_FLIGHT_MAX: usize = 8_192;
/// From this many waiting messages on, new calls are answered 503.
pub const IN_FLIGHT_NEW_CALLS_MAX: usize = IN_FLIGHT_MAX / 2;
/// A new call that would wait for the handler longer than this finds it behind;
pub const NEW_CALL_WAIT: Duration = Duration::from_millis(20);
/// where that has stood for so long, new calls are answered 503,
pub const WAIT_STANDS: Duration = Duration::from_millis(250);
/// until none has been for so long.
pub const WAIT_CALMS: Duration = Duration::from_secs(2);
/// New calls of which it is remembered what they were told: at least for as long, and twice as many. A caller
/// by UDP asks again for 32 s (RFC 3261 §17.1.1.2).
pub const TOLD_FOR: Duration = Duration::from_secs(32);
pub const TOLD_MAX: usize = 65_536;
/// From this many waiting messages on, whatever belongs to no dialog is answered 503.
pub const IN_FLIGHT_OUTSIDE_MAX: usize = IN_FLIGHT_MAX / 4 * 3;
/// Addresses whose datagrams are counted. Beyond it the table starts anew.
pub const SOURCES_MAX: usize = 16_384;
/// Datagrams of one address in one second; the rest of that second's are dropped unread.
pub const SOURCE_DATAGRAMS_PER_S_MAX: u32 = 20_000;
/// Answers to malformed requests, and refusals of requests other than new calls, to one address in one
/// second, so that nobody uses us to flood somebody.
pub const SOURCE_REFUSALS_PER_S_MAX: u32 = 200;
/// New calls of one address that are turned away with an answer in one second, which is no longer than what
/// was asked; the rest is dropped. A carrier has all its calls behind one address.
pub const SOURCE_TURNED_AWAY_PER_S_MAX: u32 = 5_000;
/// `Retry-After` of a 503, seconds.
pub const RETRY_AFTER_S: u32 = 5;

// --- connections -----------------------------------------------------------------------------

/// Connections that peers have opened; the next one is closed at once and counted.
pub const ACCEPTED_MAX: usize = 8_192;
/// Those of one address, behind which a whole site may be; the next one is closed at once.
pub const ACCEPTED_PER_SOURCE_MAX: usize = 2_048;
/// Connections that we have opened, and those that wait to be; beyond it a request of ours fails
/// as if its peer could not be reached.
pub const OPENED_MAX: usize = 2_048;
/// Those to one address, whoever has named it; beyond it likewise.
pub const OPENED_PER_ADDRESS_MAX: usize = 256;
pub const OPENS_WAITING_MAX: usize = 256;
/// Connections that the kernel has accepted and we have not.
pub const BACKLOG_MAX: i32 = 1_024;
/// An attempt to open a connection takes no longer; then its messages were not delivered.
pub const CONNECT_MS_MAX: u64 = 2_000;
/// Connections that were accepted and have yet to agree on TLS or a WebSocket, in all and of one address; the
/// next one is closed at once.
pub const HANDSHAKES_MAX: usize = 1_024;
pub const HANDSHAKES_PER_SOURCE_MAX: usize = 256;
/// A handshake takes no longer, on either side.
pub const HANDSHAKE_MS_MAX: u64 = 5_000;
/// How often it is looked whether the files of a certificate have changed.
pub const CERTIFICATE_LOOK_MS: u64 = 1_000;
/// The longest file of certificates or of a key.
pub const PEM_BYTES_MAX: u64 = 1024 * 1024;
/// Names of one client's certificate that are told.
pub const NAMES_MAX: usize = 16;
/// A peer that has opened a connection and sent no message after this is closed.
pub const FIRST_MESSAGE_MS_MAX: u64 = 10_000;
/// A message that is not whole so long after its first byte breaks its connection.
pub const MESSAGE_MS_MAX: u64 = 10_000;
/// A connection over which nothing came for so long is closed. A phone registers again within the
/// hour at the latest, so that no registered one is.
pub const IDLE_MS_MAX: u64 = 3_700_000;
/// So long after the last message of ours on a WebSocket a ping follows; after so many without an
/// answer, or any other frame, it is closed.
pub const PING_MS: u64 = 30_000;
pub const PINGS_MAX: u32 = 3;
/// A dead host is noticed by probes of the kernel: after the first so many, by each so many.
pub const PROBE_AFTER_S: u64 = 60;
pub const PROBE_EVERY_S: u64 = 15;
pub const PROBES_MAX: u32 = 4;
/// Bytes and messages that a peer has not taken yet; beyond either it is stuck, and closed.
pub const UNSENT_BYTES_MAX: usize = 1024 * 1024;
pub const UNSENT_MAX: usize = 1_024;
/// A peer that takes no byte for so long is stuck, too.
pub const WRITE_MS_MAX: u64 = 20_000;
/// How long the last words of ours may take when we close, and the peer's are thrown away.
pub const CLOSE_MS_MAX: u64 = 1_000;
/// Room for one read. What is unread beyond a message and this waits in the kernel.
pub const READ_BYTES: usize = 4_096;
/// Malformed messages on one connection; each is answered 400, with the last one it is closed.
pub const MALFORMED_MAX: u32 = 16;
/// Requests of one connection that are remembered, so that its end can tell them undelivered.
pub const TICKETS_MAX: usize = 256;
/// Reports of undelivered requests that wait for the handler; beyond it connections wait to end.
pub const REPORTS_MAX: usize = 1_024;
/// After an error of `accept`, for want of file descriptors for instance.
pub const ACCEPT_AGAIN_MS: u64 = 100;

const _: () = assert!(ACCEPTED_PER_SOURCE_MAX < ACCEPTED_MAX);
const _: () = assert!(OPENED_PER_ADDRESS_MAX < OPENED_MAX);
const _: () = assert!(HANDSHAKES_PER_SOURCE_MAX < HANDSHAKES_MAX);
const _: () = assert!(UNSENT_BYTES_MAX > 2 * tandem_sip::MESSAGE_BYTES_MAX);
const _: () = assert!(IN_FLIGHT_NEW_CALLS_MAX < IN_FLIGHT_OUTSIDE_MAX);
const _: () = assert!(IN_FLIGHT_OUTSIDE_MAX < IN_FLIGHT_MAX);

/// How often it is looked whether a process that stopped listening on an address of ours does so no more.
pub const LISTEN_AGAIN_MS: u64 = 20;
/// How often what waits on connections looks for a lease.
pub const FENCED_LOOK_MS: u64 = 20;
