//! Convolutions of integers, exact in accumulators that never wrap.
//!
//! ```text
//! for each window: row = what lies under its taps, or the zero point where nothing does
//! acc = row @ weight.T                                          # the matrix product, over blocks of windows
//! depthwise: acc[channel] = sum over taps of x[tap][channel] * w[tap][channel]
//! ```
//!
//! `x` is `[batch, depth, height, width, channels]`, channels last; one and two dimensions are three, some of size 1.

mod depthwise;
mod geometry;

pub use depthwise::{Depthwise, conv_depthwise};
pub use geometry::Geometry;

use std::ops::Range;

use crate::{
    Error,
    error::check_len,
    integer::Integer,
    matmul::{Finish, Source, Weight},
    parallel::Team,
};

/// Writes the convolution of `x`, finished, to `y`: `[batch, *windows, weight.len()]`. The depth of the weight is
/// `[*kernel, channels of a group]`. Exact, so the same on every [`crate::Isa`] and [`Team`].
///
/// # Errors
/// [`Error::LengthMismatch`] if lengths do not fit the geometry and the weight; [`Error::Window`] if there is none;
/// what else [`crate::matmul::matmul`] refuses of `T`, `zero_point`, `bias` and `finish`.
#[allow(clippy::too_many_arguments, reason = "one convolution")]
pub fn conv<T: Integer, F: Finish>(
    team: &dyn Team,
    x: &[T],
    geometry: Geometry,
    zero_point: i16,
    weight: &Weight,
    bias: Option<&[i64]>,
    finish: &F,
    y: &mut [F::Y],
) -> Result<(), Error> {
    let windows = geometry.check(x.len())?;
    let channels = geometry.channels / weight.groups().max(1);
    check_len("weight", weight.depth(), geometry.taps() * channels)?;
    check_len("y", y.len(), windows.saturating_mul(weight.len()))?;
    let bound = weight.bound::<T>(zero_point, bias)?;
    finish.check(weight.len(), bound)?;
    let offsets = weight.offsets(windows, zero_point.into(), bound, bias);
    let taps = Taps { x, geometry, channels, outside: T::narrow(zero_point.into()) };
    weight.run(team, windows, &offsets, &taps, finish, y);
    Ok(())
}

/// What lies under the taps of each window, of the channels of one group.
struct Taps<'a, T> {
    x: &'a [T],
    geometry: Geometry,
    channels: usize,
    outside: T,
}

impl<T: Integer> Source<T> for Taps<'_, T> {
    fn rows<'a>(&'a self, group: usize, rows: Range<usize>, line: usize, room: &'a mut [T]) -> &'a [T] {
        let (channels, depth) = (self.channels, self.geometry.taps() * self.channels);
        for (row, room) in rows.zip(room.chunks_mut(line)) {
            self.geometry.gather(self.x, row, group * channels, channels, self.outside, &mut room[..depth]);
        }
        room
    }
}
