//! The least and the greatest value.
//!
//! ```text
//! for x in block:
//!     low, high = min(low, x), max(high, x)     # many lanes side by side
//!     seen_nan |= x != x                        # selects lose NaN, so it is watched apart
//! ```

use crate::{
    Element, Error, Isa, Layout, Wide,
    error::check_len,
    isa::per_isa,
    parallel::{BLOCK, Team, share},
};

/// Columns side by side: with 32, the three rows of them fill twelve of AVX2's sixteen registers.
const LANES: usize = 32;
/// Runs shorter than this are gathered column by column.
const SHORT_RUN: usize = 32;

/// What was seen: f32, since observers keep f32.
#[derive(Clone, Copy)]
struct Seen {
    low: f32,
    high: f32,
    nan: bool,
}

impl Seen {
    const NOTHING: Self = Self { low: f32::INFINITY, high: f32::NEG_INFINITY, nan: false };

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        Self {
            low: if other.low < self.low { other.low } else { self.low },
            high: if other.high > self.high { other.high } else { self.high },
            nan: self.nan | other.nan,
        }
    }

    /// NaN if one was seen; `+ 0.0` makes -0.0 positive, which of the two zeros came first does not show.
    fn answer(self) -> (f32, f32) {
        if self.nan { (f32::NAN, f32::NAN) } else { (self.low + 0.0, self.high + 0.0) }
    }
}

/// The least and the greatest value of `x`, rounded to f32; NaN in both if `x` has a NaN. Never -0.0.
///
/// Bit-identical on every [`Isa`] and [`Team`].
///
/// # Errors
/// [`Error::Empty`] if `x` is.
pub fn min_max_per_tensor<T: Element>(isa: Isa, team: &dyn Team, x: &[T]) -> Result<(f32, f32), Error> {
    if x.is_empty() {
        return Err(Error::Empty);
    }
    Ok(seen(isa, team, x).answer())
}

fn seen<T: Element>(isa: Isa, team: &dyn Team, x: &[T]) -> Seen {
    let mut blocks = vec![Seen::NOTHING; x.len().div_ceil(BLOCK)];
    share(team, x.chunks(BLOCK).zip(&mut blocks), |(x, block)| {
        *block = per_isa!(isa, scan::<T>, [T: Element], (x: &[T]) -> Seen);
    });
    blocks.into_iter().fold(Seen::NOTHING, Seen::and)
}

/// All of `x` as one channel.
#[inline(always)]
fn scan<T: Element>(x: &[T]) -> Seen {
    let full = x.len() - x.len() % LANES;
    let mut lanes = columns(&x[..full], 0, LANES);
    let (rest, n) = (&x[full..], x.len() - full);
    column_scan(rest, &mut lanes.low[..n], &mut lanes.high[..n], &mut lanes.nan[..n]);
    (0..LANES).fold(Seen::NOTHING, |all, i| all.and(lanes.seen(i)))
}

/// What was seen in [`LANES`] columns. Flags are as wide as values, so that no lane has to be narrowed.
struct Lanes {
    low: [f32; LANES],
    high: [f32; LANES],
    nan: [u32; LANES],
}

impl Lanes {
    #[inline(always)]
    fn seen(&self, i: usize) -> Seen {
        Seen { low: self.low[i], high: self.high[i], nan: self.nan[i] != 0 }
    }
}

/// Columns `first` to `first + LANES` of the rows of `width` in `x`, which stay in registers all the way down.
#[inline(always)]
fn columns<T: Element>(x: &[T], first: usize, width: usize) -> Lanes {
    let mut lanes = Lanes { low: [f32::INFINITY; LANES], high: [f32::NEG_INFINITY; LANES], nan: [0; LANES] };
    for row in x.chunks_exact(width) {
        column_scan(&row[first..first + LANES], &mut lanes.low, &mut lanes.high, &mut lanes.nan);
    }
    lanes
}

/// One value into each lane.
#[inline(always)]
fn column_scan<T: Element>(x: &[T], low: &mut [f32], high: &mut [f32], nan: &mut [u32]) {
    let n = x.len();
    let (low, high, nan) = (&mut low[..n], &mut high[..n], &mut nan[..n]);
    for i in 0..n {
        let value = x[i].widen().to_f32();
        low[i] = if value < low[i] { value } else { low[i] };
        high[i] = if value > high[i] { value } else { high[i] };
        nan[i] |= u32::from(value.is_nan());
    }
}

