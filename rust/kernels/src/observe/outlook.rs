//! The least error a candidate can have, read from a histogram: nearly all lose without being tried.
//!
//! The squared distance of x to the nearest point of a grid with steps of s is x² minus a sum of ramps, one for each
//! border b between two points:
//!
//! ```text
//! d(x)² = (x - qmin·s)² - 2s · Σ max(0, x - b)        b = (qmin + ½)s, (qmin + 1½)s, ..., (qmax - ½)s
//! ```
//!
//! Summed over all x, the ramps of one border are `above(b) = Σ max(0, x - b)`: a convex function of the data alone.
//! It is tabulated once, at the edges of a few thousand bins; between two edges the straight line lies on or above it.
//! So a candidate costs one line for each border, whatever the size of the tensor, and the bound falls short by about
//! 2 · (bin / step)². What f32 rounds is then taken off (see `Outlook::rounded`).

use super::squared_error::Symmetric;
use crate::{Isa, Wide, isa::per_isa};

/// Positions are whole numbers around 0, this many bits and a sign.
const BITS: u32 = 22;
/// The most bins, 64 KiB of them.
const BINS: usize = 8192;
/// Where a cell keeps its count; the sum of positions behind its lower edge is below.
const COUNT: u32 = 40;
/// Elements one [`Cells`] has room for.
pub(super) const CAPACITY: usize = 1 << 23;

/// How many values fell into each bin, and how far behind its lower edge all together.
pub(super) struct Cells {
    cells: Box<[u64; BINS]>,
    /// Sum of squared positions.
    square: f64,
    len: usize,
    /// Positions for each 1.0.
    units: f32,
    /// Positions in a bin, as a power of two.
    shift: u32,
}

impl Cells {
    /// For `len` values up to `max_abs` (fine bins pay for many values only). `None` if a bound would not pay, or
    /// numbers that small or large would need thoughts of their own.
    pub(super) fn of(len: usize, max_abs: f32) -> Option<Self> {
        if len < 256 || !(1e-30..=1e30).contains(&max_abs) {
            return None;
        }
        let bins = (len / 2).next_power_of_two().clamp(1024, BINS);
        let units = ((1 << BITS) - 2) as f32 / max_abs;
        let cells = Box::new([0; BINS]);
        Some(Self { cells, square: 0.0, len: 0, units, shift: BITS + 1 - bins.ilog2() })
    }

    /// Counts at most [`CAPACITY`] values in all.
    pub(super) fn add(&mut self, isa: Isa, x: &[f32]) {
        let (units, shift, cells) = (self.units, self.shift, &mut *self.cells);
        self.square +=
            per_isa!(isa, deposit, [], (x: &[f32], units: f32, shift: u32, cells: &mut [u64; BINS]) -> f64);
        self.len += x.len();
        debug_assert!(self.len <= CAPACITY);
    }
}

#[inline(always)]
fn deposit(x: &[f32], units: f32, shift: u32, cells: &mut [u64; BINS]) -> f64 {
    const AT_ONCE: usize = 64;
    let origin = f32::ROUNDER.to_bits() as i32;
    let mut positions = [0_i32; AT_ONCE];
    let mut square = 0.0;
    for x in x.chunks(AT_ONCE) {
        let mut sum = 0_i64;
        for (position, x) in positions.iter_mut().zip(x) {
            *position = (x * units + f32::ROUNDER).to_bits() as i32 - origin;
            sum += i64::from(*position) * i64::from(*position);
        }
        square += sum as f64;
        for position in &positions[..x.len()] {
            let position = (position + (1 << BITS)) as u32;
            let behind = position & ((1 << shift) - 1);
            cells[(position >> shift) as usize % BINS] += (1 << COUNT) + u64::from(behind);
        }
    }
    square
}

/// What is known of one channel; lengths in positions.
pub(super) struct Outlook {
    /// At each edge: `Σ max(0, x - edge)`.
    above: Vec<f64>,
    /// At each edge: how many lie above.
    count: Vec<i64>,
    len: f64,
    sum: f64,
    square: f64,
    units: f64,
    shift: u32,
}

