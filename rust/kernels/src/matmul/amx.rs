//! The tile in AMX: registers of 16 rows by 64 bytes, two of rows and two of panels at once.
//!
//! Its intrinsics are not stable yet, so this is assembly. How the registers are cut belongs to the thread: every block of
//! rows says it anew, and leaves them empty.
#![allow(
    unsafe_code,
    reason = "the registers are named in assembly alone; an Isa is the proof that they are there"
)]

use std::{arch::asm, marker::PhantomData, mem::offset_of};

use super::{
    bytes::{HEIGHT, ROWS},
    tile::{Columns, Rows},
    weight::{GROUP_BYTES, PANEL, QuadLine},
};
use crate::Isa;

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

/// Proof that the registers of this thread are cut; they are emptied when it goes.
pub(super) struct Registers(PhantomData<*const ()>);

impl Registers {
    /// None where `isa` has no AMX. It takes as long as three tiles, and waits for those before.
    pub(super) fn cut(isa: Isa) -> Option<Self> {
        if !isa.has_amx() {
            return None;
        }
        // SAFETY: an `Isa` with AMX is only made after detecting it and being let use it; reads 64 bytes of `CUT`.
        unsafe {
            asm!(
                "ldtilecfg [{}]", in(reg) &CUT,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, readonly),
            );
        }
        Some(Self(PhantomData))
    }
}

impl Drop for Registers {
    fn drop(&mut self) {
        // SAFETY: empties the registers, which nobody else uses.
        unsafe {
            asm!(
                "tilerelease",
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, nomem),
            );
        }
    }
}

/// Where 16 or 32 rows and two panels lie, and where their sums. `lower` are the second 16 rows.
struct Block {
    a: *const i8,
    lower_a: *const i8,
    from_a: usize,
    b: *const QuadLine,
    right_b: *const QuadLine,
    /// Registers along the depth, at least one.
    steps: usize,
    /// What the sums begin with: rows `from_start` bytes apart.
    start: *const i32,
    lower_start: *const i32,
    from_start: usize,
    acc: *mut i32,
    lower_acc: *mut i32,
    from_acc: usize,
}

/// One of those that follow.
type Multiply = unsafe fn(&Block);

