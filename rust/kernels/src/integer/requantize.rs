//! Accumulators to the integers of the output.
//!
//! ```text
//! y = clamp(round(acc * factor) + zero_point, qmin, qmax)
//! ```

#[cfg(target_arch = "x86_64")]
use super::fused_x86;
use super::{
    Arithmetic, Factor, Integer, Rounding,
    arithmetic::{Round, by_rounding},
    fused::{self, Held},
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

    /// An error unless all of it are integers of `T`.
    fn check<T: Integer>(self) -> Result<(), Error> {
        let Self { zero_point, qmin, qmax } = self;
        let (low, high) = T::ENDS;
        if qmin > qmax || qmin < low || qmax > high {
            return Err(Error::Ends { qmin, qmax, of: T::ENDS });
        }
        if !(low..=high).contains(&zero_point) {
            let (qmin, qmax) = (low.into(), high.into());
            return Err(Error::ZeroPoint { channel: None, zero_point: zero_point.into(), qmin, qmax });
        }
        Ok(())
    }

    /// The ends before the zero point is added, so that they hold for numbers of any size.
    pub(super) fn ends(self) -> (i32, i32) {
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
    /// The factors as f64, exact; none where the rounding is not that of f64.
    scales: Option<Vec<f64>>,
    /// Is every i32, multiplied, still one?
    within_i32: bool,
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
        let steps: Vec<_> = factors.iter().map(|factor| Step::new(*factor)).collect();
        let scales: Vec<_> = factors.iter().map(|factor| fused::scale(*factor)).collect();
        Ok(Self {
            multipliers: steps.iter().map(|step| step.multiplier).collect(),
            shifts: steps.iter().map(|step| step.shift).collect(),
            limits: steps.iter().map(|step| step.limit).collect(),
            within_i32: scales.iter().all(|scale| *scale <= 0.5),
            scales: (arithmetic.rounding == Rounding::HalfEven).then_some(scales),
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

    /// An error unless it lands on integers of `T`.
    pub(crate) fn check<T: Integer>(&self) -> Result<(), Error> {
        self.output.check::<T>()
    }

    /// The factors as f64, where a fused multiply-add does it.
    fn fused(&self, isa: Isa) -> Option<&[f64]> {
        self.scales.as_deref().filter(|_| isa.has_fma())
    }

    /// How many columns were written, the quickest way.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        allow(unused_variables, reason = "only there it is written by hand")
    )]
    fn fused_to_bytes(&self, isa: Isa, acc: &[i32], lie: Lie, scales: &[f64], y: Option<&mut [i8]>) -> usize {
        let Some(y) = y.filter(|_| self.within_i32) else { return 0 };
        #[cfg(target_arch = "x86_64")]
        return fused_x86::rows(isa, acc, lie, scales, self.output, y);
        #[cfg(not(target_arch = "x86_64"))]
        0
    }

    /// As it reads.
    fn one<T: Integer>(&self, acc: i64, channel: usize) -> T {
        let (low, high) = self.output.ends();
        let rounded = wide(acc, self.factors[channel], self.arithmetic.rounding);
        T::narrow(rounded.clamp(low, high) + i32::from(self.output.zero_point))
    }

    fn step(&self, channel: usize) -> Step {
        let (multiplier, shift) = (self.multipliers[channel], self.shifts[channel]);
        Step { multiplier, shift, limit: self.limits[channel] }
    }
}

/// How rows of accumulators lie, and those of their results: `length` of them, `width` and `stride` apart.
#[derive(Clone, Copy, Debug)]
pub struct Lie {
    pub(crate) length: usize,
    pub(crate) width: usize,
    pub(crate) stride: usize,
    /// Of the first column.
    pub(crate) channel: usize,
    /// Is the next column one of the next channel?
    pub(crate) columns: bool,
}

impl Lie {
    /// A run of `n`.
    fn run(n: usize, channel: usize, columns: bool) -> Self {
        Self { length: n, width: n, stride: n, channel, columns }
    }

    #[inline(always)]
    pub(crate) fn rows<'a, A, T>(
        self,
        acc: &'a [A],
        y: &'a mut [T],
    ) -> impl Iterator<Item = (&'a [A], &'a mut [T])> {
        let rows = acc.chunks(self.width.max(1)).zip(y.chunks_mut(self.stride.max(1)));
        rows.map(move |(acc, y)| (&acc[..self.length], &mut y[..self.length]))
    }
}

