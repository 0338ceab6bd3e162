//! The one room that touches foreign memory: torch's tensors and torch's threads.
#![allow(unsafe_code, reason = "reads tensors through DLPack's C interface and calls torch's parallel_for")]

use std::{
    ffi::{c_int, c_void},
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use nashquant_kernels::{
    Bf16, F16,
    parallel::{Serial, Team},
};
use pyo3::{
    exceptions::{PyImportError, PyTypeError, PyValueError},
    prelude::*,
    sync::PyOnceLock,
    types::{PyCapsule, PyType},
};

// The C structs of dlpack.h 1.x, up to the function that is used.

#[repr(C)]
struct DlTensor {
    data: *mut c_void,
    device_type: i32,
    device_id: i32,
    ndim: i32,
    dtype_code: u8,
    dtype_bits: u8,
    dtype_lanes: u16,
    shape: *const i64,
    strides: *const i64,
    byte_offset: u64,
}

type DlTensorFromPyObject = unsafe extern "C" fn(object: *mut c_void, out: *mut DlTensor) -> c_int;

#[repr(C)]
struct DlPackExchangeApi {
    major: u32,
    minor: u32,
    previous: *const c_void,
    managed_tensor_allocator: *const c_void,
    managed_tensor_from_py_object: *const c_void,
    managed_tensor_to_py_object: *const c_void,
    dltensor_from_py_object: Option<DlTensorFromPyObject>,
}

const CPU: i32 = 1;
const DLPACK_MAJOR: u32 = 1;

/// What torch gives at import: its Tensor class, and the function that describes one.
struct Torch {
    tensor: Py<PyType>,
    describe: DlTensorFromPyObject,
}

fn torch(py: Python<'_>) -> PyResult<&'static Torch> {
    static TORCH: PyOnceLock<Torch> = PyOnceLock::new();
    TORCH.get_or_try_init(py, || {
        let tensor = py.import("torch")?.getattr("Tensor")?.cast_into::<PyType>()?;
        let capsule = tensor
            .getattr("__dlpack_c_exchange_api__")
            .map_err(|_| {
                PyImportError::new_err("torch has no DLPack C exchange API; nashquant needs torch 2.10")
            })?
            .cast_into::<PyCapsule>()?;
        let api = capsule.pointer_checked(Some(c"dlpack_exchange_api"))?.cast::<DlPackExchangeApi>();
        // SAFETY: a capsule of this name points to a DLPackExchangeAPI that lives as long as the process; its header
        // is the same in every version.
        let major = unsafe { (*api.as_ptr()).major };
        if major != DLPACK_MAJOR {
            let message = format!("torch speaks DLPack {major}, but nashquant speaks DLPack {DLPACK_MAJOR}");
            return Err(PyImportError::new_err(message));
        }
        // SAFETY: the major version is ours, so the struct is as declared above.
        let describe = unsafe { (*api.as_ptr()).dltensor_from_py_object }.ok_or_else(|| {
            PyImportError::new_err("torch's DLPack C exchange API cannot describe a tensor")
        })?;
        Ok(Torch { tensor: tensor.unbind(), describe })
    })
}

/// The number types that cross the border.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DType {
    F16,
    Bf16,
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    Bool,
    Other,
}

impl DType {
    fn of(raw: &DlTensor) -> Self {
        match (raw.dtype_code, raw.dtype_bits, raw.dtype_lanes) {
            (2, 16, 1) => Self::F16,
            (4, 16, 1) => Self::Bf16,
            (2, 32, 1) => Self::F32,
            (2, 64, 1) => Self::F64,
            (0, 8, 1) => Self::I8,
            (0, 16, 1) => Self::I16,
            (0, 32, 1) => Self::I32,
            (0, 64, 1) => Self::I64,
            (6, 8, 1) => Self::Bool,
            _ => Self::Other,
        }
    }
}

/// A Rust type that lies in memory as a tensor of `DTYPE` does.
///
/// # Safety
/// Size, alignment and validity of every bit pattern must agree.
pub(crate) unsafe trait Native: Copy {
    const DTYPE: DType;
    /// As torch calls it.
    const NAME: &'static str;
}

// SAFETY: the same IEEE type.
unsafe impl Native for f32 {
    const DTYPE: DType = DType::F32;
    const NAME: &'static str = "torch.float32";
}
// SAFETY: the same IEEE type.
unsafe impl Native for f64 {
    const DTYPE: DType = DType::F64;
    const NAME: &'static str = "torch.float64";
}
// SAFETY: a transparent u16.
unsafe impl Native for Bf16 {
    const DTYPE: DType = DType::Bf16;
    const NAME: &'static str = "torch.bfloat16";
}
// SAFETY: a transparent u16.
unsafe impl Native for F16 {
    const DTYPE: DType = DType::F16;
    const NAME: &'static str = "torch.float16";
}
// SAFETY: the same integer type.
unsafe impl Native for i8 {
    const DTYPE: DType = DType::I8;
    const NAME: &'static str = "torch.int8";
}
// SAFETY: the same integer type.
unsafe impl Native for i16 {
    const DTYPE: DType = DType::I16;
    const NAME: &'static str = "torch.int16";
}
// SAFETY: the same integer type.
unsafe impl Native for i32 {
    const DTYPE: DType = DType::I32;
    const NAME: &'static str = "torch.int32";
}
// SAFETY: the same integer type.
unsafe impl Native for i64 {
    const DTYPE: DType = DType::I64;
    const NAME: &'static str = "torch.int64";
}
// SAFETY: torch keeps a bool in a byte; a u8 may hold whatever is in it.
unsafe impl Native for u8 {
    const DTYPE: DType = DType::Bool;
    const NAME: &'static str = "torch.bool";
}

/// A tensor as Python gave it, described but not yet read.
pub(crate) struct View<'a> {
    pub(crate) name: &'static str,
    pub(crate) dtype: DType,
    pub(crate) shape: &'a [i64],
    pub(crate) strides: &'a [i64],
    pub(crate) len: usize,
    object: &'a Bound<'a, PyAny>,
    data: *mut c_void,
}

