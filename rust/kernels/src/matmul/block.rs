//! A block of rows: gathered, multiplied, finished.

use std::{marker::PhantomData, ops::Range};

use super::{
    tile::{self, Columns, Rows},
    weight::{GROUP_BYTES, PANEL, Panels, Weight},
};
use crate::{
    Error, Isa,
    error::check_len,
    integer::{Accumulator, Integer, Requantizer},
    parallel::{Team, share},
};

/// Rows of the tallest tile.
const TILE: usize = 12;
/// Rows of one job.
const ROWS: usize = 8 * TILE;
/// Bytes of rows that are multiplied at once, where a tile leaves the choice.
const CACHE: usize = 12 * 1024;

/// What becomes of exact sums.
pub trait Finish: Sync {
    /// The number type of the output.
    type Y: Copy + Send;
    /// An error unless it fits so many outputs.
    #[doc(hidden)]
    fn check(&self, _outputs: usize) -> Result<(), Error> {
        Ok(())
    }
    /// Writes a row of sums, of the outputs from `first` on.
    #[doc(hidden)]
    fn row<A: Accumulator>(&self, isa: Isa, acc: &[A], first: usize, y: &mut [Self::Y])
    where
        i64: From<A>;
}

/// The sums themselves, as i32: for whom it was proved that they fit.
pub struct Exact32;
/// The sums themselves, as i64.
pub struct Exact64;
/// Requantized.
pub struct Requantized<'a, T>(&'a Requantizer, PhantomData<T>);

impl<'a, T: Integer> Requantized<'a, T> {
    /// To integers of `T`.
    #[must_use]
    pub fn new(by: &'a Requantizer) -> Self {
        Self(by, PhantomData)
    }
}

impl Finish for Exact32 {
    type Y = i32;
    fn row<A: Accumulator>(&self, _: Isa, acc: &[A], _: usize, y: &mut [i32])
    where
        i64: From<A>,
    {
        y.iter_mut().zip(acc).for_each(|(y, acc)| *y = i64::from(*acc) as i32);
    }
}

impl Finish for Exact64 {
    type Y = i64;
    fn row<A: Accumulator>(&self, _: Isa, acc: &[A], _: usize, y: &mut [i64])
    where
        i64: From<A>,
    {
        y.iter_mut().zip(acc).for_each(|(y, acc)| *y = (*acc).into());
    }
}

impl<T: Integer> Finish for Requantized<'_, T> {
    type Y = T;
    fn check(&self, outputs: usize) -> Result<(), Error> {
        if self.0.channels() == 1 { Ok(()) } else { check_len("factor", self.0.channels(), outputs) }
    }
    fn row<A: Accumulator>(&self, isa: Isa, acc: &[A], first: usize, y: &mut [T])
    where
        i64: From<A>,
    {
        let many = self.0.channels() > 1;
        A::run(isa, acc, self.0, if many { first } else { 0 }, many, y);
    }
}

/// What is added to the sums of each output, and how wide these get.
pub(crate) struct Offsets {
    each: Vec<i64>,
    /// The same modulo 2^32, where no sum leaves i32.
    narrow: Option<Vec<i32>>,
}

impl Weight {
    /// Offsets that make of `sum(a * w)` what was asked for: `sum((a - zero_point) * w) + bias`. `largest` is that of
    /// `|a - zero_point|`.
    pub(crate) fn offsets(&self, zero_point: i32, largest: i64, bias: Option<&[i64]>) -> Offsets {
        let unsigned = if matches!(self.panels, Panels::Quads(_)) { 128 } else { 0 };
        let bias = |output: usize| bias.map_or(0, |bias| bias[output]);
        let of = |(output, sum): (usize, &i64)| bias(output) - (i64::from(zero_point) + unsigned) * sum;
        let beyond = (0..self.len()).map(|output| bias(output).unsigned_abs()).max().unwrap_or(0);
        let bound = u128::from(self.largest.unsigned_abs()) * largest as u128 + u128::from(beyond);
        let halves = matches!(self.panels, Panels::Halves(..));
        let each: Vec<i64> = self.sums.iter().enumerate().map(of).collect();
        let fits = !halves && bound <= i32::MAX as u128;
        Offsets { narrow: fits.then(|| each.iter().map(|offset| *offset as i32).collect()), each }
    }

    /// Writes `rows` rows of `y`. `fill(group, row, elements)` writes the activations of one row; the last elements
    /// may be behind the depth.
    pub(crate) fn run<T: Integer, F: Finish>(
        &self,
        team: &dyn Team,
        rows: usize,
        offsets: &Offsets,
        fill: impl Fn(usize, usize, &mut [T]) + Sync,
        finish: &F,
        y: &mut [F::Y],
    ) {
        if self.is_empty() || rows == 0 {
            return;
        }
        let blocks = y.chunks_mut(ROWS * self.len()).enumerate();
        share(team, blocks, |(i, y)| {
            if let Panels::Quads(_) = self.panels {
                let pack = |x: &[T], a: &mut [u8]| {
                    a.iter_mut().zip(x).for_each(|(a, x)| *a = x.widen() as u8 ^ 0x80)
                };
                self.block(i * ROWS, offsets, &fill, &pack, finish, y);
            } else {
                let pack = |x: &[T], a: &mut [i16]| a.iter_mut().zip(x).for_each(|(a, x)| *a = x.widen());
                self.block(i * ROWS, offsets, &fill, &pack, finish, y);
            }
        });
    }

