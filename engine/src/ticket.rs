//! What a caller has in hand for events whose durability it does not wait for at once.

use std::sync::Arc;

use crate::committer::Committer;
use crate::error::Error;

/// Stands for an event that was emitted: says when it is durable.
///
/// It can be asked ([`Ticket::poll_durable`]), waited for ([`Ticket::wait`]), or, with the feature `async`, awaited as a
/// future on any runtime. Dropping it changes nothing for the event.
#[derive(Clone, Debug)]
pub struct Ticket {
    committer: Arc<Committer>,
    id: u64,
}

impl Ticket {
    pub(crate) fn new(committer: Arc<Committer>, id: u64) -> Self {
        Self { committer, id }
    }

    /// The event's id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The id if the event is durable, `None` if it is not yet. Does not make it so.
    ///
    /// # Errors
    ///
    /// The journal has stopped writing before the event was durable; [`Error::Forked`].
    pub fn poll_durable(&self) -> Result<Option<u64>, Error> {
        if self.committer.group_commit.durable_id() >= self.id {
            return Ok(Some(self.id));
        }
        self.committer.front.check_process()?;
        match self.committer.front.failure() {
            // It may have become durable before the failure.
            Some(_) if self.committer.group_commit.durable_id() >= self.id => Ok(Some(self.id)),
            Some(failure) => Err(failure),
            None => Ok(None),
        }
    }

    /// Returns the id when the event is durable; has it made so together with what others wait for.
    ///
    /// # Errors
    ///
    /// The journal has stopped writing before the event was durable.
    pub fn wait(&self) -> Result<u64, Error> {
        if self.poll_durable()?.is_none() {
            self.committer.sync()?;
        }
        Ok(self.id)
    }
}

#[cfg(feature = "async")]
impl Future for Ticket {
    type Output = Result<u64, Error>;

    /// Ready when the event is durable. Each poll that is not has it made so by the journal's own thread; a journal
    /// without threads ([`crate::CommitOn::CallersThread`]) does it in the poll.
    fn poll(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        use std::task::Poll;

        if !self.committer.has_threads() {
            return Poll::Ready(self.wait());
        }
        // Nobody would wake it there.
        if let Err(forked) = self.committer.front.check_process() {
            return Poll::Ready(self.poll_durable().and_then(|id| id.ok_or(forked)));
        }
        if self.committer.group_commit.register(self.id, context.waker()) {
            self.committer.serve_wakers();
            return Poll::Pending;
        }
        match self.poll_durable() {
            Ok(Some(id)) => Poll::Ready(Ok(id)),
            Err(error) => Poll::Ready(Err(error)),
            Ok(None) => {
                // Refused and yet not durable: the journal has failed a moment ago and the reason comes.
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}
