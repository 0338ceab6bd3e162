//! How a tensor lies in memory.

use nashquant_kernels::Layout;
use pyo3::{exceptions::PyValueError, prelude::*};

use crate::torch::View;

/// Do the elements fill their memory without gap or overlap, in whatever order?
pub(crate) fn is_dense(shape: &[i64], strides: &[i64]) -> bool {
    if shape.contains(&0) {
        return true;
    }
    // The next longer stride is always the number of elements so far.
    let mut filled = 1;
    for _ in 0..shape.len() {
        if let Some(axis) = (0..shape.len()).find(|&axis| shape[axis] > 1 && strides[axis] == filled) {
            filled *= shape[axis];
        }
    }
    filled == shape.iter().product::<i64>()
}

/// Are they laid out alike? The stride of an axis with one index is never used.
pub(crate) fn same_order(shape: &[i64], strides: &[i64], others: &[i64]) -> bool {
    shape.contains(&0) || (0..shape.len()).all(|axis| shape[axis] == 1 || strides[axis] == others[axis])
}

/// An error unless `b` has the dtype, shape and memory order of `a`.
pub(crate) fn check_alike(a: &View<'_>, b: &View<'_>) -> PyResult<()> {
    if a.dtype == b.dtype {
        return check_same_order(a, b);
    }
    let message = format!("{} has dtype {}, but {} has {}", b.name, b.dtype_name(), a.name, a.dtype_name());
    Err(PyValueError::new_err(message))
}

/// An error unless `b` has the shape and memory order of `a`.
pub(crate) fn check_same_order(a: &View<'_>, b: &View<'_>) -> PyResult<()> {
    let fault = if a.shape != b.shape {
        format!("{} has shape {:?}, but {} has {:?}", b.name, b.shape, a.name, a.shape)
    } else if !same_order(a.shape, a.strides, b.strides) {
        format!("{} has strides {:?}, but {} has {:?}", b.name, b.strides, a.name, a.strides)
    } else {
        return Ok(());
    };
    Err(PyValueError::new_err(fault))
}

/// An error unless the last axis of `x` is the innermost, and so on.
pub(crate) fn check_contiguous(x: &View<'_>) -> PyResult<()> {
    let mut filled = 1;
    for (&size, &stride) in x.shape.iter().zip(x.strides).rev() {
        if size > 1 && stride != filled && x.len > 0 {
            let message = format!(
                "{} has shape {:?} and strides {:?}, but must be contiguous",
                x.name, x.shape, x.strides
            );
            return Err(PyValueError::new_err(message));
        }
        filled *= size;
    }
    Ok(())
}

/// An error unless `x` has so many axes.
pub(crate) fn sizes<const N: usize>(x: &View<'_>) -> PyResult<[usize; N]> {
    check_contiguous(x)?;
    let sizes: Vec<_> = x.shape.iter().map(|&size| size as usize).collect();
    sizes.try_into().map_err(|_| {
        PyValueError::new_err(format!("{} has {} dimensions, but must have {N}", x.name, x.shape.len()))
    })
}

/// Where the channels of axis `axis` of a dense tensor lie.
pub(crate) fn channels(x: &View<'_>, axis: i64) -> PyResult<Layout> {
    let ndim = x.shape.len() as i64;
    let position = if axis < 0 { axis + ndim } else { axis };
    if !(0..ndim).contains(&position) {
        let message = format!("axis is {axis}, but x has {ndim} dimensions");
        return Err(pyo3::exceptions::PyIndexError::new_err(message));
    }
    let channels = x.shape[position as usize] as usize;
    let inner = match channels {
        0 => {
            return Ok(Layout { outer: 1, channels: 0, inner: 1 });
        }
        1 => x.len,
        _ => x.strides[position as usize] as usize,
    };
    let outer = if x.len == 0 { 0 } else { x.len / channels / inner };
    Ok(Layout { outer, channels, inner: inner.max(1) })
}
