//! An effect of a fenced term changes nothing: once a gateway has heard of a later leader, the
//! earlier one is not obeyed.

use crate::links::GATEWAYS;
use crate::violation::Checked;

#[derive(Debug, Default)]
pub struct Fences {
    heard: [u64; GATEWAYS],
}

impl Fences {
    /// A new process has heard of nobody.
    pub fn starts(&mut self, gateway: usize) {
        self.heard[gateway] = 0;
    }

    /// The highest term that the gateway has heard of.
    pub fn heard_of(&self, gateway: usize) -> u64 {
        self.heard[gateway]
    }

    pub fn heard(&mut self, gateway: usize, term: u64) {
        self.heard[gateway] = self.heard[gateway].max(term);
    }

    pub fn performs(&mut self, gateway: usize, term: u64) -> Checked {
        let heard = self.heard[gateway];
        if term < heard {
            return Err(format!(
                "an effect of term {term} is done after term {heard} was heard of"
            ));
        }
        self.heard[gateway] = term;
        Ok(())
    }
}