macro_rules! block {
    ($tall:ident, $flat:ident, $dot:literal) => {
        /// Adds the products of 32 rows to the sums.
        ///
        /// # Safety
        /// The CPU and the thread are ready, as by [`CUT`]; all that `at` tells of can be read, and the sums written.
        unsafe fn $tall(at: &Block) {
            // SAFETY: reads 32 rows of `steps * 64` bytes and two panels of `steps * 16` lines, and writes 32 rows of
            // 32 sums, which the caller promises; changes no flags that anybody reads.
            unsafe {
                asm!(
                    "mov {sums}, [{at} + {start}]",
                    "mov {from_sums}, [{at} + {from_start}]",
                    "tileloadd tmm0, [{sums} + {from_sums}]",
                    "tileloadd tmm1, [{sums} + {from_sums} + 64]",
                    "mov {sums}, [{at} + {lower_start}]",
                    "tileloadd tmm2, [{sums} + {from_sums}]",
                    "tileloadd tmm3, [{sums} + {from_sums} + 64]",
                    "2:",
                    "tileloadd tmm6, [{b} + {line}]",
                    "tileloadd tmm4, [{a} + {from_a}]",
                    "tileloadd tmm7, [{right_b} + {line}]",
                    "tileloadd tmm5, [{lower_a} + {from_a}]",
                    concat!($dot, " tmm0, tmm4, tmm6"),
                    concat!($dot, " tmm2, tmm5, tmm6"),
                    concat!($dot, " tmm1, tmm4, tmm7"),
                    concat!($dot, " tmm3, tmm5, tmm7"),
                    "add {a}, 64",
                    "add {lower_a}, 64",
                    "add {b}, 1024",
                    "add {right_b}, 1024",
                    "dec {steps}",
                    "jnz 2b",
                    "mov {sums}, [{at} + {acc}]",
                    "mov {from_sums}, [{at} + {from_acc}]",
                    "tilestored [{sums} + {from_sums}], tmm0",
                    "tilestored [{sums} + {from_sums} + 64], tmm1",
                    "mov {sums}, [{at} + {lower_acc}]",
                    "tilestored [{sums} + {from_sums}], tmm2",
                    "tilestored [{sums} + {from_sums} + 64], tmm3",
                    at = in(reg) at,
                    start = const offset_of!(Block, start),
                    lower_start = const offset_of!(Block, lower_start),
                    from_start = const offset_of!(Block, from_start),
                    acc = const offset_of!(Block, acc),
                    lower_acc = const offset_of!(Block, lower_acc),
                    from_acc = const offset_of!(Block, from_acc),
                    sums = out(reg) _,
                    from_sums = out(reg) _,
                    a = inout(reg) at.a => _,
                    lower_a = inout(reg) at.lower_a => _,
                    from_a = in(reg) at.from_a,
                    b = inout(reg) at.b => _,
                    right_b = inout(reg) at.right_b => _,
                    line = in(reg) size_of::<QuadLine>(),
                    steps = inout(reg) at.steps => _,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }

        /// The same of 16 rows.
        ///
        /// # Safety
        /// As above, but for nothing that is `lower`.
        unsafe fn $flat(at: &Block) {
            // SAFETY: as above, for 16 rows.
            unsafe {
                asm!(
                    "tileloadd tmm0, [{start} + {from_start}]",
                    "tileloadd tmm1, [{start} + {from_start} + 64]",
                    "2:",
                    "tileloadd tmm6, [{b} + {line}]",
                    "tileloadd tmm4, [{a} + {from_a}]",
                    "tileloadd tmm7, [{right_b} + {line}]",
                    concat!($dot, " tmm0, tmm4, tmm6"),
                    concat!($dot, " tmm1, tmm4, tmm7"),
                    "add {a}, 64",
                    "add {b}, 1024",
                    "add {right_b}, 1024",
                    "dec {steps}",
                    "jnz 2b",
                    "tilestored [{acc} + {from_acc}], tmm0",
                    "tilestored [{acc} + {from_acc} + 64], tmm1",
                    a = inout(reg) at.a => _,
                    from_a = in(reg) at.from_a,
                    b = inout(reg) at.b => _,
                    right_b = inout(reg) at.right_b => _,
                    line = in(reg) size_of::<QuadLine>(),
                    steps = inout(reg) at.steps => _,
                    start = in(reg) at.start,
                    from_start = in(reg) at.from_start,
                    acc = in(reg) at.acc,
                    from_acc = in(reg) at.from_acc,
                    out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    };
}

block!(signed_signed, signed_signed_flat, "tdpbssd");
block!(signed_unsigned, signed_unsigned_flat, "tdpbsud");
block!(unsigned_signed, unsigned_signed_flat, "tdpbusd");
block!(unsigned_unsigned, unsigned_unsigned_flat, "tdpbuud");

/// As [`super::tile::bytes`]. `count` rows are filled up to whole tiles.
pub(super) fn bytes(
    _cut: &Registers,
    signs: (bool, bool),
    a: Rows<'_, i8>,
    b: Columns<'_, QuadLine>,
    start: Option<&[i32]>,
    acc: &mut [i32],
) {
    let (whole, width) = (a.count.next_multiple_of(ROWS), b.count * PANEL);
    assert!(a.steps > 0 && a.steps.is_multiple_of(ROWS) && b.count > 0 && b.count.is_multiple_of(2));
    assert!(a.count > 0 && a.a.len() >= (whole - 1) * a.stride + a.steps * GROUP_BYTES);
    assert!(b.b.len() >= (b.count - 1) * b.panel + a.steps && acc.len() >= whole * width);
    assert!(start.is_none_or(|start| start.len() >= ROWS * width));
    let (tall, flat) = match signs {
        (true, true) => (signed_signed as Multiply, signed_signed_flat as Multiply),
        (true, false) => (signed_unsigned as _, signed_unsigned_flat as _),
        (false, true) => (unsigned_signed as _, unsigned_signed_flat as _),
        (false, false) => (unsigned_unsigned as _, unsigned_unsigned_flat as _),
    };
    for panel in (0..b.count).step_by(2) {
        let tile = start.map(|start| start[panel * PANEL * ROWS..].as_ptr());
        for row in (0..a.count).step_by(HEIGHT) {
            let from = a.a[row * a.stride..].as_ptr();
            let left = b.b[panel * b.panel..].as_ptr();
            let acc = acc[row * width + panel * PANEL..].as_mut_ptr();
            let lower_acc = acc.wrapping_add(ROWS * width);
            let (start, lower_start, from_start) = match tile {
                Some(tile) => (tile, tile, 2 * PANEL),
                None => (acc.cast_const(), lower_acc.cast_const(), width),
            };
            let at = Block {
                a: from,
                lower_a: from.wrapping_add(ROWS * a.stride),
                from_a: a.stride,
                b: left,
                right_b: left.wrapping_add(b.panel),
                steps: a.steps / ROWS,
                start,
                lower_start,
                from_start: size_of::<i32>() * from_start,
                acc,
                lower_acc,
                from_acc: size_of::<i32>() * width,
            };
            let block = if a.count - row > ROWS { tall } else { flat };
            // SAFETY: the registers are cut; the rows from `row` on, the panels from `panel` on and their sums are inside
            // of what was asserted above.
            unsafe { block(&at) };
        }
    }
}
