//! What Rust refuses, as Python raises it.

use pyo3::{PyErr, exceptions::PyValueError};

/// A kernel's error, word for word.
#[allow(clippy::needless_pass_by_value, reason = "map_err hands the error over")]
pub(crate) fn value_error(error: nashquant_kernels::Error) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// Runs `$body` with `$T` as the Rust type of `$x`'s dtype.
macro_rules! by_dtype {
    ($x:expr, $T:ident => $body:expr) => {
        match $x.dtype {
            $crate::torch::DType::F32 => {
                type $T = f32;
                $body
            }
            $crate::torch::DType::F64 => {
                type $T = f64;
                $body
            }
            $crate::torch::DType::Bf16 => {
                type $T = nashquant_kernels::Bf16;
                $body
            }
            $crate::torch::DType::F16 => {
                type $T = nashquant_kernels::F16;
                $body
            }
            _ => Err(pyo3::exceptions::PyTypeError::new_err(format!(
                "{} has dtype {}, but must be torch.float32, float64, bfloat16 or float16",
                $x.name,
                $x.dtype_name()
            ))),
        }
    };
}

/// The same for the dtype of a quantized tensor.
macro_rules! by_integer {
    ($x:expr, $T:ident => $body:expr) => {
        match $x.dtype {
            $crate::torch::DType::I8 => {
                type $T = i8;
                $body
            }
            $crate::torch::DType::I16 => {
                type $T = i16;
                $body
            }
            _ => Err(pyo3::exceptions::PyTypeError::new_err(format!(
                "{} has dtype {}, but must be torch.int8 or int16",
                $x.name,
                $x.dtype_name()
            ))),
        }
    };
}

pub(crate) use by_dtype;
pub(crate) use by_integer;
