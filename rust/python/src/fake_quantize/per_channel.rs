//! `fake_quantize_per_channel`.

use nashquant_kernels::fake_quantize::{self as kernels, ChannelGrid};
use pyo3::prelude::*;

use super::Mask;
use crate::{
    by_dtype,
    capability::isa,
    error::value_error,
    integers,
    strides::{channels, check_alike},
    torch::{Memory, TorchTeam, View},
};

#[pyfunction]
#[pyo3(signature = (x, y, *, scale, zero_point, axis, qmin, qmax))]
#[allow(clippy::too_many_arguments, reason = "Python names them")]
pub(crate) fn fake_quantize_per_channel(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    y: &Bound<'_, PyAny>,
    scale: &Bound<'_, PyAny>,
    zero_point: &Bound<'_, PyAny>,
    axis: i64,
    #[pyo3(from_py_with = integers::qmin)] qmin: i32,
    #[pyo3(from_py_with = integers::qmax)] qmax: i32,
) -> PyResult<()> {
    let (x, y) = (View::of("x", x)?, View::of("y", y)?);
    let (scale, zero_point) = (View::of("scale", scale)?, View::of("zero_point", zero_point)?);
    check_alike(&x, &y)?;
    let (layout, mut memory) = (channels(&x, axis)?, Memory::default());
    let grid = ChannelGrid { scale: memory.read(&scale)?, zero_point: memory.read(&zero_point)?, qmin, qmax };
    by_dtype!(x, T => {
        let (x, y) = (memory.read::<T>(&x)?, memory.write::<T>(&y)?);
        memory.run(py, || kernels::per_channel(isa(), &TorchTeam, x, layout, grid, y)).map_err(value_error)
    })
}

#[pyfunction]
#[pyo3(signature = (x, y, *, scale, zero_point, axis, qmin, qmax))]
#[allow(clippy::too_many_arguments, reason = "Python names them")]
pub(crate) fn fake_quantize_per_channel_with_mask(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    y: &Bound<'_, PyAny>,
    scale: &Bound<'_, PyAny>,
    zero_point: &Bound<'_, PyAny>,
    axis: i64,
    #[pyo3(from_py_with = integers::qmin)] qmin: i32,
    #[pyo3(from_py_with = integers::qmax)] qmax: i32,
) -> PyResult<Mask> {
    let (x, y) = (View::of("x", x)?, View::of("y", y)?);
    let (scale, zero_point) = (View::of("scale", scale)?, View::of("zero_point", zero_point)?);
    check_alike(&x, &y)?;
    let (layout, mut memory, mut mask) = (channels(&x, axis)?, Memory::default(), Mask::of(&x));
    let grid = ChannelGrid { scale: memory.read(&scale)?, zero_point: memory.read(&zero_point)?, qmin, qmax };
    by_dtype!(x, T => {
        let (x, y, bits) = (memory.read::<T>(&x)?, memory.write::<T>(&y)?, &mut mask.bits);
        memory.run(py, || kernels::per_channel_with_mask(isa(), &TorchTeam, x, layout, grid, y, bits))
            .map_err(value_error)
    })?;
    Ok(mask)
}