/// An integer type of accumulators.
pub trait Accumulator: Copy + Send + Sync + PartialEq + std::fmt::Debug + 'static {
    /// Requantizes rows.
    #[doc(hidden)]
    fn rows<T: Integer>(isa: Isa, acc: &[Self], lie: Lie, by: &Requantizer, y: &mut [T]);
}

/// Writes the requantized `acc` to `y`. With one factor `layout` is of no account; else its channels have one each.
/// Exact, so the same on every [`Isa`] and [`Team`].
///
/// # Errors
/// [`Error::LengthMismatch`] if `acc`, `y` and `layout` differ in length, or there are as many factors as neither one
/// nor the channels; [`Error::Ends`] and [`Error::ZeroPoint`] if the output of `by` is not within `T`.
pub fn requantize<A: Accumulator, T: Integer>(
    isa: Isa,
    team: &dyn Team,
    acc: &[A],
    layout: Layout,
    by: &Requantizer,
    y: &mut [T],
) -> Result<(), Error> {
    by.check::<T>()?;
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
            let channel = if rows { 0 } else { first / run % layout.channels };
            A::rows(isa, now, Lie::run(n, channel, rows), by, y_now);
            (acc, y, first) = (later, y_later, first + n);
        }
    });
    Ok(())
}

impl Accumulator for i32 {
    fn rows<T: Integer>(isa: Isa, acc: &[i32], lie: Lie, by: &Requantizer, y: &mut [T]) {
        let output = by.output;
        if let Some(scales) = by.fused(isa) {
            let done = by.fused_to_bytes(isa, acc, lie, scales, T::bytes(y));
            if done < lie.length {
                let channel = lie.channel + if lie.columns { done } else { 0 };
                let lie = Lie { length: lie.length - done, channel, ..lie };
                fused::<i32, T>(isa, &acc[done..], lie, scales, output, &mut y[done..]);
            }
            return;
        }
        let (step, channel) = (by.step(lie.channel), lie.channel);
        for (acc, y) in lie.rows(acc, y) {
            by_rounding!(by.arithmetic.rounding, R => if lie.columns {
                per_isa!(isa, row::<T, R>, [T: Integer, R: Round], (acc: &[i32], by: &Requantizer, channel: usize, y: &mut [T]) -> ());
            } else {
                per_isa!(isa, run::<T, R>, [T: Integer, R: Round], (acc: &[i32], step: Step, output: Output, y: &mut [T]) -> ());
            });
        }
    }
}

/// Wider accumulators mostly fit into f64, or a piece of them into 32 bits, and take the quick way.
impl Accumulator for i64 {
    fn rows<T: Integer>(isa: Isa, acc: &[i64], lie: Lie, by: &Requantizer, y: &mut [T]) {
        const N: usize = 256;
        if let Some(scales) = by.fused(isa)
            && per_isa!(isa, fused::within, [], (acc: &[i64]) -> bool)
        {
            return fused::<i64, T>(isa, acc, lie, scales, by.output, y);
        }
        let mut narrow = [0; N];
        for (acc, y) in lie.rows(acc, y) {
            for (i, (acc, y)) in acc.chunks(N).zip(y.chunks_mut(N)).enumerate() {
                let channel = lie.channel + if lie.columns { i * N } else { 0 };
                let narrow = &mut narrow[..acc.len()];
                if per_isa!(isa, narrowed, [], (acc: &[i64], narrow: &mut [i32]) -> bool) {
                    i32::rows(isa, narrow, Lie::run(acc.len(), channel, lie.columns), by, y);
                    continue;
                }
                let channel = |i| channel + if lie.columns { i } else { 0 };
                acc.iter().zip(y).enumerate().for_each(|(i, (acc, y))| *y = by.one(*acc, channel(i)));
            }
        }
    }
}

fn fused<A: Held, T: Integer>(isa: Isa, acc: &[A], lie: Lie, scales: &[f64], output: Output, y: &mut [T]) {
    let (scales, scale) = (&scales[lie.channel..], scales[lie.channel]);
    if lie.columns {
        per_isa!(isa, fused::each::<A, T>, [A: Held, T: Integer], (acc: &[A], lie: Lie, scales: &[f64], output: Output, y: &mut [T]) -> ());
    } else {
        per_isa!(isa, fused::one::<A, T>, [A: Held, T: Integer], (acc: &[A], lie: Lie, scale: f64, output: Output, y: &mut [T]) -> ());
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
