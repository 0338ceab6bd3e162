//! Looks at a tensor to choose its scale; changes nothing.

mod bins;
mod elements;
mod histogram;
mod min_max;
mod mse_search;
mod outlook;
mod percentile;
mod squared_error;

pub use histogram::{histogram_per_channel, histogram_per_tensor};
pub use min_max::{min_max_per_channel, min_max_per_tensor};
pub use mse_search::{mse_search_per_channel, mse_search_per_tensor};
pub use percentile::percentile_per_tensor;
