//! Black-box tests: processes, sockets and disks as in production, and phones, carriers and namespaces around
//! them. One binary, for each would be linked for itself; one file after another is `processes NAME::`, as in
//! `cargo test --release --locked --workspace --test processes power::`.

mod actors;
mod alarm_codes;
mod calls;
mod carriers;
mod codecs;
mod consistency;
mod consult;
mod cut_off;
mod differs;
mod disks;
mod drain;
mod early_media;
mod flows;
mod forbidden_edges;
mod gateway_states;
mod gateway_streams;
mod gateways;
mod ipv6;
mod ivr;
mod members;
mod messages;
mod metrics;
mod mtu;
mod music;
mod operate;
mod outward;
mod pickup;
mod power;
mod recordings;
mod reliable;
mod rotation;
mod several;
mod shards;
mod sipp_matrix;
mod srtp;
mod takeover;
mod tenants;
mod tls;
mod tones;
mod trace;
mod transfers;
mod watchers;
mod within_dialogs;
