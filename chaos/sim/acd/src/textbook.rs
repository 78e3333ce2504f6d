//! The queue as a textbook has it, without SIP, log or world: agents are the times at which they
//! will be free, and callers are served in the order in which they came (Kiefer, Wolfowitz, *On the
//! Theory of Queues with Many Servers*, 1955). It meets the very callers of a play, so the two must
//! agree to the millisecond; and it is fast, so it can be run until it agrees with a formula.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::laboratory::{Arriving, milliseconds};
use crate::random::{Purpose, Stream};
use crate::scenario::Scenario;
use crate::tally::Tally;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub offered: u64,
    pub answered: u64,
    pub abandoned: u64,
    pub in_time: u64,
    pub waited: u64,
    pub answered_wait_ms: u64,
    pub abandoned_wait_ms: u64,
    pub wait_ms_max: u64,
}

impl Sums {
    /// What the core's own records came to.
    pub fn of(tally: &Tally) -> Self {
        let mut sums = Self { wait_ms_max: tally.wait_ms_max, ..Self::default() };
        for batch in &tally.batches {
            sums.offered += batch.offered;
            sums.answered += batch.answered;
            sums.abandoned += batch.abandoned;
            sums.in_time += batch.in_time;
            sums.waited += batch.waited;
            sums.answered_wait_ms += batch.answered_wait_ms;
            sums.abandoned_wait_ms += batch.abandoned_wait_ms;
        }
        sums
    }

    /// What the textbook's queue comes to. It refuses nobody.
    /// Of the first queue, with all agents in it, who answer every ring.
    pub fn expected(scenario: &Scenario, seed: u64) -> Self {
        let queue = scenario.queue();
        let mut arrivals = Arriving::new(scenario, 0, seed);
        let mut talk_times = Stream::new(seed, Purpose::TalkTimes);
        let mut patiences = Stream::new(seed, Purpose::Patience);
        let from_ms = milliseconds(scenario.warm_up_hours * 3_600.0);
        let to_ms = from_ms + milliseconds(scenario.hours * 3_600.0);
        let delay_ms = milliseconds(scenario.answer_delay_s);
        let after_ms = milliseconds(scenario.after_call_work_s);
        let threshold_ms = milliseconds(queue.service_level.threshold_s);
        let mut free: BinaryHeap<Reverse<u64>> = (0..scenario.agents).map(|_| Reverse(0)).collect();
        let mut sums = Self::default();
        loop {
            let at_ms = arrivals.next_ms();
            if at_ms >= to_ms {
                return sums;
            }
            let talk_ms = milliseconds(talk_times.draw_s(&queue.talk_time));
            let patience = queue.patience.as_ref();
            let patience_ms = patience.map_or(u64::MAX, |p| milliseconds(patiences.draw_s(p)));
            let Reverse(free_ms) = *free.peek().expect("an agent");
            let rings_ms = at_ms.max(free_ms);
            let wait_ms = rings_ms + delay_ms - at_ms;
            // Who gives up in the millisecond of the answer has given up.
            let answered = wait_ms < patience_ms;
            if answered {
                free.pop();
                free.push(Reverse(rings_ms + delay_ms + talk_ms + after_ms));
            } else if at_ms + patience_ms > rings_ms {
                // The caller gives up while the phone rings; until then the agent is reserved.
                free.pop();
                free.push(Reverse(at_ms + patience_ms));
            }
            if at_ms >= from_ms {
                let waited_ms = if answered { wait_ms } else { patience_ms };
                sums.add(answered, waited_ms, delay_ms, threshold_ms);
            }
        }
    }

    fn add(&mut self, answered: bool, waited_ms: u64, delay_ms: u64, threshold_ms: u64) {
        self.offered += 1;
        self.wait_ms_max = self.wait_ms_max.max(waited_ms);
        if answered {
            self.answered += 1;
            self.answered_wait_ms += waited_ms;
            self.in_time += u64::from(waited_ms <= threshold_ms);
            self.waited += u64::from(waited_ms > delay_ms);
        } else {
            self.abandoned += 1;
            self.abandoned_wait_ms += waited_ms;
            self.waited += 1;
        }
    }
}
