//! The short way in from Python: may a kernel run on a tensor now, on which memory, and where does it write?

use pyo3::{
    intern,
    prelude::*,
    sync::PyOnceLock,
    types::{PyTuple, PyType},
};

use crate::{
    fake_quantize::Mask,
    strides::{check_alike, is_dense},
    torch::View,
};

/// What is asked of torch in every call, looked up once.
struct Torch {
    tensor: Py<PyType>,
    parameter: Py<PyType>,
    busy: [Py<PyAny>; 3],
    forward_ad: Py<PyAny>,
    is_grad_enabled: Py<PyAny>,
    is_neg: Py<PyAny>,
    empty_like: Py<PyAny>,
    empty_strided_cpu: Option<Py<PyAny>>,
    increment_version: Py<PyAny>,
}

fn torch(py: Python<'_>) -> PyResult<&'static Torch> {
    static TORCH: PyOnceLock<Torch> = PyOnceLock::new();
    TORCH.get_or_try_init(py, || {
        let torch = py.import("torch")?;
        let (tensor, inner) = (torch.getattr("Tensor")?, torch.getattr("_C")?);
        let function = |name| inner.getattr(name).map(Bound::unbind);
        Ok(Torch {
            is_neg: tensor.getattr("is_neg")?.unbind(),
            tensor: tensor.cast_into()?.unbind(),
            parameter: torch.getattr("nn")?.getattr("Parameter")?.cast_into()?.unbind(),
            busy: [
                function("_are_functorch_transforms_active")?,
                function("_len_torch_dispatch_stack")?,
                function("_is_tracing")?,
            ],
            forward_ad: torch.getattr("autograd")?.getattr("forward_ad")?.unbind(),
            is_grad_enabled: function("is_grad_enabled")?,
            empty_like: torch.getattr("empty_like")?.unbind(),
            empty_strided_cpu: empty_strided_cpu(&torch).unwrap_or(None),
            increment_version: function("_increment_version")?,
        })
    })
}

/// What the code that Inductor writes calls for a new tensor: an ordinary one, in two thirds of the time, since nothing is
/// parsed or dispatched. It is private to torch, so it may be missing, or be another function.
fn empty_strided_cpu(torch: &Bound<'_, PyModule>) -> PyResult<Option<Py<PyAny>>> {
    let function =
        torch.getattr("_C")?.getattr("_dynamo")?.getattr("guards")?.getattr("_empty_strided_cpu")?;
    let y = function.call1(((2, 3), (1, 2), torch.getattr("float32")?))?;
    let lies: ((i64, i64), (i64, i64)) =
        (y.getattr("shape")?.extract()?, y.call_method0("stride")?.extract()?);
    Ok((lies == ((2, 3), (1, 2))).then(|| function.unbind()))
}

impl Torch {
    /// No subclass, which might be anything.
    fn is_plain(&self, x: &Bound<'_, PyAny>) -> bool {
        x.is_exact_instance(self.tensor.bind(x.py())) || x.is_exact_instance(self.parameter.bind(x.py()))
    }

    /// Is somebody tracing or transforming what is called, or differentiating it on the way forward?
    fn is_busy(&self, py: Python<'_>) -> PyResult<bool> {
        for asked in &self.busy {
            if asked.bind(py).call0()?.is_truthy()? {
                return Ok(true);
            }
        }
        let level: i64 = self.forward_ad.bind(py).getattr(intern!(py, "_current_level"))?.extract()?;
        Ok(level >= 0)
    }

    /// Would autograd want to come back?
    fn is_differentiated(&self, x: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = x.py();
        Ok(x.getattr(intern!(py, "requires_grad"))?.is_truthy()?
            && self.is_grad_enabled.bind(py).call0()?.is_truthy()?)
    }

    /// Are these numbers the negative of what lies in memory?
    fn is_neg(&self, x: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.is_neg.bind(x.py()).call1((x,))?.is_truthy()
    }

    /// Autograd shall know what is written behind its back.
    fn count_change(&self, written: &[&Bound<'_, PyAny>]) -> PyResult<()> {
        let Some(first) = written.first() else { return Ok(()) };
        let written = PyTuple::new(first.py(), written)?;
        self.increment_version.bind(first.py()).call1((written,)).map(drop)
    }

    /// A new tensor beside the dense `x`, which lies as `view` says.
    fn beside<'py>(&self, x: &Bound<'py, PyAny>, view: &View<'_>) -> PyResult<Bound<'py, PyAny>> {
        let py = x.py();
        match &self.empty_strided_cpu {
            Some(empty_strided_cpu) if view.len > 0 => {
                let (shape, strides) = (PyTuple::new(py, view.shape)?, PyTuple::new(py, view.strides)?);
                empty_strided_cpu.bind(py).call1((shape, strides, x.getattr(intern!(py, "dtype"))?))
            }
            _ => self.empty_like.bind(py).call1((x,)),
        }
    }

    /// A copy without gaps, in the order torch gives to outputs of elementwise operators.
    fn copy<'py>(&self, x: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let x = x.call_method0("detach")?;
        self.empty_like.bind(x.py()).call1((&x,))?.call_method1("copy_", (&x,))
    }
}

/// Is `x` memory that a kernel can read now: on the CPU, and nobody is tracing or transforming?
#[pyfunction]
pub(crate) fn takes(x: &Bound<'_, PyAny>) -> PyResult<bool> {
    let torch = torch(x.py())?;
    Ok(torch.is_plain(x) && is_on_cpu(x)? && !torch.is_busy(x.py())?)
}

fn is_on_cpu(x: &Bound<'_, PyAny>) -> PyResult<bool> {
    x.getattr(intern!(x.py(), "is_cpu"))?.is_truthy()
}

/// The memory of `x`; None if it is on another device.
fn on_cpu<'a>(name: &'static str, x: &'a Bound<'_, PyAny>) -> PyResult<Option<View<'a>>> {
    match View::of(name, x) {
        Err(_) if !is_on_cpu(x)? => Ok(None),
        view => view.map(Some),
    }
}

