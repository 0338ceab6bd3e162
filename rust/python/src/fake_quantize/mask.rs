//! What the forward keeps for the backward.

use nashquant_kernels::fake_quantize as kernels;
use pyo3::{exceptions::PyValueError, prelude::*};

use crate::{
    error::value_error,
    strides::same_order,
    torch::{Memory, View},
};

/// Which elements were inside the grid before clamping: one bit each, in the memory order of `x`.
#[pyclass(frozen, module = "nashquant._core")]
pub(crate) struct Mask {
    pub(crate) bits: Vec<u8>,
    len: usize,
    #[pyo3(get)]
    shape: Vec<i64>,
    #[pyo3(get)]
    strides: Vec<i64>,
}

impl Mask {
    pub(crate) fn of(x: &View<'_>) -> Self {
        Self {
            bits: vec![0; kernels::mask_len(x.len)],
            len: x.len,
            shape: x.shape.to_vec(),
            strides: x.strides.to_vec(),
        }
    }

    fn has_order_of(&self, x: &View<'_>) -> bool {
        self.shape == x.shape && same_order(x.shape, x.strides, &self.strides)
    }

    pub(super) fn check(&self, x: &View<'_>) -> PyResult<()> {
        if self.has_order_of(x) {
            return Ok(());
        }
        let (name, shape, strides) = (x.name, x.shape, x.strides);
        Err(PyValueError::new_err(format!(
            "{name} has shape {shape:?} and strides {strides:?}, but mask has {:?} and {:?}",
            self.shape, self.strides
        )))
    }
}

#[pymethods]
impl Mask {
    #[getter]
    fn nbytes(&self) -> usize {
        self.bits.len()
    }

    fn all_inside(&self) -> PyResult<bool> {
        kernels::all_inside(&self.bits, self.len).map_err(value_error)
    }

    fn fits(&self, x: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(self.has_order_of(&View::of("x", x)?))
    }

    fn unpack(&self, y: &Bound<'_, PyAny>) -> PyResult<()> {
        let y = View::of("y", y)?;
        self.check(&y)?;
        kernels::unpack(&self.bits, Memory::default().write(&y)?).map_err(value_error)
    }
}
