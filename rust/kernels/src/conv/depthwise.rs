//! One filter for each channel: no sum over channels, so no matrix product.

use std::sync::Arc;

use super::Geometry;
#[cfg(target_arch = "x86_64")]
use super::depthwise_x86::Quads;
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
pub struct DepthwiseWeight {
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
    /// The same for bytes, where four taps can be multiplied at once.
    #[cfg(target_arch = "x86_64")]
    quads: Option<Quads>,
}

impl DepthwiseWeight {
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
            #[cfg(target_arch = "x86_64")]
            quads: W::as_bytes(w).and_then(|w| Quads::new(isa, w, channels)),
        })
    }
}

/// That weight, and what is added to its sums: `sum((x - zero_point) * weight) + bias`, of activations of `T`.
pub struct Depthwise<T> {
    weight: Arc<DepthwiseWeight>,
    /// The zero point, for each channel: what lies under a tap that is not inside.
    outside: Vec<T>,
    offsets: Vec<i64>,
    /// What no sum exceeds.
    bound: u128,
}

impl<T: Integer> Depthwise<T> {
    /// The weight is shared, all else copied.
    ///
    /// # Errors
    /// As [`crate::matmul::Linear::new`]; but every weight is for all activations.
    pub fn new(weight: Arc<DepthwiseWeight>, zero_point: i16, bias: Option<&[i64]>) -> Result<Self, Error> {
        let bound = bound::<T>(weight.largest, zero_point, bias, weight.sums.len())?;
        let bias = |channel: usize| bias.map_or(0, |bias| bias[channel]);
        let offset = |(channel, sum): (usize, &i64)| bias(channel) - i64::from(zero_point) * sum;
        Ok(Self {
            outside: vec![T::narrow(zero_point.into()); weight.sums.len()],
            offsets: weight.sums.iter().enumerate().map(offset).collect(),
            bound,
            weight,
        })
    }
}

/// Writes the depthwise convolution of `x`, finished, to `y`: `[batch, *windows, channels]`. Exact, so the same on
/// every [`Isa`] and [`Team`].
///
/// # Errors
/// As [`super::conv`].
pub fn conv_depthwise<T: Integer, F: Finish>(
    team: &dyn Team,
    x: &[T],
    geometry: Geometry,
    depthwise: &Depthwise<T>,
    finish: &F,
    y: &mut [F::Y],
) -> Result<(), Error> {
    let Depthwise { weight, outside, offsets, bound } = depthwise;
    let (windows, channels) = (geometry.check(x.len())?, geometry.channels);
    check_len("weight", weight.taps * offsets.len(), geometry.taps() * channels)?;
    check_len("y", y.len(), windows.saturating_mul(channels))?;
    finish.check(channels, *bound)?;
    if channels == 0 {
        return Ok(());
    }
    let block = (16 * 1024 / channels).max(1);
    share(team, y.chunks_mut(block * channels).enumerate(), |(i, y)| {
        let job = Job { x, geometry, outside, isa: weight.isa, taps: weight.taps, first: i * block };
        if *bound > i32::MAX as u128 {
            return job.pairs::<i64, F>(weight, offsets, finish, y);
        }
        #[cfg(target_arch = "x86_64")]
        if let (Some(quads), Some(x), Some(outside)) = (&weight.quads, T::as_bytes(x), T::as_bytes(outside)) {
            // They add 128 to each activation.
            let start = offsets.iter().zip(&weight.sums).map(|(offset, sum)| (offset - 128 * sum) as i32);
            let start: Vec<_> = start.collect();
            let job = Job { x, geometry, outside, isa: weight.isa, taps: weight.taps, first: i * block };
            return job.run(|under, acc| quads.window(under, &start, acc), finish, y);
        }
        if weight.largest_pair * largest::<T>(0) <= i16::MAX.into() {
            job.pairs::<Paired, F>(weight, offsets, finish, y);
        } else {
            job.pairs::<i32, F>(weight, offsets, finish, y);
        }
    });
    Ok(())
}

/// A run of windows.
struct Job<'a, T> {
    x: &'a [T],
    geometry: Geometry,
    /// What lies under a tap that is not inside.
    outside: &'a [T],
    isa: Isa,
    taps: usize,
    first: usize,
}

impl<T: Integer> Job<'_, T> {
    fn pairs<S: Sum, F: Finish>(&self, weight: &DepthwiseWeight, offsets: &[i64], finish: &F, y: &mut [F::Y])
    where
        i64: From<S::Acc>,
    {
        let offsets: Vec<S::Acc> = offsets.iter().map(|offset| S::of(*offset)).collect();
        let (isa, pairs, offsets) = (self.isa, &weight.pairs[..], &offsets[..]);
        let one = |under: &[&[T]], acc: &mut [S::Acc]| {
            per_isa!(isa, window::<T, S>, [T: Integer, S: Sum],
                (under: &[&[T]], pairs: &[i16], offsets: &[S::Acc], acc: &mut [S::Acc]) -> ());
        };
        self.run(one, finish, y);
    }

    /// `window` writes the sums of one, from what lies under its taps, of which there are whole groups of four.
    fn run<A: Accumulator + Default, F: Finish>(
        &self,
        window: impl Fn(&[&[T]], &mut [A]),
        finish: &F,
        y: &mut [F::Y],
    ) where
        i64: From<A>,
    {
        let (channels, taps) = (self.outside.len(), self.taps.next_multiple_of(4));
        let (mut corners, steps) = (self.geometry.corners(self.first), self.geometry.steps());
        let some = (SUMS / channels).max(1);
        let mut acc = vec![A::default(); some.min(y.len() / channels) * channels];
        let mut under = Vec::with_capacity(taps);
        let lie = Lie { length: channels, width: channels, stride: channels, channel: 0, columns: true };
        for y in y.chunks_mut(some * channels) {
            let acc = &mut acc[..y.len()];
            for (acc, corner) in acc.chunks_mut(channels).zip(&mut corners) {
                under.clear();
                self.geometry.under(self.x, corner, &steps, self.outside, &mut under);
                under.resize(taps, self.outside);
                window(&under, acc);
            }
            finish.rows(self.isa, acc, lie, y);
        }
    }
}

/// How the products of two taps are added to a sum.
trait Sum {
    type Acc: Accumulator + Default;
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
