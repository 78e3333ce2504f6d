//! What others in the process, and its supervisor, know of its lines.

use tandem_control::Status;
use tokio::sync::{mpsc, watch};

use crate::media::Told;

/// In the process's data folder: the lines that it serves and their lives, a line each, for its supervisor.
pub const SERVED: &str = "lines";

/// What others in the process know of its lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Serves {
    /// Their names, in order.
    pub lines: Vec<String>,
    /// The process that serves its own line in its place.
    pub stands_by_for: Option<String>,
}

/// Where others hear of it.
pub struct Outlook {
    pub serves: watch::Sender<Serves>,
    /// As one of the lines knows the cluster.
    pub status: watch::Sender<Status>,
    /// Who takes what the process has to tell.
    pub reporter: watch::Sender<Option<mpsc::Sender<Told>>>,
}

pub async fn follow(mut from: watch::Receiver<Status>, to: watch::Sender<Status>) {
    loop {
        let now = from.borrow_and_update().clone();
        to.send_replace(now);
        if from.changed().await.is_err() {
            return;
        }
    }
}
