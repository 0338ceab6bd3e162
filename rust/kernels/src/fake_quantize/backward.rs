//! The straight-through gradient.

use super::mask::{BYTES, LANES, PACK, mask_len, words};
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
    let blocks = grad_y.chunks(BLOCK).zip(mask.chunks(mask_len(BLOCK))).zip(grad_x.chunks_mut(BLOCK));
    share(team, blocks, |((grad_y, mask), grad_x)| {
        per_isa!(isa, block::<T>, [T: Element], (grad_y: &[T], mask: &[u8], grad_x: &mut [T]) -> ());
    });
    Ok(())
}

#[inline(always)]
fn block<T: Element>(grad_y: &[T], mask: &[u8], grad_x: &mut [T]) {
    for ((grad_y, mask), grad_x) in grad_y.chunks(PACK).zip(mask.chunks(BYTES)).zip(grad_x.chunks_mut(PACK)) {
        let words = words(mask);
        for (row, (grad_y, grad_x)) in grad_y.chunks(LANES).zip(grad_x.chunks_mut(LANES)).enumerate() {
            for ((grad_y, word), grad_x) in grad_y.iter().zip(&words).zip(grad_x) {
                *grad_x = T::narrow(grad_y.widen() * T::Wide::from_f32((word >> row & 1) as i32 as f32));
            }
        }
    }
}
