//! One bit for each element: was it inside the grid? Eight times smaller than bools, and as fast.
//!
//! ```text
//! 512 elements, as 32 rows of 16:  element 16 * row + lane  is bit `row` of the u32 `lane`
//! ```
//!
//! Down the columns, so that vector units pack and spread by shifts alone. (Bits in the order of elements take bytes
//! for lanes and a multiplication to gather them: twice the time of the whole forward pass without AVX-512.)

use crate::{Error, error::check_len};

/// Elements whose bits are packed together.
pub(super) const PACK: usize = 512;
/// Bytes of the bits of [`PACK`] elements.
pub(super) const BYTES: usize = PACK / 8;
/// Elements side by side: two vectors of AVX2.
pub(super) const LANES: usize = PACK / 32;

/// How many bytes hold the bits of `n` elements: 64 for each 512 or part of them.
#[must_use]
pub fn mask_len(n: usize) -> usize {
    n.div_ceil(PACK) * BYTES
}

/// Packs numbers that are 0 or 1 into bits.
#[inline(always)]
pub(super) fn pack(inside: &[u32; PACK], bits: &mut [u8]) {
    let mut words = [0; LANES];
    // From the last row up, each pushing the others along: shifting a row to its place at once, LLVM takes
    // vectors along the rows, and gathers them element by element.
    for inside in inside.as_chunks::<LANES>().0.iter().rev() {
        for (word, inside) in words.iter_mut().zip(inside) {
            *word = *word << 1 | inside;
        }
    }
    for (bits, word) in bits.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *bits = word.to_le_bytes();
    }
}

/// The reverse of [`pack`], but still in words: bit `row` of word `lane` is that of element `16 * row + lane`.
#[inline(always)]
pub(super) fn words(bits: &[u8]) -> [u32; LANES] {
    let mut words = [0; LANES];
    for (word, bits) in words.iter_mut().zip(bits.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bits);
    }
    words
}

/// Writes each bit of `mask` as 0 or 1 to `inside`.
///
/// # Errors
/// [`Error::LengthMismatch`] if `mask` is not for that many elements.
pub fn unpack(mask: &[u8], inside: &mut [u8]) -> Result<(), Error> {
    check_len("mask", mask.len(), mask_len(inside.len()))?;
    for (bits, inside) in mask.chunks(BYTES).zip(inside.chunks_mut(PACK)) {
        let words = words(bits);
        for (row, inside) in inside.chunks_mut(LANES).enumerate() {
            for (word, inside) in words.iter().zip(inside) {
                *inside = u8::from(word >> row & 1 == 1);
            }
        }
    }
    Ok(())
}
