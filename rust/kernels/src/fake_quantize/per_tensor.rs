//! One grid for the whole tensor.

use super::{
    formula::{self, InSingle},
    grid::{Grid, Steps},
    mask::{BYTES, PACK, mask_len, pack},
};
use crate::{
    Element, Error, Isa,
    error::check_len,
    isa::per_isa,
    parallel::{BLOCK, Team, share},
};

/// Writes the fake-quantized `x` to `y`.
///
/// Bit-identical on every [`Isa`] and [`Team`]. NaN goes to `qmin`'s value, infinities to their own end; never -0.0.
///
/// # Errors
/// [`Error::LengthMismatch`] if `x` and `y` differ in length; what is wrong with `grid`.
pub fn per_tensor<T: Element>(
    isa: Isa,
    team: &dyn Team,
    x: &[T],
    grid: Grid,
    y: &mut [T],
) -> Result<(), Error> {
    check_len("y", y.len(), x.len())?;
    let grid: Steps<T::Wide> = grid.steps(None)?;
    share(team, x.chunks(BLOCK).zip(y.chunks_mut(BLOCK)), |(x, y)| {
        per_isa!(isa, formula::slice::<T, InSingle>, [T: Element], (x: &[T], grid: Steps<T::Wide>, y: &mut [T]) -> ());
    });
    Ok(())
}

/// As [`per_tensor`], and writes one bit for each element to `mask`: 1 if it was inside the grid before clamping.
/// The bits behind the last element are 0.
///
/// # Errors
/// As [`per_tensor`]; [`Error::LengthMismatch`] if `mask` has not [`mask_len`] bytes.
pub fn per_tensor_with_mask<T: Element>(
    isa: Isa,
    team: &dyn Team,
    x: &[T],
    grid: Grid,
    y: &mut [T],
    mask: &mut [u8],
) -> Result<(), Error> {
    check_len("y", y.len(), x.len())?;
    check_len("mask", mask.len(), mask_len(x.len()))?;
    let grid: Steps<T::Wide> = grid.steps(None)?;
    let blocks = x.chunks(BLOCK).zip(y.chunks_mut(BLOCK)).zip(mask.chunks_mut(mask_len(BLOCK)));
    share(team, blocks, |((x, y), mask)| {
        per_isa!(isa, block::<T>, [T: Element],
            (x: &[T], grid: Steps<T::Wide>, y: &mut [T], mask: &mut [u8]) -> ());
    });
    Ok(())
}

#[inline(always)]
pub(super) fn block<T: Element>(x: &[T], grid: Steps<T::Wide>, y: &mut [T], mask: &mut [u8]) {
    let mut inside = [0; PACK];
    for ((x, y), mask) in x.chunks(PACK).zip(y.chunks_mut(PACK)).zip(mask.chunks_mut(BYTES)) {
        if x.len() < PACK {
            inside[x.len()..].fill(0);
        }
        formula::slice_and_inside::<T, InSingle>(x, grid, y, &mut inside);
        pack(&inside, mask);
    }
}
