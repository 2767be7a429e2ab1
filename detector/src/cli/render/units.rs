//! Numbers as people say them.
//!
//! **Invariant:** at most three digits that matter.

/// A span of time: "340 ms", "12.3 s", "3m 20s", "2h 05m", "3d 4h".
pub(in crate::cli) fn age(seconds: f64) -> String {
    let whole = seconds.max(0.0).round();
    let part = |unit: f64, of: f64| ((whole / unit).floor() % of).floor();
    if seconds < 0.9995 {
        format!("{:.0} ms", seconds.max(0.0) * 1000.0)
    } else if seconds < 59.95 {
        format!("{seconds:.1} s")
    } else if whole < 3600.0 {
        format!("{}m {:02}s", part(60.0, 60.0), part(1.0, 60.0))
    } else if whole < 86_400.0 {
        format!("{}h {:02}m", part(3600.0, 24.0), part(60.0, 60.0))
    } else {
        format!("{}d {}h", part(86_400.0, f64::INFINITY), part(3600.0, 24.0))
    }
}

/// An amount of data: "1448 B", "30.0 kB", "812 MB".
pub(in crate::cli) fn bytes(count: u64) -> String {
    const STEPS: [(&str, u64); 4] = [
        ("TB", 1_000_000_000_000),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("kB", 1000),
    ];
    if count < 10_000 {
        return format!("{count} B");
    }
    let (unit, size) = STEPS
        .into_iter()
        .find(|(_, size)| count >= *size)
        .unwrap_or(("B", 1));
    // In tenths, so that integers suffice.
    let tenths = u128::from(count) * 10 / u128::from(size);
    if tenths < 1000 {
        format!("{}.{} {unit}", tenths / 10, tenths % 10)
    } else {
        format!("{} {unit}", tenths / 10)
    }
}

/// A certainty: "99.98 %"; never 100, which nothing is.
pub(super) fn certainty(ratio: f64) -> String {
    format!("{:.2} %", (ratio * 100.0).clamp(0.0, 99.99))
}

/// A share of many as people say it: "1 in 50", "12 in 100", "3 in 10,000".
pub(super) fn share(ratio: f64) -> String {
    const ROUND: [u32; 11] = [2, 3, 4, 5, 10, 20, 25, 50, 100, 200, 500];
    let near = |said: f64| (said - ratio).abs() <= 0.02 * ratio;
    if let Some(of) = ROUND.into_iter().find(|it| near(1.0 / f64::from(*it))) {
        return format!("1 in {of}");
    }
    for (of, words) in [
        (100.0, "100"),
        (1e3, "1,000"),
        (1e4, "10,000"),
        (1e5, "100,000"),
        (1e6, "a million"),
    ] {
        let number = (ratio * of).round();
        if number >= 1.0 && (near(number / of) || number >= 10.0) {
            return format!("{number:.0} in {words}");
        }
    }
    "less than 1 in a million".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_time() {
        for (seconds, expected) in [
            (-1.0, "0 ms"),
            (0.0, "0 ms"),
            (0.34, "340 ms"),
            (0.9996, "1.0 s"),
            (12.34, "12.3 s"),
            (59.94, "59.9 s"),
            (59.96, "1m 00s"),
            (200.0, "3m 20s"),
            (3599.6, "1h 00m"),
            (7500.0, "2h 05m"),
            (86_400.0 * 3.0 + 3600.0 * 4.0, "3d 4h"),
        ] {
            assert_eq!(age(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn amounts_of_data() {
        for (count, expected) in [
            (0, "0 B"),
            (9999, "9999 B"),
            (30_000, "30.0 kB"),
            (812_344, "812 kB"),
            (1_000_000, "1.0 MB"),
            (u64::MAX, "18446744 TB"),
        ] {
            assert_eq!(bytes(count), expected, "{count}");
        }
    }

    #[test]
    fn shares_of_many() {
        for (ratio, expected) in [
            (1.0, "100 in 100"),
            (0.5, "1 in 2"),
            (0.3334, "1 in 3"),
            (0.12, "12 in 100"),
            (0.123, "12 in 100"),
            (0.02, "1 in 50"),
            (0.013, "13 in 1,000"),
            (0.000_3, "3 in 10,000"),
            (0.000_001_2, "less than 1 in a million"),
            (1e-30, "less than 1 in a million"),
            (0.0, "less than 1 in a million"),
        ] {
            assert_eq!(share(ratio), expected, "{ratio}");
        }
    }

    #[test]
    fn nothing_is_quite_certain() {
        assert_eq!(certainty(1.0), "99.99 %");
        assert_eq!(certainty(0.9998), "99.98 %");
        assert_eq!(certainty(0.5), "50.00 %");
    }
}
