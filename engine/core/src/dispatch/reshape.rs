//! Other settings while it runs: what has started ends as it began, and what starts from now on goes by
//! the new ones.

use super::{Dispatch, Gate, Place, Queue, QueueIndex, QueueSettings};
use crate::rate::Meter;

impl Dispatch {
    /// Takes up other settings for what starts from now on. Queues and gates keep their places; new ones
    /// stand behind them, and none is left out. A queue without settings is closed: nothing of it starts,
    /// what runs ends, and all that waits is left to the journal, from where it is loaded when the queue
    /// is given settings again.
    pub fn reshape(&mut self, queues: &[Option<QueueSettings>], gates: &[usize]) {
        for (index, &cap) in gates.iter().enumerate() {
            match self.gates.get_mut(index) {
                Some(gate) => gate.cap = cap,
                None => self.gates.push(Gate {
                    cap,
                    running: 0,
                    blocked: Vec::new(),
                }),
            }
        }
        for (index, settings) in queues.iter().enumerate() {
            match (settings, index < self.queues.len()) {
                (Some(settings), false) => self.queues.push(Queue::new(*settings, self.window)),
                (Some(settings), true) => self.change(index, *settings),
                // It never had anything, and does not load.
                (None, false) => {
                    let mut queue = Queue::new(QueueSettings::CLOSED, self.window);
                    queue.window.close();
                    self.queues.push(queue);
                }
                (None, true) => self.queues[index].window.close(),
            }
            self.look_for_hunger(index);
        }
        self.look_at_all_again();
    }

    fn change(&mut self, index: QueueIndex, settings: QueueSettings) {
        let queue = &mut self.queues[index];
        let before = std::mem::replace(&mut queue.settings, settings);
        if before.gate != settings.gate {
            let count = std::mem::take(&mut queue.passing);
            queue
                .earlier
                .extend((count > 0).then_some((before.gate, count)));
        }
        if before.rate != settings.rate {
            queue.meter = settings.rate.map(Meter::new);
        }
        if !settings.held {
            queue.window.set_limit(settings.window(self.window));
            queue.window.open();
        }
    }

    /// Whatever a queue rests for may be no reason any more.
    fn look_at_all_again(&mut self) {
        self.timers.clear();
        for gate in &mut self.gates {
            gate.blocked.clear();
        }
        for (index, queue) in self.queues.iter_mut().enumerate() {
            if let Place::Timer(_) | Place::Rests(_) | Place::Blocked = queue.place {
                queue.place = Place::Ring;
                self.ring.push_back(index);
            }
        }
    }
}