impl<'a> View<'a> {
    /// Describes `object`. An error unless it is a `torch.Tensor` in CPU memory.
    pub(crate) fn of(name: &'static str, object: &'a Bound<'a, PyAny>) -> PyResult<Self> {
        let py = object.py();
        let torch = torch(py)?;
        if !object.is_instance(torch.tensor.bind(py))? {
            let message = format!("{name} is a {}, but must be a torch.Tensor", object.get_type().name()?);
            return Err(PyTypeError::new_err(message));
        }
        let mut raw = std::mem::MaybeUninit::<DlTensor>::zeroed();
        // SAFETY: `object` is a torch.Tensor, as `describe` asks, and `raw` has room for a DLTensor.
        if unsafe { (torch.describe)(object.as_ptr().cast(), raw.as_mut_ptr()) } != 0 {
            return Err(no_strided_tensor(name, object, PyErr::fetch(py)));
        }
        // SAFETY: `describe` succeeded, so it filled `raw`; zeroes would be a valid DlTensor too.
        let raw = unsafe { raw.assume_init() };
        if raw.device_type != CPU {
            let message = format!("{name} is on {}, but must be on the CPU", object.getattr("device")?);
            return Err(PyValueError::new_err(message));
        }
        let ndim = usize::try_from(raw.ndim).unwrap_or(0);
        // SAFETY: DLPack promises `ndim` sizes and strides; they belong to the tensor, which `object` keeps alive.
        let (shape, strides) = unsafe { (integers(raw.shape, ndim), integers(raw.strides, ndim)) };
        let len = shape.iter().try_fold(1_usize, |n, &size| n.checked_mul(usize::try_from(size).ok()?));
        let len =
            len.ok_or_else(|| PyValueError::new_err(format!("{name} has impossible shape {shape:?}")))?;
        if raw.data.is_null() && len > 0 {
            let message = format!("{name} has {len} elements but no memory (a fake or meta tensor?)");
            return Err(PyValueError::new_err(message));
        }
        let data = raw.data.wrapping_byte_add(usize::try_from(raw.byte_offset).unwrap_or(0));
        Ok(Self { name, dtype: DType::of(&raw), shape, strides, len, object, data })
    }

    /// `torch.float32` and so on, for messages.
    pub(crate) fn dtype_name(&self) -> String {
        self.object.getattr("dtype").map_or_else(|_| "?".into(), |dtype| dtype.to_string())
    }

