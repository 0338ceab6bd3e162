//! `fake_quantize_observed_as_torch_per_tensor`: observe and quantize in one call, by torch's rules.

use nashquant_kernels::fake_quantize::{AsTorch, TorchRule};
use pyo3::{exceptions::PyValueError, prelude::*};

use super::observed::follow;
use crate::{
    eager::{Rounded, following},
    integers,
    torch::{Memory, View},
};

#[pyfunction]
#[allow(clippy::too_many_arguments, reason = "Python names them")]
pub(crate) fn fake_quantize_observed_as_torch_per_tensor<'py>(
    x: &Bound<'py, PyAny>,
    min_val: &Bound<'py, PyAny>,
    max_val: &Bound<'py, PyAny>,
    scale: &Bound<'py, PyAny>,
    zero_point: &Bound<'py, PyAny>,
    averaging_constant: f64,
    #[pyo3(from_py_with = integers::qmin)] qmin: i32,
    #[pyo3(from_py_with = integers::qmax)] qmax: i32,
    rule: &str,
    middle: i32,
    least_scale: f64,
) -> PyResult<Rounded<'py>> {
    following(x, &[min_val, max_val, scale, zero_point], |x, y, bits| {
        let moving = as_torch(averaging_constant, qmin, qmax, rule, middle, least_scale)?;
        let mut memory = Memory::default();
        let point = memory.write_one::<i32>(&View::of("zero_point", zero_point)?)?;
        let grid = follow(x, y, [min_val, max_val, scale], None, moving, bits, &mut memory)?;
        if let Some(grid) = grid {
            *point = grid.zero_point;
        }
        Ok(grid.is_some())
    })
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
