//! Rounds to the integer grid and comes back: `y = clamp(round(x / scale)) * scale`.
//!
//! ```text
//! inv = 1 / scale                          # one division, not one for each element
//! for x, y in zip(x, y):
//!     steps  = round_half_even(x * inv)    # rounded before a zero point would be added
//!     inside = low <= steps <= high        # low = qmin - zero_point, high = qmax - zero_point; saved as one bit
//!     y = clamp(steps, low, high) * scale  # NaN goes to low
//! ```
//!
//! A ReLU in front is one step more in the same pass: `x = clamp(x, bounds)` first, and inside is also strictly between
//! the bounds.
//!
//! On the way back, gradients pass where nothing was clamped: `grad_x = grad_y * inside`. Where nothing was clamped at all,
//! [`all_inside`] tells, and there is nothing to multiply.

mod as_torch;
mod backward;
mod formula;
pub(crate) use formula::{clamp, round};
mod grid;
mod learnable;
mod mask;
mod observed;
mod observed_per_channel;
mod per_channel;
mod per_tensor;

pub use as_torch::{AsTorch, TorchRule};
pub use backward::{backward, backward_in_place};
pub use grid::{Bounds, ChannelGrid, Grid};
pub use learnable::learnable_backward;
pub use mask::{all_inside, mask_len, unpack};
pub use observed::{Follow, Moving, Range, observed_per_tensor};
pub use observed_per_channel::{Ranges, observed_per_channel};
pub use per_channel::{per_channel, per_channel_with_mask};
pub use per_tensor::{per_tensor, per_tensor_with_mask};