    fn pointer<T: Native>(&self) -> PyResult<*mut T> {
        if self.dtype != T::DTYPE {
            let message = format!("{} has dtype {}, but must be {}", self.name, self.dtype_name(), T::NAME);
            return Err(PyTypeError::new_err(message));
        }
        if !crate::strides::is_dense(self.shape, self.strides) {
            let (name, shape, strides) = (self.name, self.shape, self.strides);
            let message = format!("{name} is not dense: its shape is {shape:?}, its strides are {strides:?}");
            return Err(PyValueError::new_err(message));
        }
        if self.len == 0 {
            return Ok(std::ptr::NonNull::dangling().as_ptr());
        }
        if !self.data.cast::<T>().is_aligned() {
            let message =
                format!("{} starts at an address that is no multiple of {}", self.name, align_of::<T>());
            return Err(PyValueError::new_err(message));
        }
        Ok(self.data.cast())
    }
}

/// How many references there are to `object`.
pub(crate) fn references(object: &Bound<'_, PyAny>) -> isize {
    // SAFETY: the object is alive, and we hold the GIL: a `Bound` says both.
    unsafe { pyo3::ffi::Py_REFCNT(object.as_ptr()) }
}

/// Why torch could not describe `object`, in a line; its own `error` comes with a trace of C++ calls.
fn no_strided_tensor(name: &str, object: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
    let of = |attribute| object.getattr(attribute).map_or_else(|_| "?".into(), |value| value.to_string());
    let (layout, device) = (of("layout"), of("device"));
    PyValueError::new_err(if device != "cpu" {
        format!("{name} is on {device}, but must be on the CPU")
    } else if layout != "torch.strided" {
        format!("{name} has layout {layout}, but must be torch.strided")
    } else if of("is_nested") == "True" {
        format!("{name} is nested, but must be one torch.Tensor")
    } else if of("is_quantized") == "True" {
        format!("{name} has dtype {}, but must be that of numbers", of("dtype"))
    } else {
        return error;
    })
}

/// # Safety
/// `first` points to `n` integers that live for `'a`, or `n` is 0.
unsafe fn integers<'a>(first: *const i64, n: usize) -> &'a [i64] {
    // SAFETY: as the caller promises; no pointer is read for an empty slice.
    if n == 0 || first.is_null() { &[] } else { unsafe { std::slice::from_raw_parts(first, n) } }
}

/// The memory that one call from Python reads and writes. What is written overlaps nothing else.
///
/// Make one for each call, and ask it for every slice. As with torch's own operators, another thread must not
/// resize, free or write these tensors meanwhile.
#[derive(Default)]
pub(crate) struct Memory {
    taken: [(&'static str, Range<usize>, bool); 8], // no call takes more; a `Vec` would be one allocation in each
    len: usize,
}

impl Memory {
    pub(crate) fn read<'a, T: Native>(&mut self, view: &View<'a>) -> PyResult<&'a [T]> {
        let first = view.pointer::<T>()?;
        self.take(view.name, first, view.len, false)?;
        // SAFETY: dtype, density and alignment were checked, so `len` elements lie from `first` on; the tensor is
        // kept alive by the caller for `'a`; `take` made sure that this call writes none of them.
        Ok(unsafe { std::slice::from_raw_parts(first, view.len) })
    }

    pub(crate) fn write<'a, T: Native>(&mut self, view: &View<'a>) -> PyResult<&'a mut [T]> {
        let first = view.pointer::<T>()?;
        self.take(view.name, first, view.len, true)?;
        ask_for_huge_pages(first.addr(), view.len * size_of::<T>());
        // SAFETY: as in `read`; and `take` made sure that no other slice of this call overlaps these elements.
        Ok(unsafe { std::slice::from_raw_parts_mut(first, view.len) })
    }

    /// Room for one.
    pub(crate) fn write_one<'a, T: Native>(&mut self, view: &View<'a>) -> PyResult<&'a mut T> {
        match self.write(view)? {
            [one] => Ok(one),
            many => {
                let message = format!("{} has {} elements, but 1 is needed", view.name, many.len());
                Err(PyValueError::new_err(message))
            }
        }
    }

    /// Calls a kernel on what was taken, and lets other Python threads run meanwhile, if there is a meanwhile.
    pub(crate) fn run<R: Send>(&self, py: Python<'_>, kernel: impl FnOnce() -> R + Send) -> R {
        let bytes: usize = self.taken[..self.len].iter().map(|(_, range, _)| range.len()).sum();
        if bytes < BRIEF { kernel() } else { py.detach(kernel) }
    }

    fn take<T>(&mut self, name: &'static str, first: *mut T, len: usize, write: bool) -> PyResult<()> {
        let range = first.addr()..first.addr() + len * size_of::<T>();
        for (other, taken, written) in &self.taken[..self.len] {
            if (write || *written) && range.start < taken.end && taken.start < range.end {
                return Err(PyValueError::new_err(format!("{other} and {name} overlap in memory")));
            }
        }
        self.taken[self.len] = (name, range, write);
        self.len += 1;
        Ok(())
    }
}

