//! Which request is next: namespaces take turns, so that one with thousands of mirrors delays nobody else.
//!
//! Each namespace has a queue of its own, in the order of [`Turn`] and then of arrival. Every request that is let through costs
//! its namespace one turn, and of two namespaces the one that had fewer goes first (stride scheduling, Waldspurger 1995, with equal
//! shares). A first sync or a requested read goes before the refreshes of all namespaces, but only while its own namespace is less
//! than [`AHEAD`] turns ahead of the others: the namespace that raises a storm of them pays for it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::mirror::reading::{Priority, Turn};

/// How many turns a namespace may be ahead of the others before its urgent requests wait like all: two seconds of the budget's default.
const AHEAD: u64 = 20;

/// The requests that wait.
#[derive(Debug, Default)]
pub struct FairQueue {
    lanes: BTreeMap<Arc<str>, Lane>,
    arrivals: u64,
    waiting: usize,
}

/// The requests of one namespace.
#[derive(Debug, Default)]
struct Lane {
    /// How many requests were let through, counted from where the others stood when it began to wait.
    turns: u64,
    waiters: BinaryHeap<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    order: Reverse<(Priority, i64, u64)>,
    request: oneshot::Sender<()>,
}

impl PartialEq for Waiter {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}
impl Eq for Waiter {}
impl PartialOrd for Waiter {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Waiter {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order.cmp(&other.order)
    }
}

impl FairQueue {
    /// How many requests wait. Those that have given up stay in their lane until it is their turn, and are not counted.
    pub fn len(&self) -> usize {
        let waiters = self.lanes.values().flat_map(|lane| &lane.waiters);
        waiters.filter(|waiter| !waiter.request.is_closed()).count()
    }

    /// Whether no request is in any lane, not even one that has given up.
    pub const fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Adds a request to the lane of its namespace.
    pub fn push(&mut self, turn: &Turn, request: oneshot::Sender<()>) {
        self.arrivals += 1;
        self.waiting += 1;
        let floor = self.floor();
        let lane = self.lanes.entry(Arc::clone(&turn.namespace)).or_default();
        if lane.waiters.is_empty() {
            // Having been away is no credit, and no way out of a debt either.
            lane.turns = lane.turns.max(floor);
        }
        lane.waiters.push(Waiter { order: Reverse((turn.priority, turn.last_good, self.arrivals)), request });
    }

    /// Removes the next request, with its namespace. Those that have given up cost their namespace nothing.
    pub fn pop(&mut self) -> Option<(Arc<str>, oneshot::Sender<()>)> {
        while let Some((namespace, lane)) = self.next_lane() {
            let namespace = Arc::clone(namespace);
            let waiter = lane.waiters.pop()?;
            let has_given_up = waiter.request.is_closed();
            lane.turns += u64::from(!has_given_up);
            self.waiting -= 1;
            if self.waiting == 0 {
                self.lanes.clear();
            }
            if !has_given_up {
                let floor = self.floor();
                self.lanes.retain(|_, lane| !lane.waiters.is_empty() || lane.turns > floor);
                return Some((namespace, waiter.request));
            }
        }
        None
    }

    /// A request gave up in the moment in which it was let through: its namespace gets the turn back.
    pub fn give_back(&mut self, namespace: &str) {
        if let Some(lane) = self.lanes.get_mut(namespace) {
            lane.turns = lane.turns.saturating_sub(1);
        }
    }

    fn next_lane(&mut self) -> Option<(&Arc<str>, &mut Lane)> {
        let floor = self.floor();
        let waiting = self.lanes.iter_mut().filter(|(_, lane)| !lane.waiters.is_empty());
        waiting.min_by_key(|(_, lane)| lane.order(floor))
    }

    /// The fewest turns of any namespace that waits.
    fn floor(&self) -> u64 {
        let waiting = self.lanes.values().filter(|lane| !lane.waiters.is_empty());
        waiting.map(|lane| lane.turns).min().unwrap_or_default()
    }
}

