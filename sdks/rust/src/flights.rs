//! Questions that are on their way.

use std::sync::{Arc, Condvar, Mutex};
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::cache::Entry;
use crate::transport::NoAnswer;
use crate::{locked, wait};

pub(crate) type Ended = Result<Arc<Entry>, NoAnswer>;

/// A question that is on its way.
#[derive(Default)]
pub(crate) struct Flight {
    state: Mutex<(Option<Ended>, Vec<Waker>)>,
    has_ended: Condvar,
}

impl Flight {
    pub fn finish(&self, ended: Ended) {
        let mut state = locked(&self.state);
        state.0 = Some(ended);
        let wakers = std::mem::take(&mut state.1);
        drop(state);
        self.has_ended.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }

    pub fn wait(&self, timeout: Duration) -> Ended {
        let end = Instant::now() + timeout;
        let mut state = locked(&self.state);
        while state.0.is_none() && Instant::now() < end {
            state = wait(&self.has_ended, state, end);
        }
        state.0.clone().unwrap_or_else(|| Err(NoAnswer::timeout()))
    }

    pub fn poll(&self, waker: &Waker) -> Option<Ended> {
        let mut state = locked(&self.state);
        if state.0.is_none() && !state.1.iter().any(|known| known.will_wake(waker)) {
            state.1.push(waker.clone());
        }
        state.0.clone()
    }
}
