//! Observe and quantize with a range for each channel: what takes a weight in training a dozen calls.
//!
//! ```text
//! for each channel:
//!     low, high = min(x), max(x)
//!     min_val, max_val, scale = as in observed.rs, where all channels start together
//! fake-quantize x, each channel on its grid
//! ```

use super::{
    grid::ChannelGrid,
    mask::mask_len,
    observed::{Moving, Range},
    per_channel::{per_channel, per_channel_with_mask},
};
use crate::{Element, Error, Isa, Layout, error::check_len, observe::min_max_per_channel, parallel::Team};

/// What an observer keeps of all batches so far, and the scales that cover it; one value for each channel.
#[derive(Debug)]
pub struct Ranges<'a> {
    /// Lower ends.
    pub min_val: &'a mut [f32],
    /// Upper ends; where one is below its lower end, nothing was seen yet.
    pub max_val: &'a mut [f32],
    /// Real units per step.
    pub scale: &'a mut [f32],
}

/// Moves `ranges` towards `x`, and writes the fake-quantized `x` to `y`, each channel of `layout` on the grid of its
/// range. `mask`, if wanted, is that of [`per_channel_with_mask`].
///
/// `false`, and nothing is written, if `x` is empty or has a NaN or an infinity. Bit-identical on every [`Isa`] and
/// [`Team`].
///
/// # Errors
/// As [`per_channel_with_mask`]; [`Error::LengthMismatch`] if `ranges` do not fit `layout`. Nothing is written.
#[allow(clippy::too_many_arguments, reason = "two inputs, two outputs, and what is between")]
pub fn observed_per_channel<T: Element>(
    isa: Isa,
    team: &dyn Team,
    x: &[T],
    layout: Layout,
    moving: Moving,
    ranges: Ranges<'_>,
    y: &mut [T],
    mask: Option<&mut [u8]>,
) -> Result<bool, Error> {
    let channels = layout.channels;
    check_len("y", y.len(), x.len())?;
    check_len("min_val", ranges.min_val.len(), channels)?;
    check_len("max_val", ranges.max_val.len(), channels)?;
    check_len("scale", ranges.scale.len(), channels)?;
    if let Some(mask) = &mask {
        check_len("mask", mask.len(), mask_len(x.len()))?;
    }
    if x.is_empty() {
        return Ok(false);
    }
    let (mut low, mut high, mut scale) = (vec![0.0; channels], vec![0.0; channels], vec![0.0; channels]);
    min_max_per_channel(isa, team, x, layout, &mut low, &mut high)?;
    if !low.iter().chain(&high).all(|end| end.is_finite()) {
        return Ok(false);
    }
    let started = ranges.min_val.iter().zip(&*ranges.max_val).all(|(min_val, max_val)| min_val <= max_val);
    for channel in 0..channels {
        let mut range = Range { min_val: low[channel], max_val: high[channel] };
        if started {
            let before = Range { min_val: ranges.min_val[channel], max_val: ranges.max_val[channel] };
            range = moving.moved(before, range.min_val, range.max_val);
        }
        (low[channel], high[channel], scale[channel]) =
            (range.min_val, range.max_val, moving.grid(range).scale);
    }
    let Moving { qmin, qmax, .. } = moving;
    let grid = ChannelGrid { scale: &scale, zero_point: &vec![0; channels], qmin, qmax };
    match mask {
        Some(mask) => per_channel_with_mask(isa, team, x, layout, grid, y, mask)?,
        None => per_channel(isa, team, x, layout, grid, y)?,
    }
    ranges.min_val.copy_from_slice(&low);
    ranges.max_val.copy_from_slice(&high);
    ranges.scale.copy_from_slice(&scale);
    Ok(true)
}
