//! A call centre in the simulator, held against the formulas of the field.

mod agreement;
mod centre;
mod erlang;
mod scenario;