/// `x`, or a copy of it without gaps.
pub(crate) fn dense<'py>(name: &'static str, x: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let (torch, view) = (torch(x.py())?, View::of(name, x)?);
    if is_dense(view.shape, view.strides) && !torch.is_neg(x)? { Ok(x.clone()) } else { torch.copy(x) }
}

/// A new tensor, and what was inside the grid if autograd will ask. None if it takes several steps.
pub(crate) type Rounded<'py> = Option<(Bound<'py, PyAny>, Option<Mask>)>;

/// Has `kernel` read `x`, or a copy without gaps, and fill a new tensor and the bits of its mask.
///
/// None unless a kernel takes `x`, or if it tells that it wrote nothing.
pub(crate) fn eagerly<'py>(
    x: &Bound<'py, PyAny>,
    kernel: impl FnOnce(&View<'_>, &View<'_>, Option<&mut [u8]>) -> PyResult<bool>,
) -> PyResult<Rounded<'py>> {
    let torch = torch(x.py())?;
    if !torch.is_plain(x) || torch.is_busy(x.py())? {
        return Ok(None);
    }
    let Some(view) = on_cpu("x", x)? else { return Ok(None) };
    let is_differentiated = torch.is_differentiated(x)?;
    let fill = |x: &Bound<'py, PyAny>, view: &View<'_>| {
        let y = torch.beside(x, view)?;
        let fresh = View::of("y", &y)?;
        check_alike(view, &fresh)?;
        let mut mask = is_differentiated.then(|| Mask::of(view));
        let written = kernel(view, &fresh, mask.as_mut().map(|mask| &mut *mask.bits))?;
        Ok(written.then_some((y, mask)))
    };
    if is_dense(view.shape, view.strides) && !torch.is_neg(x)? {
        return fill(x, &view);
    }
    let copy = torch.copy(x)?;
    fill(&copy, &View::of("x", &copy)?)
}

/// As [`eagerly`], for a `kernel` that also moves the buffers of `state`. None, too, if it can't write there.
pub(crate) fn following<'py>(
    x: &Bound<'py, PyAny>,
    state: &[&Bound<'py, PyAny>],
    kernel: impl FnOnce(&View<'_>, &View<'_>, Option<&mut [u8]>) -> PyResult<bool>,
) -> PyResult<Rounded<'py>> {
    let torch = torch(x.py())?;
    for buffer in state {
        if !torch.is_plain(buffer) || torch.is_neg(buffer)? {
            return Ok(None);
        }
    }
    let rounded = eagerly(x, kernel);
    if rounded.is_err() {
        for buffer in state {
            if !is_on_cpu(buffer)? {
                return Ok(None);
            }
        }
    }
    if let Ok(Some(_)) = rounded {
        torch.count_change(state)?;
    }
    rounded
}
