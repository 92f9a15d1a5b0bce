//! Checks that links lead to an existing file and heading. External pages are not fetched.

use std::path::{Path, PathBuf};

use super::page::{anchors, links, text};
use super::pages;
use crate::world::root;

/// Returns why a link is dead.
fn dead(page: &str, target: &str) -> Option<String> {
    if let Some(rest) = target.strip_prefix("https://") {
        let host = rest.split(['/', '#', '?']).next().unwrap_or_default();
        let well_formed = host.contains('.') && !rest.contains([' ', '"', '<']);
        return (!well_formed).then(|| "no address".to_owned());
    }
    if target.contains("://") {
        return Some("not https".to_owned());
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if path.is_empty() { page.to_owned() } else { beside(page, path) };
    if !root().join(&path).exists() {
        return Some(format!("there is no {path}"));
    }
    let is_page = Path::new(&path).extension().is_some_and(|extension| extension == "md");
    let found = anchor.is_empty() || is_page && anchors(&text(&path)).iter().any(|is| is == anchor);
    (!found).then(|| format!("{path} has no heading {anchor}"))
}

/// Resolves a relative path from a page.
fn beside(page: &str, path: &str) -> String {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[test]
fn every_link_leads_somewhere() {
    let mut found = 0;
    let mut nowhere = Vec::new();
    for page in pages() {
        for target in links(&text(&page)) {
            found += 1;
            nowhere.extend(dead(&page, &target).map(|why| format!("{page}: ({target}): {why}")));
        }
    }
    assert!(nowhere.is_empty(), "{}", nowhere.join("\n"));
    assert!(found > 50, "only {found} links were found");
}

/// Collects all files with comments below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "lua") {
            found.push(path);
        }
    }
}

/// Returns the pages that a comment names, each with the quoted heading that follows it, if any.
fn named(comment: &str) -> Vec<(&str, Option<&str>)> {
    let is_of_path = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_');
    let ends = comment.match_indices(".md").map(|(at, found)| at + found.len());
    let page = |end: usize| {
        let begin = comment[..end].rfind(|c| !is_of_path(c)).map_or(0, |at| at + 1);
        let heading = comment[end..].strip_prefix(", \"").and_then(|rest| Some(rest.split_once('"')?.0));
        (&comment[begin..end], heading)
    };
    ends.map(page).collect()
}

/// Every page and heading named in a comment exists in the repository.
#[test]
fn every_page_that_a_comment_names_is_there() {
    assert_eq!(named("x (docs/a.md, \"B c\", rule 2), d.md."), [("docs/a.md", Some("B c")), ("d.md", None)]);
    let mut files = Vec::new();
    for folder in ["src", "crates", "tests", "hack"] {
        sources(&root().join(folder), &mut files);
    }
    let (mut found, mut nowhere) = (0, Vec::new());
    for file in files {
        let source = std::fs::read_to_string(&file).unwrap();
        let is_comment = |line: &&str| line.starts_with("//") || line.starts_with("-- ");
        for (page, heading) in source.lines().map(str::trim_start).filter(is_comment).flat_map(named) {
            found += 1;
            let text = std::fs::read_to_string(root().join(page)).unwrap_or_default();
            let is_heading = |heading: &str| {
                text.lines().any(|line| line.trim_start_matches('#') == format!(" {heading}"))
            };
            if text.is_empty() || !heading.is_none_or(is_heading) {
                nowhere.push(format!("{}: {page} {}", file.display(), heading.unwrap_or_default()));
            }
        }
    }
    assert!(nowhere.is_empty(), "{}", nowhere.join("\n"));
    assert!(found > 40, "only {found} pages are named");
}

#[test]
fn every_page_is_in_the_index() {
    let index = text("docs/README.md");
    let indexed: Vec<String> =
        links(&index).into_iter().map(|target| beside("docs/README.md", &target)).collect();
    for page in pages() {
        let listed = indexed.contains(&page) || page.starts_with("docs/adr/0") || !page.starts_with("docs/");
        assert!(listed || page == "docs/README.md", "docs/README.md does not name {page}");
    }
}

#[test]
fn a_dead_link_is_noticed() {
    for (target, why) in [
        ("nowhere.md", "there is no docs/project/nowhere.md"),
        ("../operations/limits.md#nothing", "docs/operations/limits.md has no heading nothing"),
        ("../../LICENSE#x", "LICENSE has no heading x"),
        ("http://example.com", "not https"),
        ("https://nowhere", "no address"),
    ] {
        assert_eq!(dead("docs/project/faq.md", target).as_deref(), Some(why));
    }
    for target in [
        "../concepts.md#conditions",
        "../README.md",
        "../adr/0007-real-parts.md",
        "https://kubernetes.io/docs/",
    ] {
        assert_eq!(dead("docs/project/faq.md", target), None);
    }
}
