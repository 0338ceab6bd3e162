//! Proof that the CPU has an instruction set, and the macro that compiles one loop for each.

use std::sync::OnceLock;

/// Proof that this CPU supports one instruction set. Only made by looking at the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(pub(crate) Level);

/// What the compiler may use. `Baseline` is what the crate is built for, SSE2 on x86-64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Sse42,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    #[cfg(target_arch = "x86_64")]
    Amx,
    #[cfg(target_arch = "aarch64")]
    Neon,
    #[cfg(target_arch = "aarch64")]
    NeonDotprod,
}

impl Isa {
    /// Every instruction set this CPU has, the widest last: x86-64 baseline, v2, v3, v4, v4 with VNNI, and that with AMX;
    /// or NEON, and that with the dot product of bytes. AMX is found on Linux alone, which is asked to let this process
    /// use it.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let mut found = vec![Self(Level::Baseline)];
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("sse3") && has!("ssse3") && has!("sse4.1") && has!("sse4.2") && has!("popcnt") {
                found.push(Self(Level::Sse42));
                if has!("avx2")
                    && has!("fma")
                    && has!("bmi1")
                    && has!("bmi2")
                    && has!("lzcnt")
                    && has!("f16c")
                {
                    found.push(Self(Level::Avx2));
                    if has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") {
                        found.push(Self(Level::Avx512));
                        if has!("avx512vnni") {
                            found.push(Self(Level::Avx512Vnni));
                            if has_amx() {
                                found.push(Self(Level::Amx));
                            }
                        }
                    }
                }
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            use std::arch::is_aarch64_feature_detected as has;
            if has!("neon") {
                found.push(Self(Level::Neon));
                if has!("dotprod") {
                    found.push(Self(Level::NeonDotprod));
                }
            }
        }
        found
    }

    /// One word: `baseline`, `sse42`, `avx2`, `avx512`, `avx512_vnni`, `amx`, `neon` or `neon_dotprod`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            Level::Baseline => "baseline",
            #[cfg(target_arch = "x86_64")]
            Level::Sse42 => "sse42",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Vnni => "avx512_vnni",
            #[cfg(target_arch = "x86_64")]
            Level::Amx => "amx",
            #[cfg(target_arch = "aarch64")]
            Level::Neon => "neon",
            #[cfg(target_arch = "aarch64")]
            Level::NeonDotprod => "neon_dotprod",
        }
    }

    /// Has it the instructions that multiply four bytes and add them up?
    pub(crate) fn has_vnni(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return matches!(self.0, Level::Avx512Vnni | Level::Amx);
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// Has it the registers that multiply 16 rows by 16 columns of bytes?
    pub(crate) fn has_amx(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self.0 == Level::Amx;
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// Has it the instruction that multiplies four bytes of either sign and adds them up?
    pub(crate) fn has_dotprod(self) -> bool {
        #[cfg(target_arch = "aarch64")]
        return self.0 == Level::NeonDotprod;
        #[cfg(not(target_arch = "aarch64"))]
        false
    }

    /// Has it the instruction that multiplies and adds f64 with one rounding?
    pub(crate) fn has_fma(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return !matches!(self.0, Level::Baseline | Level::Sse42);
        #[cfg(not(target_arch = "x86_64"))]
        return self.0 != Level::Baseline;
    }

    /// The same without registers of 64 bytes, where there are such.
    pub(crate) fn halved(self) -> Self {
        #[cfg(target_arch = "x86_64")]
        if matches!(self.0, Level::Avx512 | Level::Avx512Vnni | Level::Amx) {
            return Self(Level::Avx2);
        }
        self
    }

    /// The widest instruction set of this CPU. Looks once.
    #[must_use]
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| *Self::available().last().expect("the baseline is always there"))
    }
}

