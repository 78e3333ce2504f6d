//! What is written is read again as the same value, for values of every shape; and bytes of any
//! shape are read or refused, never more.

use proptest::collection::vec;
use proptest::prelude::*;

use super::generators::{config, effect, envelope, event, gateway_id, quality};
use super::kinds::{self, kinds};
use super::row_generators::{
    agent, call, cdr, channel, counts, gateway, manifest, queue, subscription, trunk,
};
use crate::cdr::LegQuality;
use crate::gateway::Gateway;
use crate::{proto, rows, wire};

fn value(row: rows::RowChange) -> Vec<u8> {
    row.value.expect("a value")
}

/// What prost makes of the bytes: the same.
fn by_prost<M: prost::Message + Default>(bytes: &[u8]) -> Vec<u8> {
    M::decode(bytes).expect("own encoding").encode_to_vec()
}

proptest! {
    #[test]
    fn encoding_is_what_prost_writes(
        envelope in envelope(),
        effect in effect(),
        config in config(),
        call in call(),
        agent in agent(),
        cdr in cdr(),
    ) {
        let bytes = wire::encode_envelope(&envelope);
        prop_assert_eq!(by_prost::<proto::Envelope>(&bytes), bytes);
        let bytes = wire::encode_effect(&effect);
        prop_assert_eq!(by_prost::<proto::Effect>(&bytes), bytes);
        let bytes = wire::encode_config(&config);
        prop_assert_eq!(by_prost::<proto::Config>(&bytes), bytes);
        let bytes = value(rows::call(call.id, Some(&call)));
        prop_assert_eq!(by_prost::<proto::Call>(&bytes), bytes);
        let bytes = value(rows::agent(&agent.id, Some(&agent)));
        prop_assert_eq!(by_prost::<proto::Agent>(&bytes), bytes);
        let bytes = value(rows::cdr(&cdr));
        prop_assert_eq!(by_prost::<proto::Cdr>(&bytes), bytes);
    }

    #[test]
    fn envelope_is_read_as_it_was_written(value in envelope()) {
        prop_assert_eq!(wire::decode_envelope(&wire::encode_envelope(&value)), Ok(value));
    }

    #[test]
    fn event_is_read_as_it_was_written(value in event()) {
        prop_assert_eq!(wire::decode_event(&wire::encode_event(&value)), Ok(value));
    }

    #[test]
    fn effect_is_read_as_it_was_written(value in effect()) {
        prop_assert_eq!(wire::decode_effect(&wire::encode_effect(&value)), Ok(value));
    }

    #[test]
    fn config_is_read_as_it_was_written(value in config()) {
        prop_assert_eq!(wire::decode_config(&wire::encode_config(&value)), Ok(value));
    }

    #[test]
    fn rows_are_read_as_they_were_written(
        call in call(),
        agent in agent(),
        queue in queue(),
        channel in channel(),
        trunk in trunk(),
        subscription in subscription(),
        gateway in gateway(),
        counts in counts(),
    ) {
        let legs: Vec<_> = call.legs.iter().collect();
        let row = rows::call(call.id, Some(&call));
        prop_assert_eq!(kinds::read_call_of(&value(row), &legs), Ok(call));
        let row = rows::agent(&agent.id, Some(&agent));
        prop_assert_eq!(kinds::read_agent(&value(row)), Ok(agent));
        let row = rows::queue(&queue.id, Some(&queue));
        prop_assert_eq!(kinds::read_queue(&value(row)), Ok(queue));
        let row = rows::channel(&channel.id, Some(&channel));
        prop_assert_eq!(kinds::read_channel(&value(row)), Ok(channel));
        let row = rows::trunk(&trunk.id, Some(&trunk));
        prop_assert_eq!(kinds::read_trunk(&value(row)), Ok(trunk));
        let row = rows::subscription(subscription.id, Some(&subscription));
        prop_assert_eq!(kinds::read_subscription(&value(row)), Ok(subscription));
        prop_assert_eq!(kinds::read_gateway(&value(rows::gateway(&gateway))), Ok(gateway.clone()));
        let counted = Gateway { counts, ..gateway };
        let read = kinds::read_counts(&value(rows::counts(&counted)));
        prop_assert_eq!(read, Ok((counted.id, counted.counts)));
    }

    #[test]
    fn history_is_read_as_it_was_written(
        cdr in cdr(),
        manifest in manifest(),
        gateway in gateway_id(),
        quality in quality(),
        incarnation: u64,
    ) {
        prop_assert_eq!(rows::decode_cdr(&value(rows::cdr(&cdr))), Ok(cdr));
        prop_assert_eq!(rows::decode_manifest(&value(rows::manifest(&manifest))), Ok(manifest));
        let quality = LegQuality { gateway, incarnation, quality };
        prop_assert_eq!(rows::decode_quality(&value(rows::quality(&quality))), Ok(quality));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        for kind in kinds() {
            let _ = kind.read(&bytes);
        }
    }

    /// Damage within an encoding gets further than noise does.
    #[test]
    fn damaged_encoding_is_read_or_refused(
        at in any::<prop::sample::Index>(),
        cut in 0..12_usize,
        with in vec(any::<u8>(), 0..6),
    ) {
        for kind in kinds() {
            for stored in kind.stored() {
                let mut bytes = stored.bytes;
                let at = at.index(bytes.len() + 1);
                let end = (at + cut).min(bytes.len());
                bytes.splice(at..end, with.iter().copied());
                let _ = kind.read(&bytes);
            }
        }
    }
}
