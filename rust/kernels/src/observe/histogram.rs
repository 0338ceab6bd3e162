//! How many magnitudes fall into which of equal bins.
//!
//! ```text
//! for x in channel:
//!     counts[min(trunc(|x| * (bins / limit)), bins - 1)] += 1      # in f64; four tables, so that equal neighbours
//! ```                                                              # need not wait for each other

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
/// Elements whose bins are computed at once.
const AT_ONCE: usize = 64;

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

/// The tables of fewer than 2³² elements, one behind the other; each ends with a count of NaN.
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
    tables
}

fn add(counts: &mut [i64], tables: &[u32]) {
    for table in tables.chunks(counts.len() + 1) {
        counts.iter_mut().zip(table).for_each(|(count, found)| *count += i64::from(*found));
    }
}

#[inline(always)]
fn deposit(x: &[f32], per_unit: f64, tables: &mut [u32]) {
    let bins = tables.len() / TABLES - 1;
    let (last, nowhere) = ((bins - 1) as f64, bins as f64);
    let mut found = [0_u32; AT_ONCE];
    let (first, rest) = tables.split_at_mut(bins + 1);
    let (second, rest) = rest.split_at_mut(bins + 1);
    let (third, fourth) = rest.split_at_mut(bins + 1);
    let (whole, rest) = x.as_chunks::<AT_ONCE>();
    let mut padded = [f32::NAN; AT_ONCE];
    padded[..rest.len()].copy_from_slice(rest);
    for x in whole.iter().chain((!rest.is_empty()).then_some(&padded)) {
        for (found, x) in found.iter_mut().zip(x) {
            let position = f64::from(x.abs()) * per_unit;
            let position = if position > last { last } else { position };
            let position = if position.is_nan() { nowhere } else { position };
            // `as` would check for what cannot be, and not be vectorised. Rounds to nearest, then corrects.
            let nearest = (position + WHOLE) - WHOLE;
            let whole = if nearest > position { nearest - 1.0 } else { nearest };
            *found = (whole + WHOLE).to_bits() as u32;
        }
        for four in found.chunks_exact(TABLES) {
            first[four[0] as usize] += 1;
            second[four[1] as usize] += 1;
            third[four[2] as usize] += 1;
            fourth[four[3] as usize] += 1;
        }
    }
}
