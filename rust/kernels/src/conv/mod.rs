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
#[cfg(target_arch = "x86_64")]
mod depthwise_x86;
mod geometry;

pub use depthwise::{Depthwise, DepthwiseWeight, conv_depthwise};
pub use geometry::Geometry;

use std::ops::Range;

use crate::{
    Error,
    error::check_len,
    integer::Integer,
    matmul::{Finish, Linear, Source},
    parallel::Team,
};

/// Writes the convolution of `x`, finished, to `y`: `[batch, *windows, outputs]`. The depth of the weight is `[*kernel,
/// channels of a group]`. Exact, so the same on every [`crate::Isa`] and [`Team`].
///
/// # Errors
/// [`Error::LengthMismatch`] if lengths do not fit the geometry and the weight; [`Error::Window`] if there is none;
/// what else [`crate::matmul::matmul`] refuses of `finish`.
pub fn conv<T: Integer, F: Finish>(
    team: &dyn Team,
    x: &[T],
    geometry: Geometry,
    linear: &Linear<T>,
    finish: &F,
    y: &mut [F::Y],
) -> Result<(), Error> {
    let (windows, weight) = (geometry.check(x.len())?, linear.weight());
    let channels = geometry.channels / weight.groups().max(1);
    check_len("weight", weight.depth(), geometry.taps() * channels)?;
    linear.run(team, windows, &Taps { x, geometry, channels, outside: linear.zero_point() }, finish, y)
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
        let corners = self.geometry.corners(rows.start).take(rows.len());
        for (corner, room) in corners.zip(room.chunks_mut(line)) {
            self.geometry.gather(
                self.x,
                corner,
                group * channels,
                channels,
                self.outside,
                &mut room[..depth],
            );
        }
        room
    }
}
