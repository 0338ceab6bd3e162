//! The scale that quantizes with the least squared error, out of up to 100.
//!
//! ```text
//! seed = the best candidate on every 16th block          # a guess; only the order of work depends on it
//! best = error of seed on all blocks
//! for tile in x:                                         # 16 KiB, stays in L1 while every candidate visits it
//!     for candidate still alive:
//!         error[candidate] += squared_error(tile)
//!         if error[candidate] > best: drop it            # errors only grow: it can neither win nor tie
//! ```

use super::{
    min_max::{min_max_per_channel, min_max_per_tensor},
    squared_error::{BLOCK, Symmetric, gather, squared_error},
};
use crate::{
    Element, Error, Isa, Layout,
    error::check_len,
    parallel::{Team, share},
};

/// Elements that stay in L1 while every candidate visits them.
const TILE: usize = 8 * BLOCK;
/// The seed looks at one block in so many.
const SAMPLE: usize = 16;
/// Candidates of one channel are shared out in so many parts, if the channel is long.
const PARTS: usize = 8;
/// The least scale, as for every observer.
const EPSILON: f32 = f32::EPSILON;

/// What to search among: `max_abs * i / 100` for i = 1, 1 + stride, ... and always 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    qmin: i32,
    qmax: i32,
    stride: usize,
}

/// The threshold `max_abs * i / 100` whose scale quantizes `x` with the least squared error; the larger on a tie.
///
/// The scale of a threshold is `threshold / ((qmax - qmin) / 2)`, at least 2⁻²³. Errors are f32 for each element,
/// summed in f64 in a fixed order: bit-identical on every [`Isa`] and [`Team`], and exactly what an exhaustive search
/// finds. If `max_abs * 100` is not finite, the answer is
/// `max_abs`: NaN or infinity tells that `x` has one.
///
/// # Errors
/// [`Error::Empty`] if `x` is; [`Error::EmptyRange`]; [`Error::WideRange`]; [`Error::Stride`].
pub fn mse_search_per_tensor<T: Element>(
    isa: Isa,
    team: &dyn Team,
    x: &[T],
    qmin: i32,
    qmax: i32,
    stride: usize,
) -> Result<f32, Error> {
    let range = Range { qmin, qmax, stride }.checked()?;
    let (low, high) = min_max_per_tensor(isa, team, x)?;
    let max_abs = max_abs(low, high);
    let channel = Channel { isa, x, layout: Layout::flat(x.len()), channel: 0, max_abs, range };
    let candidates = range.candidates();
    let Some(best) = channel.seed(&candidates) else {
        return Ok(max_abs);
    };
    // Every 8th candidate makes one part, so that parts cost about the same.
    let mut parts: Vec<_> = (0..PARTS).map(|part| (part, best)).collect();
    share(team, parts.iter_mut(), |(part, best)| {
        let mine: Vec<_> = candidates.iter().copied().skip(*part).step_by(PARTS).collect();
        *best = channel.search(&mine, *best);
    });
    Ok(channel.threshold(parts.into_iter().map(|(_, best)| best).fold(best, Best::or).candidate))
}

/// As [`mse_search_per_tensor`], for each channel of `layout`, written to `threshold`.
///
/// # Errors
/// As [`mse_search_per_tensor`]; [`Error::LengthMismatch`] if the slices do not fit `layout`.
#[allow(clippy::too_many_arguments, reason = "isa and team lead every kernel")]
pub fn mse_search_per_channel<T: Element>(
    isa: Isa,
    team: &dyn Team,
    x: &[T],
    layout: Layout,
    qmin: i32,
    qmax: i32,
    stride: usize,
    threshold: &mut [f32],
) -> Result<(), Error> {
    let range = Range { qmin, qmax, stride }.checked()?;
    check_len("threshold", threshold.len(), layout.channels)?;
    let (mut low, mut high) = (vec![0.0; layout.channels], vec![0.0; layout.channels]);
    min_max_per_channel(isa, team, x, layout, &mut low, &mut high)?;
    let candidates = range.candidates();
    share(
        team,
        threshold.iter_mut().zip(low.iter().zip(&high)).enumerate(),
        |(i, (threshold, (low, high)))| {
            let max_abs = max_abs(*low, *high);
            let channel = Channel { isa, x, layout, channel: i, max_abs, range };
            *threshold = match channel.seed(&candidates) {
                Some(best) => channel.threshold(channel.search(&candidates, best).candidate),
                None => max_abs,
            };
        },
    );
    Ok(())
}

