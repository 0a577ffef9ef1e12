//! Damage for tests: the same in every run.

/// SplitMix64.
pub struct Dice(pub u64);

impl Dice {
    /// One of 0, 1, ..., `n` − 1.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % n.max(1) as u64) as usize
    }
}

/// Cuts a file short, flips a bit, writes over bytes, removes, repeats or inserts some; once or a few times.
pub fn mangle(dice: &mut Dice, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=dice.below(3) {
        if bytes.is_empty() {
            break;
        }
        let from = dice.below(bytes.len());
        let to = (from + dice.below(16)).min(bytes.len());
        match dice.below(7) {
            0 => bytes.truncate(from),
            1 => bytes[from] ^= 1 << dice.below(8),
            2 => bytes[from] = [0, b'9', b'"', b'-', b'}', 0xff][dice.below(6)],
            3 => bytes[from..to].fill([0, b'9', 0xff][dice.below(3)]),
            4 => drop(bytes.drain(from..to)),
            5 => {
                let (piece, at) = (bytes[from..to].to_vec(), dice.below(bytes.len()));
                drop(bytes.splice(at..at, piece));
            }
            _ => {
                let junk: Vec<u8> = (0..dice.below(16)).map(|_| dice.below(256) as u8).collect();
                drop(bytes.splice(from..from, junk));
            }
        }
    }
    bytes
}