    /// The rows of `y`, the first of which is `first`: some at a time, so that they and a panel fit into the L1 cache.
    fn block<T: Integer, A: Unit, F: Finish>(
        &self,
        first: usize,
        offsets: &Offsets,
        fill: &(impl Fn(usize, usize, &mut [T]) + Sync),
        pack: &impl Fn(&[T], &mut [A]),
        finish: &F,
        y: &mut [F::Y],
    ) {
        let (stride, width) = (self.steps() * self.units(), self.panels_per_group() * PANEL);
        let some = (CACHE / (self.steps() * GROUP_BYTES * TILE).max(1)).clamp(1, ROWS / TILE) * TILE;
        let mut raw = vec![T::narrow(0); stride];
        let mut a = vec![A::default(); some * stride];
        let (mut acc, mut wide) = (vec![0_i32; some * width], Vec::new());
        for (i, y) in y.chunks_mut(some * self.len()).enumerate() {
            let rows = y.len() / self.len();
            let acc = &mut acc[..rows * width];
            for group in 0..self.groups {
                for (row, a) in a.chunks_mut(stride.max(1)).take(rows).enumerate() {
                    fill(group, first + i * some + row, &mut raw[..self.depth]);
                    pack(&raw, a);
                }
                let outputs = group * self.outputs..(group + 1) * self.outputs;
                let lines = y.chunks_mut(self.len()).map(|y| &mut y[outputs.clone()]);
                if let Some(narrow) = &offsets.narrow {
                    let offset = &narrow[outputs.clone()];
                    A::multiply(self, group, &a, rows, 0..self.steps(), false, acc);
                    for (acc, y) in acc.chunks_mut(width).zip(lines) {
                        let acc = &mut acc[..self.outputs];
                        acc.iter_mut().zip(offset).for_each(|(acc, offset)| *acc = acc.wrapping_add(*offset));
                        finish.row(self.isa, acc, outputs.start, y);
                    }
                } else {
                    let offset = &offsets.each[outputs.clone()];
                    self.multiply_wide(group, &a, rows, acc, &mut wide);
                    for (acc, y) in wide.chunks_mut(width).zip(lines) {
                        let acc = &mut acc[..self.outputs];
                        acc.iter_mut().zip(offset).for_each(|(acc, offset)| *acc += offset);
                        finish.row(self.isa, acc, outputs.start, y);
                    }
                }
            }
        }
    }

    /// In pieces of the depth whose sums fit into i32, added up in i64.
    fn multiply_wide<A: Unit>(
        &self,
        group: usize,
        a: &[A],
        rows: usize,
        acc: &mut [i32],
        wide: &mut Vec<i64>,
    ) {
        // 65536 * 255 * 128 and 510 * 32768 * 128 are less than 2^31.
        let piece = if matches!(self.panels, Panels::Quads(_)) { 16_384 } else { 255 };
        wide.clear();
        wide.resize(acc.len(), 0);
        for first in (0..self.steps()).step_by(piece) {
            let steps = first..(first + piece).min(self.steps());
            if matches!(self.panels, Panels::Halves(..)) {
                A::multiply(self, group, a, rows, steps.clone(), true, acc);
                wide.iter_mut().zip(&*acc).for_each(|(wide, acc)| *wide += i64::from(*acc) << 8);
            }
            A::multiply(self, group, a, rows, steps, false, acc);
            wide.iter_mut().zip(&*acc).for_each(|(wide, acc)| *wide += i64::from(*acc));
        }
    }

    /// Where the panels of a group begin at a step, and how far they are from each other, in lines.
    fn place(&self, group: usize, step: usize) -> (usize, usize) {
        (group * self.panels_per_group() * self.steps() + step, self.steps())
    }
}

/// An activation as a tile reads it: a byte made unsigned, or 16 bits.
trait Unit: Copy + Default {
    /// Writes the sums over `steps` to `acc`: of the upper halves of the weight, or of the lower or the whole.
    fn multiply(
        weight: &Weight,
        group: usize,
        a: &[Self],
        rows: usize,
        steps: Range<usize>,
        upper: bool,
        acc: &mut [i32],
    );
}

impl Unit for u8 {
    fn multiply(
        weight: &Weight,
        group: usize,
        a: &[u8],
        rows: usize,
        steps: Range<usize>,
        _: bool,
        acc: &mut [i32],
    ) {
        let (from, panel) = weight.place(group, steps.start);
        match &weight.panels {
            Panels::Quads(b) if !steps.is_empty() => {
                let a = Rows {
                    a: &a[steps.start * 4..],
                    stride: weight.steps() * 4,
                    count: rows,
                    steps: steps.len(),
                };
                let b = Columns { b: &b[from..], panel, count: weight.panels_per_group() };
                tile::quads(weight.isa, a, b, acc);
            }
            _ => acc.fill(0),
        }
    }
}

impl Unit for i16 {
    fn multiply(
        weight: &Weight,
        group: usize,
        a: &[i16],
        rows: usize,
        steps: Range<usize>,
        upper: bool,
        acc: &mut [i32],
    ) {
        let (from, panel) = weight.place(group, steps.start);
        match &weight.panels {
            Panels::Pairs(b) | Panels::Halves(_, b) if !steps.is_empty() => {
                let b = if let (Panels::Halves(b, _), true) = (&weight.panels, upper) { b } else { b };
                let a = Rows {
                    a: &a[steps.start * 2..],
                    stride: weight.steps() * 2,
                    count: rows,
                    steps: steps.len(),
                };
                let b = Columns { b: &b[from..], panel, count: weight.panels_per_group() };
                tile::pairs(weight.isa, a, b, acc);
            }
            _ => acc.fill(0),
        }
    }
}
