//! The gradients of scale and zero point, for quantizers that learn them (Esser et al., "Learned Step Size
//! Quantization", ICLR 2020; the formulas are torch's). The forward pass is that of a fixed grid.
//!
//! ```text
//! for x, grad_y of one channel:
//!     raw    = round_half_even(x * inv)
//!     steps  = clamp(raw, low, high)             # low = qmin - zero_point, high = qmax - zero_point
//!     inside = raw == steps
//!     grad_x           = grad_y * inside
//!     grad_scale      += grad_y * ((steps * scale - x) * inv if inside else steps)
//!     grad_zero_point += 0 if inside else -grad_y * scale
//! ```

use super::{
    formula,
    grid::{ChannelGrid, Steps},
};
use crate::{
    Element, Error, Isa, Layout, Wide,
    error::check_len,
    isa::per_isa,
    parallel::{BLOCK, Team, share},
};

/// Values added side by side.
const LANES: usize = 16;
/// Values that each lane adds up in the type of the arithmetic; the sums of lanes are added in f64.
const ROWS: usize = 32;

/// What a channel's gradients are made of.
#[derive(Clone, Copy, Default)]
struct Sums {
    scale: f64,
    clipped: f64,
}

impl Sums {
    fn and(self, other: Self) -> Self {
        Self { scale: self.scale + other.scale, clipped: self.clipped + other.clipped }
    }
}

/// Writes the gradient of `x` to `grad_x`, and those of each channel's scale and zero point, times `grad_factor`.
///
/// Sums are in f64 over sums of at most 32 neighbours, 16 apart; their order is fixed, so that they are bit-identical on
/// every [`Isa`] and [`Team`]. A clipped `x` (NaN and infinities too) counts with the end it was clipped to.
///
/// # Errors
/// [`Error::LengthMismatch`] if the slices do not fit `layout`; what is wrong with `grid`, and in which channel.
#[allow(clippy::too_many_arguments, reason = "three inputs and three outputs")]
pub fn learnable_backward<T: Element>(
    isa: Isa,
    team: &dyn Team,
    grad_y: &[T],
    x: &[T],
    layout: Layout,
    grid: ChannelGrid<'_>,
    grad_factor: f64,
    grad_x: &mut [T],
    grad_scale: &mut [f32],
    grad_zero_point: &mut [f32],
) -> Result<(), Error> {
    let Layout { channels, inner, .. } = layout;
    check_len("x", x.len(), layout.checked_len().unwrap_or(usize::MAX))?;
    check_len("grad_y", grad_y.len(), x.len())?;
    check_len("grad_x", grad_x.len(), x.len())?;
    check_len("grad_scale", grad_scale.len(), channels)?;
    check_len("grad_zero_point", grad_zero_point.len(), channels)?;
    let grids: Vec<Steps<T::Wide>> = grid.steps(channels)?;
    let mut totals = vec![Sums::default(); channels];
    if !x.is_empty() {
        // Each job takes some whole runs of one channel, or a piece of one that is longer than a job.
        let runs = (BLOCK / inner).max(1);
        let piece = if inner > BLOCK { BLOCK } else { inner };
        let jobs: Vec<_> = x
            .chunks(runs * inner)
            .zip(grad_y.chunks(runs * inner))
            .zip(grad_x.chunks_mut(runs * inner))
            .enumerate()
            .flat_map(|(i, ((x, grad_y), grad_x))| {
                let size = runs * piece;
                let pieces = x.chunks(size).zip(grad_y.chunks(size)).zip(grad_x.chunks_mut(size));
                pieces.map(move |((x, grad_y), grad_x)| (i * runs, x, grad_y, grad_x))
            })
            .collect();
        let mut found: Vec<_> = jobs.iter().map(|(first, ..)| (*first, Vec::new())).collect();
        let grids = grids.as_slice();
        share(team, jobs.into_iter().zip(&mut found), |((first, x, grad_y, grad_x), (_, sums))| {
            *sums = per_isa!(isa, job::<T>, [T: Element], (x: &[T], grad_y: &[T], grids: &[Steps<T::Wide>], first: usize,
                piece: usize, grad_x: &mut [T]) -> Vec<Sums>);
        });
        for (first, sums) in found {
            for (run, sums) in (first..).zip(sums) {
                let total = &mut totals[run % channels];
                *total = total.and(sums);
            }
        }
    }
    for (channel, total) in totals.into_iter().enumerate() {
        grad_scale[channel] = (total.scale * grad_factor) as f32;
        grad_zero_point[channel] = (-total.clipped * f64::from(grid.scale[channel]) * grad_factor) as f32;
    }
    Ok(())
}

