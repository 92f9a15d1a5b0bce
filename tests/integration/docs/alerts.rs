//! Every alert has an entry in docs/operations/runbook.md.

use std::path::{Path, PathBuf};

use super::page::{anchors, text};
use crate::world::root;

/// Returns the names after `alert:` in the files of the chart.
fn alerts_below(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) = entries.partition(|path| path.is_dir());
    let mut alerts: Vec<String> = folders.iter().flat_map(|folder| alerts_below(folder)).collect();
    for file in files {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let named =
            text.lines().filter_map(|line| line.trim_start_matches([' ', '-']).strip_prefix("alert: "));
        alerts.extend(named.map(|name| name.trim().to_owned()));
    }
    alerts
}

#[test]
fn every_alert_has_its_heading_in_the_runbook() {
    let headings = anchors(&text("docs/operations/runbook.md"));
    let of_chart = alerts_below(&root().join("charts/parameter-mirror"));
    assert!(of_chart.len() > 10, "{of_chart:?}");
    for alert in of_chart {
        assert!(
            headings.contains(&alert.to_lowercase()),
            "docs/operations/runbook.md has no heading {alert}"
        );
    }
}
