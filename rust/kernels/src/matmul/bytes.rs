//! Activations as AMX multiplies them: each byte for itself.

use std::ops::Range;

use super::{
    form::{Form, Part},
    room::{Room, on_line},
    tile::{self, Rows},
    weight::{GROUP_BYTES, PANEL, Panels, Weight},
};
use crate::{integer::Integer, isa::per_isa};

/// Rows of a register: of activations, of groups along the depth, or of sums.
pub(super) const ROWS: usize = 16;
/// Rows of two of them.
pub(super) const HEIGHT: usize = 2 * ROWS;

/// Each two panels of `row`, once for every row of a register. To make a register of one row, it would be read 16 times,
/// which takes five times as long.
pub(super) fn tiles(row: &[i32]) -> Room<i32> {
    let mut tiles = Room::new(ROWS * row.len());
    for (row, tile) in row.chunks(2 * PANEL).zip(tiles.values().chunks_mut(ROWS * 2 * PANEL)) {
        tile.chunks_mut(row.len()).for_each(|of_tile| of_tile.copy_from_slice(row));
    }
    tiles
}

/// One of the bytes of an activation; the highest has the sign. The lowest bytes of a row are followed by its highest.
impl Form for i8 {
    const HEIGHT: usize = HEIGHT;
    const START: usize = ROWS;
    const PIECE: usize = 8192; // of 4; 32768 * 255 * 255 < 2^31, and so is 32768 * 2 * 255 * 128

    fn planes(weight: &Weight) -> usize {
        if let Panels::Bytes(_, planes) = weight.panels { planes } else { 1 }
    }

    fn places(weight: &Weight) -> usize {
        if let Panels::Bytes(b, planes) = &weight.panels { b.len() + planes - 1 } else { 1 }
    }

    /// Whole registers of bytes, on lines of the cache.
    fn lying<'a, T: Integer>(weight: &Weight, x: &'a [T], rows: usize) -> Option<&'a [Self]> {
        let whole = rows.next_multiple_of(ROWS) * weight.shape().steps * GROUP_BYTES;
        T::as_bytes(x).filter(|x| x.len() >= whole && on_line(x) && Self::planes(weight) == 1)
    }

    fn pack<T: Integer>(weight: &Weight, x: &[T], a: &mut [Self]) {
        let (isa, planes, line) = (weight.isa, Self::planes(weight), weight.shape().steps * GROUP_BYTES);
        per_isa!(isa, rows, [T: Integer], (x: &[T], line: usize, planes: usize, a: &mut [i8]) -> ());

        #[inline(always)]
        fn rows<T: Integer>(x: &[T], line: usize, planes: usize, a: &mut [i8]) {
            for (x, a) in x.chunks_exact(line).zip(a.chunks_exact_mut(planes * line)) {
                let (lowest, highest) = a.split_at_mut(line);
                lowest.iter_mut().zip(x).for_each(|(a, x)| *a = x.widen() as i8);
                highest.iter_mut().zip(x).for_each(|(a, x)| *a = (x.widen() >> 8) as i8);
            }
        }
    }

    fn multiply(
        part: &Part<'_>,
        a: &[Self],
        rows: usize,
        place: usize,
        steps: Range<usize>,
        mut start: Option<&[i32]>,
        acc: &mut [i32],
    ) {
        let Panels::Bytes(b, planes) = &part.weight.panels else { return };
        let line = part.weight.shape().steps * GROUP_BYTES;
        for (i, of_b) in b.iter().enumerate() {
            let Some(of_a) = place.checked_sub(i).filter(|of_a| of_a < planes) else { continue };
            let from = &a[of_a * line + steps.start * GROUP_BYTES..];
            let a = Rows { a: from, stride: planes * line, count: rows, steps: steps.len() };
            let signs = (of_a + 1 == *planes, i + 1 == b.len());
            tile::bytes(
                part.weight.isa,
                part.ready,
                signs,
                a,
                part.columns(of_b, steps.start),
                start.take(),
                acc,
            );
        }
    }
}
