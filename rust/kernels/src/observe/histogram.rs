//! How many magnitudes fall into which of equal bins.
//!
//! ```text
//! for x in channel:
//!     counts[bin(x)] += 1      # eight tables side by side, so that equal neighbours need not wait for each other
//! ```
//!
//! Measured apart, 1M bins are found in 0.15 ms (AVX2) and counted in 0.27: a load and a store for each element, and this
//! CPU stores once in a cycle. Together they take 0.44, with equal values too. To count those in tables exactly 4 KiB
//! apart took 0.8 alone.

use std::ops::Range;

use super::{
    bins::{AT_ONCE, Bins, MANY_BINS},
    elements::Elements,
};
use crate::{
    Element, Error, Isa, Layout,
    error::check_len,
    isa::per_isa,
    parallel::{BLOCK, Team, share},
};

/// Tables side by side.
const TABLES: usize = 8;
/// Elements that are counted before u16 could overflow.
const FULL: usize = TABLES << 15;
/// Further apart than 4 KiB: a load waits for a store to the same place of another page.
const APART: usize = 32;
/// As many as observers ask for. With fewer, tables are no smaller.
const FEW_BINS: usize = 1 << 11;
/// A channel is counted in so many parts, if channels are fewer.
const PARTS: usize = 8;
/// Elements whose bins are found before they are counted. (64 take up to a tenth longer.)
const GROUP: usize = 2 * AT_ONCE;

/// Counts the magnitudes of `x` in equal bins over `0..limit`, as many as `counts` has; beyond are counted in the last.
///
/// `x` is rounded to f32, the bin is found in f64. If `limit` is 0, all finite values are in the first bin. NaN is not
/// counted. Bit-identical on every [`Isa`] and [`Team`].
///
/// # Errors
/// [`Error::Bins`] if `counts` is empty; [`Error::Limit`] if `limit` is negative, NaN or infinite.
pub fn histogram_per_tensor<T: Element>(
    isa: Isa,
    team: &dyn Team,
    x: &[T],
    limit: f64,
    counts: &mut [i64],
) -> Result<(), Error> {
    check(counts.len(), &[limit])?;
    let elements = Elements { x, layout: Layout::flat(x.len()), channel: 0 };
    in_parts(isa, team, elements, Bins::new(counts.len(), limit), counts);
    Ok(())
}

/// As [`histogram_per_tensor`], for each channel of `layout`: `bins` counts for each, in the order of channels.
///
/// # Errors
/// As [`histogram_per_tensor`]; [`Error::LengthMismatch`] if the slices do not fit `layout`.
pub fn histogram_per_channel<T: Element>(
    isa: Isa,
    team: &dyn Team,
    x: &[T],
    layout: Layout,
    limit: &[f64],
    bins: usize,
    counts: &mut [i64],
) -> Result<(), Error> {
    check_len("x", x.len(), layout.checked_len().unwrap_or(usize::MAX))?;
    check_len("limit", limit.len(), layout.channels)?;
    check_len("counts", counts.len(), layout.channels.saturating_mul(bins))?;
    check(bins, limit)?;
    let channels = counts.chunks_mut(bins).zip(limit).enumerate();
    let of = |channel| Elements { x, layout, channel };
    if layout.channels < PARTS {
        channels.for_each(|(i, (counts, limit))| {
            in_parts(isa, team, of(i), Bins::new(bins, *limit), counts);
        });
    } else {
        share(team, channels, |(i, (counts, limit))| {
            let elements = of(i);
            counts.fill(0);
            for part in elements.pieces(1 << 30) {
                add(counts, &count(isa, elements, part, Bins::new(bins, *limit)));
            }
        });
    }
    Ok(())
}

fn check(bins: usize, limit: &[f64]) -> Result<(), Error> {
    if bins == 0 {
        return Err(Error::Bins);
    }
    let wrong = limit.iter().position(|limit| !(limit.is_finite() && *limit >= 0.0));
    let channel = |i| (limit.len() > 1).then_some(i);
    wrong.map_or(Ok(()), |i| Err(Error::Limit { channel: channel(i), limit: limit[i] }))
}

fn in_parts<T: Element>(
    isa: Isa,
    team: &dyn Team,
    elements: Elements<'_, T>,
    bins: Bins,
    counts: &mut [i64],
) {
    let part = elements.len().div_ceil(PARTS).next_multiple_of(BLOCK).min(1 << 30);
    let mut parts: Vec<_> = elements.pieces(part).map(|piece| (piece, Vec::new())).collect();
    share(team, parts.iter_mut(), |(piece, found)| *found = count(isa, elements, piece.clone(), bins));
    counts.fill(0);
    parts.iter().for_each(|(_, found)| add(counts, found));
}

fn add(counts: &mut [i64], found: &[u32]) {
    counts.iter_mut().zip(found).for_each(|(count, found)| *count += i64::from(*found));
}

/// The counts of fewer than 2³² elements.
fn count<T: Element>(isa: Isa, elements: Elements<'_, T>, range: Range<usize>, bins: Bins) -> Vec<u32> {
    // Counters must wait for bins that were stored 64 bytes at once: a tenth longer with AVX-512.
    let isa = isa.halved();
    if range.len() <= 2 * bins.count {
        // To empty tables and add them up would take longer than to count.
        in_sums(isa, elements, range, bins, 1)
    } else if bins.count <= FEW_BINS {
        in_tables::<T, [u16; FEW_BINS + APART]>(isa, elements, range, bins)
    } else if bins.count <= MANY_BINS {
        in_tables::<T, [u16; MANY_BINS + APART]>(isa, elements, range, bins)
    } else {
        in_sums(isa, elements, range, bins, 4)
    }
}

