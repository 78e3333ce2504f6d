//! Logs and metrics of every process.

pub mod logs;
pub mod metrics;
