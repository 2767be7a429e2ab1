//! Values as they are written, and ranges of them to draw from.

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _},
};

use super::super::{Nanos, random::Random};

/// One value, or all between two.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range<T> {
    /// The smallest.
    pub low: T,
    /// The largest.
    pub high: T,
}

impl<T: Copy> Range<T> {
    /// One value.
    pub fn just(value: T) -> Self {
        Self::new(value, value)
    }

    /// All between two.
    pub fn new(low: T, high: T) -> Self {
        Self { low, high }
    }
}

impl Range<Number> {
    /// One of them; small ones as often as large ones.
    pub fn draw(&self, random: &mut Random) -> u64 {
        between(self.low.0, self.high.0, random)
    }
}

impl Range<Span> {
    /// One of them; short ones as often as long ones.
    pub fn draw(&self, random: &mut Random) -> Nanos {
        between(self.low.0, self.high.0, random)
    }
}

impl Range<Share> {
    /// One of them, each as often.
    pub fn draw_evenly(&self, random: &mut Random) -> f64 {
        random.between(self.low.0, self.high.0)
    }
}

fn between(low: u64, high: u64, random: &mut Random) -> u64 {
    if low == high {
        return low;
    }
    random.log_normal(low as f64, high as f64).round() as u64
}

impl<'de, T: DeserializeOwned + PartialOrd + Copy> Deserialize<'de> for Range<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let of = |value: toml::Value| {
            T::deserialize(value).map_err(|error| D::Error::custom(error.message()))
        };
        match toml::Value::deserialize(from)? {
            toml::Value::Array(values) => {
                let [low, high] = <[toml::Value; 2]>::try_from(values).map_err(|values| {
                    D::Error::custom(format!(
                        "found {} values, expected one, or the smallest and the largest",
                        values.len()
                    ))
                })?;
                let (low, high) = (of(low)?, of(high)?);
                if low > high {
                    return Err(D::Error::custom(
                        "found a range that ends before it begins, expected the smaller value first",
                    ));
                }
                Ok(Self::new(low, high))
            }
            value => of(value).map(Self::just),
        }
    }
}

/// A whole number above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Number(pub u64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(from)?;
        if number == 0 {
            return Err(D::Error::custom("found 0, expected a number above it"));
        }
        Ok(Self(number))
    }
}

/// A share, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Share(pub f64);

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let share = f64::deserialize(from)?;
        if !(0.0..=1.0).contains(&share) {
            return Err(D::Error::custom(format!(
                "found {share}, expected a share from 0 to 1"
            )));
        }
        Ok(Self(share))
    }
}

/// A span of time, written as `"200ms"` or `"5s"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Nanos);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let span = detector::config::duration(&text).ok_or_else(|| {
            let expected = r#"expected a span of time such as "200ms" or "5s""#;
            D::Error::custom(format!("found {text:?}, {expected}"))
        })?;
        Ok(Self(span.as_nanos() as Nanos))
    }
}
