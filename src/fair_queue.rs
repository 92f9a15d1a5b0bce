//! A fair queue: namespaces take turns, so that one with thousands of mirrors delays no other.
//!
//! Each namespace has its own queue, ordered by urgency, then by `order`, then by arrival. Every item that is let
//! through costs its namespace one turn, and of two namespaces the one with fewer turns goes first (stride scheduling,
//! Waldspurger 1995, with equal shares). A more urgent item goes before the ordinary ones of all namespaces, but only
//! while its own namespace is less than [`AHEAD`] turns ahead of the others: a namespace that raises a storm of urgent
//! items pays for it. A less urgent item waits for those of its own namespace only, and not for ever: an urgency that was passed
//! over [`PASSED_OVER`] times in a row goes next.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

/// How many turns a namespace may be ahead of the others before its urgent items wait like all others: two seconds at
/// the default rate of SSM requests.
const AHEAD: u64 = 20;

/// How many items of other urgencies may go before the waiting ones of an urgency: it has one turn in ten of its namespace at least.
const PASSED_OVER: u32 = 9;

/// The items that wait. `U` is their urgency: the smallest goes first, and the default is that of an ordinary item.
#[derive(Debug)]
pub struct FairQueue<U, T> {
    lanes: BTreeMap<Arc<str>, Lane<U, T>>,
    arrivals: u64,
    waiting: usize,
}

/// The items of one namespace.
#[derive(Debug)]
struct Lane<U, T> {
    /// How many items were let through, counted from the turns of the others when this lane began to wait.
    turns: u64,
    /// The items of each urgency that waits.
    classes: BTreeMap<U, Class<T>>,
}

/// The items of one urgency.
#[derive(Debug)]
struct Class<T> {
    waiters: BinaryHeap<Waiter<T>>,
    /// How many items of other urgencies went first since one of this was let through.
    passed_over: u32,
}

impl<T> Default for Class<T> {
    fn default() -> Self {
        Self { waiters: BinaryHeap::new(), passed_over: 0 }
    }
}

#[derive(Debug)]
struct Waiter<T> {
    rank: Reverse<(i64, u64)>,
    item: T,
}

impl<T> PartialEq for Waiter<T> {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}
impl<T> Eq for Waiter<T> {}
impl<T> PartialOrd for Waiter<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Waiter<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank.cmp(&other.rank)
    }
}

impl<U, T> Default for FairQueue<U, T> {
    fn default() -> Self {
        Self { lanes: BTreeMap::new(), arrivals: 0, waiting: 0 }
    }
}

impl<U: Ord + Copy + Default, T> FairQueue<U, T> {
    /// Counts the waiting items that are still `wanted`. Others stay in their lane until their turn.
    pub fn count(&self, wanted: impl Fn(&T) -> bool) -> usize {
        let classes = self.lanes.values().flat_map(|lane| lane.classes.values());
        classes.flat_map(|class| &class.waiters).filter(|waiter| wanted(&waiter.item)).count()
    }

    /// Counts the waiting items of a namespace, including those that are no longer wanted.
    #[must_use]
    pub fn waiting(&self, namespace: &str) -> usize {
        let classes = self.lanes.get(namespace).into_iter().flat_map(|lane| lane.classes.values());
        classes.map(|class| class.waiters.len()).sum()
    }

    /// Whether every lane is empty, even of items that are no longer wanted.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Adds an item to the lane of its namespace. Of two equally urgent items, the one with the smaller `order` goes first.
    pub fn push(&mut self, namespace: &Arc<str>, urgency: U, order: i64, item: T) {
        self.arrivals += 1;
        self.waiting += 1;
        let floor = self.floor();
        let lane = self
            .lanes
            .entry(Arc::clone(namespace))
            .or_insert_with(|| Lane { turns: 0, classes: BTreeMap::new() });
        if lane.classes.is_empty() {
            // An empty lane gains no credit, and does not lose its debt either.
            lane.turns = lane.turns.max(floor);
        }
        let waiter = Waiter { rank: Reverse((order, self.arrivals)), item };
        lane.classes.entry(urgency).or_default().waiters.push(waiter);
    }

