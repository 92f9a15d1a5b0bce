//! Checks that the promises in docs/security/evidence.md name existing tests.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::{env, fs};

use crate::world::root;

#[test]
fn every_test_that_is_named_here_exists() {
    let text = fs::read_to_string(root().join("docs/security/evidence.md")).unwrap();
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

/// The tests of this program that are not switched off, as the test harness lists them.
static LISTED: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let list = |arguments: &[&str]| {
        let output = Command::new(env::current_exe().unwrap())
            .args(["--list", "--format=terse"])
            .args(arguments)
            .output()
            .unwrap();
        let names = String::from_utf8(output.stdout).unwrap();
        names
            .lines()
            .filter_map(|line| line.strip_suffix(": test").map(str::to_owned))
            .collect::<BTreeSet<_>>()
    };
    let (all, ignored) = (list(&[]), list(&["--ignored"]));
    assert!(all.len() > 200, "only {} tests are listed", all.len());
    all.difference(&ignored).cloned().collect()
});

/// Whether there is a test of that name, or one with cases, which is not switched off.
pub fn exists(test: &str) -> bool {
    let (module, name) = test.rsplit_once("::").unwrap();
    let (folder, module) = match module.split_once("::") {
        Some(("reader", module)) => ("crates/reader/tests/reader", module),
        Some(("src", module)) => ("src", module),
        // Separate programs, whose tests are in main.rs.
        None if module == "e2e" => ("tests/e2e", "main"),
        None if module == "upgrade" => ("tests/upgrade", "main"),
        _ => {
            let with_cases = format!("{test}::");
            return LISTED.contains(test) || LISTED.iter().any(|listed| listed.starts_with(&with_cases));
        }
    };
    let file = root().join(folder).join(format!("{}.rs", module.replace("::", "/")));
    let source = fs::read_to_string(Path::new(&file)).unwrap_or_default();
    let Some((before, _)) = source.split_once(&format!("fn {name}(")) else { return false };
    let attributes: Vec<&str> = before.lines().rev().take_while(|line| !line.is_empty()).collect();
    attributes.iter().any(|line| line.contains("test"))
        && !attributes.iter().any(|line| line.contains("ignore"))
}

#[test]
fn a_test_that_does_not_exist_is_found() {
    assert!(exists("reliability::a_test_that_does_not_exist_is_found"));
    assert!(!exists("reliability::a_test_that_does_not_exist"));
    assert!(!exists("nowhere::every_test_that_is_named_here_exists"));
}
