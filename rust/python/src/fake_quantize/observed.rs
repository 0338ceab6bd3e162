//! `fake_quantize_observed_*`: observe and quantize in one call.

use nashquant_kernels::fake_quantize::{self as kernels, Bounds, Follow, Grid, Moving, Range, Ranges};
use pyo3::{exceptions::PyValueError, prelude::*};

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
#[pyo3(signature = (x, y, min_val, max_val, scale, averaging_constant, qmin, qmax, bounds=None))]
#[allow(clippy::too_many_arguments, reason = "Python names them")]
pub(crate) fn fake_quantize_observed_per_tensor(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    y: &Bound<'_, PyAny>,
    min_val: &Bound<'_, PyAny>,
    max_val: &Bound<'_, PyAny>,
    scale: &Bound<'_, PyAny>,
    averaging_constant: f64,
    #[pyo3(from_py_with = integers::qmin)] qmin: i32,
    #[pyo3(from_py_with = integers::qmax)] qmax: i32,
    bounds: Option<(f32, f32)>,
) -> PyResult<bool> {
    let (x, y) = (View::of("x", x)?, View::of("y", y)?);
    let (min_val, max_val, scale) =
        (View::of("min_val", min_val)?, View::of("max_val", max_val)?, View::of("scale", scale)?);
    let moving = Moving { averaging_constant: averaging_constant as f32, qmin, qmax };
    observed(py, &x, &y, [&min_val, &max_val, &scale], bounds.map(Bounds::from), moving, None)
}

#[pyfunction]
#[pyo3(signature = (x, y, min_val, max_val, scale, averaging_constant, qmin, qmax, bounds=None))]
#[allow(clippy::too_many_arguments, reason = "Python names them")]
pub(crate) fn fake_quantize_observed_per_tensor_with_mask(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    y: &Bound<'_, PyAny>,
    min_val: &Bound<'_, PyAny>,
    max_val: &Bound<'_, PyAny>,
    scale: &Bound<'_, PyAny>,
    averaging_constant: f64,
    #[pyo3(from_py_with = integers::qmin)] qmin: i32,
    #[pyo3(from_py_with = integers::qmax)] qmax: i32,
    bounds: Option<(f32, f32)>,
) -> PyResult<Option<Mask>> {
    let (x, y) = (View::of("x", x)?, View::of("y", y)?);
    let (min_val, max_val, scale) =
        (View::of("min_val", min_val)?, View::of("max_val", max_val)?, View::of("scale", scale)?);
    let moving = Moving { averaging_constant: averaging_constant as f32, qmin, qmax };
    let mut mask = Mask::of(&x);
    let written = observed(
        py,
        &x,
        &y,
        [&min_val, &max_val, &scale],
        bounds.map(Bounds::from),
        moving,
        Some(&mut mask.bits),
    )?;
    Ok(written.then_some(mask))
}

/// Both of the above; tells whether anything was written.
fn observed<'a>(
    py: Python<'_>,
    x: &View<'a>,
    y: &View<'a>,
    state: [&View<'a>; 3],
    bounds: Option<Bounds>,
    moving: impl Follow,
    bits: Option<&mut [u8]>,
) -> PyResult<bool> {
    Ok(follow(py, x, y, state, bounds, moving, bits, &mut Memory::default())?.is_some())
}

