//! The bytes of a segment that a follower looks at: more come behind them, and those before are passed.

/// A stretch of bytes that moves forward. What was passed is let go when more are read, so that each byte is moved once at most
/// for each read, however small the steps are.
#[derive(Debug, Default)]
pub(super) struct Window {
    bytes: Vec<u8>,
    passed: usize,
}

impl Window {
    /// The bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(self.passed..).unwrap_or_default()
    }

    /// From an offset on.
    pub(super) fn from(&self, at: usize) -> &[u8] {
        self.bytes().get(at..).unwrap_or_default()
    }

    /// Goes on behind so many.
    pub(super) fn pass(&mut self, count: usize) {
        self.passed = self.passed.saturating_add(count).min(self.bytes.len());
    }

    /// Forgets what stands behind so many.
    pub(super) fn truncate(&mut self, size: usize) {
        self.bytes.truncate(self.passed.saturating_add(size));
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.passed = 0;
    }

    /// Takes up to so many more behind them; `read` says how many it has written.
    pub(super) fn extend<E>(
        &mut self,
        most: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        self.bytes.drain(..self.passed);
        self.passed = 0;
        let had = self.bytes.len();
        self.bytes.resize(had + most, 0);
        let read = read(self.bytes.get_mut(had..).unwrap_or_default());
        self.bytes.truncate(had + read.as_ref().map_or(0, |read| *read));
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_passed_is_gone_and_what_comes_stands_behind_the_rest() {
        let mut window = Window::default();
        let take = |window: &mut Window, text: &[u8], most| {
            window.extend(most, |room| {
                room[..text.len()].copy_from_slice(text);
                Ok::<_, ()>(text.len())
            })
        };
        assert_eq!(take(&mut window, b"abcdef", 10), Ok(6));
        window.pass(4);
        assert_eq!((window.bytes(), window.from(1), window.from(3)), (&b"ef"[..], &b"f"[..], &b""[..]));
        assert_eq!(take(&mut window, b"gh", 2), Ok(2));
        assert_eq!(window.bytes(), b"efgh");
        window.pass(1);
        window.truncate(2);
        assert_eq!(window.bytes(), b"fg");
        assert_eq!(window.extend(8, |_| Err(())), Err(()));
        assert_eq!(window.bytes(), b"fg", "a read that fails changes nothing");
        window.pass(usize::MAX);
        assert_eq!(window.bytes(), b"");
    }
}
