//! Erlang B and C: loads that are lost, and loads that wait.
//!
//! `load` is in erlangs: arrivals a second times the mean holding time in seconds.

/// The share of calls that find all `servers` busy and are lost (M/M/N/N).
///
/// `B(0) = 1; B(k) = A·B(k−1) / (k + A·B(k−1))`: every step adds and multiplies positive numbers
/// of at most A, so nothing cancels and nothing overflows, as factorials would. Cooper,
/// *Introduction to Queueing Theory*, 2nd ed. 1981, §3.3; the loss formula is Erlang's of 1917.
pub fn erlang_b(servers: u32, load: f64) -> f64 {
    (1..=servers).fold(1.0, |blocked, k| next_blocked(blocked, k, load))
}

/// B(k) from B(k−1).
fn next_blocked(blocked: f64, k: u32, load: f64) -> f64 {
    let carried = load * blocked;
    carried / (f64::from(k) + carried)
}

/// The fewest trunks that lose no more than the share `blocked_max`.
pub fn least_trunks(load: f64, blocked_max: f64) -> u32 {
    let mut blocked = 1.0;
    (1_u32..)
        .find(|k| {
            blocked = next_blocked(blocked, *k, load);
            blocked <= blocked_max
        })
        .unwrap_or(u32::MAX)
}

/// M/M/N: everybody waits until served. Erlang's delay formula of 1917; Cooper §3.4.
#[derive(Clone, Debug, PartialEq)]
pub struct ErlangC {
    agents: f64,
    load: f64,
    holding_s: f64,
    waits: f64,
}

impl ErlangC {
    /// None where the load is no less than the agents: the queue would grow for ever.
    ///
    /// `C(N,A) = N·B / (N − A·(1 − B))` with B of [`erlang_b`].
    pub fn new(agents: u32, load: f64, holding_s: f64) -> Option<Self> {
        Self::of_blocked(agents, load, holding_s, erlang_b(agents, load))
    }

    fn of_blocked(agents: u32, load: f64, holding_s: f64, blocked: f64) -> Option<Self> {
        let agents = f64::from(agents);
        (load < agents).then(|| Self {
            agents,
            load,
            holding_s,
            waits: agents * blocked / (agents - load * (1.0 - blocked)),
        })
    }

    /// The share of callers who wait at all.
    pub fn probability_of_waiting(&self) -> f64 {
        self.waits
    }

    /// The share answered within `threshold_s`: `1 − C·e^(−(N−A)·T/AHT)`.
    pub fn service_level(&self, threshold_s: f64) -> f64 {
        let exponent = -(self.agents - self.load) * threshold_s / self.holding_s;
        1.0 - self.waits * exponent.exp()
    }

    /// Average speed of answer, of all callers: `C·AHT/(N−A)`.
    pub fn asa_s(&self) -> f64 {
        self.waits * self.holding_s / (self.agents - self.load)
    }

    /// `A/N`.
    pub fn occupancy(&self) -> f64 {
        self.load / self.agents
    }
}

/// The fewest agents that answer the share `target` within `threshold_s` (Erlang C).
pub fn least_agents(load: f64, holding_s: f64, threshold_s: f64, target: f64) -> u32 {
    let mut blocked = 1.0;
    (1_u32..)
        .find(|agents| {
            blocked = next_blocked(blocked, *agents, load);
            ErlangC::of_blocked(*agents, load, holding_s, blocked)
                .is_some_and(|model| model.service_level(threshold_s) >= target)
        })
        .unwrap_or(u32::MAX)
}