/// Runs of `piece` elements, the first of them number `first` of all.
#[inline(always)]
fn job<T: Element>(
    x: &[T],
    grad_y: &[T],
    grids: &[Steps<T::Wide>],
    first: usize,
    piece: usize,
    grad_x: &mut [T],
) -> Vec<Sums> {
    // A loop, not a closure handed to `collect`: that would be compiled for the baseline.
    let mut sums = Vec::with_capacity(x.len().div_ceil(piece));
    let runs = x.chunks(piece).zip(grad_y.chunks(piece)).zip(grad_x.chunks_mut(piece)).enumerate();
    for (i, ((x, grad_y), grad_x)) in runs {
        sums.push(run(x, grad_y, grids[(first + i) % grids.len()], grad_x));
    }
    sums
}

/// Neighbours on one grid.
#[inline(always)]
fn run<T: Element>(x: &[T], grad_y: &[T], grid: Steps<T::Wide>, grad_x: &mut [T]) -> Sums {
    let mut sums = Sums::default();
    let size = ROWS * LANES;
    for ((x, grad_y), grad_x) in x.chunks(size).zip(grad_y.chunks(size)).zip(grad_x.chunks_mut(size)) {
        let zero = T::Wide::from_f32(0.0);
        let (mut scale, mut clipped) = ([zero; LANES], [zero; LANES]);
        let ((x, x_rest), (grad_y, grad_y_rest)) = (x.as_chunks::<LANES>(), grad_y.as_chunks::<LANES>());
        let (grad_x, grad_x_rest) = grad_x.as_chunks_mut::<LANES>();
        for ((x, grad_y), grad_x) in x.iter().zip(grad_y).zip(grad_x) {
            for lane in 0..LANES {
                one(x[lane], grad_y[lane], grid, &mut grad_x[lane], &mut scale[lane], &mut clipped[lane]);
            }
        }
        for (lane, (x, (grad_y, grad_x))) in
            x_rest.iter().zip(grad_y_rest.iter().zip(grad_x_rest)).enumerate()
        {
            one(*x, *grad_y, grid, grad_x, &mut scale[lane], &mut clipped[lane]);
        }
        for (scale, clipped) in scale.into_iter().zip(clipped) {
            sums = sums.and(Sums { scale: scale.to_f64(), clipped: clipped.to_f64() });
        }
    }
    sums
}

/// One value, added to the sums of its lane.
#[inline(always)]
fn one<T: Element>(
    x: T,
    grad_y: T,
    grid: Steps<T::Wide>,
    grad_x: &mut T,
    scale: &mut T::Wide,
    clipped: &mut T::Wide,
) {
    let zero = T::Wide::from_f32(0.0);
    let (x, grad_y) = (x.widen(), grad_y.widen());
    let (raw, steps) = formula::steps(x, grid);
    let inside = raw == steps;
    *grad_x = T::narrow(grad_y * if inside { T::Wide::ONE } else { zero });
    let rounding = (steps * T::Wide::from_f32(grid.scale) - x) * grid.inv_scale;
    *scale = *scale + grad_y * if inside { rounding } else { steps };
    *clipped = *clipped + if inside { zero } else { grad_y };
}
