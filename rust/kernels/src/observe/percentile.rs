//! The magnitude below which a given share of all lies: one of the values, exactly.
//!
//! ```text
//! rank = ceil(percentile / 100 * n)
//! for digit of |x|'s bits, the highest first:           # positive floats are ordered as their bits are
//!     count each digit among the values that agree with all digits found so far
//!     digit found = where the counts reach rank;  rank -= all counts below
//! ```
//!
//! If few values are greater, it is faster to keep the greatest ones while passing once over all.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::elements::Elements;
use crate::{
    Element, Error, Isa, Layout,
    isa::per_isa,
    parallel::{BLOCK, Team, share},
};

/// Where digits start: 12 bits, 12 and 7. The first has the exponent and four bits of the mantissa.
const DIGITS: [u32; 3] = [19, 7, 0];
/// Values of a digit.
const VALUES: usize = 4096;
/// Tables side by side, so that equal neighbours need not wait for each other.
const TABLES: usize = 4;
type Tables = [[u32; VALUES]; TABLES];
/// Counted apart from each other, if there are so many blocks.
const PARTS: usize = 8;
/// Values among one `FEW`th of all from the top are looked for there.
const FEW: usize = 64;
/// So many more than those wanted, and a quarter, are kept before the least are dropped.
const SPARE: usize = 64;
/// Elements skipped at once if none has the digits found.
const AT_ONCE: usize = 64;

/// The least |x|, rounded to f32, such that `percentile` percent of all magnitudes are not greater; NaN if `x` has one.
///
/// The `ceil(percentile / 100 · n)`th in ascending order, at least the first; a product that is a whole number but for
/// rounding is that number. Bit-identical on every [`Isa`] and [`Team`].
///
/// # Errors
/// [`Error::Empty`] if `x` is; [`Error::Percentile`] unless `percentile` is from 0 to 100.
pub fn percentile_per_tensor<T: Element>(
    isa: Isa,
    team: &dyn Team,
    x: &[T],
    percentile: f64,
) -> Result<f32, Error> {
    if !(0.0..=100.0).contains(&percentile) {
        return Err(Error::Percentile { percentile });
    }
    if x.is_empty() {
        return Err(Error::Empty);
    }
    let elements = Elements { x, layout: Layout::flat(x.len()), channel: 0 };
    let rank = ((x.len() as f64 * (percentile / 100.0) * (1.0 - 1e-12)).ceil() as u64).max(1);
    let from_top = x.len() + 1 - rank as usize;
    let bits = if from_top <= x.len() / FEW {
        among_greatest(isa, team, elements, from_top)
    } else {
        by_digits(isa, team, elements, rank)
    };
    Ok(if bits > f32::INFINITY.to_bits() { f32::NAN } else { f32::from_bits(bits) })
}

/// The `rank`th magnitude in ascending order, as bits; those of a NaN if there is one.
fn by_digits<T: Element>(isa: Isa, team: &dyn Team, elements: Elements<'_, T>, mut rank: u64) -> u32 {
    // What is found so far, and where its lowest digit starts.
    let (mut found, mut known) = (0, 31);
    for start in DIGITS {
        let digits = Digits { found, known, start };
        let counts = digits.count(isa, team, elements);
        if known == 31 && counts.has_nan {
            return f32::NAN.to_bits();
        }
        let mut digit = 0;
        while rank > counts.values[digit] {
            rank -= counts.values[digit];
            digit += 1;
        }
        (found, known) = ((found << (known - start)) | digit as u32, start);
    }
    found
}