fn in_tables<T: Element, C: Table>(
    isa: Isa,
    elements: Elements<'_, T>,
    range: Range<usize>,
    bins: Bins,
) -> Vec<u32> {
    let (mut sums, mut nan) = (vec![0; bins.count], 0);
    for first in range.clone().step_by(FULL) {
        let mut tables = Box::new([C::EMPTY; TABLES]);
        let tables = &mut *tables;
        elements.tiles(first..range.end.min(first + FULL), |x| {
            nan += per_isa!(isa, deposit::<C>, [C: Table], (x: &[f32], bins: Bins, tables: &mut [C; TABLES]) -> u32);
            true
        });
        let sums = &mut sums[..];
        per_isa!(isa, add_up::<C>, [C: Table], (tables: &[C; TABLES], sums: &mut [u32]) -> ());
    }
    sums[0] -= nan;
    sums
}

/// As [`in_tables`], for any number of bins: straight into `each` sums of u32 for a bin, 1 or 4.
fn in_sums<T: Element>(
    isa: Isa,
    elements: Elements<'_, T>,
    range: Range<usize>,
    bins: Bins,
    each: usize,
) -> Vec<u32> {
    let (mut sums, mut nan) = (vec![0; bins.count * each], 0);
    elements.tiles(range, |x| {
        let sums = &mut sums[..];
        nan += per_isa!(isa, deposit_in_sums, [], (x: &[f32], bins: Bins, sums: &mut [u32]) -> u32);
        true
    });
    let (first, others) = sums.split_at_mut(bins.count);
    for other in others.chunks(bins.count) {
        first.iter_mut().zip(other).for_each(|(sum, other)| *sum += other);
    }
    sums.truncate(bins.count);
    sums[0] -= nan;
    sums
}

/// Counts of a power of two of bins, and [`APART`] that stay empty.
trait Table: Copy {
    const EMPTY: Self;
    fn add(&mut self, found: u32);
    fn counts(&self) -> &[u16];
}

impl<const N: usize> Table for [u16; N] {
    const EMPTY: Self = [0; N];

    #[inline(always)]
    fn add(&mut self, found: u32) {
        self[found as usize % (1 << N.ilog2())] += 1;
    }

    #[inline(always)]
    fn counts(&self) -> &[u16] {
        self
    }
}

/// Counts NaN in the first bin, and tells how many.
#[inline(always)]
fn deposit<C: Table>(x: &[f32], bins: Bins, tables: &mut [C; TABLES]) -> u32 {
    let (whole, rest) = x.as_chunks::<GROUP>();
    let mut padded = [f32::NAN; GROUP];
    padded[..rest.len()].copy_from_slice(rest);
    let (mut found, mut nan) = ([0; GROUP], 0);
    for x in whole.iter().chain((!rest.is_empty()).then_some(&padded)) {
        for (x, found) in x.as_chunks().0.iter().zip(found.as_chunks_mut().0) {
            nan += bins.find(x, found);
        }
        for found in found.as_chunks::<TABLES>().0 {
            found.iter().zip(&mut *tables).for_each(|(found, table)| table.add(*found));
        }
    }
    nan
}

#[inline(always)]
fn add_up<C: Table>(tables: &[C; TABLES], sums: &mut [u32]) {
    for four in tables.as_chunks::<4>().0 {
        let [a, b, c, d] = four.each_ref().map(|table| &table.counts()[..sums.len()]);
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum += u32::from(a[i]) + u32::from(b[i]) + u32::from(c[i]) + u32::from(d[i]);
        }
    }
}

/// As [`deposit`].
#[inline(always)]
fn deposit_in_sums(x: &[f32], bins: Bins, sums: &mut [u32]) -> u32 {
    if sums.len() == bins.count { deposit_in::<1>(x, bins, sums) } else { deposit_in::<4>(x, bins, sums) }
}

#[inline(always)]
fn deposit_in<const EACH: usize>(x: &[f32], bins: Bins, sums: &mut [u32]) -> u32 {
    let mut tables = sums.chunks_exact_mut(bins.count);
    let mut tables: [_; EACH] = std::array::from_fn(|_| tables.next().expect("as many for each bin"));
    // Bins found in f32 have more in their upper bits; a table has no more than those below, or they were found in f64.
    let lower = if bins.count <= MANY_BINS { MANY_BINS - 1 } else { usize::MAX };
    let (whole, rest) = x.as_chunks::<AT_ONCE>();
    let mut padded = [f32::NAN; AT_ONCE];
    padded[..rest.len()].copy_from_slice(rest);
    let (mut found, mut nan) = ([0; AT_ONCE], 0);
    for x in whole.iter().chain((!rest.is_empty()).then_some(&padded)) {
        nan += bins.find(x, &mut found);
        for found in found.as_chunks::<EACH>().0 {
            found.iter().zip(&mut tables).for_each(|(found, table)| table[*found as usize & lower] += 1);
        }
    }
    nan
}
