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

/// A checked grid in the type that arithmetic runs in; `low` and `high` count from the zero point.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steps<W> {
    pub inv_scale: W,
    pub low: W,
    pub high: W,
    pub scale: f32,
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
        Ok(Steps { inv_scale: W::from_f32(inv_scale), low: W::from_f32(low), high: W::from_f32(high), scale })
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
