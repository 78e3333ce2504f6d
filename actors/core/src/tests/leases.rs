//! What is leased to a tenant, and what it may give back.

use std::collections::BTreeSet;

use super::shard::{GATEWAY, Shard};
use crate::command::Command;
use crate::demo::demo_config;
use crate::ids::{ChannelId, GatewayId};
use crate::leases::{CHANNELS_A_BLOCK, Leases, PORTS_A_BLOCK, Pool, Use};
use crate::world::{Rejection, Reply};

fn gateway() -> GatewayId {
    GatewayId(GATEWAY.into())
}

fn ports() -> Pool {
    Pool::Ports(gateway())
}

fn channels() -> Pool {
    Pool::Channels("carrier".into())
}

fn lease(shard: &mut Shard, leased: &[(Pool, &[u16])]) -> Reply {
    let mut leases = Leases::default();
    for (pool, blocks) in leased {
        leases.put(pool.clone(), blocks.iter().copied().collect());
    }
    shard.apply(Command::Lease(leases)).0
}

fn free(shard: &Shard) -> &BTreeSet<u16> {
    &shard.leader.gateways[&gateway()].free_ports
}

/// Two blocks of two ports each.
const PORTS: [u16; 4] = [20_000, 20_002, 20_000 + PORTS_A_BLOCK, 20_002 + PORTS_A_BLOCK];
const BLOCK: u16 = PORTS[0] / PORTS_A_BLOCK;

#[test]
fn ports_outside_of_leases_are_not_used_and_a_block_in_use_is_not_given_back() {
    let mut shard = Shard::new();
    shard.log_in(PORTS.to_vec());
    assert_eq!(free(&shard).len(), 4, "nobody else is there");
    assert_eq!(lease(&mut shard, &[]), Reply::Done);
    assert_eq!(shard.invite("c1", "4003").0, None, "no port is its own");
    assert_eq!(lease(&mut shard, &[(ports(), &[BLOCK + 1])]), Reply::Done);
    let call = shard.invite("c2", "4003").0.expect("a port is its own");
    assert_eq!(shard.call(call).legs[0].media.port, PORTS[2]);
    let of = |used| Use { size: 2, used };
    assert_eq!(shard.leader.blocks()[&ports()], [(BLOCK, of(0)), (BLOCK + 1, of(1))].into());

    let in_use = Rejection::Refused(format!("port {} of {GATEWAY} is in use", PORTS[2]));
    assert_eq!(lease(&mut shard, &[(ports(), &[BLOCK])]), Reply::Rejected(in_use));
    // A new life of the gateway brings no more than is leased.
    shard.log_in(PORTS.to_vec());
    assert_eq!(*free(&shard), BTreeSet::from([PORTS[3]]));
    shard.ack(call);
    shard.bye(call, 2);
    assert_eq!(*free(&shard), BTreeSet::from([PORTS[2], PORTS[3]]));
    assert_eq!(lease(&mut shard, &[(ports(), &[BLOCK])]), Reply::Done);
    assert_eq!(*free(&shard), BTreeSet::from([PORTS[0], PORTS[1]]));
}

#[test]
fn port_that_was_in_use_before_there_were_leases_comes_back_to_nobody() {
    let mut shard = Shard::new();
    shard.log_in(PORTS.to_vec());
    let call = shard.invite("c1", "4003").0.expect("a call");
    assert_eq!(lease(&mut shard, &[(ports(), &[BLOCK + 1])]), Reply::Done);
    shard.ack(call);
    shard.bye(call, 2);
    assert_eq!(*free(&shard), BTreeSet::from([PORTS[2], PORTS[3]]));
}

#[test]
fn channels_of_a_shared_trunk_are_those_that_are_leased() {
    let mut shard = Shard::new();
    let mut config = demo_config();
    config.trunks[0].shared = true;
    config.version += 1;
    shard.apply(Command::Configure(Box::new(config)));
    assert!(shard.invite("c1", "4003").0.is_some(), "nobody else is there");
    let block = 20_000 / PORTS_A_BLOCK;
    assert_eq!(lease(&mut shard, &[(ports(), &[block])]), Reply::Done);
    assert_eq!(shard.invite("c2", "4003").0, None, "no channel is its own");
    let leased: &[(Pool, &[u16])] = &[(ports(), &[block]), (channels(), &[2])];
    assert_eq!(lease(&mut shard, leased), Reply::Done);
    let call = shard.invite("c3", "4003").0.expect("a channel is its own");
    let first = ChannelId { trunk: "carrier".into(), number: 2 * CHANNELS_A_BLOCK + 1 };
    assert_eq!(shard.call(call).channel, Some(first.clone()));
    let in_use = Rejection::Refused(format!("channel {first} is in use"));
    let leased: &[(Pool, &[u16])] = &[(ports(), &[block]), (channels(), &[1])];
    assert_eq!(lease(&mut shard, leased), Reply::Rejected(in_use));
    assert_eq!(shard.leader.blocks()[&channels()][&2], Use { size: CHANNELS_A_BLOCK, used: 1 });
}
