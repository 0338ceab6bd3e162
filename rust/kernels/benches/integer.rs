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
    matmul::{Linear, Requantized, Weight, matmul},
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
    let (a, b) = (&a[..N / 2], acc[..N / 4].iter().map(|acc| *acc as i8).collect::<Vec<_>>());
    products(c, "matmul_requantize_int16_int8", a, &b);
    let a: Vec<i8> = a.iter().map(|a| *a as i8).collect();
    products(c, "matmul_requantize_int8_int8", &a, &b);
}

/// 1024 x 512 x 512, requantized; a row for each instruction set, made ready for it before.
fn products<A: Integer>(c: &mut Criterion, name: &str, a: &[A], w: &[i8]) {
    const DEPTH: usize = 512;
    let by = Requantizer::new(&[1e-4], Arithmetic::NASH, Output::all::<i8>()).expect("in range");
    let packed = |isa| {
        let weight = Weight::pack(isa, w, 1, w.len() / DEPTH, DEPTH, A::ENDS.1 > 127).expect("whole rows");
        Linear::<A>::new(weight.into(), 0, None).expect("packed for these")
    };
    let ready: Vec<_> = Isa::available().into_iter().map(|isa| (isa, packed(isa))).collect();
    let (rows, mut group) = (a.len() / DEPTH, c.benchmark_group(name));
    group.throughput(Throughput::Elements((a.len() * w.len() / DEPTH) as u64)).sample_size(20);
    let (mut y, mut baseline) = (vec![0_i8; rows * w.len() / DEPTH], Vec::new());
    for (isa, linear) in &ready {
        let mut run = || {
            matmul(&Serial, a, rows, linear, &Requantized::new(&by), &mut y).expect("lengths fit");
        };
        run();
        group.bench_function(BenchmarkId::new(format!("{isa:?}"), "1024x512x512"), |b| b.iter(&mut run));
        if baseline.is_empty() {
            baseline.clone_from(&y);
        }
        assert!(y == baseline, "{isa:?} differs from the baseline");
    }
    group.finish();
}

criterion_group!(benches, integer);
criterion_main!(benches);
