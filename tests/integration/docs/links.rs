//! Links lead somewhere: to a file, to a heading in it. Whether other people's pages are still there is not looked at.

use std::path::Path;

use super::page::{anchors, links, text};
use super::pages;
use crate::world::root;

/// Why a link leads nowhere.
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

/// A relative path, seen from a page.
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
        ("nowhere.md", "there is no docs/nowhere.md"),
        ("operations.md#nothing", "docs/operations.md has no heading nothing"),
        ("../LICENSE#x", "LICENSE has no heading x"),
        ("http://example.com", "not https"),
        ("https://nowhere", "no address"),
    ] {
        assert_eq!(dead("docs/faq.md", target).as_deref(), Some(why));
    }
    for target in
        ["operations.md#reasons", "../README.md", "adr/0007-real-parts.md", "https://kubernetes.io/docs/"]
    {
        assert_eq!(dead("docs/faq.md", target), None);
    }
}
