//! Tests of `keys::pool`.

use std::{
    num::NonZero,
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::future::join_all;

use super::*;

fn threads(count: usize, jobs_max: usize) -> SigningPool {
    SigningPool::new(Arc::new(SigningThreads::start(NonZero::new(count).unwrap(), jobs_max).unwrap()))
}

#[tokio::test]
async fn work_is_done_on_named_threads_and_its_value_comes_back() {
    let pool = threads(2, 64);
    let jobs = (0..64).map(|number| pool.run(move || (number * 2, std::thread::current().name().map(String::from))));
    for (number, answer) in join_all(jobs).await.into_iter().enumerate() {
        let (value, thread) = answer.unwrap();
        assert_eq!(value, number * 2);
        assert!(thread.unwrap().starts_with("signing-"));
    }
}

#[tokio::test]
async fn what_does_not_fit_is_refused_at_once_and_what_was_taken_is_done() {
    let pool = threads(1, 2);
    let gate = Arc::new(Barrier::new(2));
    let busy = {
        let gate = gate.clone();
        pool.run(move || {
            gate.wait();
            gate.wait();
        })
    };
    tokio::pin!(busy);
    assert!(futures::poll!(&mut busy).is_pending());
    gate.wait(); // the only thread is in the first job now
    let taken = [1, 2].map(|number| Box::pin(pool.run(move || number)));
    let mut taken = join_all(taken);
    assert!(futures::poll!(&mut taken).is_pending());
    assert_eq!(pool.run(|| 3).await, Err(PoolError::Overloaded { jobs: 2 }));
    assert_eq!(pool.waiting(), 2);
    gate.wait();
    busy.await.unwrap();
    assert_eq!(taken.await, [Ok(1), Ok(2)]);
}

#[tokio::test]
async fn work_of_a_caller_that_went_away_is_not_done() {
    let pool = threads(1, 8);
    let gate = Arc::new(Barrier::new(2));
    let done = Arc::new(AtomicUsize::new(0));
    let mut busy = Box::pin({
        let gate = gate.clone();
        pool.run(move || gate.wait())
    });
    assert!(futures::poll!(&mut busy).is_pending());
    let mut gone = Box::pin({
        let done = done.clone();
        pool.run(move || done.fetch_add(1, Ordering::SeqCst))
    });
    assert!(futures::poll!(&mut gone).is_pending());
    drop(gone);
    gate.wait();
    busy.await.unwrap();
    pool.run(|| ()).await.unwrap();
    assert_eq!(done.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_panic_reaches_its_caller_and_spares_the_thread() {
    let pool = threads(1, 8);
    let worker = pool.clone();
    let broken = tokio::spawn(async move { worker.run(|| -> u8 { panic!("broken job") }).await });
    assert!(broken.await.unwrap_err().is_panic());
    assert_eq!(pool.run(|| 7).await, Ok(7));
}

#[tokio::test]
async fn stopping_the_pool_tells_those_who_wait() {
    let executor = SigningThreads::start(NonZero::new(1).unwrap(), 8).unwrap();
    let gate = Arc::new(Barrier::new(2));
    let (sender, receiver) = oneshot::channel::<()>();
    let blocked = gate.clone();
    let job = move || {
        blocked.wait();
        blocked.wait();
    };
    executor.execute(Box::new(job)).unwrap();
    gate.wait(); // the only thread is in the first job now
    executor.execute(Box::new(move || drop(sender))).unwrap();
    drop(executor);
    assert!(receiver.await.is_err(), "the waiting job was dropped, and with it its sender");
    gate.wait();
}

#[tokio::test]
async fn the_inline_executor_does_the_work_in_the_callers_thread() {
    let pool = SigningPool::new(Arc::new(Inline));
    let here = std::thread::current().id();
    assert_eq!(pool.run(move || std::thread::current().id() == here).await, Ok(true));
}
