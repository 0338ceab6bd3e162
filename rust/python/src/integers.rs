//! Integers of a grid, as Python gives them: of any size, or none.

use pyo3::{
    exceptions::{PyOverflowError, PyTypeError, PyValueError},
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
        if error.is_instance_of::<PyOverflowError>(value.py()) {
            return PyValueError::new_err(format!(
                "{name} is {value}, but must lie between -2**31 and 2**31 - 1"
            ));
        }
        if !error.is_instance_of::<PyTypeError>(value.py()) {
            return error;
        }
        let kind = value.get_type().name().map_or_else(|_| "?".into(), |kind| kind.to_string());
        PyTypeError::new_err(format!("{name} is {value} ({kind}), but must be an int"))
    })
}
