//! The integers a tensor is rounded to, and what one step is worth.

use crate::{Error, Wide, error::check_len};

/// `qmin..=qmax` in steps of `scale`; `zero_point` is the integer that means 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    /// Real units per step.
    pub scale: f32,
    /// The integer that means 0.
    pub zero_point: i32,
    /// Least integer.
    pub qmin: i32,
    /// Greatest integer.
    pub qmax: i32,
}

/// A [`Grid`] for each channel, with the same integers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChannelGrid<'a> {
    /// Real units per step, of each channel.
    pub scale: &'a [f32],
    /// The integer that means 0, of each channel.
    pub zero_point: &'a [i32],
    /// Least integer.
    pub qmin: i32,
    /// Greatest integer.
    pub qmax: i32,
}

/// What values are clamped to before they are quantized: 0 to infinity is a ReLU, 0 to 6 a ReLU6.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// Least value.
    pub low: f32,
    /// Greatest value.
    pub high: f32,
}

impl From<(f32, f32)> for Bounds {
    fn from((low, high): (f32, f32)) -> Self {
        Self { low, high }
    }
}

/// A checked grid in the type that arithmetic runs in; `low` and `high` count from the zero point.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steps<W, B = Unbounded> {
    pub inv_scale: W,
    pub low: W,
    pub high: W,
    pub scale: f32,
    pub bound: B,
}

/// What happens to a value before it is quantized.
pub(super) trait Bound<W>: Copy + Send + Sync {
    /// The value, and whether its gradient passes.
    fn bound(self, x: W) -> (W, bool);
}

/// Nothing happens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unbounded;

impl<W> Bound<W> for Unbounded {
    #[inline(always)]
    fn bound(self, x: W) -> (W, bool) {
        (x, true)
    }
}

/// [`Bounds`] in the type that arithmetic runs in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Within<W> {
    low: W,
    high: W,
}

impl<W: Wide> Bound<W> for Within<W> {
    #[inline(always)]
    fn bound(self, x: W) -> (W, bool) {
        // Selects that keep NaN: the grid has a place for it.
        let y = if self.low > x { self.low } else { x };
        let y = if self.high < y { self.high } else { y };
        (y, (x > self.low) & (x < self.high))
    }
}

impl Grid {
    pub(super) fn steps<W: Wide>(self, channel: Option<usize>) -> Result<Steps<W>, Error> {
        let Self { scale, zero_point, qmin, qmax } = self;
        if qmin >= qmax {
            return Err(Error::EmptyRange { qmin, qmax });
        }
        if i64::from(qmax) - i64::from(qmin) >= 1 << 22 {
            return Err(Error::WideRange { qmin, qmax });
        }
        if !(qmin..=qmax).contains(&zero_point) {
            return Err(Error::ZeroPoint { channel, zero_point, qmin, qmax });
        }
        let inv_scale = 1.0 / scale;
        if !(scale > 0.0 && scale.is_finite() && inv_scale.is_finite()) {
            return Err(Error::Scale { channel, scale });
        }
        let (low, high) = ((qmin - zero_point) as f32, (qmax - zero_point) as f32);
        Ok(Steps {
            inv_scale: W::from_f32(inv_scale),
            low: W::from_f32(low),
            high: W::from_f32(high),
            scale,
            bound: Unbounded,
        })
    }
}

impl<W: Wide> Steps<W> {
    /// The same grid, for values that are clamped to `bounds` first.
    ///
    /// # Errors
    /// [`Error::Bounds`] unless `low` is finite and less than `high`.
    pub(super) fn within(self, bounds: Bounds) -> Result<Steps<W, Within<W>>, Error> {
        let Self { inv_scale, low, high, scale, .. } = self;
        if !(bounds.low.is_finite() && bounds.low < bounds.high) {
            return Err(Error::Bounds { low: bounds.low, high: bounds.high });
        }
        let bound = Within { low: W::from_f32(bounds.low), high: W::from_f32(bounds.high) };
        Ok(Steps { inv_scale, low, high, scale, bound })
    }
}

impl ChannelGrid<'_> {
    pub(super) fn steps<W: Wide>(self, channels: usize) -> Result<Vec<Steps<W>>, Error> {
        check_len("scale", self.scale.len(), channels)?;
        check_len("zero_point", self.zero_point.len(), channels)?;
        let each = self.scale.iter().zip(self.zero_point).enumerate();
        each.map(|(channel, (&scale, &zero_point))| {
            Grid { scale, zero_point, qmin: self.qmin, qmax: self.qmax }.steps(Some(channel))
        })
        .collect()
    }
}
