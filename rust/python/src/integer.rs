//! `requantize` and `add_saturating`: carries, checks and calls.

use nashquant_kernels::integer::{self as kernels, Factor, Factors};
use pyo3::prelude::*;

use crate::{
    by_integer,
    capability::isa,
    error::value_error,
    strides::{check_alike, check_same_order},
    torch::{Memory, TorchTeam, View},
};

#[pyfunction]
#[pyo3(signature = (acc, y, *, factor))]
pub(crate) fn requantize(
    py: Python<'_>,
    acc: &Bound<'_, PyAny>,
    y: &Bound<'_, PyAny>,
    factor: f64,
) -> PyResult<()> {
    let (acc, y) = (View::of("acc", acc)?, View::of("y", y)?);
    let (factor, mut memory) = (Factor::new(factor).map_err(value_error)?, Memory::default());
    check_same_order(&acc, &y)?;
    by_integer!(y, T => {
        let (acc, y) = (memory.read(&acc)?, memory.write::<T>(&y)?);
        py.detach(|| kernels::requantize(isa(), &TorchTeam, acc, factor, y)).map_err(value_error)
    })
}

#[pyfunction]
#[pyo3(signature = (a, b, y, *, factor_a, factor_b))]
pub(crate) fn add_saturating(
    py: Python<'_>,
    a: &Bound<'_, PyAny>,
    b: &Bound<'_, PyAny>,
    y: &Bound<'_, PyAny>,
    factor_a: f64,
    factor_b: f64,
) -> PyResult<()> {
    let (a, b, y) = (View::of("a", a)?, View::of("b", b)?, View::of("y", y)?);
    let (factors, mut memory) = (Factors::new(factor_a, factor_b).map_err(value_error)?, Memory::default());
    check_alike(&a, &b)?;
    check_alike(&a, &y)?;
    by_integer!(a, T => {
        let (a, b, y) = (memory.read::<T>(&a)?, memory.read::<T>(&b)?, memory.write::<T>(&y)?);
        py.detach(|| kernels::add_saturating(isa(), &TorchTeam, a, b, factors, y)).map_err(value_error)
    })
}
