//! Every bound of the domain, and what happens at it.

/// Live calls of one shard; the next one is answered 503.
pub const CALLS_MAX: usize = 20_000;
/// Effects that wait to be done; beyond it new calls are answered 503, live calls go on.
pub const OUTBOX_MAX: usize = 50_000;
/// Events of a gateway that may be committed out of order; beyond it one is refused and sent again.
pub const EVENTS_AHEAD_MAX: usize = 65_536;
/// Ports that one gateway may grant.
pub const PORTS_MAX: usize = 32_768;
/// Registered longest; a phone that asks for more gets this (RFC 3261 §10.3).
pub const EXPIRES_S_MAX: u32 = 3_600;
/// Registered where the phone names no time.
pub const EXPIRES_S_DEFAULT: u32 = 3_600;
/// Phones of one agent at a time; one more is refused (403).
pub const CONTACTS_MAX: usize = 10;
/// Names of bindings that one log index may give.
pub const CONTACTS_PER_INDEX: u64 = 16;
/// Hops on the way to a phone (RFC 3327).
pub const PATH_MAX: usize = 8;
/// How often a phone makes itself heard over a connection, and over UDP, where a NAT forgets sooner
/// (RFC 5626 §4.4.1, §4.4.2).
pub const FLOW_TIMER_S: u32 = 120;
pub const FLOW_TIMER_UDP_S: u32 = 25;
/// How long a subscription lasts at most, at least (RFC 6665 §4.2.1.1: less is answered 423), and
/// where the phone names no time (RFC 4235 §3.4).
pub const SUBSCRIBED_S_MAX: u32 = 3_600;
pub const SUBSCRIBED_S_MIN: u32 = 60;
pub const SUBSCRIBED_S_DEFAULT: u32 = 3_600;
/// Subscriptions of one shard; the next one is answered 503.
pub const SUBSCRIPTIONS_MAX: usize = 10_000;
/// Subscriptions of one agent's phones, and to one agent's dialogs; the next one is answered 486.
pub const SUBSCRIPTIONS_OF_AGENT_MAX: usize = 128;
pub const WATCHERS_MAX: usize = 64;
/// Texts between phones that wait for their answer; the next one is answered 503.
pub const MESSAGES_MAX: usize = 200;
/// The longest text (RFC 3428 §8: the request shall not be longer than 1,300 bytes); a longer one is
/// answered 413.
pub const MESSAGE_BYTES_MAX: usize = 700;
/// How long a released leg waits for its peer's last word: 64·T1 and a second.
pub const RELEASE_MS_MAX: u64 = 33_000;
/// Refused INVITEs that are remembered; beyond it the oldest is forgotten.
pub const REFUSED_MAX: usize = 10_000;
/// How long a refused INVITE is remembered: its caller takes the refusal again for so long (timer
/// D, RFC 3261 §17.1.1.2).
pub const REFUSED_MS: u64 = 64 * tandem_sip::transaction::T1_MS;
/// Keys of operators' commands that are remembered; beyond it the one that would be forgotten first
/// is.
pub const KEYS_MAX: usize = 10_000;
/// The longest that a key is remembered: a day.
pub const KEY_MS_MAX: u64 = 24 * 3_600 * 1_000;
/// The longest key.
pub const KEY_BYTES_MAX: usize = 512;
/// Transfers of one call; the next one is refused.
pub const TRANSFERS_MAX: usize = 32;
/// What is said of how long a REFER's subscription lasts, seconds: longer than anything rings.
pub const REFER_S: u64 = 300;
/// The session interval that our INVITEs ask for, seconds, where nothing else is configured.
pub const SESSION_EXPIRES_S_DEFAULT: u32 = 1_800;
/// The least that is taken (RFC 4028 §5); less is answered 422.
pub const SESSION_EXPIRES_S_MIN: u32 = 90;
/// The most that a peer's 422 can talk us into: a day.
pub const SESSION_EXPIRES_S_MAX: u32 = 86_400;
/// So long before its end a session that was not refreshed is hung up, or a third of it (RFC 4028
/// §10).
pub const SESSION_EARLY_MS_MAX: u64 = 32_000;
/// So long at least a session lasts after an election.
pub const SESSION_GRACE_MS: u64 = 10_000;
/// A refresh that was refused for the time being is tried again no sooner.
pub const REFRESH_AGAIN_MS_MIN: u64 = 2_000;
/// After a gateway's death whoever is reached over a connection has so long to open another, milliseconds, before it is asked
/// whether it knows its call. JsSIP waits 2 s before its first try; a page is loaded again in less than 10.
pub const PROBE_AFTER_MS: u64 = 10_000;
/// When all was dead, nodes and gateways, whoever talks over UDP is asked so long after its gateway is back, milliseconds: a BYE
/// that found nobody comes again within T2 (RFC 3261 §17.1.2.2), and says more than our question would.
pub const DARK_ASKED_AFTER_MS: u64 = 5_000;
/// Who is asked has so long to answer, whatever is left of its session: timer F, and some for the way.
pub const ASKED_MS_MAX: u64 = 64 * tandem_sip::transaction::T1_MS + 3_000;
/// Between two that are asked: 200 a second.
pub const PROBE_APART_MS: u64 = 5;
/// One that can't be asked is asked again after so long.
pub const PROBE_AGAIN_MS: u64 = 15_000;
/// And is given up so long after, less [`SESSION_EARLY_MS_MAX`]: 5 minutes, as a party that sends no RTP is.
pub const PROBE_S: u32 = 332;
/// How long an offer of ours waits for the answer in an ACK: the 2xx is repeated for so long.
pub const OFFER_MS_MAX: u64 = 64 * tandem_sip::transaction::T1_MS;
/// Branches of a fork that an INVITE of ours knows before it is answered; another is not heard.
pub const EARLY_DIALOGS_MAX: usize = 8;
/// The longest `Retry-After` of an offer that meets another, seconds (RFC 3261 §14.2).
pub const GLARE_RETRY_S_MAX: u64 = 10;
/// `Retry-After` of a 503, seconds.
pub const RETRY_AFTER_S: u32 = 5;
/// Peers of one trunk.
pub const PEERS_MAX: usize = 16;
/// Rules by which a trunk's numbers are rewritten, of each kind.
pub const REWRITES_MAX: usize = 64;
/// Trunks of one route.
pub const ROUTE_TRUNKS_MAX: usize = 16;
/// Peers that are tried for one call outward.
pub const HOPS_MAX: usize = 32;
/// The longest that a peer's `Retry-After` keeps calls from it, seconds.
pub const PEER_RETRY_S_MAX: u64 = 600;
/// How long a peer gets no call that was not heard of in time.
pub const PEER_SILENT_MS: u64 = 30_000;
/// What is remembered of one trunk's peers, each as each gateway finds it; beyond it they count as up.
pub const HEALTH_MAX: usize = 16 * PEERS_MAX;
/// Entries of a History-Info that are read.
pub const HISTORY_MAX: usize = 32;
/// The longest dialled number or name that is looked up.
pub const DIGITS_MAX: usize = 64;