/// The `count`th magnitude in descending order, as bits; those of a NaN if there is one.
fn among_greatest<T: Element>(isa: Isa, team: &dyn Team, elements: Elements<'_, T>, count: usize) -> u32 {
    let part = elements.len().div_ceil(PARTS).next_multiple_of(BLOCK);
    let mut parts: Vec<_> = elements.pieces(part).map(|piece| (piece, Vec::new())).collect();
    // `count` values are known that are at least `least - 1`, in one part: what is not greater changes nothing.
    let least = AtomicU32::new(0);
    share(team, parts.iter_mut(), |(piece, kept)| {
        elements.tiles(piece.clone(), |x| {
            let (kept, at_least) = (&mut *kept, least.load(Relaxed));
            per_isa!(isa, keep, [], (x: &[f32], at_least: u32, kept: &mut Vec<u32>) -> ());
            if kept.len() >= count + count / 4 + SPARE {
                kept.select_nth_unstable_by(count - 1, |a, b| b.cmp(a));
                kept.truncate(count);
                least.fetch_max(kept[count - 1] + 1, Relaxed);
            }
            true
        });
    });
    let mut kept = parts.into_iter().map(|(_, kept)| kept).reduce(|a, b| [a, b].concat()).unwrap_or_default();
    let greatest = kept.iter().copied().max().unwrap_or(0);
    if greatest > f32::INFINITY.to_bits() {
        greatest
    } else {
        *kept.select_nth_unstable_by(count - 1, |a, b| b.cmp(a)).1
    }
}

/// |x| as bits, which are ordered as the numbers are.
#[inline(always)]
fn magnitude(x: f32) -> u32 {
    x.to_bits() & 0x7fff_ffff
}

/// Appends the magnitudes that are at least `least`.
#[inline(always)]
fn keep(x: &[f32], least: u32, kept: &mut Vec<u32>) {
    let (whole, rest) = x.as_chunks::<AT_ONCE>();
    let mut look = |x: &[f32]| kept.extend(x.iter().map(|x| magnitude(*x)).filter(|bits| *bits >= least));
    for x in whole {
        let mut greatest = 0;
        for x in x {
            greatest = magnitude(*x).max(greatest);
        }
        if greatest >= least {
            look(x);
        }
    }
    look(rest);
}

/// Which digit is counted: the bits from `start` up to `known`, of values that have `found` above.
#[derive(Clone, Copy)]
struct Digits {
    found: u32,
    known: u32,
    start: u32,
}

struct Counts {
    values: Vec<u64>,
    has_nan: bool,
}

impl Digits {
    fn count<T: Element>(self, isa: Isa, team: &dyn Team, elements: Elements<'_, T>) -> Counts {
        let part = elements.len().div_ceil(PARTS).next_multiple_of(BLOCK).min(1 << 30);
        let mut parts: Vec<_> =
            elements.pieces(part).map(|piece| (piece, Box::new([[0; VALUES]; TABLES]), false)).collect();
        share(team, parts.iter_mut(), |(piece, tables, has_nan)| {
            elements.tiles(piece.clone(), |x| {
                let (digits, tables) = (self, &mut **tables);
                *has_nan |=
                    per_isa!(isa, deposit, [], (x: &[f32], digits: Digits, tables: &mut Tables) -> bool);
                true
            });
        });
        let mut values = vec![0; VALUES];
        for table in parts.iter().flat_map(|(_, tables, _)| tables.iter()) {
            values.iter_mut().zip(table).for_each(|(all, count)| *all += u64::from(*count));
        }
        Counts { values, has_nan: parts.iter().any(|(_, _, has_nan)| *has_nan) }
    }
}

/// Tells whether there is a NaN.
#[inline(always)]
fn deposit(x: &[f32], digits: Digits, tables: &mut Tables) -> bool {
    let Digits { found, known, start } = digits;
    let mask = (1_u32 << (known - start)) - 1;
    let mut greatest = 0;
    let mut magnitudes = [0; AT_ONCE];
    for x in x.chunks(AT_ONCE) {
        let magnitudes = &mut magnitudes[..x.len()];
        let mut agree = 0;
        for (magnitude, x) in magnitudes.iter_mut().zip(x) {
            *magnitude = self::magnitude(*x);
            greatest = greatest.max(*magnitude);
            agree += u32::from(*magnitude >> known == found);
        }
        if agree == 0 {
            continue;
        }
        let all = agree as usize == x.len();
        for four in magnitudes.chunks(TABLES) {
            for (magnitude, table) in four.iter().zip(&mut *tables) {
                if all || magnitude >> known == found {
                    table[(magnitude >> start & mask) as usize % VALUES] += 1;
                }
            }
        }
    }
    greatest > f32::INFINITY.to_bits()
}
