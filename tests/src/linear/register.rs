//! A value that is set and got, as an agent's state is.

use super::Model;

#[derive(Clone, Debug)]
pub enum Register {}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// No two write the same.
    Write(String),
    Read,
}

impl Model for Register {
    type State = String;
    type Operation = Operation;
    /// The value, once written or read.
    type Answer = String;

    fn step(state: &String, operation: &Operation, answer: Option<&String>) -> Option<String> {
        let next = match operation {
            Operation::Write(value) => value,
            Operation::Read => state,
        };
        answer.is_none_or(|answer| answer == next).then(|| next.clone())
    }

    fn is_read(operation: &Operation) -> bool {
        *operation == Operation::Read
    }

    fn shows(answer: &String, operation: &Operation) -> bool {
        matches!(operation, Operation::Write(value) if value == answer)
    }
}
