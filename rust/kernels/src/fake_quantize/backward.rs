//! The straight-through gradient.

use super::mask::mask_len;
use crate::{
    Element, Error, Isa, Wide,
    error::check_len,
    isa::per_isa,
    parallel::{BLOCK, Team, share},
};

/// Writes `grad_y * inside` to `grad_x`; `mask` holds one bit for each element, as the forward wrote it.
///
/// A multiplication, so that a NaN or infinite gradient is not hidden by a 0. Bit-identical on every [`Isa`] and
/// [`Team`], except which NaN a NaN is.
///
/// # Errors
/// [`Error::LengthMismatch`] if `grad_x` differs from `grad_y` in length, or `mask` has not [`mask_len`] bytes.
pub fn backward<T: Element>(
    isa: Isa,
    team: &dyn Team,
    grad_y: &[T],
    mask: &[u8],
    grad_x: &mut [T],
) -> Result<(), Error> {
    check_len("grad_x", grad_x.len(), grad_y.len())?;
    check_len("mask", mask.len(), mask_len(grad_y.len()))?;
    let blocks = grad_y.chunks(BLOCK).zip(mask.chunks(BLOCK / 8)).zip(grad_x.chunks_mut(BLOCK));
    share(team, blocks, |((grad_y, mask), grad_x)| {
        per_isa!(isa, block::<T>, [T: Element], (grad_y: &[T], mask: &[u8], grad_x: &mut [T]) -> ());
    });
    Ok(())
}

#[inline(always)]
fn block<T: Element>(grad_y: &[T], mask: &[u8], grad_x: &mut [T]) {
    let ((grad_y, last_grad_y), (grad_x, last_grad_x)) =
        (grad_y.as_chunks::<8>(), grad_x.as_chunks_mut::<8>());
    for ((grad_y, bits), grad_x) in grad_y.iter().zip(mask).zip(grad_x) {
        for i in 0..8 {
            grad_x[i] = pass(grad_y[i], bits & (1 << i));
        }
    }
    for (i, (grad_y, grad_x)) in last_grad_y.iter().zip(last_grad_x).enumerate() {
        *grad_x = pass(*grad_y, mask[mask.len() - 1] & (1 << i));
    }
}

#[inline(always)]
fn pass<T: Element>(grad_y: T, bit: u8) -> T {
    T::narrow(grad_y.widen() * if bit == 0 { T::Wide::from_f32(0.0) } else { T::Wide::ONE })
}