impl Lane {
    fn order(&self, floor: u64) -> impl Ord + use<> {
        let first = self.waiters.peek().map(|waiter| waiter.order.0);
        let (priority, last_good, arrival) = first.unwrap_or((Priority::Refresh, i64::MAX, u64::MAX));
        let urgency = if self.turns < floor + AHEAD { priority } else { Priority::Refresh };
        (urgency, self.turns, priority, last_good, arrival)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All requests wait from the beginning; returns the namespaces in the order in which they are let through.
    fn order(waiters: &[(&str, Priority, usize)]) -> Vec<String> {
        let mut queue = FairQueue::default();
        let mut calls = Vec::new();
        for &(namespace, priority, times) in waiters {
            for _ in 0..times {
                let (call, called) = oneshot::channel();
                queue.push(&Turn { namespace: namespace.into(), priority, last_good: 0 }, call);
                calls.push((namespace, called));
            }
        }
        let mut order = Vec::new();
        while let Some((namespace, call)) = queue.pop() {
            call.send(()).unwrap();
            let next = calls.iter_mut().position(|(_, called)| called.try_recv().is_ok()).unwrap();
            assert_eq!(calls.remove(next).0, &*namespace);
            order.push(namespace.to_string());
        }
        assert!(queue.is_empty() && queue.lanes.is_empty());
        order
    }

    fn position_of(namespace: &str, order: &[String]) -> usize {
        order.iter().position(|next| next == namespace).unwrap()
    }

    #[test]
    fn namespaces_take_turns() {
        let order = order(&[("many", Priority::Refresh, 5), ("few", Priority::Refresh, 2)]);
        assert_eq!(order, ["many", "few", "many", "few", "many", "many", "many"]);
    }

    #[test]
    fn urgent_requests_go_first_and_a_storm_of_them_does_not() {
        let urgent = order(&[("calm", Priority::Refresh, 3), ("urgent", Priority::Requested, 2)]);
        assert_eq!(urgent, ["urgent", "urgent", "calm", "calm", "calm"]);
        for priority in [Priority::Requested, Priority::FirstSync] {
            let storm = order(&[("storm", priority, 5_000), ("calm", Priority::Refresh, 100)]);
            assert_eq!(position_of("calm", &storm), 20);
            assert_eq!(storm[20..24], ["calm", "storm", "calm", "storm"], "from then on each gets its share");
        }
    }

    #[test]
    fn a_late_namespace_has_no_credit_and_a_served_one_keeps_its_debt() {
        let mut queue = FairQueue::default();
        let turn = |namespace: &str, priority| Turn { namespace: namespace.into(), priority, last_good: 0 };
        let wait = |queue: &mut FairQueue, turn: &Turn| {
            let (call, called) = oneshot::channel();
            queue.push(turn, call);
            called
        };
        let calm: Vec<_> = (0..100).map(|_| wait(&mut queue, &turn("calm", Priority::Refresh))).collect();
        // One at a time, as the pages of a listing: it never has two that wait.
        let mut ahead = 0;
        loop {
            let called = wait(&mut queue, &turn("storm", Priority::Requested));
            if &*queue.pop().unwrap().0 != "storm" {
                drop(called);
                break;
            }
            ahead += 1;
            assert!(ahead <= AHEAD, "the others never have their turn");
        }
        assert_eq!(ahead, AHEAD);
        let last = wait(&mut queue, &turn("storm", Priority::Requested));
        drop(calm);
        assert_eq!(queue.len(), 1, "those that gave up do not wait");
        assert_eq!(&*queue.pop().unwrap().0, "storm", "those that gave up are passed over");
        assert!(queue.pop().is_none());
        drop(last);
    }

    #[test]
    fn a_turn_that_is_given_back_was_none() {
        let mut queue = FairQueue::default();
        let turn =
            |namespace: &str| Turn { namespace: namespace.into(), priority: Priority::Refresh, last_good: 0 };
        let _calls: Vec<_> = ["a", "a", "b", "b"]
            .map(|namespace| {
                let (call, called) = oneshot::channel();
                queue.push(&turn(namespace), call);
                called
            })
            .into();
        assert_eq!(&*queue.pop().unwrap().0, "a");
        queue.give_back("a");
        assert_eq!(&*queue.pop().unwrap().0, "a");
        assert_eq!(&*queue.pop().unwrap().0, "b");
    }
}
