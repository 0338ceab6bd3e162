//! One row for each integer kernel and instruction set: `cargo bench --bench integer`.
//!
//! Every row is first checked against the baseline's bits.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use nashquant_kernels::{
    Isa, Layout,
    integer::{
        Arithmetic, Factor, Factors, Integer, Output, Requantizer, Rounding, add_saturating, mul_saturating,
        requantize,
    },
    parallel::Serial,
};

const N: usize = 1 << 20;

fn noise(i: usize) -> i32 {
    (i as u32).wrapping_mul(2_654_435_761).wrapping_add(12_345).rotate_left(7) as i32
}

/// Runs `kernel(isa, y)` for each instruction set.
fn rows<T: Integer>(c: &mut Criterion, name: &str, bytes: u64, mut kernel: impl FnMut(Isa, &mut [T])) {
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Bytes(bytes * N as u64)).sample_size(20);
    let (mut y, mut baseline) = (vec![T::narrow(0); N], vec![T::narrow(0); N]);
    kernel(Isa::available()[0], &mut baseline);
    for isa in Isa::available() {
        kernel(isa, &mut y);
        assert_eq!(y, baseline, "{isa:?} differs from the baseline");
        group.bench_function(BenchmarkId::new(format!("{isa:?}"), "1M"), |b| b.iter(|| kernel(isa, &mut y)));
    }
    group.finish();
}

fn integer(c: &mut Criterion) {
    let (even, factors) = (Rounding::HalfEven, Factors::new(0.7, 0.6).expect("in range"));
    let by = |output| Requantizer::new(&[1e-7], Arithmetic::NASH, output).expect("in range");
    let (to_int8, to_int16) = (by(Output::all::<i8>()), by(Output::all::<i16>()));
    let factor = Factor::new(1e-3, Arithmetic::NASH).expect("in range");
    let acc: Vec<i32> = (0..N).map(noise).collect();
    rows::<i8>(c, "requantize_int8", 5, |isa, y| {
        requantize(isa, &Serial, &acc, Layout::flat(N), &to_int8, y).expect("lengths fit");
    });
    rows::<i16>(c, "requantize_int16", 6, |isa, y| {
        requantize(isa, &Serial, &acc, Layout::flat(N), &to_int16, y).expect("lengths fit");
    });
    let (a, b): (Vec<i8>, Vec<i8>) = acc.iter().map(|acc| (*acc as i8, (acc >> 8) as i8)).unzip();
    rows::<i8>(c, "add_saturating_int8", 3, |isa, y| {
        add_saturating(isa, &Serial, &a, &b, factors, even, y).expect("lengths fit");
    });
    rows::<i8>(c, "mul_saturating_int8", 3, |isa, y| {
        mul_saturating(isa, &Serial, &a, &b, factor, even, y).expect("lengths fit");
    });
    let (a, b): (Vec<i16>, Vec<i16>) = acc.iter().map(|acc| (*acc as i16, (acc >> 16) as i16)).unzip();
    rows::<i16>(c, "add_saturating_int16", 6, |isa, y| {
        add_saturating(isa, &Serial, &a, &b, factors, even, y).expect("lengths fit");
    });
}

criterion_group!(benches, integer);
criterion_main!(benches);
