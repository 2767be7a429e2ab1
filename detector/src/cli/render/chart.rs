//! Numbers over time as a line of bars.
//!
//! **Invariant:** never wider than asked; what is not zero is never shown as nothing.

use jiff::Timestamp;

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A bar for each of `width` equal parts of the time from `start` to `end`: the highest value in
/// it, or the last before it. The highest of all is a full bar.
pub(super) fn bars(
    points: &[(Timestamp, u32)],
    (start, end): (Timestamp, Timestamp),
    width: usize,
) -> String {
    let length = end.duration_since(start).as_secs_f64().max(0.001);
    let place = |at: Timestamp| {
        let share = at.duration_since(start).as_secs_f64() / length;
        // Below and above are the first and the last.
        (share.clamp(0.0, 1.0) * width as f64) as usize
    };
    let mut highest = vec![None; width];
    let mut last = vec![None; width];
    for (at, value) in points {
        let column = place(*at).min(width.saturating_sub(1));
        if let (Some(high), Some(last)) = (highest.get_mut(column), last.get_mut(column)) {
            *high = (*high).max(Some(*value));
            *last = Some(*value);
        }
    }
    let peak = points.iter().map(|(_, value)| *value).max().unwrap_or(0);
    let mut held = 0;
    let mut text = String::new();
    for (high, last) in highest.into_iter().zip(last) {
        text.push(bar(high.unwrap_or(held), peak));
        held = last.unwrap_or(held);
    }
    text
}

/// A bar for `value`, of which `peak` is a full one.
pub(in crate::cli) fn bar(value: u32, peak: u32) -> char {
    if value == 0 {
        return ' ';
    }
    let step = u64::from(value) * 8 / u64::from(peak.max(1));
    let step = usize::try_from(step).unwrap_or(8).clamp(1, 8);
    BARS[step - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn drawn(points: &[(i64, u32)], width: usize) -> String {
        let points: Vec<_> = points.iter().map(|(time, it)| (at(*time), *it)).collect();
        bars(&points, (at(0), at(80)), width)
    }

    #[test]
    fn a_bar_is_the_highest_of_its_time_and_holds_until_the_next() {
        assert_eq!(
            drawn(&[(0, 8), (10, 1), (15, 4), (40, 0), (70, 1)], 8),
            "█▄▄▄   ▁"
        );
    }

    #[test]
    fn little_is_not_nothing_and_nothing_is_empty() {
        assert_eq!(drawn(&[(0, 1), (40, 1000)], 2), "▁█");
        assert_eq!(drawn(&[], 3), "   ");
        assert_eq!(drawn(&[(0, 0)], 3), "   ");
        assert_eq!(drawn(&[(-5, 1), (500, 2)], 2), "▄█");
        assert_eq!(drawn(&[(0, u32::MAX)], 0), "");
    }

    #[test]
    fn an_incident_without_length_can_be_drawn() {
        assert_eq!(bars(&[(at(0), 1)], (at(0), at(0)), 4), "████");
    }
}
