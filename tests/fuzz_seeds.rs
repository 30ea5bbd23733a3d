//! A short run of what `make fuzz` does at length: the stored inputs of `fuzz/seeds`, and
//! what a few changes make of them, the same ones every time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "everything here is test code; the lint's own exemption covers #[test] functions only, not their helpers"
)]

use std::fs;
use std::path::{Path, PathBuf};

#[path = "../fuzz/checks/mod.rs"]
mod checks;

/// Changed copies of each input.
const CHANGED: usize = 200;

/// The stored inputs of a target, in the order of their names.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| fs::read(file).unwrap()).collect()
}

/// Checks each input as it is, and with a byte changed, left out or doubled, cut, or
/// glued to the next one.
fn run(target: &str, check: fn(&[u8])) {
    let seeds = seeds(target);
    assert!(seeds.len() > 2, "there is too little in fuzz/seeds/{target}");
    let mut random = Random(1);
    for (index, seed) in seeds.iter().enumerate() {
        check(seed);
        for _ in 0..CHANGED {
            let mut input = seed.clone();
            for _ in 0..=random.below(3) {
                change(&mut input, &seeds[(index + 1) % seeds.len()], &mut random);
            }
            check(&input);
        }
    }
}

fn change(input: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    if input.is_empty() {
        return;
    }
    let at = random.below(input.len());
    match random.below(5) {
        0 => input[at] = random.byte(),
        1 => input[at] ^= 1 << random.below(8),
        2 => drop(input.remove(at)),
        3 => input.insert(at, [0, 0x7f, 0x80, 0xff, input[at]][random.below(5)]),
        _ => {
            input.truncate(at);
            input.extend_from_slice(&other[random.below(other.len() + 1)..]);
        }
    }
}

/// Numbers that are the same on every machine (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

macro_rules! targets {
    ($($target:ident)*) => {
        $(#[test]
        fn $target() {
            run(stringify!($target), checks::$target::check);
        })*

        #[test]
        fn every_target_is_here() {
            let script = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/run")).unwrap();
            let line = script.lines().find_map(|line| line.split_once("set -- ")).unwrap().1;
            assert_eq!(line.split(' ').collect::<Vec<_>>(), [$(stringify!($target)),*]);
        }
    };
}

targets!(handshake window tcpmux rules config ipc state admission thinning wrappers);
