//! Where a gradient comes in from autograd's engine.

use pyo3::prelude::*;

use super::Mask;
use crate::torch::references;

/// Calls `function(grad_y, mask, alone)`: `alone` if the tuple of this call's arguments is all that refers to `grad_y` in
/// Python. It must be asked here: in a Python function, how many references its own frames hold differs by version.
#[pyclass(frozen, module = "nashquant._core")]
pub(crate) struct Backward {
    function: Py<PyAny>,
    mask: Py<Mask>,
}

#[pymethods]
impl Backward {
    #[new]
    fn new(function: Py<PyAny>, mask: Py<Mask>) -> Self {
        Self { function, mask }
    }

    #[pyo3(signature = (grad_y, /))]
    fn __call__<'py>(&self, py: Python<'py>, grad_y: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let alone = references(grad_y) == 1;
        self.function.bind(py).call1((grad_y, &self.mask, alone))
    }
}
