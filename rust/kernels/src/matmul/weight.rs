//! A weight in the order that tiles read: panels of 16 outputs, in each of them groups of 4 bytes along the depth.

use super::bound;
use crate::{Error, Isa, error::check_len, integer::Integer};

/// Outputs of one panel.
pub(super) const PANEL: usize = 16;
/// Of a group: four i8, or two i16.
pub(super) const GROUP_BYTES: usize = 4;

/// Rows up to which VNNI is quicker than AMX.
const FEW: usize = 4;

/// One step of one panel is a line of the cache: its vectors are loaded at once.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct QuadLine(pub(super) [i8; PANEL * 4]);

/// The same of pairs.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct PairLine(pub(super) [i16; PANEL * 2]);

/// What the panels hold.
#[derive(Clone, Debug)]
pub(super) enum Panels {
    /// i8, against activations that were made unsigned by adding 128.
    Quads(Vec<QuadLine>),
    /// i8, against the signed bytes of activations, of which each has as many as it says.
    Signed(Vec<QuadLine>, usize),
    /// i16.
    Pairs(Vec<PairLine>),
    /// The upper and the lower byte of i16 for themselves, as i16 with a sign: `upper * 256 + lower`.
    Halves(Vec<PairLine>, Vec<PairLine>),
    /// Bytes, the lowest first; all but the last have no sign. Against activations of as many bytes as it says.
    Bytes(Vec<Vec<QuadLine>>, usize),
}

/// A weight `[groups * outputs, depth]`, packed once for one instruction set.
#[derive(Clone, Debug)]
pub struct Weight {
    pub(super) isa: Isa,
    pub(super) panels: Panels,
    /// For activations of 16 bits, or only of 8?
    wide: bool,
    pub(super) groups: usize,
    /// Outputs of one group.
    pub(super) outputs: usize,
    pub(super) depth: usize,
    /// The sum over the depth, for each output.
    pub(super) sums: Vec<i64>,
    /// The largest sum of magnitudes over the depth.
    pub(super) largest: i64,
}

impl Weight {
    /// Packs `w`, row after row, for activations of 16 bits if `wide`, else of 8.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] if `w` has not `groups * outputs * depth` elements.
    pub fn pack<W: Integer>(
        isa: Isa,
        w: &[W],
        groups: usize,
        outputs: usize,
        depth: usize,
        wide: bool,
    ) -> Result<Self, Error> {
        let len = groups.checked_mul(outputs).and_then(|n| n.checked_mul(depth));
        check_len("weight", w.len(), len.unwrap_or(usize::MAX))?;
        let rows = || (0..groups * outputs).map(|row| &w[row * depth..(row + 1) * depth]);
        let narrow = W::ENDS.1 == i16::from(i8::MAX);
        let order = |of: &dyn Fn(i16) -> i16, units| {
            let shape = Shape::new(isa, outputs, depth, units);
            ordered(w, groups, outputs, depth, shape, of)
        };
        let bytes = |shift| lines(&order(&|w| w >> shift, 4), |w| QuadLine(w.map(|w| w as i8)));
        let panels = if isa.has_amx() {
            Panels::Bytes(
                (0..if narrow { 1 } else { 2 }).map(|i| bytes(8 * i)).collect(),
                1 + usize::from(wide),
            )
        } else if narrow && !wide && isa.has_vnni() {
            Panels::Quads(bytes(0))
        } else if narrow && isa.has_dotprod() {
            Panels::Signed(bytes(0), 1 + usize::from(wide))
        } else if narrow || !wide {
            Panels::Pairs(lines(&order(&|w| w, 2), PairLine))
        } else {
            let lower = |w: i16| i16::from(w as i8);
            let upper = order(&|w| ((i32::from(w) - i32::from(lower(w))) >> 8) as i16, 2);
            Panels::Halves(lines(&upper, PairLine), lines(&order(&lower, 2), PairLine))
        };
        Ok(Self {
            isa,
            panels,
            wide,
            groups,
            outputs,
            depth,
            sums: rows().map(|row| row.iter().map(|w| i64::from(w.widen())).sum()).collect(),
            largest: rows()
                .map(|row| row.iter().map(|w| i64::from(w.widen()).abs()).sum())
                .max()
                .unwrap_or(0),
        })
    }

    /// What no sum exceeds, for activations of `T`; an error if it was not packed for these.
    pub(super) fn bound<T: Integer>(&self, zero_point: i16, bias: Option<&[i64]>) -> Result<u128, Error> {
        if T::ENDS.1 > i8::MAX.into() && !self.wide {
            return Err(Error::Narrow);
        }
        bound::<T>(self.largest, zero_point, bias, self.len())
    }

    pub(crate) fn groups(&self) -> usize {
        self.groups
    }

    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// Outputs of all groups.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups * self.outputs
    }

    /// Has it no output?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Are so many rows of activations multiplied as bytes that were made unsigned? Of few, by VNNI where there is AMX
    /// too, whose registers take as long for one row as for 16.
    pub(super) fn raises(&self, rows: usize) -> bool {
        match &self.panels {
            Panels::Quads(_) => true,
            Panels::Bytes(b, planes) => rows <= FEW && b.len() == 1 && *planes == 1,
            _ => false,
        }
    }

    /// Elements of a group of the depth.
    pub(super) fn units(&self) -> usize {
        if matches!(self.panels, Panels::Quads(_) | Panels::Signed(..) | Panels::Bytes(..)) { 4 } else { 2 }
    }

    pub(super) fn shape(&self) -> Shape {
        Shape::new(self.isa, self.outputs, self.depth, self.units())
    }
}

/// How large the panels of one group of outputs are: at least one step; what is too much holds zeros.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) panels: usize,
    /// Groups along the depth.
    pub(super) steps: usize,
    /// Elements of such a group.
    pub(super) units: usize,
}

impl Shape {
    fn new(isa: Isa, outputs: usize, depth: usize, units: usize) -> Self {
        let (panels, steps) = (outputs.div_ceil(PANEL), depth.div_ceil(units).max(1));
        if isa.has_amx() {
            // Two tiles by 16 groups: a whole register of AMX.
            return Self { panels: panels.next_multiple_of(2), steps: steps.next_multiple_of(16), units };
        }
        // Four steps: a whole vector of a row in NEON.
        let steps = if cfg!(target_arch = "aarch64") { steps.next_multiple_of(4) } else { steps };
        Self { panels, steps, units }
    }
}

/// Every element, as `of` makes it, at its place in the panels.
fn ordered<W: Integer>(
    w: &[W],
    groups: usize,
    outputs: usize,
    depth: usize,
    Shape { panels, steps, units }: Shape,
    of: &dyn Fn(i16) -> i16,
) -> Vec<i16> {
    let mut packed = vec![0; groups * panels * steps * PANEL * units];
    for group in 0..groups {
        for output in 0..outputs {
            let first = (group * outputs + output) * depth;
            let panel = (group * panels + output / PANEL) * steps * PANEL * units;
            for (k, w) in w[first..first + depth].iter().enumerate() {
                packed[panel + (k / units * PANEL + output % PANEL) * units + k % units] = of(w.widen());
            }
        }
    }
    packed
}

fn lines<const N: usize, L>(packed: &[i16], line: impl Fn([i16; N]) -> L) -> Vec<L> {
    packed.as_chunks().0.iter().map(|chunk| line(*chunk)).collect()
}
