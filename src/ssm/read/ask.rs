//! One request of a read: within rate limit and deadline, and coalesced with equal requests that wait.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::mirror::snapshot::{ReadError, ReadErrorKind};
use crate::ssm::coalesce::{Peers, Response, SharedRequest};
use crate::ssm::limiter::Permit;

use super::{LARGE, Read, failure};

/// Part of the deadline that does not depend on the number of requests.
pub(super) const BASE_DEADLINE: Duration = Duration::from_mins(1);

impl Read<'_> {
    /// Sends a request together with others that wait for the limiter: the same request, or names that fit into one batch.
    pub(super) async fn ask<Q: SharedRequest>(&mut self, question: Q) -> Result<Q::Answer, ReadError> {
        self.wait_if_large().await;
        loop {
            let mut ticket = Q::waiting(self.waiting).join(question.clone());
            let (limiter, pause, began) = (self.limiter, self.peers.pause(), Instant::now());
            let permitted = async {
                // Even a sleep of zero lets other tasks go first.
                if !pause.is_zero() {
                    sleep(pause).await;
                }
                limiter.acquire().await
            };
            let response = tokio::select! {
                biased;
                response = &mut ticket.response => response,
                permit = permitted => match (permit?, ticket.send_for_all()) {
                    (permit, Some(leader)) => {
                        let sent_at = self.clock.now().as_millisecond();
                        let outcome = self.send(permit, leader.whole()).await;
                        let (own, was_shared) = leader.respond(sent_at, &outcome);
                        self.peers = if was_shared { Peers::Present } else { Peers::None };
                        return match own {
                            Some(outcome) => outcome,
                            None => self.call(&question).await,
                        };
                    }
                    // Another member was granted a moment before.
                    (_, None) => ticket.response.await,
                },
            };
            // Without a response, the leader was stopped: its mirror was deleted, or its spec has changed.
            if let Ok(Response { sent_at, outcome }) = response {
                limiter.has_waited(began.elapsed());
                self.peers = Peers::Present;
                self.begins(sent_at);
                self.cost.shared += 1;
                return match outcome {
                    Some(outcome) => outcome,
                    None => self.call(&question).await,
                };
            }
        }
    }

    /// Waits for a slot for large sets if the fetched values are large: they take memory, and more are about to come.
    async fn wait_if_large(&mut self) {
        if self.fetched > LARGE && self.large.is_none() {
            self.large = Some(self.limiter.admit_large().await);
        }
    }

    /// Sends a request alone.
    pub(super) async fn call<Q: SharedRequest>(&mut self, question: &Q) -> Result<Q::Answer, ReadError> {
        self.wait_if_large().await;
        let permit = self.limiter.acquire().await?;
        self.send(permit, question).await
    }

    /// Sends one operation, within the deadline of the read. Waiting for the limiter does not count.
    async fn send<Q: SharedRequest>(
        &mut self,
        permit: Permit<'_>,
        question: &Q,
    ) -> Result<Q::Answer, ReadError> {
        self.begins(self.clock.now().as_millisecond());
        let allowed =
            BASE_DEADLINE + Duration::from_secs_f64(3.0 * f64::from(self.cost.calls) / self.limiter.rate());
        let deadline = self.began + self.limiter.waited() + allowed;
        let answered = tokio::time::timeout_at(deadline, question.send(self.api)).await;
        let outcome = answered.unwrap_or_else(|_| {
            Err(failure(
                ReadErrorKind::Timeout,
                format!("the read did not end within {} s", allowed.as_secs()),
            ))
        });
        permit.record(outcome.as_ref().map(|_| ()));
        if let Ok(answer) = &outcome {
            self.cost.decrypts += question.decrypts(answer);
        }
        outcome
    }

    /// Counts one more request, of this read or of one that shares its answer.
    fn begins(&mut self, sent_at: i64) {
        self.request.started.store(true, Ordering::Relaxed);
        self.started_at.get_or_insert(sent_at);
        self.cost.calls += 1;
    }
}
