//! Splits work into fixed blocks, never by thread count: 1, 2 and n threads give the same bits.

use std::sync::Mutex;

/// Threads that someone lends us.
pub trait Team: Sync {
    /// Calls `job` with every number in `0..jobs`, in any order, on any thread; returns when all are done.
    fn run(&self, jobs: usize, job: &(dyn Fn(usize) + Sync));
}

/// A team of one: the caller's thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Serial;

impl Team for Serial {
    fn run(&self, jobs: usize, job: &(dyn Fn(usize) + Sync)) {
        (0..jobs).for_each(job);
    }
}

/// How many elements one job of an elementwise kernel takes.
pub(crate) const BLOCK: usize = 32 * 1024;

/// Does `work` on every job, each of which may own a `&mut` piece of the output.
pub(crate) fn share<J: Send>(
    team: &dyn Team,
    jobs: impl ExactSizeIterator<Item = J>,
    work: impl Fn(J) + Sync,
) {
    if jobs.len() < 2 {
        return jobs.for_each(work);
    }
    let jobs: Vec<_> = jobs.map(|job| Mutex::new(Some(job))).collect();
    team.run(jobs.len(), &|i| {
        let job = jobs[i].lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(job) = job {
            work(job);
        }
    });
}

/// As [`share`], for blocks that are read and written once: to wake a sleeping thread takes as long as three of them.
pub(crate) fn share_light<J: Send>(
    team: &dyn Team,
    blocks: impl ExactSizeIterator<Item = J>,
    work: impl Fn(J) + Sync,
) {
    if blocks.len() < 4 { blocks.for_each(work) } else { share(team, blocks, work) }
}