/// As [`min_max_per_tensor`], for each channel of `layout`, written to `low` and `high`.
///
/// # Errors
/// [`Error::LengthMismatch`] if the slices do not fit `layout`; [`Error::Empty`] if a channel is.
pub fn min_max_per_channel<T: Element>(
    isa: Isa,
    team: &dyn Team,
    x: &[T],
    layout: Layout,
    low: &mut [f32],
    high: &mut [f32],
) -> Result<(), Error> {
    let Layout { channels, inner, .. } = layout;
    check_len("x", x.len(), layout.checked_len().unwrap_or(usize::MAX))?;
    check_len("low", low.len(), channels)?;
    check_len("high", high.len(), channels)?;
    if x.is_empty() {
        return if channels == 0 { Ok(()) } else { Err(Error::Empty) };
    }
    let all = if layout.outer == 1 {
        share_channels(isa, team, x, inner, channels)
    } else {
        // Each part is some whole repetitions of all channels.
        let part = (BLOCK / (channels * inner)).max(1) * channels * inner;
        let mut parts = vec![Vec::new(); x.len().div_ceil(part)];
        share(team, x.chunks(part).zip(&mut parts), |(x, seen)| {
            *seen =
                per_isa!(isa, rows::<T>, [T: Element], (x: &[T], channels: usize, inner: usize) -> Vec<Seen>);
        });
        let merge = |a: Vec<Seen>, b: Vec<Seen>| a.into_iter().zip(b).map(|(a, b)| a.and(b)).collect();
        parts.into_iter().reduce(merge).unwrap_or_default()
    };
    for ((low, high), seen) in low.iter_mut().zip(high).zip(all) {
        (*low, *high) = seen.answer();
    }
    Ok(())
}

/// Every channel lies in one piece: share the channels.
fn share_channels<T: Element>(
    isa: Isa,
    team: &dyn Team,
    x: &[T],
    inner: usize,
    channels: usize,
) -> Vec<Seen> {
    let mut all = vec![Seen::NOTHING; channels];
    if inner > BLOCK {
        for (x, seen_here) in x.chunks(inner).zip(&mut all) {
            *seen_here = seen(isa, team, x);
        }
        return all;
    }
    let at_once = BLOCK / inner;
    share(team, x.chunks(at_once * inner).zip(all.chunks_mut(at_once)), |(x, all)| {
        let channels = all.len();
        let found =
            per_isa!(isa, rows::<T>, [T: Element], (x: &[T], channels: usize, inner: usize) -> Vec<Seen>);
        all.copy_from_slice(&found);
    });
    all
}

/// Whole repetitions of all channels.
#[inline(always)]
fn rows<T: Element>(x: &[T], channels: usize, inner: usize) -> Vec<Seen> {
    let period = channels * inner;
    if inner >= SHORT_RUN || period == x.len() && inner > 1 {
        let mut all = vec![Seen::NOTHING; channels];
        for row in x.chunks(period) {
            for (x, seen) in row.chunks(inner).zip(&mut all) {
                *seen = seen.and(scan(x));
            }
        }
        return all;
    }
    // Few channels are repeated, so that rows are never short.
    let width = period * (8 * LANES).div_ceil(period).min(x.len() / period);
    let mut all = vec![Seen::NOTHING; channels];
    let mut see = |column: usize, seen: Seen| {
        let all = &mut all[column % period / inner];
        *all = all.and(seen);
    };
    let whole = x.len() - x.len() % width;
    for first in (0..width - width % LANES).step_by(LANES) {
        let lanes = columns(&x[..whole], first, width);
        (0..LANES).for_each(|i| see(first + i, lanes.seen(i)));
    }
    // The columns and the rows that do not fill a tile.
    let left = width - width % LANES;
    for (i, row) in x.chunks(width).enumerate() {
        let from = if (i + 1) * width <= whole { left } else { 0 };
        for (column, x) in row.iter().enumerate().skip(from) {
            let value = x.widen().to_f32();
            see(column, Seen { low: value, high: value, nan: value.is_nan() });
        }
    }
    all
}
