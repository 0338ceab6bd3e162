//! Integers of a grid, as Python gives them: of any size.

use pyo3::{
    exceptions::{PyOverflowError, PyValueError},
    prelude::*,
};

pub(crate) fn qmin(value: &Bound<'_, PyAny>) -> PyResult<i32> {
    within_i32("qmin", value)
}

pub(crate) fn qmax(value: &Bound<'_, PyAny>) -> PyResult<i32> {
    within_i32("qmax", value)
}

pub(crate) fn zero_point(value: &Bound<'_, PyAny>) -> PyResult<i32> {
    within_i32("zero_point", value)
}

fn within_i32(name: &str, value: &Bound<'_, PyAny>) -> PyResult<i32> {
    value.extract().map_err(|error: PyErr| {
        if !error.is_instance_of::<PyOverflowError>(value.py()) {
            return error;
        }
        PyValueError::new_err(format!("{name} is {value}, but must lie between -2**31 and 2**31 - 1"))
    })
}
