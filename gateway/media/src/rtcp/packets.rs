//! RTCP as bytes (RFC 3550 §6.4–6.6). Written without allocation; read by `rtcp-types`.

use rtcp_types::{Compound, Packet, ReportBlock};

pub const CNAME_BYTES: usize = 24;
/// A sender report with one block, a description, and a goodbye.
pub const REPORT_BYTES_MAX: usize = 52 + SDES_BYTES + BYE_BYTES;
/// Header, source, item header, name, and two zeros that end the chunk on a word.
const SDES_BYTES: usize = 4 + 4 + 2 + CNAME_BYTES + 2;
const BYE_BYTES: usize = 8;
const _: () = assert!(SDES_BYTES.is_multiple_of(4));

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;
const CNAME: u8 = 1;
/// Seconds from 1900 to 1970.
const NTP_EPOCH_S: u64 = 2_208_988_800;
const NS_PER_S: u64 = 1_000_000_000;

/// 32 bits of seconds since 1900 and 32 of their fraction. Wraps in 2036, as all of NTP does.
pub fn ntp(unix_ns: u64) -> u64 {
    let seconds = unix_ns / NS_PER_S + NTP_EPOCH_S;
    let fraction = ((unix_ns % NS_PER_S) << 32) / NS_PER_S;
    (seconds << 32) | fraction
}

/// The middle of an NTP time: 1/65536 s.
pub fn middle(ntp: u64) -> u32 {
    (ntp >> 16) as u32
}

/// One source as its receiver sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Block {
    pub ssrc: u32,
    pub fraction_lost: u8,
    /// 24 bits with a sign.
    pub cumulative_lost: i32,
    pub highest_sequence: u32,
    pub jitter: u32,
    pub last_sr: u32,
    pub delay_since_last_sr: u32,
}

/// What a sender says of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    pub ntp: u64,
    pub rtp_timestamp: u32,
    pub packets: u32,
    pub octets: u32,
}

/// A compound of ours.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    pub ssrc: u32,
    /// None where nothing was sent of late.
    pub sender: Option<Sender>,
    pub block: Option<Block>,
    pub cname: &'a [u8; CNAME_BYTES],
    pub bye: bool,
}

impl Report<'_> {
    /// Writes it; how many bytes it has.
    pub fn write(&self, out: &mut [u8; REPORT_BYTES_MAX]) -> usize {
        let mut to = Cursor { out, at: 0 };
        let blocks = u8::from(self.block.is_some());
        let block_words = if self.block.is_some() { 6 } else { 0 };
        match self.sender {
            Some(sender) => {
                to.header(blocks, SENDER_REPORT, 6 + block_words);
                to.put(&self.ssrc.to_be_bytes());
                to.put(&sender.ntp.to_be_bytes());
                to.put(&sender.rtp_timestamp.to_be_bytes());
                to.put(&sender.packets.to_be_bytes());
                to.put(&sender.octets.to_be_bytes());
            }
            None => {
                to.header(blocks, RECEIVER_REPORT, 1 + block_words);
                to.put(&self.ssrc.to_be_bytes());
            }
        }
        if let Some(block) = self.block {
            to.put(&block.ssrc.to_be_bytes());
            to.put(&[block.fraction_lost]);
            to.put(&block.cumulative_lost.to_be_bytes()[1..]);
            to.put(&block.highest_sequence.to_be_bytes());
            to.put(&block.jitter.to_be_bytes());
            to.put(&block.last_sr.to_be_bytes());
            to.put(&block.delay_since_last_sr.to_be_bytes());
        }
        to.header(1, SOURCE_DESCRIPTION, (SDES_BYTES / 4 - 1) as u16);
        to.put(&self.ssrc.to_be_bytes());
        to.put(&[CNAME, CNAME_BYTES as u8]);
        to.put(self.cname);
        to.put(&[0, 0]);
        if self.bye {
            to.header(1, GOODBYE, 1);
            to.put(&self.ssrc.to_be_bytes());
        }
        to.at
    }
}

struct Cursor<'a> {
    out: &'a mut [u8; REPORT_BYTES_MAX],
    at: usize,
}

impl Cursor<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    fn header(&mut self, count: u8, kind: u8, words_behind: u16) {
        self.put(&[0x80 | count, kind]);
        self.put(&words_behind.to_be_bytes());
    }
}

/// What a peer's compound says that we use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    Sender { ssrc: u32, ntp: u64 },
    Block(Block),
    Goodbye,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Whether a datagram on an RTP port is RTCP all the same (RFC 5761 §4).
pub fn is_rtcp(datagram: &[u8]) -> bool {
    matches!(datagram, [first, kind, ..] if first >> 6 == 2 && (192..=223).contains(kind))
}

/// Tells what a datagram says, in order. What stands behind a packet that can't be read is not
/// looked at.
pub fn read(datagram: &[u8], mut tell: impl FnMut(Said)) -> Result<(), Malformed> {
    // A compound begins with a report that isn't padded (RFC 3550 §A.2).
    let begins = matches!(datagram, [first, SENDER_REPORT | RECEIVER_REPORT, ..]
        if first & 0xe0 == 0x80);
    if !begins {
        return Err(Malformed);
    }
    for packet in Compound::parse(datagram).map_err(|_| Malformed)? {
        match packet.map_err(|_| Malformed)? {
            Packet::Sr(report) => {
                tell(Said::Sender { ssrc: report.ssrc(), ntp: report.ntp_timestamp() });
                report.report_blocks().for_each(|block| tell(Said::Block(block_of(&block))));
            }
            Packet::Rr(report) => {
                report.report_blocks().for_each(|block| tell(Said::Block(block_of(&block))));
            }
            Packet::Bye(_) => tell(Said::Goodbye),
            Packet::App(_)
            | Packet::Sdes(_)
            | Packet::TransportFeedback(_)
            | Packet::PayloadFeedback(_)
            | Packet::Xr(_)
            | Packet::Unknown(_) => {}
        }
    }
    Ok(())
}

fn block_of(block: &ReportBlock<'_>) -> Block {
    // The sign of 24 bits.
    let lost = ((block.cumulative_lost() << 8) as i32) >> 8;
    Block {
        ssrc: block.ssrc(),
        fraction_lost: block.fraction_lost(),
        cumulative_lost: lost,
        highest_sequence: block.extended_sequence_number(),
        jitter: block.interarrival_jitter(),
        last_sr: block.last_sender_report_timestamp(),
        delay_since_last_sr: block.delay_since_last_sender_report_timestamp(),
    }
}
