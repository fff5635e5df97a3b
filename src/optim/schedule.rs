//! The step schedule.
//!
//! ```text
//! (LR-1)  lr(epoch) = lr₀ · 0.1^⌊epoch / lr_update⌋, epoch from 0
//! ```

use crate::real::power;

/// (LR-1)
#[must_use]
pub fn learning_rate(initial: f64, lr_update: usize, epoch: usize) -> f64 {
    // (LR-1)  lr(epoch) = lr₀ · 0.1^⌊epoch / lr_update⌋, epoch from 0
    initial * power(0.1, (epoch / lr_update) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lr_1_drops_at_every_update() {
        let rates = [0, 14, 15, 29, 30].map(|epoch| learning_rate(2e-4, 15, epoch));
        let expected = [2e-4, 2e-4, 2e-5, 2e-5, 2e-6];
        for (rate, expected) in rates.iter().zip(expected) {
            approx::assert_relative_eq!(*rate, expected, max_relative = 1e-14);
        }
    }
}
