//! What was found to be wrong.

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{property}: {what} ({at_ms} ms, index {index})")]
pub struct Violation {
    /// The property's name: the file `inv_<property>.rs` says what it is.
    pub property: &'static str,
    pub what: String,
    pub at_ms: u64,
    pub index: u64,
}

/// What a property says of one step: nothing, or a sentence.
pub type Checked = Result<(), String>;

/// `Err` with the sentence where the condition does not hold.
macro_rules! hold {
    ($holds:expr, $($text:tt)*) => {
        if !$holds {
            return Err(format!($($text)*));
        }
    };
}
