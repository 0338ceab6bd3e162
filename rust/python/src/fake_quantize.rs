//! `fake_quantize_*`: carries, checks and calls.

use nashquant_kernels::{
    Layout,
    fake_quantize::{self as kernels, Bounds, ChannelGrid, Grid, Moving, Range, Ranges},
};
use pyo3::{exceptions::PyValueError, prelude::*};

use crate::{
    by_dtype,
    capability::isa,
    error::value_error,
    strides::{channels, check_alike, same_order},
    torch::{Memory, TorchTeam, View},
};

/// Which elements were inside the grid before clamping: one bit each, in the memory order of `x`.
#[pyclass(frozen, module = "nashquant._core")]
pub(crate) struct Mask {
    bits: Vec<u8>,
    #[pyo3(get)]
    shape: Vec<i64>,
    #[pyo3(get)]
    strides: Vec<i64>,
}

impl Mask {
    fn of(x: &View<'_>) -> Self {
        Self { bits: vec![0; kernels::mask_len(x.len)], shape: x.shape.to_vec(), strides: x.strides.to_vec() }
    }

    fn has_order_of(&self, x: &View<'_>) -> bool {
        self.shape == x.shape && same_order(x.shape, x.strides, &self.strides)
    }

    fn check(&self, x: &View<'_>) -> PyResult<()> {
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

    fn fits(&self, x: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(self.has_order_of(&View::of("x", x)?))
    }

    fn unpack(&self, y: &Bound<'_, PyAny>) -> PyResult<()> {
        let y = View::of("y", y)?;
        self.check(&y)?;
        kernels::unpack(&self.bits, Memory::default().write(&y)?).map_err(value_error)
    }
}

fn bounds_of(bounds: Option<(f32, f32)>) -> Option<Bounds> {
    bounds.map(|(low, high)| Bounds { low, high })
}

#[pyfunction]
#[pyo3(signature = (x, y, *, scale, zero_point, qmin, qmax, bounds=None))]
#[allow(clippy::too_many_arguments, reason = "Python names them")]
pub(crate) fn fake_quantize_per_tensor(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    y: &Bound<'_, PyAny>,
    scale: f64,
    zero_point: i32,
    qmin: i32,
    qmax: i32,
    bounds: Option<(f32, f32)>,
) -> PyResult<()> {
    let (x, y, grid) =
        (View::of("x", x)?, View::of("y", y)?, Grid { scale: scale as f32, zero_point, qmin, qmax });
    check_alike(&x, &y)?;
    let mut memory = Memory::default();
    by_dtype!(x, T => {
        let (x, y) = (memory.read::<T>(&x)?, memory.write::<T>(&y)?);
        py.detach(|| kernels::per_tensor(isa(), &TorchTeam, x, grid, bounds_of(bounds), y)).map_err(value_error)
    })
}

#[pyfunction]
#[pyo3(signature = (x, y, *, scale, zero_point, qmin, qmax, bounds=None))]
#[allow(clippy::too_many_arguments, reason = "Python names them")]
pub(crate) fn fake_quantize_per_tensor_with_mask(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    y: &Bound<'_, PyAny>,
    scale: f64,
    zero_point: i32,
    qmin: i32,
    qmax: i32,
    bounds: Option<(f32, f32)>,
) -> PyResult<Mask> {
    let (x, y, grid) =
        (View::of("x", x)?, View::of("y", y)?, Grid { scale: scale as f32, zero_point, qmin, qmax });
    check_alike(&x, &y)?;
    let (mut memory, mut mask) = (Memory::default(), Mask::of(&x));
    by_dtype!(x, T => {
        let (x, y, bits) = (memory.read::<T>(&x)?, memory.write::<T>(&y)?, &mut mask.bits);
        py.detach(|| kernels::per_tensor_with_mask(isa(), &TorchTeam, x, grid, bounds_of(bounds), y, bits)).map_err(value_error)
    })?;
    Ok(mask)
}

#[pyfunction]
#[pyo3(signature = (x, y, min_val, max_val, scale, *, averaging_constant, qmin, qmax, bounds=None))]
#[allow(clippy::too_many_arguments, reason = "Python names them")]
pub(crate) fn fake_quantize_observed_per_tensor(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    y: &Bound<'_, PyAny>,
    min_val: &Bound<'_, PyAny>,
    max_val: &Bound<'_, PyAny>,
    scale: &Bound<'_, PyAny>,
    averaging_constant: f64,
    qmin: i32,
    qmax: i32,
    bounds: Option<(f32, f32)>,
) -> PyResult<bool> {
    let (x, y) = (View::of("x", x)?, View::of("y", y)?);
    let (min_val, max_val, scale) =
        (View::of("min_val", min_val)?, View::of("max_val", max_val)?, View::of("scale", scale)?);
    let moving = Moving { averaging_constant: averaging_constant as f32, qmin, qmax };
    observed(py, &x, &y, [&min_val, &max_val, &scale], bounds_of(bounds), moving, None)
}

#[pyfunction]
#[pyo3(signature = (x, y, min_val, max_val, scale, *, averaging_constant, qmin, qmax, bounds=None))]
#[allow(clippy::too_many_arguments, reason = "Python names them")]
pub(crate) fn fake_quantize_observed_per_tensor_with_mask(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    y: &Bound<'_, PyAny>,
    min_val: &Bound<'_, PyAny>,
    max_val: &Bound<'_, PyAny>,
    scale: &Bound<'_, PyAny>,
    averaging_constant: f64,
    qmin: i32,
    qmax: i32,
    bounds: Option<(f32, f32)>,
) -> PyResult<Option<Mask>> {
    let (x, y) = (View::of("x", x)?, View::of("y", y)?);
    let (min_val, max_val, scale) =
        (View::of("min_val", min_val)?, View::of("max_val", max_val)?, View::of("scale", scale)?);
    let moving = Moving { averaging_constant: averaging_constant as f32, qmin, qmax };
    let mut mask = Mask::of(&x);
    let written =
        observed(py, &x, &y, [&min_val, &max_val, &scale], bounds_of(bounds), moving, Some(&mut mask.bits))?;
    Ok(written.then_some(mask))
}

/// Both of the above; tells whether anything was written.
fn observed<'a>(
    py: Python<'_>,
    x: &View<'a>,
    y: &View<'a>,
    state: [&View<'a>; 3],
    bounds: Option<Bounds>,
    moving: Moving,
    bits: Option<&mut [u8]>,
) -> PyResult<bool> {
    check_alike(x, y)?;
    let mut memory = Memory::default();
    let mut one = |view: &View<'a>| -> PyResult<&'a mut f32> {
        match memory.write::<f32>(view)? {
            [one] => Ok(one),
            many => {
                let message = format!("{} has {} elements, but 1 is needed", view.name, many.len());
                Err(PyValueError::new_err(message))
            }
        }
    };
    let (min_val, max_val, scale) = (one(state[0])?, one(state[1])?, one(state[2])?);
    let range = Range { min_val: *min_val, max_val: *max_val };
    let after = by_dtype!(x, T => {
        let (x, y) = (memory.read::<T>(x)?, memory.write::<T>(y)?);
        py.detach(|| kernels::observed_per_tensor(isa(), &TorchTeam, x, bounds, moving, range, y, bits))
            .map_err(value_error)
    })?;
    if let Some((range, grid)) = after {
        (*min_val, *max_val, *scale) = (range.min_val, range.max_val, grid.scale);
    }
    Ok(after.is_some())
}

#[pyfunction]
#[pyo3(signature = (x, y, min_val, max_val, scale, *, axis, averaging_constant, qmin, qmax))]
#[allow(clippy::too_many_arguments, reason = "Python names them")]
pub(crate) fn fake_quantize_observed_per_channel(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    y: &Bound<'_, PyAny>,
    min_val: &Bound<'_, PyAny>,
    max_val: &Bound<'_, PyAny>,
    scale: &Bound<'_, PyAny>,
    axis: i64,
    averaging_constant: f64,
    qmin: i32,
    qmax: i32,
) -> PyResult<bool> {
    let (x, y) = (View::of("x", x)?, View::of("y", y)?);
    let state = [View::of("min_val", min_val)?, View::of("max_val", max_val)?, View::of("scale", scale)?];
    let moving = Moving { averaging_constant: averaging_constant as f32, qmin, qmax };
    observed_by_channel(py, &x, &y, &state, axis, moving, None)
}

#[pyfunction]
#[pyo3(signature = (x, y, min_val, max_val, scale, *, axis, averaging_constant, qmin, qmax))]
#[allow(clippy::too_many_arguments, reason = "Python names them")]
pub(crate) fn fake_quantize_observed_per_channel_with_mask(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    y: &Bound<'_, PyAny>,
    min_val: &Bound<'_, PyAny>,
    max_val: &Bound<'_, PyAny>,
    scale: &Bound<'_, PyAny>,
    axis: i64,
    averaging_constant: f64,
    qmin: i32,
    qmax: i32,
) -> PyResult<Option<Mask>> {
    let (x, y) = (View::of("x", x)?, View::of("y", y)?);
    let state = [View::of("min_val", min_val)?, View::of("max_val", max_val)?, View::of("scale", scale)?];
    let moving = Moving { averaging_constant: averaging_constant as f32, qmin, qmax };
    let mut mask = Mask::of(&x);
    let written = observed_by_channel(py, &x, &y, &state, axis, moving, Some(&mut mask.bits))?;
    Ok(written.then_some(mask))
}

/// Both of the above; tells whether anything was written.
fn observed_by_channel<'a>(
    py: Python<'_>,
    x: &View<'a>,
    y: &View<'a>,
    [min_val, max_val, scale]: &[View<'a>; 3],
    axis: i64,
    moving: Moving,
    bits: Option<&mut [u8]>,
) -> PyResult<bool> {
    check_alike(x, y)?;
    let (layout, mut memory) = (channels(x, axis)?, Memory::default());
    let (min_val, max_val) = (memory.write(min_val)?, memory.write(max_val)?);
    let ranges = Ranges { min_val, max_val, scale: memory.write(scale)? };
    by_dtype!(x, T => {
        let (x, y) = (memory.read::<T>(x)?, memory.write::<T>(y)?);
        py.detach(|| kernels::observed_per_channel(isa(), &TorchTeam, x, layout, moving, ranges, y, bits))
            .map_err(value_error)
    })
}

#[pyfunction]
#[pyo3(signature = (x, y, *, scale, zero_point, axis, qmin, qmax))]
#[allow(clippy::too_many_arguments, reason = "Python names them")]
pub(crate) fn fake_quantize_per_channel(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    y: &Bound<'_, PyAny>,
    scale: &Bound<'_, PyAny>,
    zero_point: &Bound<'_, PyAny>,
    axis: i64,
    qmin: i32,
    qmax: i32,
) -> PyResult<()> {
    let (x, y) = (View::of("x", x)?, View::of("y", y)?);
    let (scale, zero_point) = (View::of("scale", scale)?, View::of("zero_point", zero_point)?);
    check_alike(&x, &y)?;
    let (layout, mut memory) = (channels(&x, axis)?, Memory::default());
    let grid = ChannelGrid { scale: memory.read(&scale)?, zero_point: memory.read(&zero_point)?, qmin, qmax };
    by_dtype!(x, T => {
        let (x, y) = (memory.read::<T>(&x)?, memory.write::<T>(&y)?);
        py.detach(|| kernels::per_channel(isa(), &TorchTeam, x, layout, grid, y)).map_err(value_error)
    })
}

#[pyfunction]
#[pyo3(signature = (x, y, *, scale, zero_point, axis, qmin, qmax))]
#[allow(clippy::too_many_arguments, reason = "Python names them")]
pub(crate) fn fake_quantize_per_channel_with_mask(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    y: &Bound<'_, PyAny>,
    scale: &Bound<'_, PyAny>,
    zero_point: &Bound<'_, PyAny>,
    axis: i64,
    qmin: i32,
    qmax: i32,
) -> PyResult<Mask> {
    let (x, y) = (View::of("x", x)?, View::of("y", y)?);
    let (scale, zero_point) = (View::of("scale", scale)?, View::of("zero_point", zero_point)?);
    check_alike(&x, &y)?;
    let (layout, mut memory, mut mask) = (channels(&x, axis)?, Memory::default(), Mask::of(&x));
    let grid = ChannelGrid { scale: memory.read(&scale)?, zero_point: memory.read(&zero_point)?, qmin, qmax };
    by_dtype!(x, T => {
        let (x, y, bits) = (memory.read::<T>(&x)?, memory.write::<T>(&y)?, &mut mask.bits);
        py.detach(|| kernels::per_channel_with_mask(isa(), &TorchTeam, x, layout, grid, y, bits))
            .map_err(value_error)
    })?;
    Ok(mask)
}

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
        py.detach(|| kernels::backward(isa(), &TorchTeam, grad_y, bits, grad_x)).map_err(value_error)
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
    qmin: i32,
    qmax: i32,
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
        py.detach(|| kernels::learnable_backward(
            isa(), &TorchTeam, grad_y, x, layout, grid, grad_factor, grad_x, grad_scale, grad_zero_point
        )).map_err(value_error)
    })
}
