//! Activations as AMX multiplies them: each byte for itself.

use std::ops::Range;

use super::{
    form::{Form, Part},
    room::Room,
    tile::{self, Rows},
    weight::{PANEL, Panels, Weight},
};
use crate::{integer::Integer, isa::per_isa};

/// One of the bytes of an activation; the highest has the sign. What a register takes at once lies together: for 16 rows
/// the lowest bytes, then the highest, of which each has 16 rows of 64 for every 16 steps.
#[derive(Clone, Copy, Default)]
#[repr(transparent)]
pub(super) struct Byte(u8);

impl Byte {
    /// Rows of a register.
    pub(super) const ROWS: usize = 16;
    /// Bytes of a row of it.
    pub(super) const LINE: usize = 64;
}

/// Each two panels of `row`, once for every row of a register. To make a register of one row, it would be read 16 times,
/// which takes five times as long.
pub(super) fn tiles(row: &[i32]) -> Room<i32> {
    let mut tiles = Room::new(Byte::ROWS * row.len());
    for (row, tile) in row.chunks(2 * PANEL).zip(tiles.values().chunks_mut(Byte::ROWS * 2 * PANEL)) {
        tile.chunks_mut(row.len()).for_each(|of_tile| of_tile.copy_from_slice(row));
    }
    tiles
}

impl Form for Byte {
    const HEIGHT: usize = 2 * Self::ROWS;
    const START: usize = Self::ROWS;
    const PIECE: usize = 8192; // of 4; 32768 * 255 * 255 < 2^31, and so is 32768 * 2 * 255 * 128

    fn planes(weight: &Weight) -> usize {
        if let Panels::Bytes(_, planes) = weight.panels { planes } else { 1 }
    }

    fn places(weight: &Weight) -> usize {
        if let Panels::Bytes(b, planes) = &weight.panels { b.len() + planes - 1 } else { 1 }
    }

    fn pack<T: Integer>(weight: &Weight, x: &[T], a: &mut [Self]) {
        let (isa, planes, depth) = (weight.isa, Self::planes(weight), weight.shape().steps * 4);
        per_isa!(isa, rows, [T: Integer], (x: &[T], depth: usize, planes: usize, a: &mut [Byte]) -> ());

        #[inline(always)]
        fn rows<T: Integer>(x: &[T], depth: usize, planes: usize, a: &mut [Byte]) {
            let plane = Byte::ROWS * depth;
            for (x, a) in x.chunks(Byte::ROWS * depth).zip(a.chunks_mut(planes * plane)) {
                for (row, x) in x.chunks_exact(depth).enumerate() {
                    let (lowest, highest) = a.split_at_mut(plane);
                    line(x, &mut lowest[row * Byte::LINE..], |x| x.widen() as u8);
                    if planes > 1 {
                        line(x, &mut highest[row * Byte::LINE..], |x| (x.widen() >> 8) as u8);
                    }
                }
            }
        }

        #[inline(always)]
        fn line<T: Integer>(x: &[T], a: &mut [Byte], byte: impl Fn(T) -> u8) {
            for (x, a) in x.as_chunks::<{ Byte::LINE }>().0.iter().zip(a.chunks_mut(Byte::ROWS * Byte::LINE))
            {
                a.iter_mut().zip(x).for_each(|(a, x)| *a = Byte(byte(*x)));
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
        let plane = Self::ROWS * part.weight.shape().steps * 4;
        for (i, of_b) in b.iter().enumerate() {
            let Some(of_a) = place.checked_sub(i).filter(|of_a| of_a < planes) else { continue };
            let from = &a[of_a * plane + steps.start * 4 * Self::ROWS..];
            let a = Rows { a: from, stride: planes * plane, count: rows, steps: steps.len() };
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
