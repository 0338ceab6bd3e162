//! The straight-through gradient.

use super::mask::{self, BYTES, LANES, PACK, mask_len};
use crate::{
    Element, Error, Isa, Wide,
    error::check_len,
    isa::per_isa,
    parallel::{BLOCK, Team, share_light},
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
    share_light(team, blocks, |((grad_y, mask), grad_x)| {
        T::staged(isa, grad_y, grad_x, |first, grad_y, grad_x| {
            piece(isa, grad_y, &mask[mask_len(first)..], grad_x)
        });
    });
    Ok(())
}

fn piece<T: Element>(isa: Isa, grad_y: &[T], mask: &[u8], grad_x: &mut [T]) {
    per_isa!(isa, block::<T>, [T: Element], (grad_y: &[T], mask: &[u8], grad_x: &mut [T]) -> ());
}

#[inline(always)]
fn block<T: Element>(grad_y: &[T], mask: &[u8], grad_x: &mut [T]) {
    for ((grad_y, mask), grad_x) in grad_y.chunks(PACK).zip(mask.chunks(BYTES)).zip(grad_x.chunks_mut(PACK)) {
        let mut words = mask::read(mask);
        let (grad_y_rows, grad_y_rest) = grad_y.as_chunks::<LANES>();
        let (grad_x_rows, grad_x_rest) = grad_x.as_chunks_mut::<LANES>();
        for (grad_y, grad_x) in grad_y_rows.iter().zip(grad_x_rows) {
            for lane in 0..LANES {
                grad_x[lane] = through(grad_y[lane], words[lane]);
                words[lane] <<= 1;
            }
        }
        for ((grad_y, word), grad_x) in grad_y_rest.iter().zip(words).zip(grad_x_rest) {
            *grad_x = through(*grad_y, word);
        }
    }
}

/// As [`backward`], in the place of `grad_y`; rows of 16 that are all inside are not even read.
///
/// # Errors
/// [`Error::LengthMismatch`] if `mask` has not [`mask_len`] bytes.
pub fn backward_in_place<T: Element>(
    isa: Isa,
    team: &dyn Team,
    grad: &mut [T],
    mask: &[u8],
) -> Result<(), Error> {
    check_len("mask", mask.len(), mask_len(grad.len()))?;
    share_light(team, grad.chunks_mut(BLOCK).zip(mask.chunks(mask_len(BLOCK))), |(grad, mask)| {
        per_isa!(isa, block_in_place::<T>, [T: Element], (grad: &mut [T], mask: &[u8]) -> ());
    });
    Ok(())
}

#[inline(always)]
fn block_in_place<T: Element>(grad: &mut [T], mask: &[u8]) {
    for (grad, mask) in grad.chunks_mut(PACK).zip(mask.chunks(BYTES)) {
        let words = mask::read(mask);
        let (rows, rest) = grad.as_chunks_mut::<LANES>();
        let mut clipped = !words.iter().fold(!0, |all, word| all & word); // one bit for each row, as in a word
        while clipped != 0 {
            let row = clipped.leading_zeros();
            clipped ^= 1 << 31 >> row;
            let Some(grad) = rows.get_mut(row as usize) else {
                for (grad, word) in rest.iter_mut().zip(words) {
                    *grad = through(*grad, word << row);
                }
                break; // the bits behind the last element are 0 too
            };
            for lane in 0..LANES {
                grad[lane] = through(grad[lane], words[lane] << row);
            }
        }
    }
}

/// `grad_y` times the highest bit of `word`.
#[inline(always)]
fn through<T: Element>(grad_y: T, word: u32) -> T {
    let everywhere = (word as i32 >> 31) as u32; // a factor of 0.0 or 1.0 without a conversion
    T::narrow(grad_y.widen() * T::Wide::from_f32(f32::from_bits(everywhere & 1.0_f32.to_bits())))
}
