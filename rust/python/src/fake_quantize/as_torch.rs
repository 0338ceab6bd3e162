//! `fake_quantize_observed_as_torch_*`: observe and quantize in one call, by torch's rules.

use nashquant_kernels::fake_quantize::{AsTorch, TorchRule};
use pyo3::{exceptions::PyValueError, prelude::*};

use super::{Mask, observed::follow};
use crate::{
    integers,
    torch::{Memory, View},
};

#[pyfunction]
#[pyo3(signature = (x, y, min_val, max_val, scale, zero_point, averaging_constant, qmin, qmax, rule, middle, least_scale))]
#[allow(clippy::too_many_arguments, reason = "Python names them")]
pub(crate) fn fake_quantize_observed_as_torch_per_tensor(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    y: &Bound<'_, PyAny>,
    min_val: &Bound<'_, PyAny>,
    max_val: &Bound<'_, PyAny>,
    scale: &Bound<'_, PyAny>,
    zero_point: &Bound<'_, PyAny>,
    averaging_constant: f64,
    #[pyo3(from_py_with = integers::qmin)] qmin: i32,
    #[pyo3(from_py_with = integers::qmax)] qmax: i32,
    rule: &str,
    middle: i32,
    least_scale: f64,
) -> PyResult<bool> {
    let moving = as_torch(averaging_constant, qmin, qmax, rule, middle, least_scale)?;
    observed(py, x, y, [min_val, max_val, scale, zero_point], moving, None)
}

#[pyfunction]
#[pyo3(signature = (x, y, min_val, max_val, scale, zero_point, averaging_constant, qmin, qmax, rule, middle, least_scale))]
#[allow(clippy::too_many_arguments, reason = "Python names them")]
pub(crate) fn fake_quantize_observed_as_torch_per_tensor_with_mask(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    y: &Bound<'_, PyAny>,
    min_val: &Bound<'_, PyAny>,
    max_val: &Bound<'_, PyAny>,
    scale: &Bound<'_, PyAny>,
    zero_point: &Bound<'_, PyAny>,
    averaging_constant: f64,
    #[pyo3(from_py_with = integers::qmin)] qmin: i32,
    #[pyo3(from_py_with = integers::qmax)] qmax: i32,
    rule: &str,
    middle: i32,
    least_scale: f64,
) -> PyResult<Option<Mask>> {
    let moving = as_torch(averaging_constant, qmin, qmax, rule, middle, least_scale)?;
    let mut mask = Mask::of(&View::of("x", x)?);
    let written = observed(py, x, y, [min_val, max_val, scale, zero_point], moving, Some(&mut mask.bits))?;
    Ok(written.then_some(mask))
}

fn as_torch(
    averaging_constant: f64,
    qmin: i32,
    qmax: i32,
    rule: &str,
    middle: i32,
    least_scale: f64,
) -> PyResult<AsTorch> {
    let least_scale = least_scale as f32;
    let rule = match rule {
        "affine" => TorchRule::Affine { least_scale },
        "symmetric" => TorchRule::Symmetric { middle, least_scale },
        "fused affine" => TorchRule::Fused { symmetric: false },
        "fused symmetric" => TorchRule::Fused { symmetric: true },
        _ => return Err(PyValueError::new_err(format!("rule is {rule:?}, which is none of torch's"))),
    };
    Ok(AsTorch { averaging_constant: averaging_constant as f32, qmin, qmax, rule })
}

/// Both of the above; tells whether anything was written.
fn observed(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    y: &Bound<'_, PyAny>,
    [min_val, max_val, scale, zero_point]: [&Bound<'_, PyAny>; 4],
    moving: AsTorch,
    bits: Option<&mut [u8]>,
) -> PyResult<bool> {
    let (x, y) = (View::of("x", x)?, View::of("y", y)?);
    let (min_val, max_val) = (View::of("min_val", min_val)?, View::of("max_val", max_val)?);
    let (scale, zero_point) = (View::of("scale", scale)?, View::of("zero_point", zero_point)?);
    let mut memory = Memory::default();
    let [zero_point] = memory.write::<i32>(&zero_point)? else {
        let message = format!("zero_point has {} elements, but 1 is needed", zero_point.len);
        return Err(PyValueError::new_err(message));
    };
    let grid = follow(py, &x, &y, [&min_val, &max_val, &scale], None, moving, bits, &mut memory)?;
    if let Some(grid) = grid {
        *zero_point = grid.zero_point;
    }
    Ok(grid.is_some())
}
