//! The tile in AMX: registers of 16 rows by 64 bytes, two of rows and two of panels at once.
//!
//! Its intrinsics are not stable yet, so this is assembly. How the registers are cut belongs to the thread: every call
//! says it anew, and leaves them empty.
#![allow(
    unsafe_code,
    reason = "the registers are named in assembly alone; an Isa is the proof that they are there"
)]

use std::arch::asm;

use super::{
    bytes::Byte,
    form::Form,
    tile::{Columns, Rows},
    weight::{PANEL, QuadLine},
};
use crate::Isa;

/// Rows of a register: of activations, of groups along the depth, or of sums.
const ROWS: usize = Byte::ROWS;

/// What `ldtilecfg` reads: palette 1, eight registers of 16 rows by 64 bytes.
#[repr(C, align(64))]
struct Cut([u8; 64]);

const CUT: Cut = {
    let mut bytes = [0; 64];
    bytes[0] = 1;
    let mut register = 0;
    while register < 8 {
        bytes[16 + 2 * register] = 64;
        bytes[48 + register] = ROWS as u8;
        register += 1;
    }
    Cut(bytes)
};

/// Where 32 rows and two panels lie, and where their sums. `lower` are the second 16 rows.
struct Block {
    a: *const Byte,
    lower_a: *const Byte,
    b: *const QuadLine,
    right_b: *const QuadLine,
    /// Registers along the depth, at least one.
    steps: usize,
    /// What the sums begin with: `from_start` from row to row.
    start: *const i32,
    from_start: usize,
    acc: *mut i32,
    width: usize,
}

macro_rules! block {
    ($name:ident, $dot:literal) => {
        /// Adds the products to the sums.
        ///
        /// # Safety
        /// The CPU and the thread are ready, as by [`CUT`]; all that `at` tells of can be read, and the sums written.
        unsafe fn $name(at: &Block) {
            // SAFETY: reads 32 rows of `steps * 64` bytes and two panels of `steps * 16` lines, and writes 32 rows of
            // 32 sums, which the caller promises; changes no flags that anybody reads.
            unsafe {
                asm!(
                    "tileloadd tmm0, [{start} + {from_start}]",
                    "tileloadd tmm1, [{start} + {from_start} + 64]",
                    "mov {lower}, {from_start}",
                    "shl {lower}, 4",
                    "add {lower}, {start}",
                    "tileloadd tmm2, [{lower} + {from_start}]",
                    "tileloadd tmm3, [{lower} + {from_start} + 64]",
                    "2:",
                    "tileloadd tmm4, [{a} + {line}]",
                    "tileloadd tmm6, [{b} + {line}]",
                    concat!($dot, " tmm0, tmm4, tmm6"),
                    "tileloadd tmm7, [{right_b} + {line}]",
                    concat!($dot, " tmm1, tmm4, tmm7"),
                    "tileloadd tmm5, [{lower_a} + {line}]",
                    concat!($dot, " tmm2, tmm5, tmm6"),
                    concat!($dot, " tmm3, tmm5, tmm7"),
                    "add {a}, 1024",
                    "add {lower_a}, 1024",
                    "add {b}, 1024",
                    "add {right_b}, 1024",
                    "dec {steps}",
                    "jnz 2b",
                    "tilestored [{acc} + {width}], tmm0",
                    "tilestored [{acc} + {width} + 64], tmm1",
                    "mov {lower}, {width}",
                    "shl {lower}, 4",
                    "add {lower}, {acc}",
                    "tilestored [{lower} + {width}], tmm2",
                    "tilestored [{lower} + {width} + 64], tmm3",
                    a = inout(reg) at.a => _,
                    lower_a = inout(reg) at.lower_a => _,
                    lower = out(reg) _,
                    b = inout(reg) at.b => _,
                    right_b = inout(reg) at.right_b => _,
                    line = in(reg) size_of::<QuadLine>(),
                    steps = inout(reg) at.steps => _,
                    start = in(reg) at.start,
                    from_start = in(reg) 4 * at.from_start,
                    acc = in(reg) at.acc,
                    width = in(reg) 4 * at.width,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    };
}

block!(signed_signed, "tdpbssd");
block!(signed_unsigned, "tdpbsud");
block!(unsigned_signed, "tdpbusd");
block!(unsigned_unsigned, "tdpbuud");

/// As [`super::tile::bytes`]; false where `isa` has no AMX. `count` rows are filled up to whole tiles.
pub(super) fn bytes(
    isa: Isa,
    signs: (bool, bool),
    a: Rows<'_, Byte>,
    b: Columns<'_, QuadLine>,
    start: Option<&[i32]>,
    acc: &mut [i32],
) -> bool {
    if !isa.has_amx() {
        return false;
    }
    let (rows, width) = (a.count.next_multiple_of(Byte::HEIGHT), b.count * PANEL);
    assert!(a.steps > 0 && a.steps.is_multiple_of(ROWS) && b.count > 0 && b.count.is_multiple_of(2));
    assert!(a.count > 0 && a.a.len() >= (rows / ROWS - 1) * a.stride + ROWS * a.steps * 4);
    assert!(b.b.len() >= (b.count - 1) * b.panel + a.steps && acc.len() >= rows * width);
    assert!(start.is_none_or(|start| start.len() >= width));
    let block = match signs {
        (true, true) => signed_signed,
        (true, false) => signed_unsigned,
        (false, true) => unsigned_signed,
        (false, false) => unsigned_unsigned,
    };
    // SAFETY: an `Isa(Amx)` is only made after detecting it and being let use it; reads 64 bytes of `CUT`.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &CUT, options(nostack, readonly)) };
    for panel in (0..b.count).step_by(2) {
        for row in (0..rows).step_by(Byte::HEIGHT) {
            let acc = acc[row * width + panel * PANEL..].as_mut_ptr();
            let (start, from_start) = match start {
                Some(start) => (start[panel * PANEL..].as_ptr(), 0),
                None => (acc.cast_const(), width),
            };
            let rows_from = &a.a[row / ROWS * a.stride..];
            let left = b.b[panel * b.panel..].as_ptr();
            let at = Block {
                a: rows_from.as_ptr(),
                lower_a: rows_from[a.stride..].as_ptr(),
                b: left,
                right_b: left.wrapping_add(b.panel),
                steps: a.steps / ROWS,
                start,
                from_start,
                acc,
                width,
            };
            // SAFETY: the registers are cut; the rows from `row` on, the panels from `panel` on and their sums are inside
            // of what was asserted above.
            unsafe { block(&at) };
        }
    }
    // SAFETY: empties the registers, which nobody else uses.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
    true
}
