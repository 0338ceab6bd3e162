//! How many magnitudes fall into which of equal bins.
//!
//! ```text
//! for x in channel:
//!     counts[min(trunc(|x| * (bins / limit)), bins - 1)] += 1      # in f64; four tables, so that equal neighbours
//! ```                                                              # need not wait for each other
//!
//! Bins are found in f32, twice as many at once, where nothing lies so near to an edge that f64 might see it on the other
//! side: in nearly all blocks of 64.

use super::elements::Elements;
use crate::{
    Element, Error, Isa, Layout,
    error::check_len,
    isa::per_isa,
    parallel::{BLOCK, Team, share},
};

/// Tables side by side.
const TABLES: usize = 4;
/// A channel is counted in so many parts, if channels are fewer.
const PARTS: usize = 8;
/// Added to a number below 2³², it leaves no room for a fraction, and the number in the lower bits.
const WHOLE: f64 = (1_u64 << 52) as f64;
/// The same for numbers below 2²², in f32.
const WHOLE_SINGLE: f32 = (1_u32 << 23) as f32;
/// Elements whose bins are computed at once.
const AT_ONCE: usize = 64;
/// With more bins than this, too many values would lie near an edge.
const MANY_BINS: usize = 1 << 13;
/// How near, as a part of the position. f32 rounds the bins per unit and the product, by 2⁻²⁴ each.
const NEAR: f32 = 1.0 / (1 << 22) as f32;

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
    in_parts(isa, team, elements, per_unit(limit, counts.len()), counts);
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
            in_parts(isa, team, of(i), per_unit(*limit, bins), counts);
        });
    } else {
        share(team, channels, |(i, (counts, limit))| {
            let elements = of(i);
            counts.fill(0);
            for part in elements.pieces(1 << 30) {
                add(counts, &count(isa, elements, part, per_unit(*limit, bins), bins));
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

fn per_unit(limit: f64, bins: usize) -> f64 {
    if limit > 0.0 { (bins as f64 / limit).min(f64::MAX) } else { 0.0 }
}

fn in_parts<T: Element>(
    isa: Isa,
    team: &dyn Team,
    elements: Elements<'_, T>,
    per_unit: f64,
    counts: &mut [i64],
) {
    let part = elements.len().div_ceil(PARTS).next_multiple_of(BLOCK).min(1 << 30);
    let mut parts: Vec<_> = elements.pieces(part).map(|piece| (piece, Vec::new())).collect();
    share(team, parts.iter_mut(), |(piece, found)| {
        *found = count(isa, elements, piece.clone(), per_unit, counts.len());
    });
    counts.fill(0);
    parts.iter().for_each(|(_, found)| add(counts, found));
}

/// The counts of fewer than 2³² elements; behind them that of NaN.
fn count<T: Element>(
    isa: Isa,
    elements: Elements<'_, T>,
    range: std::ops::Range<usize>,
    per_unit: f64,
    bins: usize,
) -> Vec<u32> {
    let mut tables = vec![0; TABLES * (bins + 1)];
    elements.tiles(range, |x| {
        let tables = &mut tables[..];
        per_isa!(isa, deposit, [], (x: &[f32], per_unit: f64, tables: &mut [u32]) -> ());
        true
    });
    let (counts, others) = tables.split_at_mut(bins + 1);
    for table in others.chunks(bins + 1) {
        counts.iter_mut().zip(table).for_each(|(count, found)| *count += found);
    }
    tables.truncate(bins);
    tables
}

fn add(counts: &mut [i64], found: &[u32]) {
    counts.iter_mut().zip(found).for_each(|(count, found)| *count += i64::from(*found));
}

#[inline(always)]
fn deposit(x: &[f32], per_unit: f64, tables: &mut [u32]) {
    let bins = tables.len() / TABLES - 1;
    let in_singles = bins <= MANY_BINS && (1e-30..=1e30).contains(&per_unit);
    let mut found = [0_u32; AT_ONCE];
    let (first, rest) = tables.split_at_mut(bins + 1);
    let (second, rest) = rest.split_at_mut(bins + 1);
    let (third, fourth) = rest.split_at_mut(bins + 1);
    let (whole, rest) = x.as_chunks::<AT_ONCE>();
    let mut padded = [f32::NAN; AT_ONCE];
    padded[..rest.len()].copy_from_slice(rest);
    for x in whole.iter().chain((!rest.is_empty()).then_some(&padded)) {
        if !in_singles || !find_in_singles(x, per_unit as f32, bins, &mut found) {
            find(x, per_unit, bins, &mut found);
        }
        for four in found.chunks_exact(TABLES) {
            first[four[0] as usize] += 1;
            second[four[1] as usize] += 1;
            third[four[2] as usize] += 1;
            fourth[four[3] as usize] += 1;
        }
    }
}

/// The bin of each value; `bins` for NaN.
#[inline(always)]
fn find(x: &[f32; AT_ONCE], per_unit: f64, bins: usize, found: &mut [u32; AT_ONCE]) {
    let (last, nowhere) = ((bins - 1) as f64, bins as f64);
    for (found, x) in found.iter_mut().zip(x) {
        let position = f64::from(x.abs()) * per_unit;
        let position = if position > last { last } else { position };
        let position = if position.is_nan() { nowhere } else { position };
        // `as` would check for what cannot be, and not be vectorised. Rounds to nearest, then corrects.
        let nearest = (position + WHOLE) - WHOLE;
        let whole = if nearest > position { nearest - 1.0 } else { nearest };
        *found = (whole + WHOLE).to_bits() as u32;
    }
}

/// As [`find`]; false where f64 might find another bin, or there is a NaN.
#[inline(always)]
fn find_in_singles(x: &[f32; AT_ONCE], per_unit: f32, bins: usize, found: &mut [u32; AT_ONCE]) -> bool {
    let beyond = bins as f32 - 0.5; // in the middle of the last bin, far from any edge
    let mut sure = 1;
    for (found, x) in found.iter_mut().zip(x) {
        let position = x.abs() * per_unit;
        let position = if beyond < position { beyond } else { position }; // NaN stays NaN
        let shifted = position + WHOLE_SINGLE;
        let nearest = shifted - WHOLE_SINGLE;
        *found = (shifted.to_bits() - WHOLE_SINGLE.to_bits()).wrapping_sub(u32::from(nearest > position));
        // No edge lies at 0: there a difference of 0 is enough.
        sure &= u32::from((nearest - position).abs() >= position * NEAR);
    }
    sure == 1
}
