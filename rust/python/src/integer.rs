//! Integer arithmetic, element by element: carries, checks and calls.

use nashquant_kernels::{
    Layout,
    integer::{self as kernels, Arithmetic, Factor, Factors, Output, Requantizer, Rounding},
};
use pyo3::{exceptions::PyValueError, prelude::*};

use crate::{
    by_integer,
    capability::isa,
    error::value_error,
    strides::{channels, check_alike, check_same_order},
    torch::{DType, Memory, TorchTeam, View},
};

/// How a chip rounds, and with how many bits of multiplier, as Python names it.
pub(crate) fn arithmetic(rounding: &str, multiplier_bits: u32) -> PyResult<Arithmetic> {
    let rounding = match rounding {
        "half_even" => Rounding::HalfEven,
        "half_up" => Rounding::HalfUp,
        "half_away" => Rounding::HalfAway,
        "floor" => Rounding::Floor,
        "tflite" => Rounding::Tflite,
        other => return Err(PyValueError::new_err(format!("rounding is {other:?}, which is none"))),
    };
    Ok(Arithmetic { rounding, multiplier_bits })
}

/// How and where a product with a factor lands.
#[pyclass(frozen, module = "nashquant._core")]
pub(crate) struct Landing {
    arithmetic: Arithmetic,
    output: Output,
}

#[pymethods]
impl Landing {
    #[new]
    fn new(zero_point: i16, qmin: i16, qmax: i16, rounding: &str, multiplier_bits: u32) -> PyResult<Self> {
        Ok(Self {
            arithmetic: arithmetic(rounding, multiplier_bits)?,
            output: Output { zero_point, qmin, qmax },
        })
    }
}

impl Landing {
    pub(crate) fn requantizer(&self, factor: &View<'_>, memory: &mut Memory) -> PyResult<Requantizer> {
        Requantizer::new(memory.read::<f64>(factor)?, self.arithmetic, self.output).map_err(value_error)
    }
}

#[pyfunction]
#[pyo3(signature = (acc, y, factor, *, axis, landing))]
pub(crate) fn requantize(
    py: Python<'_>,
    acc: &Bound<'_, PyAny>,
    y: &Bound<'_, PyAny>,
    factor: &Bound<'_, PyAny>,
    axis: Option<i64>,
    landing: &Landing,
) -> PyResult<()> {
    let (acc, y, factor) = (View::of("acc", acc)?, View::of("y", y)?, View::of("factor", factor)?);
    let mut memory = Memory::default();
    check_same_order(&acc, &y)?;
    let by = landing.requantizer(&factor, &mut memory)?;
    let layout = axis.map_or(Ok(Layout::flat(acc.len)), |axis| channels(&acc, axis))?;
    by_integer!(y, T => {
        if acc.dtype == DType::I64 {
            let (acc, y) = (memory.read::<i64>(&acc)?, memory.write::<T>(&y)?);
            return py.detach(|| kernels::requantize(isa(), &TorchTeam, acc, layout, &by, y)).map_err(value_error);
        }
        let (acc, y) = (memory.read::<i32>(&acc)?, memory.write::<T>(&y)?);
        py.detach(|| kernels::requantize(isa(), &TorchTeam, acc, layout, &by, y)).map_err(value_error)
    })
}

#[pyfunction]
#[pyo3(signature = (a, b, y, *, factor_a, factor_b, subtract, rounding))]
#[allow(clippy::too_many_arguments, reason = "Python names them")]
pub(crate) fn add_saturating(
    py: Python<'_>,
    a: &Bound<'_, PyAny>,
    b: &Bound<'_, PyAny>,
    y: &Bound<'_, PyAny>,
    factor_a: f64,
    factor_b: f64,
    subtract: bool,
    rounding: &str,
) -> PyResult<()> {
    let (a, b, y) = (View::of("a", a)?, View::of("b", b)?, View::of("y", y)?);
    let (factors, mut memory) = (Factors::new(factor_a, factor_b).map_err(value_error)?, Memory::default());
    let (factors, rounding) =
        (if subtract { factors.subtracting() } else { factors }, arithmetic(rounding, 31)?.rounding);
    check_alike(&a, &b)?;
    check_same_order(&a, &y)?;
    by_integer!(a, T => by_integer!(y, U => {
        let (a, b, y) = (memory.read::<T>(&a)?, memory.read::<T>(&b)?, memory.write::<U>(&y)?);
        py.detach(|| kernels::add_saturating(isa(), &TorchTeam, a, b, factors, rounding, y)).map_err(value_error)
    }))
}

#[pyfunction]
#[pyo3(signature = (a, b, y, *, factor, rounding, multiplier_bits))]
pub(crate) fn mul_saturating(
    py: Python<'_>,
    a: &Bound<'_, PyAny>,
    b: &Bound<'_, PyAny>,
    y: &Bound<'_, PyAny>,
    factor: f64,
    rounding: &str,
    multiplier_bits: u32,
) -> PyResult<()> {
    let (a, b, y) = (View::of("a", a)?, View::of("b", b)?, View::of("y", y)?);
    let arithmetic = arithmetic(rounding, multiplier_bits)?;
    let (factor, mut memory) = (Factor::new(factor, arithmetic).map_err(value_error)?, Memory::default());
    check_alike(&a, &b)?;
    check_same_order(&a, &y)?;
    by_integer!(a, T => by_integer!(y, U => {
        let (a, b, y) = (memory.read::<T>(&a)?, memory.read::<T>(&b)?, memory.write::<U>(&y)?);
        let rounding = arithmetic.rounding;
        py.detach(|| kernels::mul_saturating(isa(), &TorchTeam, a, b, factor, rounding, y)).map_err(value_error)
    }))
}

#[pyfunction]
pub(crate) fn lookup(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    table: &Bound<'_, PyAny>,
    y: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let (x, table, y) = (View::of("x", x)?, View::of("table", table)?, View::of("y", y)?);
    let mut memory = Memory::default();
    check_same_order(&x, &y)?;
    by_integer!(x, T => by_integer!(y, U => {
        let (x, table, y) = (memory.read::<T>(&x)?, memory.read::<U>(&table)?, memory.write::<U>(&y)?);
        py.detach(|| kernels::lookup(&TorchTeam, x, table, y)).map_err(value_error)
    }))
}
