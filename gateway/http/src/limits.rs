//! Every bound of the API.

/// A request body: no call takes more than a few fields.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// The body that configures a tenant: some thousand agents.
pub const TENANT_BYTES_MAX: usize = 768 * 1024;

/// Items of one page where the caller names no `limit`.
pub const PAGE_ITEMS_DEFAULT: u32 = 200;

/// Items of one page at most.
pub const PAGE_ITEMS_MAX: u32 = 1_000;

/// The longest that the cluster's state is waited for where what was seen last would do.
pub const WITHIN_MS_MAX: u64 = 10_000;

/// The longest id, name or cursor that is looked up.
pub const NAME_BYTES_MAX: usize = 256;

/// The longest Idempotency-Key.
pub const KEY_BYTES_MAX: usize = 256;

/// How long a recording's other copy may take to begin to answer.
pub const PEER_ANSWER_MS_MAX: u64 = 5_000;

/// How long another gateway may take to say what it saw of a call.
pub const PEER_TRACE_MS_MAX: u64 = 3_000;

/// How long another gateway may take to read a recording again: some hours of audio.
pub const PEER_VERIFY_MS_MAX: u64 = 60_000;

/// Of a file that is streamed.
pub const AUDIO_BLOCK_BYTES: usize = 64 * 1024;

const _: () = assert!(PAGE_ITEMS_DEFAULT <= PAGE_ITEMS_MAX);
