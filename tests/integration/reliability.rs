//! What docs/reliability.md promises is held by tests that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::world::root;

#[test]
fn every_test_that_is_named_here_exists() {
    let text = fs::read_to_string(root().join("docs/reliability.md")).unwrap();
    let rows: Vec<Vec<&str>> = text
        .lines()
        // Each promise has a number; other tables have none.
        .filter(|line| {
            line.strip_prefix("| ").is_some_and(|row| row.starts_with(|c: char| c.is_ascii_digit()))
        })
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let promises: BTreeSet<u32> =
        rows.iter().map(|row| row[0].split(' ').next().unwrap().parse().unwrap()).collect();
    assert_eq!(promises, (1..=10).collect(), "all ten promises have a test");
    for row in rows {
        let named: Vec<&str> =
            row[2].split('`').skip(1).step_by(2).filter(|name| name.contains("::")).collect();
        assert!(!named.is_empty(), "{row:?} names no test");
        for test in named {
            assert!(exists(test), "there is no test {test}");
        }
    }
}

/// Whether the module has a test of that name, which is not switched off.
pub fn exists(test: &str) -> bool {
    let (module, name) = test.rsplit_once("::").unwrap();
    let (folder, module) = match module.split_once("::") {
        Some(("reader", module)) => ("crates/reader/tests/reader", module),
        Some(("src", module)) => ("src", module),
        // Programs of their own, with their tests in main.rs.
        None if module == "e2e" => ("tests/e2e", "main"),
        None if module == "upgrade" => ("tests/upgrade", "main"),
        _ => ("tests/integration", module),
    };
    let file = root().join(folder).join(format!("{}.rs", module.replace("::", "/")));
    let source = fs::read_to_string(Path::new(&file)).unwrap_or_default();
    let Some((before, _)) = source.split_once(&format!("fn {name}(")) else { return false };
    let attributes: Vec<&str> = before.lines().rev().take_while(|line| !line.is_empty()).collect();
    attributes.iter().any(|line| line.contains("test"))
        && !attributes.iter().any(|line| line.contains("ignore"))
}
