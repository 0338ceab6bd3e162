//! One filter for each channel: no sum over channels, so no matrix product.

use super::Geometry;
use crate::{
    Error, Isa,
    error::check_len,
    integer::{Accumulator, Integer, Lie},
    isa::per_isa,
    matmul::{Finish, bound, largest},
    parallel::{Team, share},
};

/// Sums that stay in the cache until they are finished.
const SUMS: usize = 2048;

/// The weight of a depthwise convolution: for each tap, a row of all channels.
#[derive(Clone, Debug)]
pub struct Depthwise {
    isa: Isa,
    /// Two by two; the last may be zeros.
    pairs: Vec<i16>,
    taps: usize,
    /// The sum over the taps, for each channel.
    sums: Vec<i64>,
    /// The largest sum of magnitudes over the taps.
    largest: i64,
    /// The largest sum of magnitudes over a pair of taps.
    largest_pair: i64,
}

impl Depthwise {
    /// From `[channels, taps]`.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] if `w` is no multiple of `channels`.
    pub fn new<W: Integer>(isa: Isa, w: &[W], channels: usize) -> Result<Self, Error> {
        let taps = w.len() / channels.max(1);
        check_len("weight", w.len(), taps * channels)?;
        let mut pairs = vec![0; taps.next_multiple_of(2) * channels];
        for (i, w) in w.iter().enumerate() {
            pairs[i % taps * channels + i / taps] = w.widen();
        }
        let sum = |w: &[W]| w.iter().map(|w| i64::from(w.widen()).abs()).sum::<i64>();
        let rows = || w.chunks(taps.max(1));
        Ok(Self {
            isa,
            pairs,
            taps,
            sums: rows().map(|w| w.iter().map(|w| i64::from(w.widen())).sum()).collect(),
            largest: rows().map(sum).max().unwrap_or(0),
            largest_pair: rows().flat_map(|w| w.chunks(2)).map(sum).max().unwrap_or(0),
        })
    }
}

/// Writes the depthwise convolution of `x`, finished, to `y`: `[batch, *windows, channels]`. Exact, so the same on
/// every [`Isa`] and [`Team`].
///
/// # Errors
/// As [`super::conv`].
#[allow(clippy::too_many_arguments, reason = "one convolution")]
pub fn conv_depthwise<T: Integer, F: Finish>(
    team: &dyn Team,
    x: &[T],
    geometry: Geometry,
    zero_point: i16,
    weight: &Depthwise,
    bias: Option<&[i64]>,
    finish: &F,
    y: &mut [F::Y],
) -> Result<(), Error> {
    let (windows, channels) = (geometry.check(x.len())?, geometry.channels);
    check_len("weight", weight.taps * weight.sums.len(), geometry.taps() * channels)?;
    check_len("y", y.len(), windows.saturating_mul(channels))?;
    let bound = bound::<T>(weight.largest, zero_point, bias, channels)?;
    finish.check(channels, bound)?;
    if channels == 0 {
        return Ok(());
    }
    let bias = |channel: usize| bias.map_or(0, |bias| bias[channel]);
    let offset = |(channel, sum): (usize, &i64)| bias(channel) - i64::from(zero_point) * sum;
    let offsets: Vec<i64> = weight.sums.iter().enumerate().map(offset).collect();
    let outside = vec![T::narrow(zero_point.into()); channels];
    let block = (16 * 1024 / channels).max(1);
    share(team, y.chunks_mut(block * channels).enumerate(), |(i, y)| {
        let job = Job { x, geometry, weight, outside: &outside, offsets: &offsets, first: i * block };
        if bound > i32::MAX as u128 {
            job.run::<i64, F>(finish, y);
        } else if weight.largest_pair * largest::<T>(0) <= i16::MAX.into() {
            job.run::<Paired, F>(finish, y);
        } else {
            job.run::<i32, F>(finish, y);
        }
    });
    Ok(())
}

/// A run of windows.
struct Job<'a, T> {
    x: &'a [T],
    geometry: Geometry,
    weight: &'a Depthwise,
    /// What lies under a tap that is not inside.
    outside: &'a [T],
    offsets: &'a [i64],
    first: usize,
}

