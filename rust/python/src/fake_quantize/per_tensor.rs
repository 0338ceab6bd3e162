//! `fake_quantize_per_tensor`.

use nashquant_kernels::fake_quantize::{self as kernels, Bounds, Grid};
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::PyFloat,
};

use crate::{
    by_dtype,
    capability::isa,
    eager::{Rounded, eagerly},
    error::value_error,
    integers,
    torch::{Memory, TorchTeam},
};

#[pyfunction]
#[pyo3(signature = (x, scale, zero_point, qmin, qmax, bounds=None))]
pub(crate) fn fake_quantize_per_tensor<'py>(
    x: &Bound<'py, PyAny>,
    scale: &Bound<'py, PyAny>,
    #[pyo3(from_py_with = integers::zero_point)] zero_point: i32,
    #[pyo3(from_py_with = integers::qmin)] qmin: i32,
    #[pyo3(from_py_with = integers::qmax)] qmax: i32,
    bounds: Option<(f32, f32)>,
) -> PyResult<Rounded<'py>> {
    let py = x.py();
    eagerly(x, |x, y, bits| {
        let (grid, bounds) = (Grid { scale: one(scale)?, zero_point, qmin, qmax }, bounds.map(Bounds::from));
        let mut memory = Memory::default();
        by_dtype!(x, T => {
            let (x, y) = (memory.read::<T>(x)?, memory.write::<T>(y)?);
            memory.run(py, || match bits {
                None => kernels::per_tensor(isa(), &TorchTeam, x, grid, bounds, y),
                Some(bits) => kernels::per_tensor_with_mask(isa(), &TorchTeam, x, grid, bounds, y, bits),
            }).map_err(value_error)
        })?;
        Ok(true)
    })
}

/// A number, or what a tensor of one holds.
fn one(scale: &Bound<'_, PyAny>) -> PyResult<f32> {
    if let Ok(number) = scale.cast::<PyFloat>() {
        return Ok(number.value() as f32);
    }
    let Ok(n) = scale.call_method0("numel") else {
        let number = scale.extract::<f64>().map_err(|_| {
            let kind = scale.get_type();
            PyTypeError::new_err(format!("scale is a {kind}, but must be a number or a torch.Tensor"))
        });
        return Ok(number? as f32);
    };
    if n.eq(1)? {
        return Ok(scale.call_method0("item")?.extract::<f64>()? as f32);
    }
    Err(PyValueError::new_err(format!("scale has {n} values, but per tensor there is one")))
}
