//! The elements of one channel, a tile at a time.

use std::ops::Range;

use crate::{Element, Layout, Wide};

/// Elements that stay in L1 while they are visited: 16 KiB of f32.
pub(super) const TILE: usize = 4096;

/// One channel of `x`, wherever its elements lie.
#[derive(Clone, Copy)]
pub(super) struct Elements<'a, T> {
    pub x: &'a [T],
    pub layout: Layout,
    pub channel: usize,
}

impl<T: Element> Elements<'_, T> {
    pub(super) fn len(&self) -> usize {
        self.layout.outer * self.layout.inner
    }

    /// Ranges of `len` elements, the last may be shorter.
    pub(super) fn pieces(&self, len: usize) -> impl ExactSizeIterator<Item = Range<usize>> + use<T> {
        let (all, len) = (self.len(), len.max(1));
        (0..all.div_ceil(len)).map(move |i| i * len..all.min((i + 1) * len))
    }

    /// Shows `see` the elements in `range`, as f32 and [`TILE`] at a time, as long as it wants more.
    pub(super) fn tiles(&self, range: Range<usize>, mut see: impl FnMut(&[f32]) -> bool) {
        let mut tile = Vec::new();
        for first in range.clone().step_by(TILE) {
            let n = TILE.min(range.end - first);
            let wants_more = if let Some(x) = self.neighbours(first, n) {
                see(x)
            } else {
                tile.resize(n, 0.0);
                self.gather(first, &mut tile);
                see(&tile)
            };
            if !wants_more {
                break;
            }
        }
    }

    /// `n` elements from the `first`th on, if they are f32 and lie side by side.
    fn neighbours(&self, first: usize, n: usize) -> Option<&[f32]> {
        let Layout { channels, inner, .. } = self.layout;
        let start = (first / inner * channels + self.channel) * inner + first % inner;
        if first % inner + n > inner { None } else { T::as_singles(&self.x[start..start + n]) }
    }

    /// Copies the elements from the `first`th on to `out`.
    fn gather(&self, first: usize, out: &mut [f32]) {
        let Layout { channels, inner, .. } = self.layout;
        let (mut outer, mut skip, mut filled) = (first / inner, first % inner, 0);
        while filled < out.len() {
            let n = (inner - skip).min(out.len() - filled);
            let start = (outer * channels + self.channel) * inner + skip;
            for (x, out) in self.x[start..start + n].iter().zip(&mut out[filled..filled + n]) {
                *out = x.widen().to_f32();
            }
            (outer, skip, filled) = (outer + 1, 0, filled + n);
        }
    }
}
