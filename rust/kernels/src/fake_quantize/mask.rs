//! One bit for each element: was it inside the grid? Eight times smaller than bools, and as fast.
//!
//! ```text
//! 512 elements, as 32 rows of 16:  element 16 * row + lane  is bit `31 - row` of the u32 `lane`
//! ```
//!
//! Down the columns, so that vector units pack and spread by shifts alone: each row pushes the others along. (Bits in the
//! order of elements take bytes for lanes and a multiplication to gather them: three times the instructions.)

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
    for inside in inside.as_chunks::<LANES>().0 {
        for lane in 0..LANES {
            words[lane] = words[lane] << 1 | inside[lane];
        }
    }
    write(words, bits);
}

/// One word for each lane, its first row in the highest bit.
#[inline(always)]
pub(super) fn write(words: [u32; LANES], bits: &mut [u8]) {
    for (bits, word) in bits.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *bits = word.to_le_bytes();
    }
}

/// The reverse of [`write`].
#[inline(always)]
pub(super) fn read(bits: &[u8]) -> [u32; LANES] {
    let mut words = [0; LANES];
    for (word, bits) in words.iter_mut().zip(bits.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bits);
    }
    words
}

/// Were all `n` elements inside the grid? Stops at the first 512 that were not.
///
/// # Errors
/// [`Error::LengthMismatch`] if `mask` is not for that many elements.
pub fn all_inside(mask: &[u8], n: usize) -> Result<bool, Error> {
    check_len("mask", mask.len(), mask_len(n))?;
    let (packs, rest) = mask.split_at(n / PACK * BYTES);
    let rest: u32 = rest.iter().map(|bits| bits.count_ones()).sum();
    Ok(rest as usize == n % PACK && packs.as_chunks().0.iter().all(|bits| *bits == [0xff; BYTES]))
}

/// Writes each bit of `mask` as 0 or 1 to `inside`.
///
/// # Errors
/// [`Error::LengthMismatch`] if `mask` is not for that many elements.
pub fn unpack(mask: &[u8], inside: &mut [u8]) -> Result<(), Error> {
    check_len("mask", mask.len(), mask_len(inside.len()))?;
    for (bits, inside) in mask.chunks(BYTES).zip(inside.chunks_mut(PACK)) {
        let mut words = read(bits);
        for inside in inside.chunks_mut(LANES) {
            for (word, inside) in words.iter_mut().zip(inside) {
                *inside = (*word >> 31) as u8;
                *word <<= 1;
            }
        }
    }
    Ok(())
}
