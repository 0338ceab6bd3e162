//! The arithmetic of nashquant: slices in, slices out.
//!
//! Knows no Python, torch, files, environment variables or thread pool. Every kernel is one source loop,
//! compiled for each instruction set ([`Isa`]) and run by whoever lends threads ([`parallel::Team`]); the bits of
//! the result depend on neither.

pub mod conv;
mod element;
mod error;
pub mod fake_quantize;
mod half;
pub mod integer;
mod isa;
mod layout;
pub mod matmul;
pub mod observe;
pub mod parallel;

pub use element::{Bf16, Element, F16, Wide};
pub use error::Error;
pub use isa::Isa;
pub use layout::Layout;
