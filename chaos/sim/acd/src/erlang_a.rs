//! Erlang A (M/M/N+M): callers give up after an exponential patience.
//!
//! With λ arrivals a second, µ = 1/holding, θ = 1/patience:
//! `p_k ∝ Π_{i≤k} λ / (min(i,N)·µ + (i−N)⁺·θ)`. Palm 1957; Garnett, Mandelbaum, Reiman, *Designing
//! a Call Center with Impatient Customers*, M&SOM 4(3) 2002; Mandelbaum, Zeltyn, *Service
//! Engineering in Action: The Palm/Erlang-A Queue*, 2007.

use crate::erlang::erlang_b;

/// A term this much smaller than the sum adds nothing to a double.
const NEGLIGIBLE: f64 = 1e-18;
/// Sums are scaled down beyond this, long before a double overflows.
const LARGE: f64 = 1e200;
/// Of Simpson's rule; even.
const STEPS: u32 = 20_000;
/// The integrand is left where it is e^−45 of its peak.
const TAIL: f64 = 45.0;

#[derive(Clone, Debug, PartialEq)]
pub struct ErlangA {
    /// λ.
    arrival_rate: f64,
    /// N·µ: how fast callers are served while all agents are busy.
    service_rate: f64,
    /// θ.
    abandon_rate: f64,
    waits: f64,
    mean_queue: f64,
    /// ln p_N.
    ln_all_busy: f64,
}

impl ErlangA {
    /// The states up to N add up to `p_N / B(N,A)`, for they are those of the loss system; so with
    /// `t_j = Π_{i≤j} λ/(N·µ + i·θ)`, `T = Σ t_j` and `S = Σ j·t_j` over j ≥ 1
    ///
    /// ```text
    /// p_N = 1/(1/B + T)    P(wait) = p_N·(1 + T)    E[Lq] = p_N·S
    /// ```
    pub fn new(agents: u32, arrivals_per_s: f64, holding_s: f64, patience_s: f64) -> Self {
        let service_rate = f64::from(agents) / holding_s;
        let abandon_rate = 1.0 / patience_s;
        let inverse_b = erlang_b(agents, arrivals_per_s * holding_s).recip();
        // `one` stands for t_0: under overload the terms grow beyond a double, and all are scaled.
        let (mut one, mut term, mut sum, mut weighted, mut ln_scale) = (1.0, 1.0, 0.0, 0.0, 0.0);
        let mut waiting = 0.0;
        loop {
            waiting += 1.0;
            let ratio = arrivals_per_s / (service_rate + waiting * abandon_rate);
            term *= ratio;
            sum += term;
            weighted += waiting * term;
            if ratio < 1.0 && waiting * term <= NEGLIGIBLE * weighted {
                break;
            }
            if weighted > LARGE {
                (one, term, sum, weighted) =
                    (one / LARGE, term / LARGE, sum / LARGE, weighted / LARGE);
                ln_scale += LARGE.ln();
            }
        }
        let all = one * inverse_b + sum;
        Self {
            arrival_rate: arrivals_per_s,
            service_rate,
            abandon_rate,
            waits: (one + sum) / all,
            mean_queue: weighted / all,
            ln_all_busy: -(all.ln() + ln_scale),
        }
    }

    pub fn probability_of_waiting(&self) -> f64 {
        self.waits
    }

    /// `P(ab) = θ·E[Lq]/λ`.
    pub fn probability_of_abandoning(&self) -> f64 {
        self.abandon_rate * self.mean_queue / self.arrival_rate
    }

    pub fn mean_queue(&self) -> f64 {
        self.mean_queue
    }

    /// Of all callers, those who gave up included: `E[Lq]/λ` (Little).
    pub fn mean_wait_s(&self) -> f64 {
        self.mean_queue / self.arrival_rate
    }

    /// `λ·(1 − P(ab))/(N·µ)`.
    pub fn occupancy(&self) -> f64 {
        self.arrival_rate * (1.0 - self.probability_of_abandoning()) / self.service_rate
    }

    /// The share of all callers that is answered within `threshold_s`:
    /// `1 − P(wait) + ∫₀ᵀ g(t) dt`, see [`Self::served_at`].
    pub fn service_level(&self, threshold_s: f64) -> f64 {
        1.0 - self.waits + simpson(threshold_s, |at| self.served_at(at))
    }

    /// The mean wait of those who were answered: `∫ t·g(t) dt / (1 − P(ab))`.
    pub fn asa_s(&self) -> f64 {
        let waited = simpson(self.horizon_s(), |at| at * self.served_at(at));
        waited / (1.0 - self.probability_of_abandoning())
    }

    /// The density of being served after a wait of `at` seconds.
    ///
    /// A caller who finds n waiting is served after n + 1 steps at rates N·µ + i·θ, i = n … 0, the
    /// density of which is `Π(N·µ + i·θ)/(θⁿ·n!)·e^(−N·µ·t)·(1 − e^(−θ·t))ⁿ`; weighted with p_{N+n}
    /// and the caller's own patience `e^(−θ·t)` the sum over n is an exponential series:
    /// `g(t) = p_N·N·µ·exp(−(N·µ + θ)·t + (λ/θ)·(1 − e^(−θ·t)))`.
    fn served_at(&self, at: f64) -> f64 {
        (self.ln_all_busy + self.service_rate.ln() + self.exponent(at)).exp()
    }

    fn exponent(&self, at: f64) -> f64 {
        let theta = self.abandon_rate;
        let pressed = -(-theta * at).exp_m1() * self.arrival_rate / theta;
        pressed - (self.service_rate + theta) * at
    }

    /// Beyond it nobody who is served waits.
    fn horizon_s(&self) -> f64 {
        let theta = self.abandon_rate;
        let peak_s = (self.arrival_rate / (self.service_rate + theta)).ln().max(0.0) / theta;
        let floor = self.exponent(peak_s) - TAIL;
        let mut horizon_s = peak_s + 1.0 / (self.service_rate + theta);
        while self.exponent(horizon_s) > floor {
            horizon_s *= 1.25;
        }
        horizon_s
    }
}

/// `∫₀ᵉⁿᵈ f`, Simpson's rule.
fn simpson(end: f64, f: impl Fn(f64) -> f64) -> f64 {
    let step = end / f64::from(STEPS);
    let weighted = |k: u32| f(f64::from(k) * step) * if k % 2 == 1 { 4.0 } else { 2.0 };
    let inner: f64 = (1..STEPS).map(weighted).sum();
    (f(0.0) + inner + f(end)) * step / 3.0
}
