//! Every bound of the media plane has its name here.

/// What generated audio is cut into; received audio may have any packet time.
pub const PTIME_MS: u32 = 20;
/// What is made, recorded and listened to here is audio of 8 kHz, whatever clock its codec has in RTP.
pub const SAMPLES_PER_MS: u32 = 8;
pub const SAMPLES_PER_PACKET: u32 = PTIME_MS * SAMPLES_PER_MS;

/// Largest datagram that is looked at: an Ethernet frame's worth. A longer one is dropped.
pub const DATAGRAM_BYTES_MAX: usize = 1500;

/// Samples of one packet that are looked at: as many as the longest has bytes.
pub const PACKET_SAMPLES_MAX: usize = DATAGRAM_BYTES_MAX;

/// The longest Opus packet: 120 ms (RFC 6716 §3.2.5), and the most bytes of one frame with its first.
pub const OPUS_SAMPLES_MAX: usize = 120 * SAMPLES_PER_MS as usize;
pub const OPUS_BYTES_MAX: usize = 1276;

/// Keys that one packet can tell: each needs more than 50 ms of audio.
pub const PRESSES_MAX: usize = 4;

/// Legs of one plan: a conference of thirty, and two that come or go.
pub const LEGS_PER_PLAN_MAX: usize = 32;

/// Pairs of ports of one engine.
pub const PAIRS_MAX: usize = 4096;

/// Released calls whose last version is remembered, so that a late older plan revives nothing.
pub const RELEASED_REMEMBERED_MAX: usize = 8192;

/// Commands that wait for one worker.
pub const COMMANDS_MAX: usize = 4096;

/// Events that wait for the engine's owner.
pub const EVENTS_MAX: usize = 4096;

/// Datagrams thrown away when a socket is taken into service: more than its buffer holds.
pub const STALE_DATAGRAMS_MAX: usize = 512;

/// Generated packets sent in a row after the worker was held up. More would only be noise.
pub const CATCH_UP_PACKETS_MAX: u64 = 3;

/// Kernel buffer of an RTP socket; the kernel doubles it. About one second of one stream.
pub const RTP_RECEIVE_BYTES: usize = 64 * 1024;
pub const RTCP_RECEIVE_BYTES: usize = 4 * 1024;

/// RFC 3550 appendix A.1: a jump ahead of more than this starts a new sequence.
pub const SEQUENCE_DROPOUT_MAX: u16 = 3000;
/// Packets this far behind the newest may still be told apart from duplicates.
pub const SEQUENCE_MISORDER_MAX: u16 = 64;

/// How long a packet is waited for that others have overtaken, where a leg's audio ends here: at
/// first, and between these as late ones come. One that came late is expected to come so much later.
pub const REORDER_WAIT_MS_FIRST: u64 = 60;
pub const REORDER_WAIT_MS_MIN: u64 = 20;
pub const REORDER_WAIT_MS_MAX: u64 = 200;
pub const REORDER_GIVE_MS: u64 = 20;
/// Packets of one leg that wait: as many as 200 ms have at 10 ms each, with some to spare.
pub const REORDER_PACKETS_MAX: usize = 24;

/// What a mix holds in hand of each party: so much when it begins to speak, so much at most, and a
/// second through never more than this, or 20 ms of it are left out.
pub const PLAYOUT_AHEAD_MS: u32 = 40;
pub const PLAYOUT_DEPTH_MS_MAX: usize = 256;
pub const PLAYOUT_SPARE_MS: i32 = 60;
pub const PLAYOUT_TURNS: u32 = 1000 / PTIME_MS;

/// Comfort noise of one packet: half a minute, after which its peer is told of as silent.
pub const COMFORT_NOISE_PACKETS_MAX: u32 = 30_000 / PTIME_MS;

/// Keys that are dialled in tones for a peer without telephone-event, and wait for it: each sounds so
/// long at least and at most, with a pause behind it (ITU-T Q.24 finds tones and pauses of 40 ms).
pub const DIAL_KEYS_MAX: usize = 16;
pub const DIAL_TONE_MS_MIN: u32 = 80;
pub const DIAL_TONE_MS_MAX: u32 = 4000;
pub const DIAL_PAUSE_MS: u32 = 60;

/// Sources that one received packet is sent on to.
pub const LISTENERS_MAX: usize = LEGS_PER_PLAN_MAX;

/// A telephone-event without its end packet is reported after this silence.
pub const DTMF_END_MS_MAX: u64 = 200;

