//! The gradients: straight-through, and those of what is learned.

use nashquant_kernels::{
    Layout,
    fake_quantize::{self as kernels, ChannelGrid},
};
use pyo3::prelude::*;

use super::Mask;
use crate::{
    by_dtype,
    capability::isa,
    error::value_error,
    integers,
    strides::{channels, check_alike},
    torch::{Memory, TorchTeam, View},
};

#[pyfunction]
pub(crate) fn fake_quantize_backward(
    py: Python<'_>,
    grad_y: &Bound<'_, PyAny>,
    mask: &Bound<'_, Mask>,
    grad_x: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let (grad_y, grad_x, mask) = (View::of("grad_y", grad_y)?, View::of("grad_x", grad_x)?, mask.get());
    check_alike(&grad_y, &grad_x)?;
    mask.check(&grad_y)?;
    let mut memory = Memory::default();
    by_dtype!(grad_y, T => {
        let (grad_y, bits, grad_x) = (memory.read::<T>(&grad_y)?, &mask.bits, memory.write::<T>(&grad_x)?);
        memory.run(py, || kernels::backward(isa(), &TorchTeam, grad_y, bits, grad_x)).map_err(value_error)
    })
}

#[pyfunction]
pub(crate) fn fake_quantize_backward_in_place(
    py: Python<'_>,
    grad: &Bound<'_, PyAny>,
    mask: &Bound<'_, Mask>,
) -> PyResult<()> {
    let (grad, mask) = (View::of("grad", grad)?, mask.get());
    mask.check(&grad)?;
    let mut memory = Memory::default();
    by_dtype!(grad, T => {
        let (grad, bits) = (memory.write::<T>(&grad)?, &mask.bits);
        memory.run(py, || kernels::backward_in_place(isa(), &TorchTeam, grad, bits)).map_err(value_error)
    })
}

#[pyfunction]
#[pyo3(signature = (grad_y, x, grad_x, grad_scale, grad_zero_point, *, scale, zero_point, axis, qmin, qmax, grad_factor))]
#[allow(clippy::too_many_arguments, reason = "Python names them")]
pub(crate) fn fake_quantize_learnable_backward(
    py: Python<'_>,
    grad_y: &Bound<'_, PyAny>,
    x: &Bound<'_, PyAny>,
    grad_x: &Bound<'_, PyAny>,
    grad_scale: &Bound<'_, PyAny>,
    grad_zero_point: &Bound<'_, PyAny>,
    scale: &Bound<'_, PyAny>,
    zero_point: &Bound<'_, PyAny>,
    axis: Option<i64>,
    #[pyo3(from_py_with = integers::qmin)] qmin: i32,
    #[pyo3(from_py_with = integers::qmax)] qmax: i32,
    grad_factor: f64,
) -> PyResult<()> {
    let (grad_y, x, grad_x) = (View::of("grad_y", grad_y)?, View::of("x", x)?, View::of("grad_x", grad_x)?);
    let (scale, zero_point) = (View::of("scale", scale)?, View::of("zero_point", zero_point)?);
    let (grad_scale, grad_zero_point) =
        (View::of("grad_scale", grad_scale)?, View::of("grad_zero_point", grad_zero_point)?);
    check_alike(&x, &grad_y)?;
    check_alike(&x, &grad_x)?;
    let layout = match axis {
        Some(axis) => channels(&x, axis)?,
        None => Layout { outer: usize::from(x.len > 0), channels: 1, inner: x.len.max(1) },
    };
    let mut memory = Memory::default();
    let grid = ChannelGrid { scale: memory.read(&scale)?, zero_point: memory.read(&zero_point)?, qmin, qmax };
    let (grad_scale, grad_zero_point) = (memory.write(&grad_scale)?, memory.write(&grad_zero_point)?);
    by_dtype!(x, T => {
        let (grad_y, x, grad_x) = (memory.read::<T>(&grad_y)?, memory.read::<T>(&x)?, memory.write::<T>(&grad_x)?);
        memory.run(py, || kernels::learnable_backward(
            isa(), &TorchTeam, grad_y, x, layout, grid, grad_factor, grad_x, grad_scale, grad_zero_point
        )).map_err(value_error)
    })
}
