//! How many requests of one client may be under way at once. Namespaces take turns for slots, as for tokens: behind a
//! slow SSM most of the waiting is done here.

use std::sync::Arc;

use tokio::sync::oneshot;
use tracing_mutex::parkinglot::Mutex;

use crate::fair_queue::FairQueue;
use crate::mirror::snapshot::{Priority, QueueKey};

/// The slots of one client.
#[derive(Debug)]
pub struct Slots(Mutex<State>);

/// A slot, which is freed when this is dropped.
#[derive(Debug)]
pub struct Slot {
    /// `None` once the slot has gone to another request.
    slots: Option<Arc<Slots>>,
}

#[derive(Debug)]
struct State {
    free: usize,
    waiting: FairQueue<Priority, oneshot::Sender<Slot>>,
}

impl Slots {
    /// Creates so many slots, all free.
    #[must_use]
    pub fn new(count: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { free: count.max(1), waiting: FairQueue::default() })))
    }

    /// Waits for a slot. A caller that stops waiting costs nothing.
    pub async fn acquire(self: &Arc<Self>, turn: &QueueKey) -> Slot {
        let entry = self.0.lock().enter(turn);
        match entry {
            // Every slot that is dropped goes to a request that waits, so it always comes.
            Some(granted) => granted.await.unwrap_or(Slot { slots: None }),
            None => Slot { slots: Some(Arc::clone(self)) },
        }
    }

    /// Passes a freed slot on to the next request that waits.
    fn pass_on(self: Arc<Self>) {
        loop {
            let next = self.0.lock().next();
            let Some((namespace, waiter)) = next else { return };
            let Err(mut refused) = waiter.send(Slot { slots: Some(Arc::clone(&self)) }) else { return };
            // The request has given up: its namespace gets the turn back, and this loop passes the slot on.
            refused.slots = None;
            self.0.lock().waiting.give_back(&namespace);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(slots) = self.slots.take() {
            slots.pass_on();
        }
    }
}

impl State {
    /// Enters the queue; `None` if a slot is free.
    fn enter(&mut self, turn: &QueueKey) -> Option<oneshot::Receiver<Slot>> {
        if self.free > 0 {
            self.free -= 1;
            return None;
        }
        let (request, granted) = oneshot::channel();
        self.waiting.push(&turn.namespace, turn.priority, turn.last_read, request);
        Some(granted)
    }

    /// Returns the request that gets a freed slot; if nobody waits, the slot stays free.
    fn next(&mut self) -> Option<(Arc<str>, oneshot::Sender<Slot>)> {
        let next = self.waiting.pop(|request| !request.is_closed());
        self.free += usize::from(next.is_none());
        next
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::poll;

    use super::*;

    fn turn(namespace: &str) -> QueueKey {
        QueueKey { namespace: namespace.into(), priority: Priority::Refresh, last_read: 0 }
    }

    #[tokio::test]
    async fn one_request_of_another_namespace_does_not_wait_behind_four_hundred() {
        let slots = Slots::new(1);
        let mut slot = slots.acquire(&turn("many")).await;
        let mut many: Vec<_> = (0..400)
            .map(|_| {
                let slots = Arc::clone(&slots);
                Box::pin(async move { slots.acquire(&turn("many")).await })
            })
            .collect();
        for waiting in &mut many {
            assert!(poll!(waiting).is_pending());
        }
        let (one_turn, mut before) = (turn("one"), 0);
        let mut one = pin!(slots.acquire(&one_turn));
        assert!(poll!(&mut one).is_pending());
        loop {
            drop(slot);
            if poll!(&mut one).is_ready() {
                break;
            }
            slot = many.remove(0).await;
            before += 1;
        }
        assert!(before <= 1, "{before} went first");
    }

    #[tokio::test]
    async fn who_gives_up_leaves_no_slot_behind() {
        let slots = Slots::new(1);
        let first = slots.acquire(&turn("a")).await;
        {
            let turn = turn("a");
            let mut before_its_turn = pin!(slots.acquire(&turn));
            assert!(poll!(&mut before_its_turn).is_pending());
        }
        {
            let turn = turn("b");
            let mut at_its_turn = pin!(slots.acquire(&turn));
            assert!(poll!(&mut at_its_turn).is_pending());
            // It is granted the slot, and dropped before it sees the grant.
            drop(first);
        }
        let turn = turn("c");
        assert!(poll!(pin!(slots.acquire(&turn))).is_ready());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn all_get_their_slot_and_never_more_than_there_are() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let (slots, held, most) =
            (Slots::new(3), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let tasks: Vec<_> = (0..200)
            .map(|number| {
                let (slots, held, most) = (Arc::clone(&slots), Arc::clone(&held), Arc::clone(&most));
                tokio::spawn(async move {
                    let slot = slots.acquire(&turn(if number % 7 == 0 { "few" } else { "many" })).await;
                    most.fetch_max(held.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    held.fetch_sub(1, Ordering::SeqCst);
                    drop(slot);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert!((1..=3).contains(&most.load(Ordering::SeqCst)));
        assert_eq!(slots.0.lock().free, 3);
    }
}
