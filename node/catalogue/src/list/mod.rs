//! The metrics by area.

mod consensus;
mod domain;
mod media;
mod process;
mod recordings;
mod sip;
mod storage;

use crate::metric::Metric;

pub struct Area {
    pub title: &'static str,
    pub metrics: &'static [Metric],
}

pub const AREAS: &[Area] = &[
    Area { title: "Calls and their actors", metrics: domain::METRICS },
    Area { title: "SIP, trunks and service addresses", metrics: sip::METRICS },
    Area { title: "Audio", metrics: media::METRICS },
    Area { title: "Recordings", metrics: recordings::METRICS },
    Area { title: "Consensus", metrics: consensus::METRICS },
    Area { title: "Log and state on disk", metrics: storage::METRICS },
    Area { title: "The process and its certificates", metrics: process::METRICS },
];
