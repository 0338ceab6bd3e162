//! Half-precision conversions, all 65,536 of them.

use nashquant_kernels::{Bf16, Element, F16};

/// The value of an f16 by its definition.
fn f16_value(bits: u16) -> f64 {
    let (sign, exponent, mantissa) =
        (if bits >> 15 == 1 { -1.0 } else { 1.0 }, i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    match exponent {
        0 => sign * mantissa * 2.0_f64.powi(-24),
        31 => {
            if mantissa == 0.0 {
                sign * f64::INFINITY
            } else {
                f64::NAN
            }
        }
        _ => sign * (1.0 + mantissa / 1024.0) * 2.0_f64.powi(exponent - 15),
    }
}

#[test]
fn every_f16_widens_exactly_and_comes_back() {
    for bits in 0..=u16::MAX {
        let wide = F16(bits).widen();
        let expected = f16_value(bits);
        assert!(
            f64::from(wide) == expected || wide.is_nan() && expected.is_nan(),
            "{bits:#06x} {wide} {expected}"
        );
        assert!(wide.is_nan() || (F16::narrow(wide) == F16(bits)), "{bits:#06x}");
        assert!(!wide.is_nan() || F16::narrow(wide).widen().is_nan(), "{bits:#06x}");
    }
}

#[test]
fn between_two_f16_the_nearer_wins_and_ties_go_to_even() {
    for bits in 0..0x7bff_u16 {
        let (low, high) = (F16(bits).widen(), F16(bits + 1).widen());
        let middle = low + (high - low) / 2.0;
        let even = if bits % 2 == 0 { bits } else { bits + 1 };
        assert_eq!(F16::narrow(middle), F16(even), "{bits:#06x}");
        assert_eq!(F16::narrow(-middle), F16(even | 0x8000), "{bits:#06x}");
        assert_eq!(F16::narrow(middle.next_down()), F16(bits), "{bits:#06x}");
        assert_eq!(F16::narrow(middle.next_up()), F16(bits + 1), "{bits:#06x}");
    }
    assert_eq!(F16::narrow(65519.996), F16(0x7bff));
    assert_eq!(F16::narrow(65520.0), F16(0x7c00));
    assert_eq!(F16::narrow(f32::MAX), F16(0x7c00));
    assert_eq!(F16::narrow(1e-45), F16(0));
}

#[test]
fn bf16_is_the_upper_half_rounded_to_even() {
    for bits in 0..=u16::MAX {
        let wide = Bf16(bits).widen();
        assert_eq!(wide.to_bits(), u32::from(bits) << 16);
        assert!(wide.is_nan() || Bf16::narrow(wide) == Bf16(bits), "{bits:#06x}");
        assert!(!wide.is_nan() || Bf16::narrow(wide).widen().is_nan(), "{bits:#06x}");
    }
    for (single, half) in
        [(0x3f80_8000, 0x3f80), (0x3f81_8000, 0x3f82), (0x3f80_8001, 0x3f81), (0x7f7f_ffff, 0x7f80)]
    {
        assert_eq!(Bf16::narrow(f32::from_bits(single)), Bf16(half), "{single:#010x}");
    }
    assert!(Bf16::narrow(f32::from_bits(0x7fff_ffff)).widen().is_nan());
}
