//! How many bytes the next answer of a broker may bring. Pure.
//!
//! The bytes are reserved while the broker waits for data, so one that has little must not reserve
//! much: the window grows when answers fill it and shrinks when they do not.

/// The window of one broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    bytes: usize,
    min: usize,
    max: usize,
}

impl Window {
    /// A window that begins at `min`, or at `max` if that is less.
    pub(super) fn new(min: usize, max: usize) -> Self {
        let min = min.min(max);
        Self { bytes: min, min, max }
    }

    pub(super) fn bytes(self) -> usize {
        self.bytes
    }

    /// An answer brought `bytes`.
    pub(super) fn answered(&mut self, bytes: usize) {
        if bytes >= self.bytes / 2 {
            self.bytes = self.bytes.saturating_mul(2).min(self.max);
        } else if bytes < self.bytes / 4 {
            self.bytes = (self.bytes / 2).max(self.min);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_follows_what_answers_bring() {
        let mut window = Window::new(1000, 6000);
        window.answered(900);
        window.answered(1900);
        assert_eq!(window.bytes(), 4000);
        window.answered(4000);
        assert_eq!(window.bytes(), 6000);
        window.answered(0);
        window.answered(0);
        window.answered(0);
        assert_eq!(window.bytes(), 1000);
        window.answered(0);
        assert_eq!(window.bytes(), 1000);
        assert_eq!(Window::new(5000, 3000).bytes(), 3000);
    }
}
