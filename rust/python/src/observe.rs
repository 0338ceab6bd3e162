//! `min_max_*` and `mse_search_*`: carries, checks and calls.

use nashquant_kernels::{Isa, observe as kernels};
use pyo3::{exceptions::PyValueError, prelude::*};

use crate::{
    by_dtype,
    error::value_error,
    strides::channels,
    torch::{Memory, TorchTeam, View},
};

#[pyfunction]
pub(crate) fn min_max_per_tensor(py: Python<'_>, x: &Bound<'_, PyAny>) -> PyResult<(f32, f32)> {
    let (x, mut memory) = (View::of("x", x)?, Memory::default());
    by_dtype!(x, T => {
        let x = memory.read::<T>(&x)?;
        py.detach(|| kernels::min_max_per_tensor(Isa::best(), &TorchTeam, x)).map_err(value_error)
    })
}

#[pyfunction]
#[pyo3(signature = (x, low, high, *, axis))]
pub(crate) fn min_max_per_channel(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    low: &Bound<'_, PyAny>,
    high: &Bound<'_, PyAny>,
    axis: i64,
) -> PyResult<()> {
    let (x, low, high) = (View::of("x", x)?, View::of("low", low)?, View::of("high", high)?);
    let (layout, mut memory) = (channels(&x, axis)?, Memory::default());
    by_dtype!(x, T => {
        let (x, low, high) = (memory.read::<T>(&x)?, memory.write(&low)?, memory.write(&high)?);
        py.detach(|| kernels::min_max_per_channel(Isa::best(), &TorchTeam, x, layout, low, high)).map_err(value_error)
    })
}

#[pyfunction]
#[pyo3(signature = (x, *, qmin, qmax, stride))]
pub(crate) fn mse_search_per_tensor(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    qmin: i32,
    qmax: i32,
    stride: i64,
) -> PyResult<f32> {
    let (x, mut memory, stride) = (View::of("x", x)?, Memory::default(), check_stride(stride)?);
    by_dtype!(x, T => {
        let x = memory.read::<T>(&x)?;
        py.detach(|| kernels::mse_search_per_tensor(Isa::best(), &TorchTeam, x, qmin, qmax, stride))
            .map_err(value_error)
    })
}

#[pyfunction]
#[pyo3(signature = (x, threshold, *, axis, qmin, qmax, stride))]
pub(crate) fn mse_search_per_channel(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    threshold: &Bound<'_, PyAny>,
    axis: i64,
    qmin: i32,
    qmax: i32,
    stride: i64,
) -> PyResult<()> {
    let (x, threshold, stride) =
        (View::of("x", x)?, View::of("threshold", threshold)?, check_stride(stride)?);
    let (layout, mut memory) = (channels(&x, axis)?, Memory::default());
    by_dtype!(x, T => {
        let (x, threshold) = (memory.read::<T>(&x)?, memory.write(&threshold)?);
        py.detach(|| {
            kernels::mse_search_per_channel(Isa::best(), &TorchTeam, x, layout, qmin, qmax, stride, threshold)
        })
        .map_err(value_error)
    })
}

fn check_stride(stride: i64) -> PyResult<usize> {
    let message = || PyValueError::new_err(format!("stride is {stride}, but must be at least 1"));
    usize::try_from(stride).map_err(|_| message())
}