/// The grid that was chosen, if anything was written.
#[allow(clippy::too_many_arguments, reason = "two inputs, two outputs, and what is between")]
pub(super) fn follow<'a>(
    py: Python<'_>,
    x: &View<'a>,
    y: &View<'a>,
    state: [&View<'a>; 3],
    bounds: Option<Bounds>,
    moving: impl Follow,
    bits: Option<&mut [u8]>,
    memory: &mut Memory,
) -> PyResult<Option<Grid>> {
    check_alike(x, y)?;
    let mut one = |view: &View<'a>| -> PyResult<&'a mut f32> {
        match memory.write::<f32>(view)? {
            [one] => Ok(one),
            many => {
                let message = format!("{} has {} elements, but 1 is needed", view.name, many.len());
                Err(PyValueError::new_err(message))
            }
        }
    };
    let (min_val, max_val, scale) = (one(state[0])?, one(state[1])?, one(state[2])?);
    let range = Range { min_val: *min_val, max_val: *max_val };
    let after = by_dtype!(x, T => {
        let (x, y) = (memory.read::<T>(x)?, memory.write::<T>(y)?);
        memory.run(py, || kernels::observed_per_tensor(isa(), &TorchTeam, x, bounds, moving, range, y, bits))
            .map_err(value_error)
    })?;
    if let Some((range, grid)) = after {
        (*min_val, *max_val, *scale) = (range.min_val, range.max_val, grid.scale);
    }
    Ok(after.map(|(_, grid)| grid))
}

#[pyfunction]
#[pyo3(signature = (x, y, min_val, max_val, scale, axis, averaging_constant, qmin, qmax))]
#[allow(clippy::too_many_arguments, reason = "Python names them")]
pub(crate) fn fake_quantize_observed_per_channel(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    y: &Bound<'_, PyAny>,
    min_val: &Bound<'_, PyAny>,
    max_val: &Bound<'_, PyAny>,
    scale: &Bound<'_, PyAny>,
    axis: i64,
    averaging_constant: f64,
    #[pyo3(from_py_with = integers::qmin)] qmin: i32,
    #[pyo3(from_py_with = integers::qmax)] qmax: i32,
) -> PyResult<bool> {
    let (x, y) = (View::of("x", x)?, View::of("y", y)?);
    let state = [View::of("min_val", min_val)?, View::of("max_val", max_val)?, View::of("scale", scale)?];
    let moving = Moving { averaging_constant: averaging_constant as f32, qmin, qmax };
    observed_by_channel(py, &x, &y, &state, axis, moving, None)
}

#[pyfunction]
#[pyo3(signature = (x, y, min_val, max_val, scale, axis, averaging_constant, qmin, qmax))]
#[allow(clippy::too_many_arguments, reason = "Python names them")]
pub(crate) fn fake_quantize_observed_per_channel_with_mask(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    y: &Bound<'_, PyAny>,
    min_val: &Bound<'_, PyAny>,
    max_val: &Bound<'_, PyAny>,
    scale: &Bound<'_, PyAny>,
    axis: i64,
    averaging_constant: f64,
    #[pyo3(from_py_with = integers::qmin)] qmin: i32,
    #[pyo3(from_py_with = integers::qmax)] qmax: i32,
) -> PyResult<Option<Mask>> {
    let (x, y) = (View::of("x", x)?, View::of("y", y)?);
    let state = [View::of("min_val", min_val)?, View::of("max_val", max_val)?, View::of("scale", scale)?];
    let moving = Moving { averaging_constant: averaging_constant as f32, qmin, qmax };
    let mut mask = Mask::of(&x);
    let written = observed_by_channel(py, &x, &y, &state, axis, moving, Some(&mut mask.bits))?;
    Ok(written.then_some(mask))
}

/// Both of the above; tells whether anything was written.
fn observed_by_channel<'a>(
    py: Python<'_>,
    x: &View<'a>,
    y: &View<'a>,
    [min_val, max_val, scale]: &[View<'a>; 3],
    axis: i64,
    moving: Moving,
    bits: Option<&mut [u8]>,
) -> PyResult<bool> {
    check_alike(x, y)?;
    let (layout, mut memory) = (channels(x, axis)?, Memory::default());
    let (min_val, max_val) = (memory.write(min_val)?, memory.write(max_val)?);
    let ranges = Ranges { min_val, max_val, scale: memory.write(scale)? };
    by_dtype!(x, T => {
        let (x, y) = (memory.read::<T>(x)?, memory.write::<T>(y)?);
        memory.run(py, || kernels::observed_per_channel(isa(), &TorchTeam, x, layout, moving, ranges, y, bits))
            .map_err(value_error)
    })
}
