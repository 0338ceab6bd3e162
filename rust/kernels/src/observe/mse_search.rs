//! The scale that quantizes with the least squared error, out of up to 100.
//!
//! ```text
//! bound = what the error of each candidate is at least     # from a histogram; one pass over x, see `outlook`
//! best = error of the candidate with the least bound       # a guess; only the amount of work depends on it
//! for tile in x:                                           # 16 KiB, stays in L1 while every candidate visits it
//!     for candidate with bound <= best, still alive:       # two or three, mostly
//!         error[candidate] += squared_error(tile)
//!         if error[candidate] > best: drop it              # errors only grow: it can neither win nor tie
//! ```

use super::{
    elements::{Elements, TILE},
    min_max::{min_max_per_channel, min_max_per_tensor},
    outlook::{CAPACITY, Cells, Outlook},
    squared_error::{BLOCK, Symmetric, squared_error},
};
use crate::{
    Element, Error, Isa, Layout,
    error::check_len,
    parallel::{Serial, Team, share},
};

/// Elements that a thread takes at a time.
const PIECE: usize = 16 * TILE;
/// A histogram is made in so many parts at least, candidates are shared out in so many at most.
const PARTS: usize = 8;
/// Candidates whose clipping alone costs that much more than the best known bound are not looked at more closely.
const HOPELESS: f64 = 1.25;
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
/// [`Error::Empty`] if `x` is; [`Error::EmptyRange`]; [`Error::WideRange`]; [`Error::FarRange`];
/// [`Error::Stride`].
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
    let channel =
        Channel { isa, elements: Elements { x, layout: Layout::flat(x.len()), channel: 0 }, max_abs, range };
    Ok(channel.winner(team, &range.candidates()))
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
            let channel = Channel { isa, elements: Elements { x, layout, channel: i }, max_abs, range };
            *threshold = channel.winner(&Serial, &candidates);
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
        if i64::from(qmax) - i64::from(qmin) >= 1 << 22 {
            return Err(Error::WideRange { qmin, qmax });
        }
        if qmin < -(1 << 22) || qmax > 1 << 22 {
            return Err(Error::FarRange { qmin, qmax });
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
    elements: Elements<'a, T>,
    max_abs: f32,
    range: Range,
}

impl<T: Element> Channel<'_, T> {
    fn threshold(&self, candidate: usize) -> f32 {
        self.max_abs * candidate as f32 / 100.0
    }

    fn grid(&self, candidate: usize) -> Symmetric {
        let Range { qmin, qmax, .. } = self.range;
        let half_range = ((qmax - qmin) as f32) / 2.0;
        let scale = (self.threshold(candidate) / half_range).max(EPSILON);
        Symmetric { scale, low: qmin as f32, high: qmax as f32 }
    }

    /// The best threshold; `max_abs` if `max_abs * 100` is not finite.
    fn winner(&self, team: &dyn Team, candidates: &[usize]) -> f32 {
        if !(self.max_abs * 100.0).is_finite() {
            return self.max_abs;
        }
        let bounds = self.bounds(team, candidates);
        let Some(guess) = bounds.iter().copied().reduce(Best::or) else { return self.max_abs };
        let best = Best { error: self.error(team, guess.candidate), ..guess };
        let hopeful = bounds.into_iter().filter(|bound| bound.error <= best.error);
        let hopeful: Vec<_> =
            hopeful.map(|bound| bound.candidate).filter(|&candidate| candidate != best.candidate).collect();
        // Neighbours cost about the same: each part takes every 8th.
        let mut parts: Vec<_> = (0..PARTS.min(hopeful.len())).map(|part| (part, best)).collect();
        share(team, parts.iter_mut(), |(part, best)| {
            let mine: Vec<_> = hopeful.iter().copied().skip(*part).step_by(PARTS).collect();
            *best = self.search(&mine, *best);
        });
        self.threshold(parts.into_iter().map(|(_, best)| best).fold(best, Best::or).candidate)
    }

    /// What the error of each candidate is at least.
    fn bounds(&self, team: &dyn Team, candidates: &[usize]) -> Vec<Best> {
        let unknown = |&candidate: &usize| Best { candidate, error: 0.0 };
        let Some(outlook) = self.outlook(team) else { return candidates.iter().map(unknown).collect() };
        let (mut least, mut clipped) = (f64::INFINITY, 0.0);
        // With 0 on the grid, a narrower one clips no less, and f32 rounds its values no more. Without, it may come nearer.
        let grows = self.range.qmin <= 0 && self.range.qmax >= 0;
        let look = |&candidate: &usize| {
            let grid = self.grid(candidate);
            if !grows || clipped <= HOPELESS * least {
                clipped = outlook.clipped(grid);
            }
            if grid.scale <= EPSILON || clipped > HOPELESS * least {
                return Best { candidate, error: clipped };
            }
            let error = outlook.error(self.isa, grid).max(clipped);
            least = if error > 0.0 { least.min(error) } else { least };
            Best { candidate, error }
        };
        candidates.iter().rev().map(look).collect() // the more is clipped, the later
    }

    /// A histogram of all elements.
    fn outlook(&self, team: &dyn Team) -> Option<Outlook> {
        let part = self.elements.len().div_ceil(PARTS).next_multiple_of(PIECE).min(CAPACITY);
        let fresh = |_| Cells::of(self.elements.len(), self.max_abs);
        let pieces = self.elements.pieces(part);
        let mut parts: Vec<_> = (0..pieces.len()).map(fresh).collect::<Option<_>>()?;
        share(team, parts.iter_mut().zip(pieces), |(cells, piece)| {
            self.elements.tiles(piece, |tile| {
                cells.add(self.isa, tile);
                true
            });
        });
        Outlook::of(&parts)
    }

    /// The error of one candidate, block by block in their order.
    fn error(&self, team: &dyn Team, candidate: usize) -> f64 {
        let mut errors = vec![0.0; self.elements.len().div_ceil(BLOCK)];
        let grid = self.grid(candidate);
        share(team, errors.chunks_mut(PIECE / BLOCK).zip(self.elements.pieces(PIECE)), |(errors, piece)| {
            let mut errors = errors.iter_mut();
            self.elements.tiles(piece, |tile| {
                for (block, error) in tile.chunks(BLOCK).zip(&mut errors) {
                    *error = squared_error(self.isa, block, grid);
                }
                true
            });
        });
        errors.into_iter().sum()
    }

    /// The best of `candidates` and `best`.
    fn search(&self, candidates: &[usize], best: Best) -> Best {
        let mut alive: Vec<_> = candidates
            .iter()
            .map(|&candidate| (Best { candidate, error: 0.0 }, self.grid(candidate)))
            .collect();
        self.elements.tiles(0..self.elements.len(), |tile| {
            alive.retain_mut(|(candidate, grid)| {
                for block in tile.chunks(BLOCK) {
                    candidate.error += squared_error(self.isa, block, *grid);
                    if candidate.error > best.error {
                        return false;
                    }
                }
                true
            });
            !alive.is_empty()
        });
        alive.into_iter().map(|(candidate, _)| candidate).fold(best, Best::or)
    }
}