/// Has this CPU, which has AVX2, also AMX for bytes; and may this process use it?
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[allow(unsafe_code, reason = "the CPU and the system must be asked")]
#[allow(unused_unsafe, reason = "newer compilers hold cpuid safe")]
fn has_amx() -> bool {
    use std::ffi::c_long;
    unsafe extern "C" {
        fn syscall(number: c_long, ...) -> c_long;
    }
    const AMX_TILE_AND_INT8: u32 = 1 << 24 | 1 << 25;
    const ARCH_PRCTL: c_long = 158;
    const ARCH_REQ_XCOMP_PERM: c_long = 0x1023;
    const XFEATURE_XTILEDATA: c_long = 18;
    // SAFETY: where AVX2 was found, cpuid has leaf 7.
    let found =
        unsafe { std::arch::x86_64::__cpuid_count(7, 0) }.edx & AMX_TILE_AND_INT8 == AMX_TILE_AND_INT8;
    // SAFETY: it reads and writes no memory of ours, and may be asked again.
    found && unsafe { syscall(ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) } == 0
}

#[cfg(all(target_arch = "x86_64", not(target_os = "linux")))]
fn has_amx() -> bool {
    false
}

/// Calls `$body` compiled for `$isa`. The arguments are local variables of those names; `$body` must be
/// `#[inline(always)]`, or it keeps the baseline's instructions.
///
/// `per_isa!(isa, formula::slice::<T>, [T: Element], (x: &[T], y: &mut [T]) -> ())`
macro_rules! per_isa {
    ($isa:expr, $body:expr, [$($generic:ident: $bound:path),*], ($($arg:ident: $kind:ty),*) -> $out:ty) => {{
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "sse3,ssse3,sse4.1,sse4.2,popcnt")]
        fn sse42<$($generic: $bound),*>($($arg: $kind),*) -> $out { $body($($arg),*) }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
        fn avx2<$($generic: $bound),*>($($arg: $kind),*) -> $out { $body($($arg),*) }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
        fn avx512<$($generic: $bound),*>($($arg: $kind),*) -> $out { $body($($arg),*) }
        #[cfg(target_arch = "aarch64")]
        #[target_feature(enable = "neon")]
        fn neon<$($generic: $bound),*>($($arg: $kind),*) -> $out { $body($($arg),*) }

        #[allow(unsafe_code, reason = "an Isa is only made after detecting its features")]
        #[allow(clippy::unit_arg, clippy::let_unit_value, reason = "some bodies return nothing")]
        let out: $out = match $isa.0 {
            $crate::isa::Level::Baseline => $body($($arg),*),
            // SAFETY: an `Isa(Sse42)` is only made after detecting sse3 to sse4.2 and popcnt.
            #[cfg(target_arch = "x86_64")]
            $crate::isa::Level::Sse42 => unsafe { sse42::<$($generic),*>($($arg),*) },
            // SAFETY: an `Isa(Avx2)` is only made after detecting avx2, fma, bmi1, bmi2, lzcnt, f16c and all of Sse42.
            #[cfg(target_arch = "x86_64")]
            $crate::isa::Level::Avx2 => unsafe { avx2::<$($generic),*>($($arg),*) },
            // SAFETY: an `Isa` of these levels is only made after detecting avx512f, bw, dq, vl and all of Avx2.
            #[cfg(target_arch = "x86_64")]
            $crate::isa::Level::Avx512 | $crate::isa::Level::Avx512Vnni | $crate::isa::Level::Amx => unsafe {
                avx512::<$($generic),*>($($arg),*)
            },
            // SAFETY: an `Isa` of these levels is only made after detecting neon.
            #[cfg(target_arch = "aarch64")]
            $crate::isa::Level::Neon | $crate::isa::Level::NeonDotprod => unsafe {
                neon::<$($generic),*>($($arg),*)
            },
        };
        out
    }};
}

/// Calls `$with` where `$isa` has F16C, which AVX2 and more imply; else `$portable`.
macro_rules! per_f16c {
    ($isa:expr, $with:expr, $portable:expr, ($($arg:ident: $kind:ty),*)) => {{
        #[allow(unsafe_code, reason = "an Isa is only made after detecting its features")]
        match $isa.0 {
            #[cfg(target_arch = "x86_64")]
            $crate::isa::Level::Avx2
            | $crate::isa::Level::Avx512
            | $crate::isa::Level::Avx512Vnni
            | $crate::isa::Level::Amx => {
                // SAFETY: an `Isa` of these levels is only made after detecting avx2 and f16c.
                unsafe { $with($($arg),*) }
            }
            _ => $crate::isa::per_isa!($isa, $portable, [], ($($arg: $kind),*) -> ()),
        }
    }};
}

pub(crate) use {per_f16c, per_isa};