/// Steps of one flow.
pub const FLOW_STEPS_MAX: usize = 10_000;
/// Steps that one event may lead through; beyond it the flow lets the call go.
pub const FLOW_STEPS_PER_EVENT_MAX: usize = 64;
/// Steps of a call's way through its flow that are remembered, the first ones.
pub const FLOW_PATH_MAX: usize = 32;
/// Digits that one step collects.
pub const FLOW_DIGITS_MAX: u8 = 32;
/// Times that one step asks.
pub const FLOW_TRIES_MAX: u8 = 10;
/// How long a step may wait for the first digit.
pub const FIRST_DIGIT_MS_MAX: u64 = 60_000;
/// Inter-digit supervision.
pub const INTER_DIGIT_MS_MIN: u64 = 1_000;
pub const INTER_DIGIT_MS_MAX: u64 = 10_000;
/// A prompt whose end nobody reports is taken for ended.
pub const PROMPT_MS_MAX: u64 = 600_000;
/// Digits that wait for an earlier one; beyond it that one is taken for lost.
pub const DIGITS_EARLY_MAX: usize = 16;

/// Recordings that one event of a gateway tells of; a gateway has more told by several.
pub const HOLDINGS_MAX: usize = 512;

const _: () = assert!(CONTACTS_MAX as u64 <= CONTACTS_PER_INDEX);
const _: () =
    assert!(SUBSCRIBED_S_MIN < SUBSCRIBED_S_DEFAULT && SUBSCRIBED_S_DEFAULT <= SUBSCRIBED_S_MAX);
const _: () = assert!(RELEASE_MS_MAX > tandem_sip::transaction::GIVE_UP_MS);
