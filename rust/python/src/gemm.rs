//! Products of integer matrices and convolutions: carries, checks and calls.

use std::{borrow::Cow, sync::Arc};

use nashquant_kernels::{
    self as kernels, Error,
    conv::{Depthwise, DepthwiseWeight, Geometry},
    integer::{Integer, Requantizer},
    matmul::{Exact32, Exact64, Requantized},
};
use pyo3::{exceptions::PyValueError, prelude::*};

use crate::{
    by_integer,
    capability::isa,
    error::value_error,
    integer::Landing,
    strides::sizes,
    torch::{DType, Memory, Native, TorchTeam, View},
};

enum Packed {
    Matrix(Arc<kernels::matmul::Weight>),
    Depthwise(Arc<DepthwiseWeight>),
}

/// A weight, packed.
#[pyclass(frozen, module = "nashquant._core")]
pub(crate) struct Weight {
    packed: Packed,
    wide: bool,
}

#[pymethods]
impl Weight {
    #[new]
    #[pyo3(signature = (weight, *, groups, wide, depthwise))]
    fn new(weight: &Bound<'_, PyAny>, groups: usize, wide: bool, depthwise: bool) -> PyResult<Self> {
        let (weight, mut memory) = (View::of("weight", weight)?, Memory::default());
        let [rows, depth] = sizes(&weight)?;
        if groups == 0 || rows % groups != 0 {
            return Err(PyValueError::new_err(format!("weight has {rows} rows, but groups is {groups}")));
        }
        by_integer!(weight, W => {
            let w = memory.read::<W>(&weight)?;
            let packed = if depthwise {
                Packed::Depthwise(Arc::new(DepthwiseWeight::new(isa(), w, rows).map_err(value_error)?))
            } else {
                let packed = kernels::matmul::Weight::pack(isa(), w, groups, rows / groups, depth, wide);
                Packed::Matrix(Arc::new(packed.map_err(value_error)?))
            };
            Ok(Self { packed, wide })
        })
    }
}

/// A weight, and what is added to its sums, for activations of `T`.
enum Sums<T> {
    Matrix(kernels::matmul::Linear<T>),
    Depthwise(Depthwise<T>),
}

impl<T: Integer> Sums<T> {
    fn new(weight: &Packed, zero_point: i16, bias: Option<&[i64]>) -> Result<Self, Error> {
        Ok(match weight {
            Packed::Matrix(weight) => {
                Self::Matrix(kernels::matmul::Linear::new(weight.clone(), zero_point, bias)?)
            }
            Packed::Depthwise(weight) => Self::Depthwise(Depthwise::new(weight.clone(), zero_point, bias)?),
        })
    }
}

enum Of {
    I8(Sums<i8>),
    I16(Sums<i16>),
}

/// A product or convolution with a weight, ready to be called.
#[pyclass(frozen, module = "nashquant._core")]
pub(crate) struct Linear {
    sums: Of,
    by: Option<Requantizer>,
}

#[pymethods]
impl Linear {
    #[new]
    #[pyo3(signature = (weight, *, zero_point, bias, factor, landing))]
    fn new(
        weight: &Weight,
        zero_point: i16,
        bias: Option<&Bound<'_, PyAny>>,
        factor: Option<&Bound<'_, PyAny>>,
        landing: Option<&Landing>,
    ) -> PyResult<Self> {
        let mut memory = Memory::default();
        let bias = bias.map(|bias| steps(bias, &mut memory)).transpose()?;
        let (bias, packed) = (bias.as_deref(), &weight.packed);
        let sums = if weight.wide {
            Sums::new(packed, zero_point, bias).map(Of::I16)
        } else {
            Sums::new(packed, zero_point, bias).map(Of::I8)
        };
        let by = match (factor, landing) {
            (None, None) => None,
            (Some(factor), Some(landing)) => {
                Some(landing.requantizer(&View::of("factor", factor)?, &mut memory)?)
            }
            _ => return Err(PyValueError::new_err("factor and landing must be given both, or neither")),
        };
        Ok(Self { sums: sums.map_err(value_error)?, by })
    }
}

