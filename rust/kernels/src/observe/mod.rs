//! Looks at a tensor to choose its scale; changes nothing.

mod min_max;
mod mse_search;
mod squared_error;

pub use min_max::{min_max_per_channel, min_max_per_tensor};
pub use mse_search::{mse_search_per_channel, mse_search_per_tensor};
