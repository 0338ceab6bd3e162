//! `nashquant._core`: marshals tensors, releases the GIL, calls the kernels, translates errors. No arithmetic.

mod capability;
mod eager;
mod error;
mod fake_quantize;
mod gemm;
mod integer;
mod integers;
mod observe;
mod strides;
mod torch;

pub(crate) use error::{by_dtype, by_integer};
use pyo3::prelude::*;

#[pyfunction]
fn is_dense(x: &Bound<'_, PyAny>) -> PyResult<bool> {
    let x = torch::View::of("x", x)?;
    Ok(strides::is_dense(x.shape, x.strides))
}

#[pymodule(name = "_core")]
mod core {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::{
        capability::cpu_capability,
        eager::takes,
        fake_quantize::{
            Backward, Mask, fake_quantize_backward, fake_quantize_backward_in_place,
            fake_quantize_learnable_backward, fake_quantize_observed_as_torch_per_tensor,
            fake_quantize_observed_per_channel, fake_quantize_observed_per_tensor, fake_quantize_per_channel,
            fake_quantize_per_tensor,
        },
        gemm::{Linear, Weight, conv, matmul},
        integer::{Landing, add_saturating, lookup, mul_saturating, requantize},
        is_dense,
        observe::{
            histogram_per_channel, histogram_per_tensor, min_max_per_channel, min_max_per_tensor,
            mse_search_per_channel, mse_search_per_tensor, percentile_per_tensor,
        },
    };

    #[pymodule_init]
    fn init(_module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::capability::choose()
    }
}
