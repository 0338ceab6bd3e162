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
        let bias: Vec<A> = self.bias.iter().map(|bias| A::of(*bias)).collect();
        let mut acc = bias.clone();
        let mut inside = Vec::with_capacity(geometry.taps());
        for (row, y) in y.chunks_mut(channels).enumerate() {
            let (image, corner) = geometry.corner(self.first + row);
            inside.clear();
            let [depth, height, width] = geometry.kernel;
            for d in 0..depth {
                let Some(at_d) = geometry.inside(0, corner[0], d) else { continue };
                for h in 0..height {
                    let Some(at_h) = geometry.inside(1, corner[1], h) else { continue };
                    let line =
                        ((image * geometry.size[0] + at_d) * geometry.size[1] + at_h) * geometry.size[2];
                    for w in 0..width {
                        let Some(at_w) = geometry.inside(2, corner[2], w) else { continue };
                        let tap = (d * height + h) * width + w;
                        inside.push(((line + at_w) * channels, tap * channels));
                    }
                }
            }
            let (x, taps, bias, zero_point) = (self.x, &self.weight.taps[..], &bias[..], self.zero_point);
            let (acc, inside) = (&mut acc[..], &inside[..]);
            per_isa!(isa, window::<T, A>, [T: Integer, A: Sum],
                (x: &[T], taps: &[i16], inside: &[(usize, usize)], zero_point: i32, bias: &[A], acc: &mut [A]) -> ());
            finish.row(isa, acc, 0, y);
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

/// The sums of all channels under the taps that are inside, some channels at a time.
#[inline(always)]
fn window<T: Integer, A: Sum>(
    x: &[T],
    taps: &[i16],
    inside: &[(usize, usize)],
    zero_point: i32,
    bias: &[A],
    acc: &mut [A],
) {
    const N: usize = 16;
    for (i, acc) in acc.chunks_mut(N).enumerate() {
        let first = i * N;
        if let Ok(acc) = <&mut [A; N]>::try_from(&mut *acc) {
            acc.copy_from_slice(&bias[first..][..N]);
            let mut sums = *acc;
            for (x_at, tap_at) in inside {
                let (x, w) = (&x[x_at + first..][..N], &taps[tap_at + first..][..N]);
                for ((sum, x), w) in sums.iter_mut().zip(x).zip(w) {
                    *sum = sum.plus_product(i32::from(x.widen()) - zero_point, i32::from(*w));
                }
            }
            *acc = sums;
            continue;
        }
        for (c, acc) in acc.iter_mut().enumerate() {
            let terms = inside.iter().map(|(x_at, tap_at)| (x[x_at + first + c], taps[tap_at + first + c]));
            let of =
                |sum: A, (x, w): (T, i16)| sum.plus_product(i32::from(x.widen()) - zero_point, i32::from(w));
            *acc = terms.fold(bias[first + c], of);
        }
    }
}
