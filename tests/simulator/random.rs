//! Chance that can be repeated: the same seed gives the same numbers, on every machine.

/// xoshiro256++ (Blackman and Vigna), seeded through splitmix64.
#[derive(Debug, Clone)]
pub struct Random([u64; 4]);

impl Random {
    /// Numbers that depend on the seed alone.
    pub fn new(seed: u64) -> Self {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            mix(state)
        };
        Self([next(), next(), next(), next()])
    }

    /// Sixty-four bits.
    pub fn bits(&mut self) -> u64 {
        let [a, b, c, d] = self.0;
        let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c, d) = (c ^ a, d ^ b);
        self.0 = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        result
    }

    /// From 0 to below 1.
    pub fn share(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True in so many cases of one.
    pub fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.share() < probability
    }

    /// From `low` to below `high`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.share()
    }

    /// A whole number below `limit`; 0 when the limit is.
    pub fn below(&mut self, limit: usize) -> usize {
        ((self.share() * limit as f64) as usize).min(limit.saturating_sub(1))
    }

    /// Waiting time of what happens by chance, once in `mean` on average.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.share()).ln()
    }

    /// Around zero, with deviation one (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.share()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.share()).cos()
    }

    /// From `low` to `high`, on a scale of orders of magnitude, most of them in the middle.
    pub fn log_normal(&mut self, low: f64, high: f64) -> f64 {
        let middle = low.ln().midpoint(high.ln());
        let deviation = (high.ln() - low.ln()) / 5.0;
        (middle + deviation * self.normal()).exp().clamp(low, high)
    }

    /// Heavy tail: at least `low`, above any multiple `m` of it with chance `m^-shape`.
    pub fn pareto(&mut self, low: f64, shape: f64) -> f64 {
        low * (1.0 - self.share()).powf(-1.0 / shape)
    }

    /// How many go well before the first that does not.
    pub fn until(&mut self, probability: f64) -> u64 {
        if probability <= 0.0 {
            return u64::MAX;
        }
        if probability >= 1.0 {
            return 0;
        }
        let count = (1.0 - self.share()).ln() / (1.0 - probability).ln();
        if count >= 1e18 {
            u64::MAX
        } else {
            count as u64
        }
    }

    /// A place in `0..count`, the first the most likely (Zipf).
    pub fn popular(&mut self, count: usize) -> usize {
        // The integral of 1/x instead of its sum: near enough, and without a table.
        let place = (count as f64 + 1.0).powf(self.share()) - 1.0;
        (place as usize).min(count.saturating_sub(1))
    }
}

/// Spreads a number over all bits; equal numbers give equal results.
pub fn mix(number: u64) -> u64 {
    let z = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(count: u32, mut draw: impl FnMut() -> f64) -> f64 {
        (0..count).map(|_| draw()).sum::<f64>() / f64::from(count)
    }

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_another_gives_others() {
        let row = |seed| {
            let mut random = Random::new(seed);
            [random.bits(), random.bits(), random.bits()]
        };
        assert_eq!(row(1), row(1));
        assert_ne!(row(1), row(2));
    }

    #[test]
    fn means_are_as_announced() {
        let mut random = Random::new(7);
        let near =
            |is: f64, should: f64| assert!((is / should - 1.0).abs() < 0.03, "{is} {should}");
        near(mean(100_000, || random.share()), 0.5);
        near(mean(100_000, || random.exponential(3.0)), 3.0);
        near(mean(100_000, || 10.0 + random.normal()), 10.0);
        near(mean(100_000, || random.until(0.1) as f64), 9.0);
        near(mean(100_000, || random.pareto(1.0, 3.0)), 1.5);
        near(mean(100_000, || f64::from(random.chance(0.2))), 0.2);
    }

    #[test]
    fn what_never_and_what_always_happens() {
        let mut random = Random::new(7);
        assert_eq!(random.until(0.0), u64::MAX);
        assert_eq!(random.until(1.0), 0);
        assert!(!random.chance(0.0));
        assert!(random.chance(1.0));
        assert_eq!(random.popular(1), 0);
        assert_eq!(random.below(0), 0);
    }

    #[test]
    fn the_first_is_the_most_popular() {
        let mut random = Random::new(7);
        let mut seen = [0_u32; 20];
        for _ in 0..20_000 {
            seen[random.popular(20)] += 1;
        }
        assert!(
            seen[0] > 3 * seen[5] && seen[5] > seen[19] && seen[19] > 100,
            "{seen:?}"
        );
    }
}
