//! Which instruction set the kernels run with: the widest of this CPU, or what the environment asks for.

use std::sync::OnceLock;

use nashquant_kernels::Isa;
use pyo3::{exceptions::PyImportError, prelude::*};

/// As torch's `ATEN_CPU_CAPABILITY`; results are the same at every level.
const VARIABLE: &str = "NASHQUANT_CPU_CAPABILITY";

static CHOSEN: OnceLock<Isa> = OnceLock::new();

/// What [`choose`] found when the module was imported.
pub(crate) fn isa() -> Isa {
    *CHOSEN.get_or_init(Isa::best)
}

/// Reads the environment, once. An error if it names no level of this CPU.
pub(crate) fn choose() -> PyResult<()> {
    let Some(wanted) = std::env::var_os(VARIABLE).filter(|wanted| !wanted.is_empty()) else {
        return Ok(());
    };
    let available = Isa::available();
    let Some(found) = available.iter().find(|isa| wanted == isa.name()) else {
        let names: Vec<_> = available.iter().map(|isa| isa.name()).collect();
        let message = format!("{VARIABLE} is {wanted:?}, but this CPU has: {}", names.join(", "));
        return Err(PyImportError::new_err(message));
    };
    CHOSEN.get_or_init(|| *found);
    Ok(())
}

#[pyfunction]
pub(crate) fn cpu_capability() -> &'static str {
    isa().name()
}
