//! A block of rows: gathered, multiplied, finished.

use std::marker::PhantomData;

use super::{
    tile::{self, Columns, Rows},
    weight::{PANEL, Panels, Weight},
};
use crate::{
    Error, Isa,
    error::check_len,
    integer::{Accumulator, Integer, Requantizer},
    parallel::{Team, share},
};

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
    narrow: bool,
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
        Offsets {
            each: self.sums.iter().enumerate().map(of).collect(),
            narrow: !halves && bound <= i32::MAX as u128,
        }
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
        const AT_ONCE: usize = 12;
        let bytes = self.steps() * 4;
        let block = (32 * 1024 / bytes.max(1)).clamp(AT_ONCE, 8 * AT_ONCE) / AT_ONCE * AT_ONCE;
        let blocks = y.chunks_mut(block * self.len()).enumerate();
        share(team, blocks, |(i, y)| self.block(i * block, offsets, &fill, finish, y));
    }

    fn block<T: Integer, F: Finish>(
        &self,
        first: usize,
        offsets: &Offsets,
        fill: &(impl Fn(usize, usize, &mut [T]) + Sync),
        finish: &F,
        y: &mut [F::Y],
    ) {
        let (rows, stride) = (y.len() / self.len(), self.steps() * self.units());
        let width = self.panels_per_group() * PANEL;
        let mut raw = vec![T::narrow(0); rows * stride];
        let (mut acc, mut wide) = (vec![0_i32; rows * width], Vec::new());
        let (mut bytes, mut words) = (Vec::new(), Vec::new());
        for group in 0..self.groups {
            for (row, raw) in raw.chunks_mut(stride.max(1)).enumerate() {
                fill(group, first + row, &mut raw[..self.depth]);
            }
            if let Panels::Quads(_) = self.panels {
                bytes.clear();
                bytes.extend(raw.iter().map(|x| x.widen() as u8 ^ 0x80));
            } else {
                words.clear();
                words.extend(raw.iter().map(|x| x.widen()));
            }
            let outputs = group * self.outputs..(group + 1) * self.outputs;
            let lines = y.chunks_mut(self.len()).map(|y| &mut y[outputs.clone()]);
            let offset = &offsets.each[outputs.clone()];
            if offsets.narrow {
                self.multiply(group, &bytes, &words, rows, 0..self.steps(), false, &mut acc);
                for (acc, y) in acc.chunks_mut(width).zip(lines) {
                    let acc = &mut acc[..self.outputs];
                    acc.iter_mut()
                        .zip(offset)
                        .for_each(|(acc, offset)| *acc = acc.wrapping_add(*offset as i32));
                    finish.row(self.isa, acc, outputs.start, y);
                }
            } else {
                self.multiply_wide(group, &bytes, &words, rows, &mut acc, &mut wide);
                for (acc, y) in wide.chunks_mut(width).zip(lines) {
                    let acc = &mut acc[..self.outputs];
                    acc.iter_mut().zip(offset).for_each(|(acc, offset)| *acc += offset);
                    finish.row(self.isa, acc, outputs.start, y);
                }
            }
        }
    }

    /// In pieces of the depth whose sums fit into i32, added up in i64.
    fn multiply_wide(
        &self,
        group: usize,
        bytes: &[u8],
        words: &[i16],
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
                self.multiply(group, bytes, words, rows, steps.clone(), true, acc);
                wide.iter_mut().zip(&*acc).for_each(|(wide, acc)| *wide += i64::from(*acc) << 8);
            }
            self.multiply(group, bytes, words, rows, steps, false, acc);
            wide.iter_mut().zip(&*acc).for_each(|(wide, acc)| *wide += i64::from(*acc));
        }
    }

    /// Writes the sums over `steps` to `acc`: of the upper halves, or of the lower or the whole.
    #[allow(clippy::too_many_arguments, reason = "one call of a tile")]
    fn multiply(
        &self,
        group: usize,
        bytes: &[u8],
        words: &[i16],
        rows: usize,
        steps: std::ops::Range<usize>,
        upper: bool,
        acc: &mut [i32],
    ) {
        let (units, count, panels) = (self.units(), steps.len(), self.panels_per_group());
        let (stride, panel) = (self.steps() * units, self.steps() * PANEL * units);
        let (from_a, from_b) = (steps.start * units, group * panels * panel + steps.start * PANEL * units);
        if count == 0 {
            return acc.fill(0);
        }
        match &self.panels {
            Panels::Quads(b) => {
                let a = Rows { a: &bytes[from_a..], stride, count: rows, steps: count };
                tile::quads(self.isa, a, Columns { b: &b[from_b..], panel, count: panels }, acc);
            }
            Panels::Pairs(b) | Panels::Halves(_, b) => {
                let b = if let (Panels::Halves(b, _), true) = (&self.panels, upper) { b } else { b };
                let a = Rows { a: &words[from_a..], stride, count: rows, steps: count };
                tile::pairs(self.isa, a, Columns { b: &b[from_b..], panel, count: panels }, acc);
            }
        }
    }
}