/// A bias as the kernels read it; one of i32 is short, and copied.
fn steps<'a>(bias: &'a Bound<'_, PyAny>, memory: &mut Memory) -> PyResult<Cow<'a, [i64]>> {
    let view = View::of("bias", bias)?;
    Ok(match view.dtype {
        DType::I32 => memory.read::<i32>(&view)?.iter().copied().map(i64::from).collect(),
        _ => memory.read::<i64>(&view)?.into(),
    })
}

/// Runs `$call` with `$finish` and `$y` as the dtype of `$view` asks for.
macro_rules! finished {
    ($view:ident, $memory:ident, $by:ident, |$finish:ident, $y:ident| $call:expr) => {
        match ($view.dtype, $by) {
            (DType::I32, None) => {
                let ($finish, $y) = (&Exact32, $memory.write::<i32>($view)?);
                $call
            }
            (DType::I64, None) => {
                let ($finish, $y) = (&Exact64, $memory.write::<i64>($view)?);
                $call
            }
            (_, Some(by)) => by_integer!($view, T => {
                let ($finish, $y) = (&Requantized::<T>::new(by), $memory.write::<T>($view)?);
                $call
            }),
            _ => Err(PyValueError::new_err(format!(
                "{} has dtype {}, but must be int32 or int64 without a factor and a landing, and int8 or int16 with both",
                $view.name,
                $view.dtype_name()
            ))),
        }
    };
}

impl<T: Integer + Native> Sums<T> {
    fn matmul(&self, py: Python<'_>, a: &View<'_>, by: Option<&Requantizer>, y: &View<'_>) -> PyResult<()> {
        let ([rows, _], [_, _], mut memory) = (sizes::<2>(a)?, sizes::<2>(y)?, Memory::default());
        let Self::Matrix(linear) = self else {
            return Err(PyValueError::new_err("the weight is that of a depthwise convolution"));
        };
        let a = memory.read::<T>(a)?;
        finished!(y, memory, by, |finish, y| py
            .detach(|| kernels::matmul::matmul(&TorchTeam, a, rows, linear, finish, y))
            .map_err(value_error))
    }

    fn conv(
        &self,
        py: Python<'_>,
        x: &View<'_>,
        geometry: Geometry,
        by: Option<&Requantizer>,
        y: &View<'_>,
    ) -> PyResult<()> {
        let mut memory = Memory::default();
        let x = memory.read::<T>(x)?;
        finished!(y, memory, by, |finish, y| py
            .detach(|| match self {
                Self::Matrix(linear) => kernels::conv::conv(&TorchTeam, x, geometry, linear, finish, y),
                Self::Depthwise(depthwise) => {
                    kernels::conv::conv_depthwise(&TorchTeam, x, geometry, depthwise, finish, y)
                }
            })
            .map_err(value_error))
    }
}

#[pyfunction]
pub(crate) fn matmul(
    py: Python<'_>,
    a: &Bound<'_, PyAny>,
    linear: &Linear,
    y: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let (a, y, by) = (View::of("a", a)?, View::of("y", y)?, linear.by.as_ref());
    match &linear.sums {
        Of::I8(sums) => sums.matmul(py, &a, by, &y),
        Of::I16(sums) => sums.matmul(py, &a, by, &y),
    }
}

#[pyfunction]
#[pyo3(signature = (x, linear, y, *, kernel, stride, before, dilation))]
#[allow(clippy::too_many_arguments, reason = "Python names them")]
pub(crate) fn conv(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    linear: &Linear,
    y: &Bound<'_, PyAny>,
    kernel: [usize; 3],
    stride: [usize; 3],
    before: [isize; 3],
    dilation: [usize; 3],
) -> PyResult<()> {
    let (x, y, by) = (View::of("x", x)?, View::of("y", y)?, linear.by.as_ref());
    let ([batch, d, h, w, channels], [_, od, oh, ow, _]) = (sizes::<5>(&x)?, sizes::<5>(&y)?);
    let (size, output) = ([d, h, w], [od, oh, ow]);
    let geometry = Geometry { batch, size, channels, kernel, stride, before, dilation, output };
    match &linear.sums {
        Of::I8(sums) => sums.conv(py, &x, geometry, by, &y),
        Of::I16(sums) => sums.conv(py, &x, geometry, by, &y),
    }
}
