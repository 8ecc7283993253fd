//! The executor of real servers: named threads that drain a bounded queue, several jobs at a time.

use std::{
    collections::VecDeque,
    io,
    num::NonZero,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
};

use super::{Executor, Job, PoolError};

/// The most jobs that a thread takes in one go: enough to make the lock rare, few enough to leave work for the others.
const JOBS_A_TURN_MAX: usize = 16;

/// A pool of threads. The threads end, after the jobs that they have taken, when it is dropped.
#[derive(Debug)]
pub struct SigningThreads {
    queue: Arc<Queue>,
}

impl SigningThreads {
    /// Starts `threads` threads behind a queue of `jobs_max`.
    pub fn start(threads: NonZero<usize>, jobs_max: usize) -> io::Result<Self> {
        let pool = Self { queue: Arc::new(Queue::new(jobs_max, threads.get())) };
        for number in 0..threads.get() {
            let queue = pool.queue.clone();
            thread::Builder::new().name(format!("signing-{number}")).spawn(move || queue.work())?;
        }
        Ok(pool)
    }

    /// Starts one thread for each core that this process may use.
    pub fn start_default() -> io::Result<Self> {
        Self::start(thread::available_parallelism()?, super::SIGNING_QUEUE_MAX)
    }
}

impl Executor for SigningThreads {
    fn execute(&self, job: Job) -> Result<(), PoolError> {
        self.queue.push(job)
    }

    fn waiting(&self) -> usize {
        self.queue.lock().jobs.len()
    }
}

impl Drop for SigningThreads {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.is_stopped = true;
        let abandoned = std::mem::take(&mut state.jobs);
        drop(state);
        self.queue.filled.notify_all();
        drop(abandoned);
    }
}

struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    jobs_max: usize,
    threads: usize,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    idle: usize,
    is_stopped: bool,
}

impl Queue {
    fn new(jobs_max: usize, threads: usize) -> Self {
        Self { state: Mutex::default(), filled: Condvar::new(), jobs_max, threads }
    }

    fn push(&self, job: Job) -> Result<(), PoolError> {
        let mut state = self.lock();
        if state.is_stopped {
            return Err(PoolError::Stopped);
        }
        if state.jobs.len() >= self.jobs_max {
            return Err(PoolError::Overloaded { jobs: state.jobs.len() });
        }
        state.jobs.push_back(job);
        let is_anyone_idle = state.idle > 0;
        drop(state);
        if is_anyone_idle {
            self.filled.notify_one();
        }
        Ok(())
    }

    fn work(&self) {
        let mut turn = Vec::with_capacity(JOBS_A_TURN_MAX);
        while self.take(&mut turn) {
            // A job catches its own panics: it is made by `SigningPool::run`.
            turn.drain(..).for_each(|job| job());
        }
    }

    /// Waits for jobs and takes this thread's share of them. False: the pool was stopped.
    fn take(&self, turn: &mut Vec<Job>) -> bool {
        let mut state = self.lock();
        while state.jobs.is_empty() {
            if state.is_stopped {
                return false;
            }
            state.idle += 1;
            state = self.filled.wait(state).expect("no code panics while it holds this lock");
            state.idle -= 1;
        }
        let share = state.jobs.len().div_ceil(self.threads).min(JOBS_A_TURN_MAX);
        turn.extend(state.jobs.drain(..share));
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Queue({} of {})", self.lock().jobs.len(), self.jobs_max)
    }
}
