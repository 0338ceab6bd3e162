//! `fake_quantize_per_tensor`.

use nashquant_kernels::fake_quantize::{self as kernels, Bounds, Grid};
use pyo3::prelude::*;

use super::Mask;
use crate::{
    by_dtype,
    capability::isa,
    error::value_error,
    integers,
    strides::check_alike,
    torch::{Memory, TorchTeam, View},
};

#[pyfunction]
#[pyo3(signature = (x, y, scale, zero_point, qmin, qmax, bounds=None))]
#[allow(clippy::too_many_arguments, reason = "Python names them")]
pub(crate) fn fake_quantize_per_tensor(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    y: &Bound<'_, PyAny>,
    scale: f64,
    #[pyo3(from_py_with = integers::zero_point)] zero_point: i32,
    #[pyo3(from_py_with = integers::qmin)] qmin: i32,
    #[pyo3(from_py_with = integers::qmax)] qmax: i32,
    bounds: Option<(f32, f32)>,
) -> PyResult<()> {
    let (x, y, grid) =
        (View::of("x", x)?, View::of("y", y)?, Grid { scale: scale as f32, zero_point, qmin, qmax });
    check_alike(&x, &y)?;
    let mut memory = Memory::default();
    by_dtype!(x, T => {
        let (x, y) = (memory.read::<T>(&x)?, memory.write::<T>(&y)?);
        memory.run(py, || kernels::per_tensor(isa(), &TorchTeam, x, grid, bounds.map(Bounds::from), y)).map_err(value_error)
    })
}

#[pyfunction]
#[pyo3(signature = (x, y, scale, zero_point, qmin, qmax, bounds=None))]
#[allow(clippy::too_many_arguments, reason = "Python names them")]
pub(crate) fn fake_quantize_per_tensor_with_mask(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    y: &Bound<'_, PyAny>,
    scale: f64,
    #[pyo3(from_py_with = integers::zero_point)] zero_point: i32,
    #[pyo3(from_py_with = integers::qmin)] qmin: i32,
    #[pyo3(from_py_with = integers::qmax)] qmax: i32,
    bounds: Option<(f32, f32)>,
) -> PyResult<Mask> {
    let (x, y, grid) =
        (View::of("x", x)?, View::of("y", y)?, Grid { scale: scale as f32, zero_point, qmin, qmax });
    check_alike(&x, &y)?;
    let (mut memory, mut mask) = (Memory::default(), Mask::of(&x));
    by_dtype!(x, T => {
        let (x, y, bits) = (memory.read::<T>(&x)?, memory.write::<T>(&y)?, &mut mask.bits);
        memory.run(py, || kernels::per_tensor_with_mask(isa(), &TorchTeam, x, grid, bounds.map(Bounds::from), y, bits)).map_err(value_error)
    })?;
    Ok(mask)
}