impl<T: Integer> Job<'_, T> {
    fn run<S: Sum, F: Finish>(&self, finish: &F, y: &mut [F::Y])
    where
        i64: From<S::Acc>,
    {
        let (channels, isa) = (self.offsets.len(), self.weight.isa);
        let offsets: Vec<S::Acc> = self.offsets.iter().map(|offset| S::of(*offset)).collect();
        let some = (SUMS / channels).max(1);
        let mut acc = vec![S::of(0); some.min(y.len() / channels) * channels];
        let mut under = Vec::with_capacity(self.weight.taps + 1);
        let lie = Lie { length: channels, width: channels, stride: channels, channel: 0, columns: true };
        for (i, y) in y.chunks_mut(some * channels).enumerate() {
            let acc = &mut acc[..y.len()];
            for (row, acc) in acc.chunks_mut(channels).enumerate() {
                under.clear();
                self.geometry.under(self.x, self.first + i * some + row, self.outside, &mut under);
                under.resize(self.weight.taps.next_multiple_of(2), self.outside);
                let (under, pairs, offsets) = (&under[..], &self.weight.pairs[..], &offsets[..]);
                per_isa!(isa, window::<T, S>, [T: Integer, S: Sum],
                    (under: &[&[T]], pairs: &[i16], offsets: &[S::Acc], acc: &mut [S::Acc]) -> ());
            }
            finish.rows(isa, acc, lie, y);
        }
    }
}

/// How the products of two taps are added to a sum.
trait Sum {
    type Acc: Accumulator;
    fn of(value: i64) -> Self::Acc;
    fn plus(sum: Self::Acc, x: (i16, i16), w: (i16, i16)) -> Self::Acc;
}

/// To an i32, of pairs that fit into i16: half as wide, so twice as many at once.
struct Paired;

impl Sum for Paired {
    type Acc = i32;
    fn of(value: i64) -> i32 {
        value as i32
    }
    #[inline(always)]
    fn plus(sum: i32, x: (i16, i16), w: (i16, i16)) -> i32 {
        sum.wrapping_add(x.0.wrapping_mul(w.0).wrapping_add(x.1.wrapping_mul(w.1)).into())
    }
}

impl Sum for i32 {
    type Acc = i32;
    fn of(value: i64) -> i32 {
        value as i32
    }
    #[inline(always)]
    fn plus(sum: i32, x: (i16, i16), w: (i16, i16)) -> i32 {
        let product = |x: i16, w: i16| i32::from(x).wrapping_mul(w.into());
        sum.wrapping_add(product(x.0, w.0)).wrapping_add(product(x.1, w.1))
    }
}

impl Sum for i64 {
    type Acc = i64;
    fn of(value: i64) -> i64 {
        value
    }
    #[inline(always)]
    fn plus(sum: i64, x: (i16, i16), w: (i16, i16)) -> i64 {
        sum + i64::from(i32::from(x.0) * i32::from(w.0)) + i64::from(i32::from(x.1) * i32::from(w.1))
    }
}

/// The sums of all channels under the taps, many channels at a time.
#[inline(always)]
fn window<T: Integer, S: Sum>(under: &[&[T]], pairs: &[i16], offsets: &[S::Acc], acc: &mut [S::Acc]) {
    let mut first = 0;
    while first + 64 <= acc.len() {
        channels::<T, S, 64>(under, pairs, first, offsets, acc);
        first += 64;
    }
    while first + 16 <= acc.len() {
        channels::<T, S, 16>(under, pairs, first, offsets, acc);
        first += 16;
    }
    while first < acc.len() {
        channels::<T, S, 1>(under, pairs, first, offsets, acc);
        first += 1;
    }
}

#[inline(always)]
fn channels<T: Integer, S: Sum, const N: usize>(
    under: &[&[T]],
    pairs: &[i16],
    first: usize,
    offsets: &[S::Acc],
    acc: &mut [S::Acc],
) {
    let mut sums = [S::of(0); N];
    sums.copy_from_slice(&offsets[first..][..N]);
    for ([a, b], w) in under.as_chunks::<2>().0.iter().zip(pairs.chunks_exact(2 * acc.len())) {
        let (a, b) = (&a[first..][..N], &b[first..][..N]);
        let (w_a, w_b) = (&w[first..][..N], &w[acc.len() + first..][..N]);
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = S::plus(*sum, (a[i].widen(), b[i].widen()), (w_a[i], w_b[i]));
        }
    }
    acc[first..][..N].copy_from_slice(&sums);
}
