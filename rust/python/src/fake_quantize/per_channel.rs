//! `fake_quantize_per_channel`.

use nashquant_kernels::fake_quantize::{self as kernels, ChannelGrid};
use pyo3::prelude::*;

use crate::{
    by_dtype,
    capability::isa,
    eager::{Rounded, dense, eagerly},
    error::value_error,
    integers,
    strides::channels,
    torch::{Memory, TorchTeam, View},
};

#[pyfunction]
pub(crate) fn fake_quantize_per_channel<'py>(
    x: &Bound<'py, PyAny>,
    scale: &Bound<'py, PyAny>,
    zero_point: &Bound<'py, PyAny>,
    axis: i64,
    #[pyo3(from_py_with = integers::qmin)] qmin: i32,
    #[pyo3(from_py_with = integers::qmax)] qmax: i32,
) -> PyResult<Rounded<'py>> {
    let py = x.py();
    eagerly(x, |x, y, bits| {
        let (scale, zero_point) = (dense("scale", scale)?, dense("zero_point", zero_point)?);
        let (scale, zero_point) = (View::of("scale", &scale)?, View::of("zero_point", &zero_point)?);
        let (layout, mut memory) = (channels(x, axis)?, Memory::default());
        let grid =
            ChannelGrid { scale: memory.read(&scale)?, zero_point: memory.read(&zero_point)?, qmin, qmax };
        by_dtype!(x, T => {
            let (x, y) = (memory.read::<T>(x)?, memory.write::<T>(y)?);
            memory.run(py, || match bits {
                None => kernels::per_channel(isa(), &TorchTeam, x, layout, grid, y),
                Some(bits) => kernels::per_channel_with_mask(isa(), &TorchTeam, x, layout, grid, y, bits),
            }).map_err(value_error)
        })?;
        Ok(true)
    })
}
