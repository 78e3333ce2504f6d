//! openraft tells followers of each commit in a request of its own, though the next entries would
//! say the same. Under load that is every second message between voters.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::Fuse;
use futures::{FutureExt as _, Stream, StreamExt as _};
use openraft::raft::AppendEntriesRequest;
use tandem_storage::raft::TypeConfig;
use tokio::time::Sleep;

/// So long a commit may wait for entries that tell of it. Followers apply so much later; nothing is
/// acknowledged by that.
pub const HOLD: Duration = Duration::from_millis(5);

type Request = AppendEntriesRequest<TypeConfig>;

/// Requests in their order. One without entries is left out where the next one, which says all that
/// it would have said, comes within [`HOLD`]. Whoever asked is content with the answer to that:
/// openraft counts no answers, a match includes all before it.
pub struct Piggyback<S> {
    requests: Fuse<S>,
    held: Option<(Request, Pin<Box<Sleep>>)>,
}

impl<S: Stream<Item = Request>> Piggyback<S> {
    pub fn new(requests: S) -> Self {
        Self { requests: requests.fuse(), held: None }
    }
}

impl<S: Stream<Item = Request> + Unpin> Stream for Piggyback<S> {
    type Item = Request;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Request>> {
        let this = &mut *self;
        loop {
            match this.requests.poll_next_unpin(context) {
                Poll::Ready(Some(request)) if request.entries.is_empty() => {
                    let until = this.held.take().map(|(_, until)| until);
                    let until = until.unwrap_or_else(|| Box::pin(tokio::time::sleep(HOLD)));
                    this.held = Some((request, until));
                }
                Poll::Ready(Some(request)) => {
                    this.held = None;
                    return Poll::Ready(Some(request));
                }
                // Nothing follows it, so whoever asked waits for it alone.
                Poll::Ready(None) => {
                    return Poll::Ready(this.held.take().map(|(request, _)| request));
                }
                Poll::Pending => {
                    let Some((_, until)) = &mut this.held else { return Poll::Pending };
                    futures::ready!(until.poll_unpin(context));
                    return Poll::Ready(this.held.take().map(|(request, _)| request));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::SinkExt as _;
    use openraft::entry::RaftEntry as _;
    use tandem_storage::raft::{Entry, LeaderId, LogId, Vote};

    use super::*;

    fn id(index: u64) -> LogId {
        LogId { leader_id: LeaderId { term: 1, node_id: 1 }, index }
    }

    /// Entries behind `prev` up to `last`, when all up to `commit` is committed.
    fn request(prev: u64, last: u64, commit: u64) -> Request {
        let entries = (prev + 1..=last).map(|index| Entry::new_blank(id(index)));
        Request {
            vote: Vote::new_committed(1, 1),
            prev_log_id: Some(id(prev)),
            leader_commit: Some(id(commit)),
            entries: entries.collect(),
        }
    }

    fn seen(request: &Request) -> (u64, usize, u64) {
        let index = |id: Option<LogId>| id.map_or(0, |id| id.index);
        (index(request.prev_log_id), request.entries.len(), index(request.leader_commit))
    }

    #[tokio::test]
    async fn commit_goes_with_the_next_entries_or_alone_when_none_come() {
        let (mut asked, requests) = futures::channel::mpsc::channel(8);
        // As openraft's: not to be polled behind its end.
        let requests = futures::stream::unfold(requests, async |mut requests| {
            requests.next().await.map(|request| (request, requests))
        });
        let mut sent = Piggyback::new(Box::pin(requests));
        asked.send(request(0, 1, 0)).await.unwrap();
        asked.send(request(1, 1, 1)).await.unwrap();
        asked.send(request(1, 3, 1)).await.unwrap();
        assert_eq!(sent.next().await.as_ref().map(seen), Some((0, 1, 0)));
        assert_eq!(sent.next().await.as_ref().map(seen), Some((1, 2, 1)));
        let begun = tokio::time::Instant::now();
        asked.send(request(3, 3, 2)).await.unwrap();
        asked.send(request(3, 3, 3)).await.unwrap();
        assert_eq!(sent.next().await.as_ref().map(seen), Some((3, 0, 3)));
        assert!(begun.elapsed() >= HOLD, "{:?}", begun.elapsed());
        // What nothing follows is a question that waits for its answer.
        asked.send(request(3, 3, 3)).await.unwrap();
        drop(asked);
        assert_eq!(sent.next().now_or_never().flatten().as_ref().map(seen), Some((3, 0, 3)));
        assert!(sent.next().await.is_none());
    }
}
