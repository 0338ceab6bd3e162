//! `fake_quantize_*`: carries, checks and calls.

mod as_torch;
mod backward;
mod mask;
mod node;
mod observed;
mod per_channel;
mod per_tensor;

pub(crate) use as_torch::fake_quantize_observed_as_torch_per_tensor;
pub(crate) use backward::{
    fake_quantize_backward, fake_quantize_backward_in_place, fake_quantize_learnable_backward,
};
pub(crate) use mask::Mask;
pub(crate) use node::Backward;
pub(crate) use observed::{fake_quantize_observed_per_channel, fake_quantize_observed_per_tensor};
pub(crate) use per_channel::fake_quantize_per_channel;
pub(crate) use per_tensor::fake_quantize_per_tensor;
