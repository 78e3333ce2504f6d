//! Which nodes are proven dead: only they could give a line to another.

use std::collections::BTreeMap;

use crate::link::pb;
use crate::obituaries::Death;

#[derive(Default)]
pub struct Nodes {
    /// The last life of each process that its supervisor has reaped.
    dead: BTreeMap<String, u64>,
    /// The latest life in which each node has said that it leads, by its place.
    living: BTreeMap<usize, u64>,
}

impl Nodes {
    pub fn on_death(&mut self, Death { process, incarnation }: Death) {
        let known = self.dead.entry(process).or_default();
        *known = incarnation.max(*known);
    }

    /// What a node's life of that number has told. One that does not lead can give a line to nobody.
    pub fn on_told(&mut self, node: usize, incarnation: u64, body: &pb::told::Body) {
        let leads = match body {
            pb::told::Body::Begun(_) => true,
            pb::told::Body::Holds(holds) => !holds.frozen,
            pb::told::Body::Nodes(_) => false,
        };
        if leads {
            let known = self.living.entry(node).or_default();
            *known = incarnation.max(*known);
        }
    }

    /// Of these, in the order of their places.
    pub fn are_all_dead(&self, names: &[String]) -> bool {
        let is_dead = |(at, name): (usize, &String)| {
            let living = self.living.get(&at).copied().unwrap_or_default();
            self.dead.get(name).is_some_and(|dead| *dead >= living)
        };
        names.iter().enumerate().all(is_dead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_dead_until_one_of_them_leads_in_a_later_life() {
        let names = ["node-a".to_owned(), "node-b".to_owned()];
        let begun = pb::told::Body::Begun(pb::Begun {});
        let mut nodes = Nodes::default();
        nodes.on_told(0, 7, &begun);
        let death = |process: &str, incarnation| Death { process: process.to_owned(), incarnation };
        nodes.on_death(death("node-a", 7));
        assert!(!nodes.are_all_dead(&names));
        nodes.on_death(death("node-b", 8));
        assert!(nodes.are_all_dead(&names));
        // What it had said before it died is heard late; and one that is back does not lead yet.
        nodes.on_told(0, 7, &begun);
        nodes.on_told(0, 9, &pb::told::Body::Nodes(pb::Nodes::default()));
        nodes.on_told(
            0,
            9,
            &pb::told::Body::Holds(pb::Holds { frozen: true, ..Default::default() }),
        );
        assert!(nodes.are_all_dead(&names));
        nodes.on_told(0, 9, &begun);
        assert!(!nodes.are_all_dead(&names));
        // An obituary of its earlier life, late.
        nodes.on_death(death("node-a", 7));
        assert!(!nodes.are_all_dead(&names));
    }
}
