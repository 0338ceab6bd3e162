//! One grid for the whole tensor.

use super::{
    formula::{self, InSingle},
    grid::{Bound, Bounds, Grid, Steps},
    mask::{self, BYTES, LANES, PACK, mask_len, pack},
};
use crate::{
    Element, Error, Isa,
    error::check_len,
    isa::per_isa,
    parallel::{BLOCK, Team, share_light},
};

/// Writes the fake-quantized `x` to `y`; `x` clamped to `bounds` first, if there are any.
///
/// Bit-identical on every [`Isa`] and [`Team`]. NaN goes to `qmin`'s value, infinities to their own end; never -0.0.
///
/// # Errors
/// [`Error::LengthMismatch`] if `x` and `y` differ in length; what is wrong with `grid` or `bounds`.
pub fn per_tensor<T: Element>(
    isa: Isa,
    team: &dyn Team,
    x: &[T],
    grid: Grid,
    bounds: Option<Bounds>,
    y: &mut [T],
) -> Result<(), Error> {
    check_len("y", y.len(), x.len())?;
    let grid: Steps<T::Wide> = grid.steps(None)?;
    let blocks = x.chunks(BLOCK).zip(y.chunks_mut(BLOCK));
    match bounds {
        None => on_grid(isa, team, blocks, grid),
        Some(bounds) => on_grid(isa, team, blocks, grid.within(bounds)?),
    }
    Ok(())
}

/// As [`per_tensor`], and writes one bit for each element to `mask`: 1 if it was inside the grid before clamping, and
/// strictly between the bounds. The bits behind the last element are 0.
///
/// # Errors
/// As [`per_tensor`]; [`Error::LengthMismatch`] if `mask` has not [`mask_len`] bytes.
pub fn per_tensor_with_mask<T: Element>(
    isa: Isa,
    team: &dyn Team,
    x: &[T],
    grid: Grid,
    bounds: Option<Bounds>,
    y: &mut [T],
    mask: &mut [u8],
) -> Result<(), Error> {
    check_len("y", y.len(), x.len())?;
    check_len("mask", mask.len(), mask_len(x.len()))?;
    let grid: Steps<T::Wide> = grid.steps(None)?;
    let blocks = x.chunks(BLOCK).zip(y.chunks_mut(BLOCK)).zip(mask.chunks_mut(mask_len(BLOCK)));
    match bounds {
        None => on_grid_with_mask(isa, team, blocks, grid),
        Some(bounds) => on_grid_with_mask(isa, team, blocks, grid.within(bounds)?),
    }
    Ok(())
}

/// All blocks on one grid, in any order.
pub(super) fn on_grid<'a, T: Element, B: Bound<T::Wide>>(
    isa: Isa,
    team: &dyn Team,
    blocks: impl ExactSizeIterator<Item = (&'a [T], &'a mut [T])>,
    grid: Steps<T::Wide, B>,
) {
    fn piece<T: Element, B: Bound<T::Wide>>(isa: Isa, x: &[T], grid: Steps<T::Wide, B>, y: &mut [T]) {
        per_isa!(isa, formula::slice::<T, InSingle, B>, [T: Element, B: Bound<T::Wide>],
            (x: &[T], grid: Steps<T::Wide, B>, y: &mut [T]) -> ());
    }
    share_light(team, blocks, |(x, y)| T::staged(isa, x, y, |_, x, y| piece(isa, x, grid, y)));
}

/// As [`on_grid`], with the bits of each block.
pub(super) fn on_grid_with_mask<'a, T: Element, B: Bound<T::Wide>>(
    isa: Isa,
    team: &dyn Team,
    blocks: impl ExactSizeIterator<Item = ((&'a [T], &'a mut [T]), &'a mut [u8])>,
    grid: Steps<T::Wide, B>,
) {
    fn piece<T: Element, B: Bound<T::Wide>>(
        isa: Isa,
        x: &[T],
        grid: Steps<T::Wide, B>,
        y: &mut [T],
        mask: &mut [u8],
    ) {
        per_isa!(isa, block::<T, B>, [T: Element, B: Bound<T::Wide>],
            (x: &[T], grid: Steps<T::Wide, B>, y: &mut [T], mask: &mut [u8]) -> ());
    }
    share_light(team, blocks, |((x, y), mask)| {
        T::staged(isa, x, y, |first, x, y| {
            piece(isa, x, grid, y, &mut mask[mask_len(first)..mask_len(first + x.len())]);
        });
    });
}

#[inline(always)]
fn block<T: Element, B: Bound<T::Wide>>(x: &[T], grid: Steps<T::Wide, B>, y: &mut [T], mask: &mut [u8]) {
    let ((packs, x_rest), (y_packs, y_rest)) = (x.as_chunks::<PACK>(), y.as_chunks_mut::<PACK>());
    let (whole, mask_rest) = mask.split_at_mut(packs.len() * BYTES);
    for ((x, y), mask) in packs.iter().zip(y_packs).zip(whole.chunks_exact_mut(BYTES)) {
        let mut words = [0; LANES];
        for (x, y) in x.as_chunks().0.iter().zip(y.as_chunks_mut().0) {
            formula::row::<T, InSingle, B>(x, |_| grid, y, &mut words);
        }
        mask::write(words, mask);
    }
    if !x_rest.is_empty() {
        let mut inside = [0; PACK];
        formula::slice_and_inside::<T, InSingle, B>(x_rest, grid, y_rest, &mut inside);
        pack(&inside, mask_rest);
    }
}
