//! Products of integer matrices and convolutions: carries, checks and calls.

use std::borrow::Cow;

use nashquant_kernels::{
    self as kernels,
    conv::{Depthwise, Geometry},
    matmul::{Exact32, Exact64, Requantized},
};
use pyo3::{exceptions::PyValueError, prelude::*};

use crate::{
    by_integer,
    capability::isa,
    error::value_error,
    integer::Landing,
    strides::sizes,
    torch::{DType, Memory, TorchTeam, View},
};

enum Packed {
    Matrix(kernels::matmul::Weight),
    Depthwise(Depthwise),
}

/// A weight, packed.
#[pyclass(frozen, module = "nashquant._core")]
pub(crate) struct Weight(Packed);

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
            Ok(Self(if depthwise {
                Packed::Depthwise(Depthwise::new(isa(), w, rows).map_err(value_error)?)
            } else {
                let packed = kernels::matmul::Weight::pack(isa(), w, groups, rows / groups, depth, wide);
                Packed::Matrix(packed.map_err(value_error)?)
            }))
        })
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
    ($view:ident, $memory:ident, $factor:ident, $landing:ident, |$finish:ident, $y:ident| $call:expr) => {
        match ($view.dtype, $factor, $landing) {
            (DType::I32, None, None) => {
                let ($finish, $y) = (&Exact32, $memory.write::<i32>(&$view)?);
                $call
            }
            (DType::I64, None, None) => {
                let ($finish, $y) = (&Exact64, $memory.write::<i64>(&$view)?);
                $call
            }
            (_, Some(factor), Some(landing)) => {
                let by = landing.requantizer(&View::of("factor", factor)?, &mut $memory)?;
                by_integer!($view, T => {
                    let ($finish, $y) = (&Requantized::<T>::new(&by), $memory.write::<T>(&$view)?);
                    $call
                })
            }
            _ => Err(PyValueError::new_err(format!(
                "{} has dtype {}, but must be int32 or int64 without a factor and a landing, and int8 or int16 with both",
                $view.name,
                $view.dtype_name()
            ))),
        }
    };
}

#[pyfunction]
#[pyo3(signature = (a, weight, y, *, zero_point, bias, factor, landing))]
#[allow(clippy::too_many_arguments, reason = "Python names them")]
pub(crate) fn matmul(
    py: Python<'_>,
    a: &Bound<'_, PyAny>,
    weight: &Weight,
    y: &Bound<'_, PyAny>,
    zero_point: i16,
    bias: Option<&Bound<'_, PyAny>>,
    factor: Option<&Bound<'_, PyAny>>,
    landing: Option<&Landing>,
) -> PyResult<()> {
    let (a, y, mut memory) = (View::of("a", a)?, View::of("y", y)?, Memory::default());
    let ([rows, _], [_, _]) = (sizes::<2>(&a)?, sizes::<2>(&y)?);
    let bias = bias.map(|bias| steps(bias, &mut memory)).transpose()?;
    let bias = bias.as_deref();
    let Packed::Matrix(weight) = &weight.0 else {
        return Err(PyValueError::new_err("the weight is that of a depthwise convolution"));
    };
    by_integer!(a, A => {
        let x = memory.read::<A>(&a)?;
        finished!(y, memory, factor, landing, |finish, y| py
            .detach(|| kernels::matmul::matmul(&TorchTeam, x, rows, zero_point, weight, bias, finish, y))
            .map_err(value_error))
    })
}

#[pyfunction]
#[pyo3(signature = (x, weight, y, *, kernel, stride, before, dilation, zero_point, bias, factor, landing))]
#[allow(clippy::too_many_arguments, reason = "Python names them")]
pub(crate) fn conv(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    weight: &Weight,
    y: &Bound<'_, PyAny>,
    kernel: [usize; 3],
    stride: [usize; 3],
    before: [usize; 3],
    dilation: [usize; 3],
    zero_point: i16,
    bias: Option<&Bound<'_, PyAny>>,
    factor: Option<&Bound<'_, PyAny>>,
    landing: Option<&Landing>,
) -> PyResult<()> {
    let (x, y, mut memory) = (View::of("x", x)?, View::of("y", y)?, Memory::default());
    let ([batch, d, h, w, channels], [_, od, oh, ow, _]) = (sizes::<5>(&x)?, sizes::<5>(&y)?);
    let (size, output) = ([d, h, w], [od, oh, ow]);
    let geometry = Geometry { batch, size, channels, kernel, stride, before, dilation, output };
    let bias = bias.map(|bias| steps(bias, &mut memory)).transpose()?;
    let bias = bias.as_deref();
    by_integer!(x, X => {
        let x = memory.read::<X>(&x)?;
        finished!(y, memory, factor, landing, |finish, y| py
            .detach(|| match &weight.0 {
                Packed::Matrix(weight) => {
                    kernels::conv::conv(&TorchTeam, x, geometry, zero_point, weight, bias, finish, y)
                }
                Packed::Depthwise(weight) => {
                    kernels::conv::conv_depthwise(&TorchTeam, x, geometry, zero_point, weight, bias, finish, y)
                }
            })
            .map_err(value_error))
    })
}
