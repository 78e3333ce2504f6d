//! Who waits, in the order of arrival.

use super::Model;

#[derive(Clone, Debug)]
pub enum Queue {}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Behind all who wait. Nobody joins twice.
    Join(String),
    Leave(String),
    Look,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Done,
    /// The first in line first.
    Waiting(Vec<String>),
}

impl Model for Queue {
    type State = Vec<String>;
    type Operation = Operation;
    type Answer = Answer;

    fn step(
        state: &Vec<String>,
        operation: &Operation,
        answer: Option<&Answer>,
    ) -> Option<Vec<String>> {
        match (operation, answer) {
            (Operation::Join(caller), None | Some(Answer::Done)) => {
                Some(state.iter().chain([caller]).cloned().collect())
            }
            (Operation::Leave(caller), None | Some(Answer::Done)) => {
                Some(state.iter().filter(|waiting| *waiting != caller).cloned().collect())
            }
            (Operation::Look, None) => Some(state.clone()),
            (Operation::Look, Some(Answer::Waiting(seen))) => {
                (seen == state).then(|| state.clone())
            }
            (Operation::Look, Some(Answer::Done))
            | (Operation::Join(_) | Operation::Leave(_), Some(Answer::Waiting(_))) => None,
        }
    }

    fn is_read(operation: &Operation) -> bool {
        *operation == Operation::Look
    }

    /// Who leaves is missed by any later look, so that a leave always matters.
    fn shows(answer: &Answer, operation: &Operation) -> bool {
        match (operation, answer) {
            (Operation::Join(caller), Answer::Waiting(seen)) => seen.contains(caller),
            (Operation::Leave(_), _) => true,
            (Operation::Join(_), Answer::Done) | (Operation::Look, _) => false,
        }
    }
}