fn max_abs(low: f32, high: f32) -> f32 {
    (if high > -low { high } else { -low }) + 0.0 // NaN stays NaN, and no zero is negative
}

impl Range {
    fn checked(self) -> Result<Self, Error> {
        let Self { qmin, qmax, stride } = self;
        if qmin >= qmax {
            return Err(Error::EmptyRange { qmin, qmax });
        }
        if i64::from(qmin).abs() >= 1 << 22 || i64::from(qmax).abs() >= 1 << 22 {
            return Err(Error::WideRange { qmin, qmax });
        }
        if stride == 0 {
            return Err(Error::Stride);
        }
        Ok(self)
    }

    fn candidates(self) -> Vec<usize> {
        (1..100).step_by(self.stride).chain([100]).collect()
    }
}

/// A candidate and its error on all elements.
#[derive(Clone, Copy)]
struct Best {
    candidate: usize,
    error: f64,
}

impl Best {
    fn or(self, other: Self) -> Self {
        let wins = other.error < self.error || other.error == self.error && other.candidate > self.candidate;
        if wins { other } else { self }
    }
}

/// The elements of one channel, and the largest of their magnitudes.
struct Channel<'a, T> {
    isa: Isa,
    x: &'a [T],
    layout: Layout,
    channel: usize,
    max_abs: f32,
    range: Range,
}

impl<T: Element> Channel<'_, T> {
    fn len(&self) -> usize {
        self.layout.outer * self.layout.inner
    }

    fn threshold(&self, candidate: usize) -> f32 {
        self.max_abs * candidate as f32 / 100.0
    }

    fn grid(&self, candidate: usize) -> Symmetric {
        let Range { qmin, qmax, .. } = self.range;
        let half_range = ((qmax - qmin) as f32) / 2.0;
        let scale = (self.threshold(candidate) / half_range).max(EPSILON);
        Symmetric { scale, low: qmin as f32, high: qmax as f32 }
    }

    /// The candidate that is best on a sample, with its error on everything. `None` if `max_abs * 100` is not finite.
    fn seed(&self, candidates: &[usize]) -> Option<Best> {
        if !(self.max_abs * 100.0).is_finite() {
            return None;
        }
        let mut errors = vec![0.0; candidates.len()];
        let mut block = [0.0; BLOCK];
        for first in (0..self.len()).step_by(SAMPLE * BLOCK) {
            let block = &mut block[..BLOCK.min(self.len() - first)];
            gather(self.x, self.layout, self.channel, first, block);
            for (error, &candidate) in errors.iter_mut().zip(candidates) {
                *error += squared_error(self.isa, block, self.grid(candidate));
            }
        }
        let sampled = errors.into_iter().zip(candidates).map(|(error, &candidate)| Best { candidate, error });
        let guess = sampled.reduce(Best::or)?.candidate;
        Some(self.search(&[guess], Best { candidate: 0, error: f64::INFINITY }))
    }

    /// The best of `candidates` and `best`.
    fn search(&self, candidates: &[usize], best: Best) -> Best {
        let mut alive: Vec<_> = candidates
            .iter()
            .filter(|&&candidate| candidate != best.candidate)
            .map(|&candidate| (Best { candidate, error: 0.0 }, self.grid(candidate)))
            .collect();
        let mut tile = [0.0; TILE];
        for first in (0..self.len()).step_by(TILE) {
            if alive.is_empty() {
                break;
            }
            let tile = &mut tile[..TILE.min(self.len() - first)];
            gather(self.x, self.layout, self.channel, first, tile);
            alive.retain_mut(|(candidate, grid)| {
                for block in tile.chunks(BLOCK) {
                    candidate.error += squared_error(self.isa, block, *grid);
                    if candidate.error > best.error {
                        return false;
                    }
                }
                true
            });
        }
        alive.into_iter().map(|(candidate, _)| candidate).fold(best, Best::or)
    }
}