/// Audio pieces between workers and the recorder: 3 s of 50 conversations.
pub const RECORDER_PIECES_MAX: usize = 16 * 1024;
/// Begin and end messages between workers and the recorder.
pub const RECORDER_CONTROLS_MAX: usize = 4096;
/// Samples of one piece; a packet of more is cut.
pub const PIECE_SAMPLES_MAX: usize = 160;
pub const CHUNK_MS: u64 = 1000;
pub const CHUNK_FRAMES: usize = CHUNK_MS as usize * SAMPLES_PER_MS as usize;
/// How long a chunk waits for packets that are late.
pub const RECORDER_LATE_MS_MAX: u64 = 300;
/// An RTP clock this far from arrival time is anchored anew.
pub const RECORDER_SKEW_MS_MAX: u64 = 200;
/// Frames of one recording in memory.
pub const RECORDER_WINDOW_FRAMES: usize = 3 * CHUNK_FRAMES;
/// Chunks that wait for the disk: 10 s of 50 recordings, 16 MB. Beyond it they become gaps.
pub const WRITER_CHUNKS_MAX: usize = 512;
/// Gaps that one recording's report lists; later ones are merged into the last.
pub const GAPS_MAX: usize = 1024;
/// A resumed recording is filled with at most this much silence.
pub const RESUME_GAP_MS_MAX: u64 = 24 * 3600 * 1000;

/// Recordings that the other box has not all of and that are kept in mind: those of two days in which
/// it was away. Beyond it they are found again in the folder once there is room.
pub const RECORDINGS_BEHIND_MAX: usize = 100_000;
/// Copies of other gateways' recordings that are written at once; another waits.
pub const COPIES_OPEN_MAX: usize = 4096;
/// Ends of a copy's last lines that are told with it, so that whoever went on without them finds where: two
/// minutes, of which two seconds are the rule. Beyond it the copy begins anew.
pub const COPY_MARKS_MAX: usize = 128;
/// A manifest's line is shorter.
pub const LINE_BYTES_MAX: usize = 1024;
/// How often it is told how far running recordings are, so that what is replicated of one is never
/// older. Each of 50 conversations told by itself and by the second, the log would have 50 entries
/// a second, as many as 25 calls a second make; so it is one in ten seconds for all of them.
pub const HOLDINGS_EVERY_MS: u64 = 10_000;
/// How soon it is told that recordings go on in this process: all that are taken over together in one event.
pub const TAKEN_OVER_TOLD_MS: u64 = 1_000;
/// Of so many in one event.
pub const HOLDINGS_MAX: usize = 512;

/// Lists of music beside the one without a name.
pub const MUSIC_LISTS_MAX: usize = 64;
/// Files of a list.
pub const MUSIC_FILES_MAX: usize = 256;
/// Of a list: half an hour.
pub const MUSIC_LIST_SAMPLES_MAX: usize = 1800 * 8000;
/// Of all lists together: an hour, which is 115 MB.
pub const MUSIC_SAMPLES_MAX: usize = 3600 * 8000;

/// A prompt is ten minutes long at most.
pub const PROMPT_SAMPLES_MAX: usize = 600 * 8000;
/// Prompts of one engine, and what they last together: two hours, 115 MB in both laws.
pub const PROMPTS_MAX: usize = 1024;
pub const PROMPTS_SAMPLES_MAX: usize = 2 * 3600 * 8000;

const _: () = assert!(REORDER_WAIT_MS_MIN <= REORDER_WAIT_MS_FIRST);
const _: () = assert!(REORDER_WAIT_MS_FIRST <= REORDER_WAIT_MS_MAX);
// What waited is not too late for a recording.
const _: () = assert!(REORDER_WAIT_MS_MAX < RECORDER_LATE_MS_MAX);
const _: () = assert!(CATCH_UP_PACKETS_MAX >= 1);
const _: () = assert!(RECORDER_WINDOW_FRAMES > 2 * CHUNK_FRAMES);
const _: () = assert!(RECORDER_LATE_MS_MAX > RECORDER_SKEW_MS_MAX);

/// What SRTP and SRTCP may add to a packet (`SRTP_MAX_SRTCP_TRAILER_LEN` of libsrtp).
pub const SRTP_TRAILER_BYTES_MAX: usize = 16 + 128 + 4;

/// SSRCs of one peer that SRTP remembers: of its RTP and RTCP, now and before.
pub const SRTP_SOURCES_MAX: usize = 4;
