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
    parallel::{BLOCK, Team, share, share_light},
};

/// Columns side by side: with 32, the three rows of them fill twelve of AVX2's sixteen registers.
const LANES: usize = 32;
/// Repetitions of all channels that one thread folds together, at least.
const ROWS: usize = 32;
/// Rows of channels read side by side.
const AT_ONCE: usize = 4;
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
    share_light(team, x.chunks(BLOCK).zip(&mut blocks), |(x, block)| {
        *block = per_isa!(isa, scan::<T>, [T: Element], (x: &[T]) -> Seen);
    });
    blocks.into_iter().fold(Seen::NOTHING, Seen::and)
}

#[inline(always)]
fn whole_rows<T>(x: &[T]) -> &[[T; LANES]] {
    x.as_chunks().0
}

/// All of `x` as one channel, in four streams: one alone does not keep memory busy (twice the time at 16M elements).
#[inline(always)]
fn scan<T: Element>(x: &[T]) -> Seen {
    let mut lanes = Lanes { low: [f32::INFINITY; LANES], high: [f32::NEG_INFINITY; LANES], nan: [0; LANES] };
    let quarter = x.len() / (4 * LANES) * LANES;
    let (halves, rest) = x.split_at(4 * quarter);
    let (front, back) = halves.split_at(2 * quarter);
    let ((a, b), (c, d)) = (front.split_at(quarter), back.split_at(quarter));
    for (((a, b), c), d) in whole_rows(a).iter().zip(whole_rows(b)).zip(whole_rows(c)).zip(whole_rows(d)) {
        for i in 0..LANES {
            four_scan([a[i], b[i], c[i], d[i]], &mut lanes.low[i], &mut lanes.high[i], &mut lanes.nan[i]);
        }
    }
    for row in rest.chunks(LANES) {
        let n = row.len();
        column_scan(row, &mut lanes.low[..n], &mut lanes.high[..n], &mut lanes.nan[..n]);
    }
    lanes.folded()
}

/// What was seen in [`LANES`] columns. Flags are as wide as values, so that no lane has to be narrowed.
struct Lanes {
    low: [f32; LANES],
    high: [f32; LANES],
    nan: [u32; LANES],
}

impl Lanes {
    /// All lanes in one, in halves: 16 lanes, 8, 4, 2, 1.
    #[inline(always)]
    fn folded(mut self) -> Seen {
        for half in [16, 8, 4, 2, 1] {
            for i in 0..half {
                let (low, high) = (self.low[i + half], self.high[i + half]);
                self.low[i] = if low < self.low[i] { low } else { self.low[i] };
                self.high[i] = if high > self.high[i] { high } else { self.high[i] };
                self.nan[i] |= self.nan[i + half];
            }
        }
        self.seen(0)
    }

    #[inline(always)]
    fn seen(&self, i: usize) -> Seen {
        Seen { low: self.low[i], high: self.high[i], nan: self.nan[i] != 0 }
    }
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

/// [`AT_ONCE`] rows, so that a column is loaded and stored once for all of them.
#[inline(always)]
fn columns_scan<T: Element>(x: &[T], low: &mut [f32], high: &mut [f32], nan: &mut [u32]) {
    let n = low.len();
    let (high, nan) = (&mut high[..n], &mut nan[..n]);
    let rows: [&[T]; AT_ONCE] = std::array::from_fn(|row| &x[row * n..(row + 1) * n]);
    for i in 0..n {
        four_scan(rows.map(|row| row[i]), &mut low[i], &mut high[i], &mut nan[i]);
    }
}

/// Four values into one lane; two are asked at once for NaN.
#[inline(always)]
fn four_scan<T: Element>(four: [T; AT_ONCE], low: &mut f32, high: &mut f32, nan: &mut u32) {
    // Of NaN, either may be taken: it is watched apart.
    let less = |a: f32, b: f32| if a < b { a } else { b };
    let greater = |a: f32, b: f32| if a > b { a } else { b };
    let [a, b, c, d] = four.map(|x| x.widen().to_f32());
    *low = less(less(less(a, b), less(c, d)), *low);
    *high = greater(greater(greater(a, b), greater(c, d)), *high);
    *nan |= u32::from(a.is_nan() | b.is_nan()) | u32::from(c.is_nan() | d.is_nan());
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
        // Each part is some whole repetitions of all channels, enough for `rows` to be worth their folding.
        let part = (BLOCK / (channels * inner)).max(ROWS) * channels * inner;
        let mut parts = vec![Vec::new(); x.len().div_ceil(part)];
        share(team, x.chunks(part).zip(&mut parts), |(x, seen)| {
            *seen = whole_repetitions(isa, x, channels, inner);
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
        all.copy_from_slice(&whole_repetitions(isa, x, all.len(), inner));
    });
    all
}

/// Runs end too soon for registers of 64 bytes to pay (0.16 ms without, 0.18 to 0.23 with, for 1M in runs of 1024).
fn whole_repetitions<T: Element>(isa: Isa, x: &[T], channels: usize, inner: usize) -> Vec<Seen> {
    let isa = if inner < SHORT_RUN { isa } else { isa.halved() };
    per_isa!(isa, rows::<T>, [T: Element], (x: &[T], channels: usize, inner: usize) -> Vec<Seen>)
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
    let (mut low, mut high) = (vec![f32::INFINITY; width], vec![f32::NEG_INFINITY; width]);
    let mut nan = vec![0; width];
    let blocks = x.chunks_exact(AT_ONCE * width);
    for row in blocks.remainder().chunks(width) {
        let n = row.len();
        column_scan(row, &mut low[..n], &mut high[..n], &mut nan[..n]);
    }
    for rows in blocks {
        columns_scan(rows, &mut low, &mut high, &mut nan);
    }
    let mut all = vec![Seen::NOTHING; channels];
    for columns in (0..width).step_by(period) {
        for (channel, seen) in all.iter_mut().enumerate() {
            for column in columns + channel * inner..columns + (channel + 1) * inner {
                *seen = seen.and(Seen { low: low[column], high: high[column], nan: nan[column] != 0 });
            }
        }
    }
    all
}
