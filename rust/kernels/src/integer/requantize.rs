//! Accumulators to the integers of the output.
//!
//! ```text
//! y = clamp(round(acc * factor) + zero_point, qmin, qmax)
//! ```

use super::{
    Arithmetic, Factor, Integer,
    arithmetic::{Round, by_rounding},
    step::{Step, wide},
};
use crate::{
    Error, Isa, Layout,
    error::check_len,
    isa::per_isa,
    parallel::{BLOCK, Team, share_light},
};

/// Where a result lands: integers from `qmin` to `qmax`, of which `zero_point` means 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    /// The integer that means 0.
    pub zero_point: i16,
    /// Least integer.
    pub qmin: i16,
    /// Greatest integer.
    pub qmax: i16,
}

impl Output {
    /// All integers of `T`, around 0.
    #[must_use]
    pub fn all<T: Integer>() -> Self {
        Self { zero_point: 0, qmin: T::ENDS.0, qmax: T::ENDS.1 }
    }

    /// The ends before the zero point is added, so that they hold for numbers of any size.
    fn ends(self) -> (i32, i32) {
        let zero_point = i32::from(self.zero_point);
        (i32::from(self.qmin) - zero_point, i32::from(self.qmax) - zero_point)
    }
}

/// How accumulators become integers: one factor, or one for each channel, and where they land.
#[derive(Clone, Debug)]
pub struct Requantizer {
    factors: Vec<Factor>,
    multipliers: Vec<u32>,
    shifts: Vec<u32>,
    limits: Vec<u32>,
    arithmetic: Arithmetic,
    output: Output,
}

impl Requantizer {
    /// From ratios of scales.
    ///
    /// # Errors
    /// [`Error::Factor`] unless each is at least 0 and less than 2^31.
    pub fn new(factors: &[f64], arithmetic: Arithmetic, output: Output) -> Result<Self, Error> {
        let factors =
            factors.iter().map(|value| Factor::new(*value, arithmetic)).collect::<Result<Vec<_>, _>>()?;
        let steps = || factors.iter().map(|factor| Step::new(*factor));
        Ok(Self {
            multipliers: steps().map(|step| step.multiplier).collect(),
            shifts: steps().map(|step| step.shift).collect(),
            limits: steps().map(|step| step.limit).collect(),
            factors,
            arithmetic,
            output,
        })
    }

    /// How many factors there are.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.factors.len()
    }

    fn step(&self, channel: usize) -> Step {
        let (multiplier, shift) = (self.multipliers[channel], self.shifts[channel]);
        Step { multiplier, shift, limit: self.limits[channel] }
    }
}

/// An integer type of accumulators.
pub trait Accumulator: Copy + Send + Sync + PartialEq + std::fmt::Debug + 'static {
    /// Requantizes a run that begins at a channel: with its factor, or each with the next one if `rows`.
    #[doc(hidden)]
    fn run<T: Integer>(isa: Isa, acc: &[Self], by: &Requantizer, channel: usize, rows: bool, y: &mut [T]);
}

/// Writes the requantized `acc` to `y`. With one factor `layout` is of no account; else its channels have one each.
/// Exact, so the same on every [`Isa`] and [`Team`].
///
/// # Errors
/// [`Error::LengthMismatch`] if `acc`, `y` and `layout` differ in length, or there are as many factors as neither one
/// nor the channels.
pub fn requantize<A: Accumulator, T: Integer>(
    isa: Isa,
    team: &dyn Team,
    acc: &[A],
    layout: Layout,
    by: &Requantizer,
    y: &mut [T],
) -> Result<(), Error> {
    check_len("y", y.len(), acc.len())?;
    let layout = if by.channels() == 1 { Layout::flat(acc.len()) } else { layout };
    check_len("factor", by.channels(), layout.channels)?;
    check_len("acc", acc.len(), layout.checked_len().unwrap_or(usize::MAX))?;
    if acc.is_empty() {
        return Ok(());
    }
    // Runs of one factor; or where neighbours differ, whole rows of channels.
    let rows = layout.inner == 1 && layout.channels > 1;
    let run = if rows { layout.channels } else { layout.inner };
    let block = if rows { (BLOCK / run).max(1) * run } else { BLOCK };
    let runs = acc.chunks(block).zip(y.chunks_mut(block)).enumerate();
    share_light(team, runs, |(i, (acc, y))| {
        let mut first = i * block;
        let (mut acc, mut y) = (acc, y);
        while !acc.is_empty() {
            let n = (run - first % run).min(acc.len());
            let (now, later) = acc.split_at(n);
            let (y_now, y_later) = y.split_at_mut(n);
            A::run(isa, now, by, if rows { 0 } else { first / run % layout.channels }, rows, y_now);
            (acc, y, first) = (later, y_later, first + n);
        }
    });
    Ok(())
}

