//! The formats of metrics: OpenMetrics, which Prometheus asks for, and the older text format for every client that does
//! not ask, among them people with curl, `promtool check metrics`, and agents that know only that one.

use std::collections::HashMap;
use std::fmt::Write as _;

/// A format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// <https://prometheus.io/docs/specs/om/open_metrics_spec/>
    OpenMetrics,
    /// <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>
    Text,
}

impl Format {
    /// Returns the format that the `Accept` header of a request asks for.
    #[must_use]
    pub fn asked(accept: Option<&str>) -> Self {
        let is_asked = accept.is_some_and(|accept| accept.contains("application/openmetrics-text"));
        if is_asked { Self::OpenMetrics } else { Self::Text }
    }

    /// Returns its `Content-Type`.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Converts OpenMetrics to this format.
    #[must_use]
    pub fn write(self, open_metrics: String) -> String {
        match self {
            Self::OpenMetrics => open_metrics,
            Self::Text => text(&open_metrics),
        }
    }
}

/// The samples are the same. But the text format has no units, no end and no type for infos, and its counters have their whole name.
fn text(open_metrics: &str) -> String {
    let types: HashMap<&str, &str> =
        open_metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let suffix = |family: &str| match types.get(family) {
        Some(&"counter") => "_total",
        Some(&"info") => "_info",
        _ => "",
    };
    let is_kept = |line: &&str| !line.starts_with("# UNIT ") && *line != "# EOF";
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines().filter(is_kept) {
        // Writing to a String cannot fail.
        let _ = if let Some((family, help)) =
            line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' '))
        {
            writeln!(text, "# HELP {family}{} {help}", suffix(family))
        } else if let Some((family, is)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let is = if is == "info" { "gauge" } else { is };
            writeln!(text, "# TYPE {family}{} {is}", suffix(family))
        } else {
            text.push_str(line);
            text.write_char('\n')
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: &str = "\
# HELP reads Reads by result.
# TYPE reads counter
reads_total{result=\"good\"} 1
# HELP age_seconds Age.
# TYPE age_seconds gauge
# UNIT age_seconds seconds
age_seconds 7
# HELP build The program.
# TYPE build info
build_info{version=\"1\"} 1
# EOF
";

    #[test]
    fn who_does_not_ask_for_open_metrics_gets_what_every_scraper_reads() {
        let text = Format::asked(Some("text/plain;version=0.0.4")).write(OPEN.to_owned());
        assert_eq!(
            text,
            "\
# HELP reads_total Reads by result.
# TYPE reads_total counter
reads_total{result=\"good\"} 1
# HELP age_seconds Age.
# TYPE age_seconds gauge
age_seconds 7
# HELP build_info The program.
# TYPE build_info gauge
build_info{version=\"1\"} 1
"
        );
        assert_eq!(Format::asked(None), Format::Text);
    }

    #[test]
    fn prometheus_asks_for_open_metrics_among_others() {
        let accept =
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.2";
        assert_eq!(Format::asked(Some(accept)).write(OPEN.to_owned()), OPEN);
    }
}
