//! Damages files in the ways that break readers, always the same ones, and measures what reading
//! takes.

use std::process::Command;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Numbers that are too large, negative, or at an edge of their type.
const BAD_NUMBERS: [u64; 10] = [
    0,
    1,
    i32::MAX as u64,
    u32::MAX as u64,
    1 << 32,
    1 << 40,
    1 << 61,
    i64::MAX as u64,
    u64::MAX - 7,
    u64::MAX,
];

/// Calls `read` with each strict beginning of `bytes`.
pub fn truncations(bytes: &[u8], mut read: impl FnMut(Vec<u8>)) {
    for length in 0..bytes.len() {
        read(bytes[..length].to_vec());
    }
}

/// Calls `read` with `bytes`, in which one of the first `header` bytes has each other value.
pub fn changed_bytes(bytes: &[u8], header: usize, mut read: impl FnMut(Vec<u8>)) {
    for position in 0..header {
        for value in (0..=u8::MAX).filter(|value| *value != bytes[position]) {
            let mut bytes = bytes.to_vec();
            bytes[position] = value;
            read(bytes);
        }
    }
}

/// Calls `read` with `bytes`, in which a number lies over each position of the first `header` bytes.
pub fn changed_numbers(bytes: &[u8], header: usize, mut read: impl FnMut(Vec<u8>)) {
    for position in 0..header - 8 {
        for number in BAD_NUMBERS {
            for width in [4, 8] {
                let mut bytes = bytes.to_vec();
                bytes[position..position + width].copy_from_slice(&number.to_le_bytes()[..width]);
                read(bytes);
            }
        }
    }
}

/// Calls `read` `times` times with `bytes` after a few random changes: bytes and numbers replaced,
/// pieces copied, inserted or taken out.
pub fn random_changes(bytes: &[u8], times: u64, mut read: impl FnMut(Vec<u8>)) {
    for seed in 0..times {
        let mut random = StdRng::seed_from_u64(seed);
        let mut bytes = bytes.to_vec();
        for _ in 0..random.random_range(1..6) {
            change(&mut bytes, &mut random);
        }
        read(bytes);
    }
}

fn change(bytes: &mut Vec<u8>, random: &mut StdRng) {
    if bytes.len() < 32 {
        return;
    }
    let at = random.random_range(0..bytes.len() - 16);
    let length = random.random_range(1..16);
    match random.random_range(0..5) {
        0 => bytes[at] = random.random(),
        1 => {
            let number = BAD_NUMBERS[random.random_range(0..BAD_NUMBERS.len())];
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        2 => {
            let from = random.random_range(0..bytes.len() - 16);
            bytes.copy_within(from..from + length, at);
        }
        3 => drop(bytes.drain(at..at + length)),
        _ => {
            let piece = bytes[at..at + length].to_vec();
            bytes.splice(at..at, piece);
        }
    }
}

/// Runs `work` in a process in which only the test `name` runs, and checks that the address space
/// grows by less than `bytes_max` meanwhile: memory that is allocated and never touched counts too.
pub fn check_memory(name: &str, bytes_max: u64, work: impl FnOnce()) {
    const MEASURING: &str = "SALESAI_TEST_MEASURES_MEMORY";
    if std::env::var_os(MEASURING).is_some() {
        let before = address_space_peak();
        work();
        let growth = address_space_peak() - before;
        assert!(growth < bytes_max, "{growth} bytes");
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(MEASURING, "1")
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && log.contains("1 passed"), "{log}");
}

fn address_space_peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmPeak:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() * 1024
}