/// An elementwise kernel takes about 3 µs for this many bytes; to give the GIL away and take it back, 0.2 µs.
const BRIEF: usize = 256 << 10;

/// Outputs of this many bytes are fresh memory: malloc keeps none as large. (Nor does asking cost or help at 4 MiB.)
const HUGE: usize = 32 << 20;

/// Has the kernel back these bytes with huge pages where it still has to find memory for them: filling 4 KiB pages one
/// by one takes longer than quantizing. A wish: what comes of it doesn't matter.
fn ask_for_huge_pages(first: usize, bytes: usize) {
    #[cfg(target_os = "linux")]
    if bytes >= HUGE {
        const PAGE: usize = 2 << 20;
        let (start, end) = (first.next_multiple_of(PAGE), (first + bytes) / PAGE * PAGE);
        if start < end {
            // SAFETY: advice changes no content; the whole pages lie inside of memory that the caller may write.
            unsafe {
                libc::madvise(std::ptr::without_provenance_mut(start), end - start, libc::MADV_HUGEPAGE)
            };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (first, bytes, HUGE);
}

/// torch's own threads: obeys `torch.set_num_threads`, nests, and after a fork works where torch itself does (on one
/// thread, as DataLoader's workers).
pub(crate) struct TorchTeam;

type ParallelFor = unsafe extern "C" fn(
    begin: i64,
    end: i64,
    grain: i64,
    body: unsafe extern "C" fn(begin: i64, end: i64, context: *mut c_void),
    context: *mut c_void,
) -> i32;

struct Context<'a> {
    job: &'a (dyn Fn(usize) + Sync),
    panicked: AtomicBool,
}

/// # Safety
/// `context` points to a `Context`.
unsafe extern "C" fn run_jobs(begin: i64, end: i64, context: *mut c_void) {
    // SAFETY: `TorchTeam::run` passes its own `Context` and keeps it until all jobs are done.
    let context = unsafe { &*context.cast::<Context<'_>>() };
    let jobs = || (begin..end).for_each(|i| (context.job)(i as usize));
    // A panic must not unwind through C++.
    if catch_unwind(AssertUnwindSafe(jobs)).is_err() {
        context.panicked.store(true, Ordering::Relaxed);
    }
}

impl Team for TorchTeam {
    fn run(&self, jobs: usize, job: &(dyn Fn(usize) + Sync)) {
        let Some(parallel_for) = parallel_for() else {
            return Serial.run(jobs, job);
        };
        let context = Context { job, panicked: AtomicBool::new(false) };
        let pointer = (&raw const context).cast_mut().cast();
        // SAFETY: `torch_parallel_for` has this signature (torch/csrc/stable/c/shim.h) and returns after all jobs.
        let failed = unsafe { parallel_for(0, jobs as i64, 1, run_jobs, pointer) } != 0;
        assert!(!failed && !context.panicked.into_inner(), "a kernel failed on one of torch's threads");
    }
}

/// `torch_parallel_for` of the libtorch that Python has loaded; `None` where there is none to find.
fn parallel_for() -> Option<ParallelFor> {
    static FOUND: OnceLock<Option<ParallelFor>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        #[cfg(unix)]
        {
            let library =
                if cfg!(target_os = "macos") { c"@rpath/libtorch_cpu.dylib" } else { c"libtorch_cpu.so" };
            // SAFETY: RTLD_NOLOAD runs no code: it only finds a library that is loaded already.
            let library = unsafe { libc::dlopen(library.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
            if library.is_null() {
                return None;
            }
            // SAFETY: `library` is a handle from dlopen, the name a C string.
            let symbol = unsafe { libc::dlsym(library, c"torch_parallel_for".as_ptr()) };
            // SAFETY: a null pointer becomes None; else the symbol is the function of torch's stable C interface.
            unsafe { std::mem::transmute::<*mut c_void, Option<ParallelFor>>(symbol) }
        }
        #[cfg(not(unix))]
        None
    })
}
