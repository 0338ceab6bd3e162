//! One grid for each channel.
//!
//! ```text
//! for each fixed block of flat memory:
//!     for each piece of it with one channel (Runs), or each piece of one period (Columns):
//!         quantize the piece with its grid, or with a grid for each element
//! ```

use super::{
    formula::{self, InWide},
    grid::{ChannelGrid, Steps, Unbounded},
    mask::{self, BYTES, LANES, PACK, mask_len, pack},
};
use crate::{
    Element, Error, Isa, Layout,
    error::check_len,
    isa::per_isa,
    parallel::{BLOCK, Team, share_light},
};

/// Shorter runs than this go through [`Columns`]: a loop of a few elements is mostly overhead.
const SHORT_RUN: usize = 32;

/// Writes the fake-quantized `x` to `y`, each channel of `layout` on its own grid.
///
/// Bit-identical on every [`Isa`] and [`Team`]. NaN and infinities as in [`super::per_tensor`].
///
/// # Errors
/// [`Error::LengthMismatch`] if the slices do not fit `layout`; what is wrong with `grid`, and in which channel.
pub fn per_channel<T: Element>(
    isa: Isa,
    team: &dyn Team,
    x: &[T],
    layout: Layout,
    grid: ChannelGrid<'_>,
    y: &mut [T],
) -> Result<(), Error> {
    let grids = check(x, layout, grid, y)?;
    let blocks = x.chunks(BLOCK).zip(y.chunks_mut(BLOCK)).enumerate();
    if let Some(columns) = Columns::new(&grids, layout, x.len()) {
        let columns = &columns;
        share_light(team, blocks, |(i, (x, y))| {
            let first = i * BLOCK;
            per_isa!(isa, columns_block::<T>, [T: Element],
                (x: &[T], columns: &Columns<T::Wide>, first: usize, y: &mut [T]) -> ());
        });
    } else {
        share_light(team, blocks, |(i, (x, y))| {
            let runs = Runs::starting_at(i * BLOCK, &grids, layout.inner);
            per_isa!(isa, runs_block::<T>, [T: Element], (x: &[T], runs: Runs<'_, T::Wide>, y: &mut [T]) -> ());
        });
    }
    Ok(())
}

/// As [`per_channel`], and writes one bit for each element to `mask`: 1 if it was inside its grid before clamping.
/// The bits behind the last element are 0.
///
/// # Errors
/// As [`per_channel`]; [`Error::LengthMismatch`] if `mask` has not [`mask_len`] bytes.
pub fn per_channel_with_mask<T: Element>(
    isa: Isa,
    team: &dyn Team,
    x: &[T],
    layout: Layout,
    grid: ChannelGrid<'_>,
    y: &mut [T],
    mask: &mut [u8],
) -> Result<(), Error> {
    check_len("mask", mask.len(), mask_len(x.len()))?;
    let grids = check(x, layout, grid, y)?;
    let blocks = x.chunks(BLOCK).zip(y.chunks_mut(BLOCK)).zip(mask.chunks_mut(mask_len(BLOCK))).enumerate();
    if let Some(columns) = Columns::new(&grids, layout, x.len()) {
        let columns = &columns;
        share_light(team, blocks, |(i, ((x, y), mask))| {
            let first = i * BLOCK;
            per_isa!(isa, columns_block_with_mask::<T>, [T: Element],
                (x: &[T], columns: &Columns<T::Wide>, first: usize, y: &mut [T], mask: &mut [u8]) -> ());
        });
    } else {
        share_light(team, blocks, |(i, ((x, y), mask))| {
            let runs = Runs::starting_at(i * BLOCK, &grids, layout.inner);
            per_isa!(isa, runs_block_with_mask::<T>, [T: Element],
                (x: &[T], runs: Runs<'_, T::Wide>, y: &mut [T], mask: &mut [u8]) -> ());
        });
    }
    Ok(())
}

fn check<T: Element>(
    x: &[T],
    layout: Layout,
    grid: ChannelGrid<'_>,
    y: &[T],
) -> Result<Vec<Steps<T::Wide>>, Error> {
    check_len("x", x.len(), layout.checked_len().unwrap_or(usize::MAX))?;
    check_len("y", y.len(), x.len())?;
    grid.steps(layout.channels)
}

/// Walks flat memory run by run; a run is `inner` neighbours of one channel.
#[derive(Clone, Copy)]
struct Runs<'a, W> {
    grids: &'a [Steps<W>],
    inner: usize,
    channel: usize,
    left: usize,
}

impl<'a, W: Copy> Runs<'a, W> {
    fn starting_at(first: usize, grids: &'a [Steps<W>], inner: usize) -> Self {
        Self { grids, inner, channel: first / inner % grids.len(), left: inner - first % inner }
    }

    /// The next at most `n` elements: how many of them share one grid, and which.
    #[inline(always)]
    fn next(&mut self, n: usize) -> (usize, Steps<W>) {
        if self.left == 0 {
            self.left = self.inner;
            self.channel = if self.channel + 1 == self.grids.len() { 0 } else { self.channel + 1 };
        }
        let n = n.min(self.left);
        self.left -= n;
        (n, self.grids[self.channel])
    }
}

#[inline(always)]
fn runs_block<T: Element>(mut x: &[T], mut runs: Runs<'_, T::Wide>, mut y: &mut [T]) {
    while !x.is_empty() {
        let (n, grid) = runs.next(x.len());
        formula::slice::<T, InWide, Unbounded>(&x[..n], grid, &mut y[..n]);
        (x, y) = (&x[n..], &mut y[n..]);
    }
}

#[inline(always)]
fn runs_block_with_mask<T: Element>(x: &[T], mut runs: Runs<'_, T::Wide>, y: &mut [T], mask: &mut [u8]) {
    // Blocks start at whole rows: where runs hold whole rows, no row has two grids.
    let whole_rows = runs.inner.is_multiple_of(LANES);
    let mut inside = [0; PACK];
    for ((mut x, mut y), mask) in x.chunks(PACK).zip(y.chunks_mut(PACK)).zip(mask.chunks_mut(BYTES)) {
        if whole_rows && x.len() == PACK {
            let (mut words, mut x, mut y) = ([0; LANES], x.as_chunks().0, y.as_chunks_mut().0);
            while !x.is_empty() {
                let (n, grid) = runs.next(x.len() * LANES);
                let (x_now, y_now);
                ((x_now, x), (y_now, y)) = (x.split_at(n / LANES), y.split_at_mut(n / LANES));
                for (x, y) in x_now.iter().zip(y_now) {
                    formula::row::<T, InWide, Unbounded>(x, |_| grid, y, &mut words);
                }
            }
            mask::write(words, mask);
            continue;
        }
        inside[x.len()..].fill(0);
        let mut left = inside.as_mut_slice();
        while !x.is_empty() {
            let (n, grid) = runs.next(x.len());
            formula::slice_and_inside::<T, InWide, Unbounded>(&x[..n], grid, &mut y[..n], &mut left[..n]);
            (x, y, left) = (&x[n..], &mut y[n..], &mut left[n..]);
        }
        pack(&inside, mask);
    }
}

/// A grid for each element of one period of flat memory, so that a loop can take whole rows across channels.
struct Columns<W> {
    period: usize,
    // Each goes on for one row behind the period, so that a row can start anywhere in it.
    inv_scale: Vec<W>,
    low: Vec<W>,
    high: Vec<W>,
    scale: Vec<f32>,
}

impl<W: Copy> Columns<W> {
    /// `None` where runs are long, or the table would cost as much as the work.
    fn new(grids: &[Steps<W>], layout: Layout, n: usize) -> Option<Self> {
        let short = layout.inner < SHORT_RUN && (layout.inner == 1 || layout.outer >= 4);
        if !short || n == 0 {
            return None;
        }
        let period = (grids.len() * layout.inner) * LANES.div_ceil(grids.len() * layout.inner);
        let each = (0..period + LANES).map(|i| &grids[i / layout.inner % grids.len()]);
        Some(Self {
            period,
            inv_scale: each.clone().map(|grid| grid.inv_scale).collect(),
            low: each.clone().map(|grid| grid.low).collect(),
            high: each.clone().map(|grid| grid.high).collect(),
            scale: each.map(|grid| grid.scale).collect(),
        })
    }

    /// The grids of the row that starts at `at`, which moves to the next.
    #[inline(always)]
    fn next(&self, at: &mut usize) -> impl Fn(usize) -> Steps<W> {
        let (inv_scale, low) = (lanes(&self.inv_scale, *at), lanes(&self.low, *at));
        let (high, scale) = (lanes(&self.high, *at), lanes(&self.scale, *at));
        *at += LANES;
        if *at >= self.period {
            *at -= self.period;
        }
        move |lane| Steps {
            inv_scale: inv_scale[lane],
            low: low[lane],
            high: high[lane],
            scale: scale[lane],
            bound: Unbounded,
        }
    }
}

/// Of a fixed length, so that a loop over them needs no checks.
#[inline(always)]
fn lanes<W>(columns: &[W], at: usize) -> &[W; LANES] {
    columns[at..].first_chunk().expect("a row fits behind every column of the period")
}

#[inline(always)]
fn columns_block<T: Element>(x: &[T], columns: &Columns<T::Wide>, first: usize, y: &mut [T]) {
    let mut at = first % columns.period;
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks_mut::<LANES>());
    for (x, y) in x.iter().zip(y) {
        let grid = columns.next(&mut at);
        for lane in 0..LANES {
            y[lane] = formula::value::<T, InWide, Unbounded>(x[lane], grid(lane));
        }
    }
    let grid = columns.next(&mut at);
    for (lane, (x, y)) in x_rest.iter().zip(y_rest).enumerate() {
        *y = formula::value::<T, InWide, Unbounded>(*x, grid(lane));
    }
}

#[inline(always)]
fn columns_block_with_mask<T: Element>(
    x: &[T],
    columns: &Columns<T::Wide>,
    first: usize,
    y: &mut [T],
    mask: &mut [u8],
) {
    let mut at = first % columns.period;
    for ((x, y), mask) in x.chunks(PACK).zip(y.chunks_mut(PACK)).zip(mask.chunks_mut(BYTES)) {
        if x.len() == PACK {
            let mut words = [0; LANES];
            for (x, y) in x.as_chunks().0.iter().zip(y.as_chunks_mut().0) {
                formula::row::<T, InWide, Unbounded>(x, columns.next(&mut at), y, &mut words);
            }
            mask::write(words, mask);
            continue;
        }
        let mut inside = [0; PACK];
        for ((x, y), inside) in x.chunks(LANES).zip(y.chunks_mut(LANES)).zip(inside.chunks_mut(LANES)) {
            let grid = columns.next(&mut at);
            for (lane, (x, y)) in x.iter().zip(y).enumerate() {
                (*y, inside[lane]) = formula::value_and_inside::<T, InWide, Unbounded>(*x, grid(lane));
            }
        }
        pack(&inside, mask);
    }
}
