//! The messages as a capture of raw IP. The packets are made anew around what was said: what was
//! masked stays masked, and streams begin at the first message that is known.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use etherparse::{IpHeaders, PacketBuilder, PacketBuilderStep};
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::{DataLink, Endianness};

use super::ladder::{Direction, Item, Trace};

const HOPS: u8 = 64;
/// A stream is cut so that each packet fits an Ethernet frame.
const SEGMENT_BYTES: usize = 1_400;
const WINDOW: u16 = 65_535;

pub fn capture(trace: &Trace) -> Result<Vec<u8>> {
    let header = PcapHeader {
        datalink: DataLink::RAW,
        endianness: Endianness::Little,
        ..PcapHeader::default()
    };
    let mut writer = PcapWriter::with_header(Vec::new(), header)?;
    let mut streams: BTreeMap<(SocketAddr, SocketAddr), u32> = BTreeMap::new();
    for item in &trace.items {
        let Some(text) = &item.text else { continue };
        let (from, to) = ends(item)?;
        let at = Duration::from_micros(item.at_us);
        if item.transport.as_deref() == Some("UDP") {
            let packet = packet(ip(from, to)?.udp(from.port(), to.port()), text.as_bytes())?;
            put(&mut writer, at, &packet)?;
            continue;
        }
        for part in text.as_bytes().chunks(SEGMENT_BYTES) {
            let acknowledged = streams.get(&(to, from)).copied().unwrap_or(1);
            let next = streams.entry((from, to)).or_insert(1);
            let segment =
                ip(from, to)?.tcp(from.port(), to.port(), *next, WINDOW).psh().ack(acknowledged);
            let mut bytes = Vec::with_capacity(segment.size(part.len()));
            segment.write(&mut bytes, part)?;
            *next = next.wrapping_add(u32::try_from(part.len())?);
            put(&mut writer, at, &bytes)?;
        }
    }
    Ok(writer.into_writer())
}

fn ends(item: &Item) -> Result<(SocketAddr, SocketAddr)> {
    let address = |text: &Option<String>| {
        let text = text.as_deref().unwrap_or_default();
        text.parse::<SocketAddr>().with_context(|| format!("{text:?} is no address"))
    };
    let (local, peer) = (address(&item.local)?, address(&item.peer)?);
    match item.direction {
        Some(Direction::Received) => Ok((peer, local)),
        Some(Direction::Sent) => Ok((local, peer)),
        None => bail!("a message without a direction"),
    }
}

fn ip(from: SocketAddr, to: SocketAddr) -> Result<PacketBuilderStep<IpHeaders>> {
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            Ok(PacketBuilder::ipv4(from.octets(), to.octets(), HOPS))
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            Ok(PacketBuilder::ipv6(from.octets(), to.octets(), HOPS))
        }
        _ => bail!("{from} and {to} are of different families"),
    }
}

fn packet(udp: PacketBuilderStep<etherparse::UdpHeader>, payload: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(udp.size(payload.len()));
    udp.write(&mut bytes, payload)?;
    Ok(bytes)
}

fn put(writer: &mut PcapWriter<Vec<u8>>, at: Duration, packet: &[u8]) -> Result<()> {
    let length = u32::try_from(packet.len())?;
    writer.write_packet(&PcapPacket::new(at, length, packet))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use etherparse::{SlicedPacket, TransportSlice};
    use pcap_file::pcap::PcapReader;

    use super::*;

    #[test]
    fn capture_holds_each_message_between_its_ends() {
        let mut trace = super::super::ladder::example();
        trace.items[4].transport = Some("TCP".into());
        trace.items[4].text = Some("y".repeat(2_000));
        let bytes = capture(&trace).unwrap();
        let mut reader = PcapReader::new(&bytes[..]).unwrap();
        let mut seen = Vec::new();
        while let Some(packet) = reader.next_packet() {
            let packet = packet.unwrap();
            let sliced = SlicedPacket::from_ip(&packet.data).unwrap();
            let (kind, from, payload) = match sliced.transport.unwrap() {
                TransportSlice::Udp(udp) => ("udp", udp.source_port(), udp.payload().to_vec()),
                TransportSlice::Tcp(tcp) => ("tcp", tcp.source_port(), tcp.payload().to_vec()),
                other => panic!("{other:?}"),
            };
            seen.push((packet.timestamp.as_millis(), kind, from, payload.len()));
        }
        let texts: Vec<usize> =
            trace.items.iter().filter_map(|i| Some(i.text.as_ref()?.len())).collect();
        assert_eq!(
            seen,
            [
                (1, "udp", 5060, texts[0]),
                (3, "udp", 5060, texts[1]),
                (5, "udp", 5060, texts[2]),
                (9, "tcp", 40_001, 1_400),
                (9, "tcp", 40_001, 600),
            ]
        );
    }
}