    /// Removes the next item and returns it with its namespace. An item that is no longer `wanted` costs nothing.
    pub fn pop(&mut self, wanted: impl Fn(&T) -> bool) -> Option<(Arc<str>, T)> {
        self.pop_of(|_| true, wanted)
    }

    /// The same, but only for namespaces that `may` have one more item.
    pub fn pop_of(
        &mut self,
        may: impl Fn(&str) -> bool,
        wanted: impl Fn(&T) -> bool,
    ) -> Option<(Arc<str>, T)> {
        while let Some((namespace, lane)) = self.next_lane(&may) {
            let namespace = Arc::clone(namespace);
            let (urgency, item) = lane.pop()?;
            let is_wanted = wanted(&item);
            if is_wanted {
                lane.turns += 1;
                lane.pass_over(urgency);
            }
            self.waiting -= 1;
            if self.waiting == 0 {
                self.lanes.clear();
            }
            if is_wanted {
                let floor = self.floor();
                self.lanes.retain(|_, lane| !lane.classes.is_empty() || lane.turns > floor);
                return Some((namespace, item));
            }
        }
        None
    }

    /// Refunds a turn to a namespace whose item was given up at the moment it was let through.
    pub fn give_back(&mut self, namespace: &str) {
        if let Some(lane) = self.lanes.get_mut(namespace) {
            lane.turns = lane.turns.saturating_sub(1);
        }
    }

    fn next_lane(&mut self, may: impl Fn(&str) -> bool) -> Option<(&Arc<str>, &mut Lane<U, T>)> {
        let floor = self.floor();
        let waiting =
            self.lanes.iter_mut().filter(|(namespace, lane)| !lane.classes.is_empty() && may(namespace));
        waiting.min_by_key(|(_, lane)| lane.rank(floor))
    }

    /// Returns the fewest turns of any namespace that waits.
    fn floor(&self) -> u64 {
        let waiting = self.lanes.values().filter(|lane| !lane.classes.is_empty());
        waiting.map(|lane| lane.turns).min().unwrap_or_default()
    }
}

impl<U: Ord + Copy + Default, T> Lane<U, T> {
    /// Returns the urgency whose turn is next: the one that was passed over too often, otherwise the most urgent one.
    fn next(&self) -> Option<U> {
        let starved = self.classes.iter().filter(|(_, class)| class.passed_over >= PASSED_OVER);
        let starved = starved.max_by_key(|(_, class)| class.passed_over).map(|(urgency, _)| *urgency);
        starved.or_else(|| self.classes.keys().next().copied())
    }

    fn pop(&mut self) -> Option<(U, T)> {
        let urgency = self.next()?;
        let class = self.classes.get_mut(&urgency)?;
        let item = class.waiters.pop()?.item;
        if class.waiters.is_empty() {
            self.classes.remove(&urgency);
        }
        Some((urgency, item))
    }

    /// Counts a turn of one urgency.
    fn pass_over(&mut self, gone: U) {
        for (urgency, class) in &mut self.classes {
            class.passed_over = if *urgency == gone { 0 } else { class.passed_over.saturating_add(1) };
        }
    }

