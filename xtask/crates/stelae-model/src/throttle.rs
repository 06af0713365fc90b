//! How many lines of a chatty process are told on. A flood is left out, and counted: whoever reads has seen enough of
//! it, and whoever writes it on must not drown in it.

use std::time::Duration;

/// A limit on lines per second. Time is a duration since some beginning, passed in.
#[derive(Clone, Debug)]
pub struct Throttle {
    per_second: usize,
    second: u64,
    passed: usize,
    left_out: usize,
}

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is told; before it, so many were not.
    Tell {
        /// Lines left out since the last one that was told.
        after_leaving_out: usize,
    },
    /// It is left out.
    LeaveOut,
}

impl Throttle {
    /// So many lines in every second.
    pub fn new(per_second: usize) -> Self {
        Self { per_second, second: 0, passed: 0, left_out: 0 }
    }

    /// Decides about the next line.
    pub fn admit(&mut self, at: Duration) -> Admission {
        if at.as_secs() != self.second {
            (self.second, self.passed) = (at.as_secs(), 0);
        }
        if self.passed >= self.per_second {
            self.left_out += 1;
            return Admission::LeaveOut;
        }
        self.passed += 1;
        Admission::Tell { after_leaving_out: std::mem::take(&mut self.left_out) }
    }

    /// Lines left out and not yet told of; for the end.
    pub fn left_out(&self) -> usize {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted_and_the_next_second_is_open_again() {
        let mut throttle = Throttle::new(2);
        let at = Duration::from_millis;
        let tell = |after_leaving_out| Admission::Tell { after_leaving_out };
        assert_eq!(
            [0, 1, 2, 3].map(|ms| throttle.admit(at(ms))),
            [tell(0), tell(0), Admission::LeaveOut, Admission::LeaveOut]
        );
        assert_eq!(throttle.left_out(), 2);
        assert_eq!(throttle.admit(at(1000)), tell(2));
        assert_eq!(throttle.left_out(), 0);
    }
}
