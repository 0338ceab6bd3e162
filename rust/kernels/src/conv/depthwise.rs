//! One filter for each channel: no sum over channels, so no matrix product.

use super::Geometry;
use crate::{
    Error, Isa,
    error::check_len,
    integer::{Accumulator, Integer},
    isa::per_isa,
    matmul::{Finish, largest},
    parallel::{Team, share},
};

/// The weight of a depthwise convolution: for each tap, a row of all channels.
#[derive(Clone, Debug)]
pub struct Depthwise {
    isa: Isa,
    taps: Vec<i16>,
    /// The largest sum of magnitudes over the taps.
    largest: i64,
}

impl Depthwise {
    /// From `[channels, taps]`.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] if `w` is no multiple of `channels`.
    pub fn new<W: Integer>(isa: Isa, w: &[W], channels: usize) -> Result<Self, Error> {
        let taps = w.len() / channels.max(1);
        check_len("weight", w.len(), taps * channels)?;
        let sum = |c: usize| w[c * taps..(c + 1) * taps].iter().map(|w| i64::from(w.widen()).abs()).sum();
        Ok(Self {
            isa,
            taps: (0..taps).flat_map(|tap| (0..channels).map(move |c| w[c * taps + tap].widen())).collect(),
            largest: (0..channels).map(sum).max().unwrap_or(0),
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
    check_len("weight", weight.taps.len(), geometry.taps() * channels)?;
    check_len("y", y.len(), windows.saturating_mul(channels))?;
    let none = vec![0; channels];
    let bias = bias.unwrap_or(&none);
    check_len("bias", bias.len(), channels)?;
    finish.check(channels)?;
    if channels == 0 {
        return Ok(());
    }
    let beyond = bias.iter().map(|bias| bias.unsigned_abs()).max().unwrap_or(0);
    let bound = weight.largest as u128 * largest::<T>(zero_point) as u128 + u128::from(beyond);
    let block = (16 * 1024 / channels).max(1);
    share(team, y.chunks_mut(block * channels).enumerate(), |(i, y)| {
        let job = Job { x, geometry, zero_point: zero_point.into(), weight, bias, first: i * block };
        if bound <= i32::MAX as u128 {
            job.run::<i32, F>(finish, y);
        } else {
            job.run::<i64, F>(finish, y);
        }
    });
    Ok(())
}

/// A run of windows.
struct Job<'a, T> {
    x: &'a [T],
    geometry: Geometry,
    zero_point: i32,
    weight: &'a Depthwise,
    bias: &'a [i64],
    first: usize,
}

impl<T: Integer> Job<'_, T> {
    fn run<A: Sum, F: Finish>(&self, finish: &F, y: &mut [F::Y])
    where
        i64: From<A>,
    {
        let (channels, isa, geometry) = (self.geometry.channels, self.weight.isa, self.geometry);
        let mut acc: Vec<A> = vec![A::of(0); channels];
        for (row, y) in y.chunks_mut(channels).enumerate() {
            acc.iter_mut().zip(self.bias).for_each(|(acc, bias)| *acc = A::of(*bias));
            let (image, corner) = geometry.corner(self.first + row);
            for (tap, w) in self.weight.taps.chunks(channels).enumerate() {
                let [_, height, width] = geometry.kernel;
                let of = |dimension, tap| geometry.inside(dimension, corner[dimension], tap);
                let places = (of(0, tap / (width * height)), of(1, tap / width % height), of(2, tap % width));
                let (Some(d), Some(h), Some(v)) = places else { continue };
                let at = ((image * geometry.size[0] + d) * geometry.size[1] + h) * geometry.size[2] + v;
                let (x, acc, zero_point) =
                    (&self.x[at * channels..][..channels], &mut acc[..], self.zero_point);
                per_isa!(isa, add::<T, A>, [T: Integer, A: Sum], (x: &[T], zero_point: i32, w: &[i16], acc: &mut [A]) -> ());
            }
            finish.row(isa, &acc, 0, y);
        }
    }
}

/// The accumulators of a depthwise convolution.
trait Sum: Accumulator {
    fn of(value: i64) -> Self;
    fn plus_product(self, x: i32, w: i32) -> Self;
}

impl Sum for i32 {
    fn of(value: i64) -> Self {
        value as Self
    }
    #[inline(always)]
    fn plus_product(self, x: i32, w: i32) -> Self {
        self.wrapping_add(x.wrapping_mul(w))
    }
}

impl Sum for i64 {
    fn of(value: i64) -> Self {
        value
    }
    #[inline(always)]
    fn plus_product(self, x: i32, w: i32) -> Self {
        self + Self::from(x) * Self::from(w)
    }
}

#[inline(always)]
fn add<T: Integer, A: Sum>(x: &[T], zero_point: i32, w: &[i16], acc: &mut [A]) {
    for ((x, w), acc) in x.iter().zip(w).zip(acc) {
        *acc = acc.plus_product(i32::from(x.widen()) - zero_point, i32::from(*w));
    }
}
