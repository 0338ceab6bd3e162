//! `fake_quantize_observed_*`: observe and quantize in one call.

use nashquant_kernels::fake_quantize::{self as kernels, Bounds, Follow, Grid, Moving, Range, Ranges};
use pyo3::prelude::*;

use crate::{
    by_dtype,
    capability::isa,
    eager::{Rounded, following},
    error::value_error,
    integers,
    strides::channels,
    torch::{Memory, TorchTeam, View},
};

#[pyfunction]
#[pyo3(signature = (x, min_val, max_val, scale, averaging_constant, qmin, qmax, bounds=None))]
#[allow(clippy::too_many_arguments, reason = "Python names them")]
pub(crate) fn fake_quantize_observed_per_tensor<'py>(
    x: &Bound<'py, PyAny>,
    min_val: &Bound<'py, PyAny>,
    max_val: &Bound<'py, PyAny>,
    scale: &Bound<'py, PyAny>,
    averaging_constant: f64,
    #[pyo3(from_py_with = integers::qmin)] qmin: i32,
    #[pyo3(from_py_with = integers::qmax)] qmax: i32,
    bounds: Option<(f32, f32)>,
) -> PyResult<Rounded<'py>> {
    let moving = Moving { averaging_constant: averaging_constant as f32, qmin, qmax };
    following(x, &[min_val, max_val, scale], |x, y, bits| {
        let state = [min_val, max_val, scale];
        Ok(follow(x, y, state, bounds.map(Bounds::from), moving, bits, &mut Memory::default())?.is_some())
    })
}

/// The grid that was chosen, if anything was written.
pub(super) fn follow(
    x: &View<'_>,
    y: &View<'_>,
    [min_val, max_val, scale]: [&Bound<'_, PyAny>; 3],
    bounds: Option<Bounds>,
    moving: impl Follow,
    bits: Option<&mut [u8]>,
    memory: &mut Memory,
) -> PyResult<Option<Grid>> {
    let (py, mut one) = (min_val.py(), |name, buffer| memory.write_one::<f32>(&View::of(name, buffer)?));
    let (min_val, max_val, scale) =
        (one("min_val", min_val)?, one("max_val", max_val)?, one("scale", scale)?);
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
#[allow(clippy::too_many_arguments, reason = "Python names them")]
pub(crate) fn fake_quantize_observed_per_channel<'py>(
    x: &Bound<'py, PyAny>,
    min_val: &Bound<'py, PyAny>,
    max_val: &Bound<'py, PyAny>,
    scale: &Bound<'py, PyAny>,
    axis: i64,
    averaging_constant: f64,
    #[pyo3(from_py_with = integers::qmin)] qmin: i32,
    #[pyo3(from_py_with = integers::qmax)] qmax: i32,
) -> PyResult<Rounded<'py>> {
    let (py, moving) = (x.py(), Moving { averaging_constant: averaging_constant as f32, qmin, qmax });
    following(x, &[min_val, max_val, scale], |x, y, bits| {
        let (layout, mut memory) = (channels(x, axis)?, Memory::default());
        let mut all = |name, buffer| memory.write::<f32>(&View::of(name, buffer)?);
        let (min_val, max_val) = (all("min_val", min_val)?, all("max_val", max_val)?);
        let ranges = Ranges { min_val, max_val, scale: all("scale", scale)? };
        by_dtype!(x, T => {
            let (x, y) = (memory.read::<T>(x)?, memory.write::<T>(y)?);
            memory.run(py, || kernels::observed_per_channel(isa(), &TorchTeam, x, layout, moving, ranges, y, bits))
                .map_err(value_error)
        })
    })
}
