//! `min_max_*`, `mse_search_*`, `histogram_*` and `percentile_*`: carries, checks and calls.

use nashquant_kernels::observe as kernels;
use pyo3::{exceptions::PyValueError, prelude::*};

use crate::{
    by_dtype,
    capability::isa,
    error::value_error,
    integers,
    strides::channels,
    torch::{Memory, TorchTeam, View},
};

#[pyfunction]
pub(crate) fn min_max_per_tensor(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    low: &Bound<'_, PyAny>,
    high: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let (x, low, high) = (View::of("x", x)?, View::of("low", low)?, View::of("high", high)?);
    let mut memory = Memory::default();
    by_dtype!(x, T => {
        let (x, low, high) = (memory.read::<T>(&x)?, one(&mut memory, &low)?, one(&mut memory, &high)?);
        (*low, *high) =
            memory.run(py, || kernels::min_max_per_tensor(isa(), &TorchTeam, x)).map_err(value_error)?;
        Ok(())
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
        memory.run(py, || kernels::min_max_per_channel(isa(), &TorchTeam, x, layout, low, high)).map_err(value_error)
    })
}

#[pyfunction]
#[pyo3(signature = (x, *, qmin, qmax, stride))]
pub(crate) fn mse_search_per_tensor(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    #[pyo3(from_py_with = integers::qmin)] qmin: i32,
    #[pyo3(from_py_with = integers::qmax)] qmax: i32,
    stride: i64,
) -> PyResult<f32> {
    let (x, mut memory, stride) = (View::of("x", x)?, Memory::default(), check_stride(stride)?);
    by_dtype!(x, T => {
        let x = memory.read::<T>(&x)?;
        py.detach(|| kernels::mse_search_per_tensor(isa(), &TorchTeam, x, qmin, qmax, stride))
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
    #[pyo3(from_py_with = integers::qmin)] qmin: i32,
    #[pyo3(from_py_with = integers::qmax)] qmax: i32,
    stride: i64,
) -> PyResult<()> {
    let (x, threshold, stride) =
        (View::of("x", x)?, View::of("threshold", threshold)?, check_stride(stride)?);
    let (layout, mut memory) = (channels(&x, axis)?, Memory::default());
    by_dtype!(x, T => {
        let (x, threshold) = (memory.read::<T>(&x)?, memory.write(&threshold)?);
        py.detach(|| {
            kernels::mse_search_per_channel(isa(), &TorchTeam, x, layout, qmin, qmax, stride, threshold)
        })
        .map_err(value_error)
    })
}

#[pyfunction]
#[pyo3(signature = (x, counts, *, limit))]
pub(crate) fn histogram_per_tensor(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    counts: &Bound<'_, PyAny>,
    limit: f64,
) -> PyResult<()> {
    let (x, counts, mut memory) = (View::of("x", x)?, View::of("counts", counts)?, Memory::default());
    by_dtype!(x, T => {
        let (x, counts) = (memory.read::<T>(&x)?, memory.write(&counts)?);
        py.detach(|| kernels::histogram_per_tensor(isa(), &TorchTeam, x, limit, counts)).map_err(value_error)
    })
}

#[pyfunction]
#[pyo3(signature = (x, limit, counts, *, axis, bins))]
pub(crate) fn histogram_per_channel(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    limit: &Bound<'_, PyAny>,
    counts: &Bound<'_, PyAny>,
    axis: i64,
    bins: usize,
) -> PyResult<()> {
    let (x, limit, counts) = (View::of("x", x)?, View::of("limit", limit)?, View::of("counts", counts)?);
    let (layout, mut memory) = (channels(&x, axis)?, Memory::default());
    by_dtype!(x, T => {
        let (x, limit, counts) = (memory.read::<T>(&x)?, memory.read(&limit)?, memory.write(&counts)?);
        py.detach(|| {
            kernels::histogram_per_channel(isa(), &TorchTeam, x, layout, limit, bins, counts)
        })
        .map_err(value_error)
    })
}

#[pyfunction]
#[pyo3(signature = (x, *, percentile))]
pub(crate) fn percentile_per_tensor(py: Python<'_>, x: &Bound<'_, PyAny>, percentile: f64) -> PyResult<f32> {
    let (x, mut memory) = (View::of("x", x)?, Memory::default());
    by_dtype!(x, T => {
        let x = memory.read::<T>(&x)?;
        py.detach(|| kernels::percentile_per_tensor(isa(), &TorchTeam, x, percentile)).map_err(value_error)
    })
}

/// Room for one number.
fn one<'a>(memory: &mut Memory, view: &View<'a>) -> PyResult<&'a mut f32> {
    let name = view.name;
    match memory.write(view)? {
        [one] => Ok(one),
        many => {
            let message = format!("{name} has {} elements, but 1 is needed", many.len());
            Err(PyValueError::new_err(message))
        }
    }
}

fn check_stride(stride: i64) -> PyResult<usize> {
    let message = || PyValueError::new_err(format!("stride is {stride}, but must be at least 1"));
    usize::try_from(stride).map_err(|_| message())
}
