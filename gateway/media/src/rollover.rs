//! How often the sequence numbers of SRTP have gone round. RTP carries sixteen bits of a packet's index; the rest, the
//! roll-over counter, both sides count for themselves (RFC 3711 §3.3.1), and a gateway that goes on with a leg has to know it.
//! It is told by quarters of a round: half a round is what a receiver can tell apart.

/// Packets.
const QUARTER: u64 = 1 << 14;
/// Behind the quarter that was told last lies what was sent while that was on its way.
const BEHIND: u64 = 1 << 10;
/// Where in it a stream begins, so that it is no constant.
const SPREAD: u64 = 1 << 12;

const _: () =
    assert!(QUARTER + BEHIND + SPREAD < 1 << 15, "a receiver must not take it for the past");

/// In quarters of a round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rollover {
    pub sent: u32,
    pub received: u32,
}

/// The index of a packet: the one with this sequence number that is nearest to the highest that is known.
pub fn nearest(highest: u64, sequence: u16) -> u64 {
    let step = sequence.wrapping_sub(highest as u16) as i16;
    highest.checked_add_signed(i64::from(step)).unwrap_or_else(|| u64::from(sequence))
}

/// The quarter of an index.
pub fn quarter(index: u64) -> u32 {
    u32::try_from(index / QUARTER).unwrap_or(u32::MAX)
}

/// The roll-over counter of an index.
pub fn counter(index: u64) -> u32 {
    u32::try_from(index >> 16).unwrap_or(u32::MAX)
}

/// Where a stream of ours begins, ahead of whatever was sent in the quarters before this one.
pub fn beginning(quarter: u32, chance: u32) -> u64 {
    let behind = if quarter == 0 { 0 } else { BEHIND };
    u64::from(quarter) * QUARTER + behind + u64::from(chance) % SPREAD
}

/// What the counter may be of a peer's packet, the likeliest first, where so many quarters were told.
pub fn candidates(quarter: u32, sequence: u16, most: u32) -> impl Iterator<Item = u32> {
    let told = u64::from(quarter) * QUARTER + QUARTER / 2;
    let likely = counter(nearest(told, sequence));
    // It may have begun anew with another SSRC, or nothing was told for long.
    std::iter::once(likely).chain((0..=likely.saturating_add(2)).take(most as usize))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn index_of_a_packet_is_found_within_half_a_round(highest in 32_768_u64..1 << 40, step in -32_768_i64..32_768) {
            let index = highest.checked_add_signed(step).unwrap();
            prop_assert_eq!(nearest(highest, index as u16), index);
        }

        /// Whoever goes on begins behind what was sent, and a receiver tells it from the past.
        #[test]
        fn stream_that_goes_on_begins_ahead_and_within_half_a_round(
            sent in 0_u64..1 << 40, unheard in 0_u64..BEHIND, chance in any::<u32>()
        ) {
            // What was told last, and then some more packets; the core counts one quarter on for the new life.
            let next = beginning(quarter(sent) + 1, chance);
            let highest = sent + unheard.min(QUARTER - 1 - sent % QUARTER + BEHIND - 1);
            prop_assert!(next > highest);
            prop_assert!(next - sent < 1 << 15);
            prop_assert_eq!(nearest(highest, next as u16), next);
        }

        #[test]
        fn counter_of_a_peer_is_the_first_guess(received in 0_u64..1 << 40, unheard in 0_u64..QUARTER) {
            let now = received + unheard;
            let first = candidates(quarter(received), now as u16, 4).next();
            prop_assert_eq!(first, Some(counter(now)));
        }
    }
}
