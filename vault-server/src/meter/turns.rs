//! Places before something that serves few at once, given in turn to the machines that wait: one
//! that asks a thousand times delays another one by a single place.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shared::log::Number;
use tokio::sync::oneshot;

/// A gate; clones are the same.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Mutex<Turns>>);

#[derive(Debug)]
struct Turns {
    free: usize,
    waiting: BTreeMap<Number, VecDeque<oneshot::Sender<Turn>>>,
    /// The machine that came in last after having waited.
    last: Number,
}

/// A place behind the gate; dropping it lets the next one in.
#[derive(Debug)]
pub struct Turn(Option<Gate>);

impl Gate {
    /// Makes a gate that lets `places` through at once.
    pub fn new(places: usize) -> Self {
        let turns = Turns { free: places, waiting: BTreeMap::new(), last: 0 };
        Self(Arc::new(Mutex::new(turns)))
    }

    /// Waits for a place.
    pub async fn enter(&self, machine: Number) -> Turn {
        let turn = {
            let mut turns = self.lock();
            if turns.free > 0 {
                turns.free -= 1;
                return Turn(Some(self.clone()));
            }
            let (turn, given) = oneshot::channel();
            turns.waiting.entry(machine).or_default().push_back(turn);
            given
        };
        // Senders are dropped with the gate only, which this call holds.
        turn.await.unwrap_or(Turn(None))
    }

    fn lock(&self) -> MutexGuard<'_, Turns> {
        // Every change under the lock is a single step: a panic elsewhere leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a place that has become free to the next one who still waits.
    fn pass_on(&self) {
        loop {
            let next = {
                let mut turns = self.lock();
                let Some(next) = turns.next() else {
                    turns.free += 1;
                    return;
                };
                next
            };
            match next.send(Turn(Some(self.clone()))) {
                Ok(()) => return,
                // It has left: the place is still to be given.
                Err(mut turn) => turn.0 = None,
            }
        }
    }
}

impl Turns {
    /// Takes the first request of the machine whose turn it is.
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        let later = self.waiting.range((Excluded(self.last), Unbounded)).next();
        let machine = *later.or_else(|| self.waiting.first_key_value())?.0;
        let queue = self.waiting.get_mut(&machine)?;
        let next = queue.pop_front();
        if queue.is_empty() {
            self.waiting.remove(&machine);
        }
        self.last = machine;
        next
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(gate) = self.0.take() {
            gate.pass_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Queues requests of these machines behind one that holds the only place, and returns the
    /// order in which they are served.
    async fn served(asking: &[Number], leaves: &[usize]) -> Vec<Number> {
        let gate = Gate::new(1);
        let first = gate.enter(99).await;
        let order: Arc<Mutex<Vec<Number>>> = Arc::default();
        let mut tasks = Vec::new();
        for machine in asking.iter().copied() {
            let (gate, order) = (gate.clone(), Arc::clone(&order));
            tasks.push(tokio::spawn(async move {
                let _turn = gate.enter(machine).await;
                order.lock().unwrap().push(machine);
            }));
            tokio::task::yield_now().await;
        }
        for leaving in leaves {
            tasks[*leaving].abort();
            tokio::task::yield_now().await;
        }
        drop(first);
        for task in tasks {
            let _ = task.await;
        }
        let _free = gate.enter(1).await;
        let order = order.lock().unwrap();
        order.clone()
    }

    #[tokio::test]
    async fn machines_take_turns_however_much_one_asks() {
        let asking: Vec<Number> = [7; 100].into_iter().chain([3, 3, 9]).collect();
        let order = served(&asking, &[]).await;
        let at = |machine| -> Vec<usize> {
            order.iter().enumerate().filter(|(_, by)| **by == machine).map(|(at, _)| at).collect()
        };
        assert_eq!(order.len(), 103);
        // Between two places of the flood everybody else who waits gets one.
        assert_eq!((at(3), at(9)), (vec![0, 3], vec![2]));
        assert_eq!(at(7)[..3], [1, 4, 5]);
    }

    #[tokio::test]
    async fn a_place_is_not_lost_with_one_who_left() {
        assert_eq!(served(&[1, 2, 3], &[0, 1]).await, [3]);
        assert_eq!(served(&[1], &[0]).await, Vec::<Number>::new());
    }
}