impl Accumulator for i32 {
    fn run<T: Integer>(isa: Isa, acc: &[i32], by: &Requantizer, channel: usize, rows: bool, y: &mut [T]) {
        by_rounding!(by.arithmetic.rounding, R => if rows {
            per_isa!(isa, row::<T, R>, [T: Integer, R: Round], (acc: &[i32], by: &Requantizer, channel: usize, y: &mut [T]) -> ());
        } else {
            let (step, output) = (by.step(channel), by.output);
            per_isa!(isa, run::<T, R>, [T: Integer, R: Round], (acc: &[i32], step: Step, output: Output, y: &mut [T]) -> ());
        });
    }
}

/// Wider accumulators mostly fit into 32 bits: a block that does takes the quick way.
impl Accumulator for i64 {
    fn run<T: Integer>(isa: Isa, acc: &[i64], by: &Requantizer, channel: usize, rows: bool, y: &mut [T]) {
        const N: usize = 256;
        let (low, high) = by.output.ends();
        let mut narrow = [0; N];
        for (i, (acc, y)) in acc.chunks(N).zip(y.chunks_mut(N)).enumerate() {
            let channel = if rows { channel + i * N } else { channel };
            let narrow = &mut narrow[..acc.len()];
            if per_isa!(isa, narrowed, [], (acc: &[i64], narrow: &mut [i32]) -> bool) {
                i32::run(isa, narrow, by, channel, rows, y);
                continue;
            }
            for (i, (acc, y)) in acc.iter().zip(y).enumerate() {
                let factor = by.factors[if rows { channel + i } else { channel }];
                let rounded = wide(*acc, factor, by.arithmetic.rounding);
                *y = T::narrow(rounded.clamp(low, high) + i32::from(by.output.zero_point));
            }
        }
    }
}

/// Writes `acc` to `narrow`; was everything within i32?
#[inline(always)]
fn narrowed(acc: &[i64], narrow: &mut [i32]) -> bool {
    let mut beyond = 0;
    for (acc, narrow) in acc.iter().zip(narrow) {
        *narrow = *acc as i32;
        beyond |= i64::from(*narrow) ^ *acc;
    }
    beyond == 0
}

/// One factor for all.
#[inline(always)]
fn run<T: Integer, R: Round>(acc: &[i32], step: Step, output: Output, y: &mut [T]) {
    let ((low, high), zero_point) = (output.ends(), i32::from(output.zero_point));
    for (acc, y) in acc.iter().zip(y) {
        *y = T::narrow(step.apply::<R>(*acc).clamp(low, high) + zero_point);
    }
}

/// One factor for each, from `channel` on.
#[inline(always)]
fn row<T: Integer, R: Round>(acc: &[i32], by: &Requantizer, channel: usize, y: &mut [T]) {
    let ((low, high), zero_point) = (by.output.ends(), i32::from(by.output.zero_point));
    let channels = channel..channel + acc.len();
    let steps =
        by.multipliers[channels.clone()].iter().zip(&by.shifts[channels.clone()]).zip(&by.limits[channels]);
    for ((acc, y), ((multiplier, shift), limit)) in acc.iter().zip(y).zip(steps) {
        let step = Step { multiplier: *multiplier, shift: *shift, limit: *limit };
        *y = T::narrow(step.apply::<R>(*acc).clamp(low, high) + zero_point);
    }
}
