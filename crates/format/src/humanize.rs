//! Times and durations as text for people.

use std::time::Duration;

use jiff::Timestamp;

/// `15:57:02 UTC`, with the date when it is not today.
#[must_use]
pub fn at(time: Timestamp, now: Timestamp) -> String {
    let day = |time: Timestamp| time.strftime("%Y-%m-%d").to_string();
    let format = if day(time) == day(now) { "%H:%M:%S UTC" } else { "%Y-%m-%d %H:%M:%S UTC" };
    time.strftime(format).to_string()
}

/// `41 s`, `26 min`, `3 h 5 min`, `2 d 4 h`.
#[must_use]
pub fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let two = |big: u64, big_unit: &str, small: u64, small_unit: &str| {
        if small == 0 {
            format!("{big} {big_unit}")
        } else {
            format!("{big} {big_unit} {small} {small_unit}")
        }
    };
    match seconds {
        0..=59 => format!("{seconds} s"),
        60..=3_599 => format!("{} min", seconds / 60),
        3_600..=86_399 => two(seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

/// Cuts `text` to at most `bytes` bytes and marks a cut with `…`. Tenants choose names, which may be long and
/// many; a status or an event must stay short.
#[must_use]
pub fn cut(text: &str, bytes: usize) -> String {
    const MARK: &str = "…";
    if text.len() <= bytes {
        return text.to_owned();
    }
    let mut end = bytes.saturating_sub(MARK.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{MARK}", &text[..end])
}

/// Makes `text` safe for one line of a terminal or a comment: escapes characters that end a line, move the
/// cursor or change the reading direction. Names come from objects, files and Redis, which someone else may
/// have written.
#[must_use]
pub fn printable(text: &str) -> String {
    let is_harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_harmful(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// The longest message of a condition, in bytes. It keeps a status far below the API server's limit, whatever
/// names tenants choose.
pub const LONGEST_MESSAGE: usize = 2_048;

/// Lists up to six of `items`; of more, five and how many more there are.
#[must_use]
pub fn few(items: &[String]) -> String {
    match items.split_at_checked(5) {
        Some((first, more)) if more.len() > 1 => format!("{} and {} more", first.join(", "), more.len()),
        _ => items.join(", "),
    }
}

/// The sentence with a capital letter at its beginning.
#[must_use]
pub fn capitalised(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// `1 parameter`, `40 parameters`.
#[must_use]
pub fn parameters(count: usize) -> String {
    if count == 1 { "1 parameter".to_owned() } else { format!("{count} parameters") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn what_a_terminal_or_yaml_would_act_on_is_shown() {
        assert_eq!(printable("ä b\u{1f600}"), "ä b\u{1f600}");
        assert_eq!(printable("a\n---\rb\u{1b}[2J"), r"a\n---\rb\u{1b}[2J");
        assert_eq!(printable("\u{85}\u{2028}\u{202e}\u{feff}"), r"\u{85}\u{2028}\u{202e}\u{feff}");
    }

    #[rstest]
    #[case(1, "a0")]
    #[case(6, "a0, a1, a2, a3, a4, a5")]
    #[case(7, "a0, a1, a2, a3, a4 and 2 more")]
    fn a_long_list_is_shortened_by_more_than_one(#[case] count: usize, #[case] said: &str) {
        assert_eq!(few(&(0..count).map(|n| format!("a{n}")).collect::<Vec<_>>()), said);
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("longer", 5), "lo…");
        assert_eq!(cut("äöüäöü", 8), "äö…");
        assert_eq!(cut(&"ä".repeat(9_000), LONGEST_MESSAGE).len(), LONGEST_MESSAGE - 1);
    }

    #[rstest]
    #[case(41, "41 s")]
    #[case(26 * 60 + 5, "26 min")]
    #[case(3 * 3600 + 300, "3 h 5 min")]
    #[case(2 * 86_400, "2 d")]
    fn durations_are_said_as_people_say_them(#[case] seconds: u64, #[case] said: &str) {
        assert_eq!(span(Duration::from_secs(seconds)), said);
    }

    #[test]
    fn a_time_of_another_day_has_its_date() {
        let now: Timestamp = "2026-11-23T16:00:00Z".parse().unwrap();
        let earlier: Timestamp = "2026-11-23T15:57:02Z".parse().unwrap();
        let yesterday: Timestamp = "2026-11-22T15:57:02Z".parse().unwrap();
        assert_eq!(at(earlier, now), "15:57:02 UTC");
        assert_eq!(at(yesterday, now), "2026-11-22 15:57:02 UTC");
    }
}
