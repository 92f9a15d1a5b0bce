//! The language of everything that people read: the words of the field, and lines that fit a screen.

use super::page::{prose, text};
use super::pages;

/// The longest line outside of tables, code and HTML.
const WIDTH: usize = 100;

/// Words that only this project would know or that mislead, and what to write instead. Matched as whole words, in any case.
/// Former names that are ordinary words too (place, pass, line, look, budget) cannot be in such a list.
const PRIVATE: [(&str, &str); 41] = [
    ("anew", "again"),
    ("be called at night", "on call"),
    ("blame", "bisect"),
    ("definitions", "CRDs"),
    ("donation", "bootstrap"),
    ("donor", "peer"),
    ("donors", "peers"),
    ("errand", "write"),
    ("errands", "writes"),
    ("fault of the program", "bug"),
    ("figures", "metrics, or measurements"),
    ("hand out", "distribute"),
    ("handed out", "distributed"),
    ("hands out", "distributes"),
    ("has a say", "decides"),
    ("in company", "in one read"),
    ("in office", "leading"),
    ("in step with", "together with"),
    ("is none", "does not exist"),
    ("is said once", "is reported once"),
    ("keeper", "credentials cache"),
    ("look after", "fix, or monitor"),
    ("memories", "state"),
    ("put down", "evict, or evicted"),
    ("refusal", "error"),
    ("rights", "permissions"),
    ("seat", "ticket"),
    ("shelf", "lookup"),
    ("staff", "shared state"),
    ("surroundings", "inputs"),
    ("tells", "reports"),
    ("the way back", "rollback"),
    ("the way over", "migration"),
    ("told", "reported"),
    ("trouble", "problem"),
    ("troubles", "problems"),
    ("undecodable", "invalid"),
    ("weather", "faults"),
    ("who asks", "the caller"),
    ("whoever", "the person who"),
    ("your own word", "an explicit request"),
];

/// Files besides the pages whose text reaches users.
const OTHERS: [&str; 4] = [
    "charts/parameter-mirror/values.yaml",
    "charts/parameter-mirror/templates/NOTES.txt",
    "charts/parameter-mirror/files/alerts.yaml",
    "charts/parameter-mirror/README.md",
];

/// The page with the help of all commands, which stands in its blocks.
const HELP: &str = "docs/reference/cli.md";

/// Returns the private words in a line, outside of `code`.
fn private(line: &str) -> Vec<&'static str> {
    let outside = line.split('`').step_by(2).collect::<Vec<_>>().join("code").to_lowercase();
    let is_whole = |at: usize, end: usize| {
        let is_letter = |c: char| c.is_alphanumeric();
        !outside[..at].ends_with(is_letter) && !outside[end..].starts_with(is_letter)
    };
    let has = |word: &str| outside.match_indices(word).any(|(at, found)| is_whole(at, at + found.len()));
    PRIVATE.iter().map(|(word, _)| *word).filter(|word| has(word)).collect()
}

fn instead(word: &str) -> &'static str {
    PRIVATE.iter().find(|(private, _)| *private == word).map_or("", |(_, instead)| instead)
}

/// Whether a line may be long: it is a row of a table, HTML, a picture, or an address that cannot be broken.
fn may_be_long(line: &str) -> bool {
    line.starts_with(['|', '<']) || line.starts_with("![") || !line.trim().contains(' ')
}

#[test]
fn people_read_the_words_of_the_field() {
    let mut found = Vec::new();
    for page in pages().into_iter().chain(OTHERS.map(str::to_owned)) {
        let text = text(&page);
        let has_text_in_blocks = OTHERS.contains(&page.as_str()) || page == HELP;
        let lines: Vec<&str> =
            if has_text_in_blocks { text.lines().collect() } else { prose(&text).collect() };
        // Markers of blocks are for tests.
        for line in lines.into_iter().filter(|line| !line.starts_with("<!--")) {
            let words = private(line).into_iter();
            found.extend(words.map(|word| format!("{page}: {word} ({}): {line}", instead(word))));
        }
    }
    assert!(found.is_empty(), "{} places:\n{}", found.len(), found.join("\n"));
}

#[test]
fn lines_of_pages_fit_a_screen() {
    let mut long = Vec::new();
    for page in pages() {
        let text = text(&page);
        let lines = prose(&text).filter(|line| line.chars().count() > WIDTH && !may_be_long(line));
        long.extend(lines.map(|line| format!("{page}: {line}")));
    }
    assert!(long.is_empty(), "{} lines:\n{}", long.len(), long.join("\n"));
    assert!(text("README.md").lines().count() <= 130, "README.md is longer than a screen and a half");
}

#[test]
fn a_private_word_is_noticed_as_a_word_and_not_in_code() {
    assert_eq!(private("It Tells you; `told` is code, toldyou is a word."), ["tells"]);
    assert_eq!(private("Put down, and handed out."), ["handed out", "put down"]);
}