impl Outlook {
    /// Of all that `parts` counted; all were made alike.
    pub(super) fn of(parts: &[Cells]) -> Option<Self> {
        let Cells { units, shift, .. } = *parts.first()?;
        let bins = 1_usize << (BITS + 1 - shift);
        let (mut above, mut count) = (vec![0.0; bins + 1], vec![0; bins + 1]);
        let (mut ramp, mut len) = (0_i64, 0_i64);
        for bin in (0..bins).rev() {
            ramp += len << shift; // all that lie above are a bin further away from the next edge down
            for part in parts {
                ramp += (part.cells[bin] & ((1 << COUNT) - 1)) as i64;
                len += (part.cells[bin] >> COUNT) as i64;
            }
            (above[bin], count[bin]) = (ramp as f64, len);
        }
        let sum = ramp - (len << BITS);
        let square = parts.iter().map(|part| part.square).sum();
        Some(Self { above, count, len: len as f64, sum: sum as f64, square, units: units.into(), shift })
    }

    /// Where `position` lies, in bins.
    fn bin(&self, position: f64) -> f64 {
        (position + f64::from(1 << BITS)) / f64::from(1 << self.shift)
    }

    /// At least this much error comes from what lies beyond the grid: `Σ (x - end)² ≥ (Σ (x - end))² / n`, on each
    /// side, from the first edge beyond the end on.
    pub(super) fn clipped(&self, grid: Symmetric) -> f64 {
        let step = f64::from(grid.scale) * self.units;
        let last = self.above.len() - 1;
        let high = (self.bin(f64::from(grid.high) * step).ceil().max(0.0) as usize).min(last);
        let low = (self.bin(f64::from(grid.low) * step).floor().max(0.0) as usize).min(last);
        let mean_square = |sum: f64, count: f64| if count > 0.0 { sum * sum / count } else { 0.0 };
        let edge = f64::from(1 << self.shift) * low as f64 - f64::from(1 << BITS);
        let too_low = self.above[low] + self.len * edge - self.sum; // Σ max(0, edge - x)
        let error = mean_square(self.above[high], self.count[high] as f64)
            + mean_square(too_low, self.len - self.count[low] as f64);
        self.rounded(error, step, grid)
    }

    /// At least this much error comes from rounding and clipping. 0 if steps are too fine for the bins, or a border
    /// lies outside of them.
    pub(super) fn error(&self, isa: Isa, grid: Symmetric) -> f64 {
        let step = f64::from(grid.scale) * self.units;
        let bin = f64::from(1 << self.shift);
        let (first, each) = (self.bin((f64::from(grid.low) + 0.5) * step), step / bin);
        let borders = (grid.high - grid.low) as u32;
        let last = first + each * f64::from(borders - 1);
        if each < 2.0 || first < 0.0 || last > (self.above.len() - 1) as f64 {
            return 0.0;
        }
        let above = self.above.as_slice();
        let ramps = per_isa!(isa, ramps, [], (above: &[f64], first: f64, each: f64, borders: u32) -> f64);
        let end = f64::from(grid.low) * step;
        let error = self.square - 2.0 * end * self.sum + self.len * end * end - 2.0 * step * ramps;
        self.rounded(error, step, grid)
    }

    /// The least that f32 can make of an error computed here, back in the units of x.
    ///
    /// What is added and subtracted above is less than `len · 2^48`, so that f64 errs by less than `len · 2^8`. An
    /// element's position is off by less than 1, and the product and difference of f32 by 2⁻²⁴ of the grid's end: by
    /// the triangle inequality the root of the sum loses no more than √len times that. The square and the sums lose
    /// less than 2⁻²⁰; squares may underflow.
    fn rounded(&self, error: f64, step: f64, grid: Symmetric) -> f64 {
        let end = f64::from(grid.high).abs().max(f64::from(grid.low).abs()) * step;
        let off = 1.0 + end / f64::from(1 << 23);
        let root = (error - self.len * 256.0).max(0.0).sqrt() - off * self.len.sqrt();
        let root = root.max(0.0) / self.units;
        root * root * (1.0 - 1.0 / f64::from(1 << 20)) - self.len * f64::from(f32::from_bits(1))
    }
}

/// `Σ max(0, x - border)` over all x and all borders; between two edges on the straight line.
#[inline(always)]
fn ramps(above: &[f64], first: f64, each: f64, borders: u32) -> f64 {
    const AT_ONCE: u32 = 4; // sums of their own, so that none waits for the one before
    let mut sums = [0.0; AT_ONCE as usize];
    for i in (0..borders).step_by(AT_ONCE as usize) {
        for (border, sum) in (i..borders).zip(&mut sums) {
            let at = first + each * f64::from(border);
            let edge = (at as u32 as usize).min(above.len() - 2);
            *sum += above[edge] + (above[edge + 1] - above[edge]) * (at - edge as f64);
        }
    }
    sums.iter().sum()
}