    fn rank(&self, floor: u64) -> impl Ord + use<U, T> {
        let urgency = self.next().unwrap_or_default();
        let first = self.classes.get(&urgency).and_then(|class| class.waiters.peek());
        let (order, arrival) = first.map_or((i64::MAX, u64::MAX), |waiter| waiter.rank.0);
        let across = if self.turns < floor + AHEAD { urgency.min(U::default()) } else { U::default() };
        (across, self.turns, urgency, order, arrival)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::mirror::snapshot::Priority;

    type Requests = FairQueue<Priority, oneshot::Sender<()>>;

    fn push(queue: &mut Requests, namespace: &str, priority: Priority) -> oneshot::Receiver<()> {
        let (request, answer) = oneshot::channel();
        queue.push(&namespace.into(), priority, 0, request);
        answer
    }

    fn pop(queue: &mut Requests) -> Option<(Arc<str>, oneshot::Sender<()>)> {
        queue.pop(|request| !request.is_closed())
    }

    /// Adds all requests first, and returns the namespaces in the order in which they are let through.
    fn order(waiters: &[(&str, Priority, usize)]) -> Vec<String> {
        let mut queue = Requests::default();
        let mut answers = Vec::new();
        for &(namespace, priority, times) in waiters {
            for _ in 0..times {
                answers.push((namespace, push(&mut queue, namespace, priority)));
            }
        }
        let mut order = Vec::new();
        while let Some((namespace, request)) = pop(&mut queue) {
            request.send(()).unwrap();
            let next = answers.iter_mut().position(|(_, answer)| answer.try_recv().is_ok()).unwrap();
            assert_eq!(answers.remove(next).0, &*namespace);
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
    fn a_failing_request_waits_for_its_own_namespace_only() {
        let order = order(&[
            ("mixed", Priority::Failing, 2),
            ("failing", Priority::Failing, 2),
            ("mixed", Priority::Refresh, 2),
        ]);
        assert_eq!(order, ["mixed", "failing", "mixed", "failing", "mixed", "mixed"]);
    }

    /// With a budget that never suffices, more urgent requests wait at all times. The failing ones have a turn in ten.
    #[test]
    fn a_failing_request_is_not_passed_over_for_ever() {
        let mut queue = Requests::default();
        let _failing: Vec<_> = (0..2).map(|_| push(&mut queue, "shop", Priority::Failing)).collect();
        let mut went = Vec::new();
        for _ in 0..25 {
            let refresh = push(&mut queue, "shop", Priority::Refresh);
            let (_, request) = pop(&mut queue).unwrap();
            request.send(()).unwrap();
            // The answer of a refresh that waits is kept alive.
            went.push(refresh);
        }
        let waiting = queue.lanes["shop"].classes.get(&Priority::Refresh).unwrap().waiters.len();
        assert_eq!(waiting, 2, "two of 25 turns were those of failing requests");
        assert!(!queue.lanes["shop"].classes.contains_key(&Priority::Failing));
    }

    #[test]
    fn a_late_namespace_has_no_credit_and_a_served_one_keeps_its_debt() {
        let mut queue = Requests::default();
        let calm: Vec<_> = (0..100).map(|_| push(&mut queue, "calm", Priority::Refresh)).collect();
        // One at a time, as the pages of a listing: this namespace never has two that wait.
        let mut ahead = 0;
        loop {
            let answer = push(&mut queue, "storm", Priority::Requested);
            if &*pop(&mut queue).unwrap().0 != "storm" {
                drop(answer);
                break;
            }
            ahead += 1;
            assert!(ahead <= 20, "the others never have their turn");
        }
        assert_eq!(ahead, 20);
        let last = push(&mut queue, "storm", Priority::Requested);
        drop(calm);
        assert_eq!(queue.count(|request| !request.is_closed()), 1, "those that gave up do not wait");
        assert_eq!(&*pop(&mut queue).unwrap().0, "storm", "those that gave up are passed over");
        assert!(pop(&mut queue).is_none());
        drop(last);
    }

    #[test]
    fn a_turn_that_is_given_back_was_none() {
        let mut queue = Requests::default();
        let _answers = ["a", "a", "b", "b"].map(|namespace| push(&mut queue, namespace, Priority::Refresh));
        assert_eq!(&*pop(&mut queue).unwrap().0, "a");
        queue.give_back("a");
        assert_eq!(&*pop(&mut queue).unwrap().0, "a");
        assert_eq!(&*pop(&mut queue).unwrap().0, "b");
    }
}
