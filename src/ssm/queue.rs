//! Who is next: namespaces take turns, so that one with thousands of mirrors delays nobody else.
//!
//! Each namespace has a line of its own, in the order of [`Turn`] and then of arrival. Every request that is let through costs its
//! namespace one turn, and of two namespaces the one that had fewer goes first (stride scheduling, Waldspurger 1995, with equal
//! shares). A first sync or a read that somebody asked for goes before the refreshes of all namespaces, but only while its own
//! is less than [`AHEAD`] turns ahead of the others: a storm of them is paid for by whoever raises it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::mirror::reading::{Priority, Turn};

/// How many turns a namespace may be ahead of the others before its urgent requests wait like all: two seconds of the budget's default.
const AHEAD: u64 = 20;

/// Those that wait.
#[derive(Default)]
pub struct Queue {
    lines: BTreeMap<Arc<str>, Line>,
    arrivals: u64,
    waiting: usize,
}

/// One namespace.
#[derive(Default)]
struct Line {
    /// How many requests were let through, counted from where the others stood when it began to wait.
    turns: u64,
    waiters: BinaryHeap<Waiter>,
}

struct Waiter {
    order: Reverse<(Priority, i64, u64)>,
    call: oneshot::Sender<()>,
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

impl Queue {
    /// How many wait; some of them may have given up.
    pub const fn len(&self) -> usize {
        self.waiting
    }

    /// Whether nobody waits.
    pub const fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Waits in the line of its namespace; `call` is its turn.
    pub fn push(&mut self, turn: &Turn, call: oneshot::Sender<()>) {
        self.arrivals += 1;
        self.waiting += 1;
        let floor = self.floor();
        let line = self.lines.entry(Arc::clone(&turn.namespace)).or_default();
        if line.waiters.is_empty() {
            // Having been away is no credit, and no way out of a debt either.
            line.turns = line.turns.max(floor);
        }
        line.waiters.push(Waiter { order: Reverse((turn.priority, turn.last_good, self.arrivals)), call });
    }

    /// Calls whose turn it is. `false` if nobody waits any more.
    pub fn call_next(&mut self) -> bool {
        while let Some(line) = self.next_line() {
            let Some(waiter) = line.waiters.pop() else { return false };
            // Who has given up costs its namespace nothing.
            let is_taken = waiter.call.send(()).is_ok();
            line.turns += u64::from(is_taken);
            self.waiting -= 1;
            if self.waiting == 0 {
                self.lines.clear();
            }
            if is_taken {
                let floor = self.floor();
                self.lines.retain(|_, line| !line.waiters.is_empty() || line.turns > floor);
                return true;
            }
        }
        false
    }

    fn next_line(&mut self) -> Option<&mut Line> {
        let floor = self.floor();
        let waiting = self.lines.values_mut().filter(|line| !line.waiters.is_empty());
        waiting.min_by_key(|line| line.order(floor))
    }

    /// Where the namespace stands that had the fewest turns of those that wait.
    fn floor(&self) -> u64 {
        let waiting = self.lines.values().filter(|line| !line.waiters.is_empty());
        waiting.map(|line| line.turns).min().unwrap_or_default()
    }
}

impl Line {
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

    /// Everybody waits from the beginning; the namespaces in the order in which they are let through.
    fn order(waiters: &[(&str, Priority, usize)]) -> Vec<String> {
        let mut queue = Queue::default();
        let mut calls = Vec::new();
        for &(namespace, priority, times) in waiters {
            for _ in 0..times {
                let (call, called) = oneshot::channel();
                queue.push(&Turn { namespace: namespace.into(), priority, last_good: 0 }, call);
                calls.push((namespace, called));
            }
        }
        let mut order = Vec::new();
        while queue.call_next() {
            let next = calls.iter_mut().position(|(_, called)| called.try_recv().is_ok()).unwrap();
            order.push(calls.remove(next).0.to_owned());
        }
        assert!(queue.is_empty() && queue.lines.is_empty());
        order
    }

    fn place_of(namespace: &str, order: &[String]) -> usize {
        order.iter().position(|next| next == namespace).unwrap()
    }

    #[test]
    fn namespaces_take_turns() {
        let order = order(&[("many", Priority::Refresh, 5), ("few", Priority::Refresh, 2)]);
        assert_eq!(order, ["many", "few", "many", "few", "many", "many", "many"]);
    }

    #[test]
    fn who_is_urgent_goes_before_everybody_and_a_storm_of_it_does_not() {
        let urgent = order(&[("calm", Priority::Refresh, 3), ("urgent", Priority::Requested, 2)]);
        assert_eq!(urgent, ["urgent", "urgent", "calm", "calm", "calm"]);
        for priority in [Priority::Requested, Priority::FirstSync] {
            let storm = order(&[("storm", priority, 5_000), ("calm", Priority::Refresh, 100)]);
            assert_eq!(place_of("calm", &storm), 20);
            assert_eq!(storm[20..24], ["calm", "storm", "calm", "storm"], "from then on each gets its share");
        }
    }

    #[test]
    fn whoever_comes_late_has_no_credit_and_who_was_served_keeps_its_debt() {
        let mut queue = Queue::default();
        let turn = |namespace: &str, priority| Turn { namespace: namespace.into(), priority, last_good: 0 };
        let wait = |queue: &mut Queue, turn: &Turn| {
            let (call, called) = oneshot::channel();
            queue.push(turn, call);
            called
        };
        let calm: Vec<_> = (0..100).map(|_| wait(&mut queue, &turn("calm", Priority::Refresh))).collect();
        // One at a time, as the pages of a listing: it never has two that wait.
        let mut ahead = 0;
        loop {
            let mut called = wait(&mut queue, &turn("storm", Priority::Requested));
            queue.call_next();
            if called.try_recv().is_err() {
                break;
            }
            ahead += 1;
            assert!(ahead <= AHEAD, "the others never have their turn");
        }
        assert_eq!(ahead, AHEAD);
        let mut last = wait(&mut queue, &turn("storm", Priority::Requested));
        drop(calm);
        assert!(queue.call_next() && last.try_recv().is_ok(), "those that gave up are passed over");
        assert!(!queue.call_next());
    }
}
