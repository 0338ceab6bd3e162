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
        // The product brings byte i's lowest bit to bit 56 + i; no two partial products meet. (Three shifts and
        // ors, which vector units have, are no faster: the comparison before this costs more.)
        *bits = (u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8;
    }
}

/// The reverse of [`pack`]: one byte, 0 or 1, for each bit.
#[inline(always)]
pub(super) fn spread(bits: &[u8], inside: &mut [u8; PACK]) {
    for (bits, eight) in bits.iter().zip(inside.as_chunks_mut::<8>().0) {
        // Byte i keeps bit i alone; adding 0x7f lifts any bit to the byte's top, without a carry.
        let alone = u64::from(*bits).wrapping_mul(0x0101_0101_0101_0101) & 0x8040_2010_0804_0201;
        *eight = (((alone + 0x7f7f_7f7f_7f7f_7f7f) >> 7) & 0x0101_0101_0101_0101).to_le_bytes();
    }
}

/// Writes each bit of `mask` as 0 or 1 to `inside`.
///
/// # Errors
/// [`Error::LengthMismatch`] if `mask` is not for that many elements.
pub fn unpack(mask: &[u8], inside: &mut [u8]) -> Result<(), Error> {
    check_len("mask", mask.len(), mask_len(inside.len()))?;
    let mut piece = [0; PACK];
    for (bits, inside) in mask.chunks(PACK / 8).zip(inside.chunks_mut(PACK)) {
        spread(bits, &mut piece);
        inside.copy_from_slice(&piece[..inside.len()]);
    }
    Ok(())
}
