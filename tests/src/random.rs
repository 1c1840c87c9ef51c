//! A small random generator whose numbers follow from its seed on every machine, or from the bytes of a script.

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug, Default)]
pub struct Random {
    state: u64,
    /// Decisions that were made beforehand, the next one last.
    script: Vec<u8>,
}

impl Random {
    /// A generator with this seed.
    pub const fn new(seed: u64) -> Self {
        Self { state: seed, script: Vec::new() }
    }

    /// A generator whose decisions ([`Random::below`]) are these bytes, one after the other, as long as there are
    /// any, so that a fuzzer can change them one by one. All else follows from how many bytes there are.
    pub fn scripted(script: &[u8]) -> Self {
        Self { state: script.len() as u64, script: script.iter().rev().copied().collect() }
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        let Some(first) = self.script.pop() else { return self.next() % end };
        let mut number = u64::from(first);
        let mut reach = 256;
        while reach < end
            && let Some(byte) = self.script.pop()
        {
            number = number << 8 | u64::from(byte);
            reach <<= 8;
        }
        number % end
    }

    /// True once in so many times.
    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}
