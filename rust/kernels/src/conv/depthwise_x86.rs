//! The depthwise window in AVX-512 with VNNI: four taps of 64 channels at once.
//!
//! ```text
//! taps a, b, c, d of 64 channels  ->  for each channel the bytes a b c d, by two rounds of unpacking
//! ```
//!
//! Unpacking stays within 16 bytes, so that the four vectors of sums hold groups of four channels in turns; these are put
//! in order at the end.
#![allow(
    unsafe_code,
    reason = "loads and stores of vectors take pointers; an Isa is the proof of its features"
)]

use std::arch::x86_64::*;

use crate::Isa;

/// Channels of a block.
const N: usize = 64;
/// Taps that are multiplied at once.
const GROUP: usize = 4;

/// A vector of bytes.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([i8; N]);

/// The weight as the unpacked taps meet it: for each block of channels, for each group of taps, four vectors.
#[derive(Clone, Debug)]
pub(super) struct Quads {
    isa: Isa,
    lines: Vec<Line>,
    groups: usize,
}

impl Quads {
    /// From `[channels, taps]`. None where `isa` has no VNNI.
    pub(super) fn new(isa: Isa, w: &[i8], channels: usize) -> Option<Self> {
        if !isa.has_vnni() {
            return None;
        }
        let taps = w.len() / channels.max(1);
        let groups = taps.div_ceil(GROUP);
        let mut lines = vec![Line([0; N]); channels.div_ceil(N) * groups * 4];
        for (i, w) in w.iter().enumerate() {
            let (channel, tap) = (i / taps, i % taps);
            // Of a block of 64: 4 times 16, in each of these a group of four for each vector.
            let (block, sixteen, vector) = (channel / N, channel % N / 16, channel % 16 / 4);
            let line = &mut lines[(block * groups + tap / GROUP) * 4 + vector];
            line.0[16 * sixteen + channel % 4 * GROUP + tap % GROUP] = *w;
        }
        Some(Self { isa, lines, groups })
    }

    /// Writes the sums of one window, of all channels: `start`, and the products of the taps `under` it with 128 added to
    /// each. Of taps there are whole groups.
    pub(super) fn window(&self, under: &[&[i8]], start: &[i32], acc: &mut [i32]) {
        let channels = acc.len();
        assert!(self.isa.has_vnni() && under.len() == self.groups * GROUP && start.len() == channels);
        assert!(under.iter().all(|tap| tap.len() == channels));
        assert!(self.lines.len() >= channels.div_ceil(N) * self.groups * 4);
        for first in (0..channels).step_by(N) {
            let lines = &self.lines[first / N * self.groups * 4..];
            // SAFETY: the level has the features; taps, start and sums have all channels, of which those from `first` on
            // are masked; and of lines there are four for each group.
            unsafe { block(under, lines, first, start, acc) };
        }
    }
}

/// # Safety
/// All of `under`, `start` and `acc` are longer than `first`, and of one length. `lines` has one for each of `under`.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn block(under: &[&[i8]], lines: &[Line], first: usize, start: &[i32], acc: &mut [i32]) {
    let mask = u64::MAX >> (N - (acc.len() - first).min(N));
    let raised = _mm512_set1_epi8(i8::MIN);
    let mut sums = [_mm512_setzero_si512(); 4];
    for (taps, lines) in under.chunks_exact(GROUP).zip(lines.chunks_exact(4)) {
        let tap = |i: usize| {
            // SAFETY: of 64 from `first` on, those that are there.
            let x = unsafe { _mm512_maskz_loadu_epi8(mask, taps[i].as_ptr().add(first)) };
            _mm512_xor_si512(x, raised)
        };
        let (a, b, c, d) = (tap(0), tap(1), tap(2), tap(3));
        let (low_ab, high_ab) = (_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b));
        let (low_cd, high_cd) = (_mm512_unpacklo_epi8(c, d), _mm512_unpackhi_epi8(c, d));
        let quads = [
            _mm512_unpacklo_epi16(low_ab, low_cd),
            _mm512_unpackhi_epi16(low_ab, low_cd),
            _mm512_unpacklo_epi16(high_ab, high_cd),
            _mm512_unpackhi_epi16(high_ab, high_cd),
        ];
        for ((sum, quad), line) in sums.iter_mut().zip(quads).zip(lines) {
            // SAFETY: a line is 64 bytes, and begins on 64.
            *sum = _mm512_dpbusd_epi32(*sum, quad, unsafe { _mm512_load_si512(line.0.as_ptr().cast()) });
        }
    }
    // Four by four groups of four channels, turned round.
    let [a, b, c, d] = sums;
    let (left, right) = (_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0xee>(a, b));
    let (more_left, more_right) = (_mm512_shuffle_i32x4::<0x44>(c, d), _mm512_shuffle_i32x4::<0xee>(c, d));
    let sums = [
        _mm512_shuffle_i32x4::<0x88>(left, more_left),
        _mm512_shuffle_i32x4::<0xdd>(left, more_left),
        _mm512_shuffle_i32x4::<0x88>(right, more_right),
        _mm512_shuffle_i32x4::<0xdd>(right, more_right),
    ];
    for (i, sum) in sums.into_iter().enumerate() {
        let (mask, at) = ((mask >> (16 * i)) as u16, first + 16 * i);
        // SAFETY: of 16 from `at` on, those that are there.
        unsafe {
            let start = _mm512_maskz_loadu_epi32(mask, start.as_ptr().wrapping_add(at));
            _mm512_mask_storeu_epi32(acc.as_mut_ptr().wrapping_add(at), mask, _mm512_add_epi32(sum, start));
        }
    }
}
