//! One bit for each element: was it inside the grid? Eight times smaller than bools, and as fast.

use crate::{Error, error::check_len};

/// Elements whose bits are packed together.
pub(super) const PACK: usize = 512;

/// How many bytes hold the bits of `n` elements.
#[must_use]
pub fn mask_len(n: usize) -> usize {
    n.div_ceil(8)
}

/// Packs bytes that are 0 or 1 into bits, the first into the lowest.
#[inline(always)]
pub(super) fn pack(inside: &[u8; PACK], bits: &mut [u8]) {
    for (eight, bits) in inside.as_chunks::<8>().0.iter().zip(bits) {
        // The product brings byte i's lowest bit to bit 56 + i; no two partial products meet.
        *bits = (u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8;
    }
}

/// Writes each bit of `mask` as 0 or 1 to `inside`.
///
/// # Errors
/// [`Error::LengthMismatch`] if `mask` is not for that many elements.
pub fn unpack(mask: &[u8], inside: &mut [u8]) -> Result<(), Error> {
    check_len("mask", mask.len(), mask_len(inside.len()))?;
    for (eight, bits) in inside.chunks_mut(8).zip(mask) {
        for (i, inside) in eight.iter_mut().enumerate() {
            *inside = (bits >> i) & 1;
        }
    }
    Ok(())
}
