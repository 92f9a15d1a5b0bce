//! A page of Markdown: its blocks, its headings, its links.

use std::collections::BTreeMap;

use crate::world::root;

/// An item of a page that a test acts on, in order.
pub enum Item {
    /// `<!-- stage: ... -->` on its own line: an event on the stage before the next commands.
    Direction(String),
    /// A fenced block.
    Block(Block),
}

/// A fenced block, with its marker from the line above.
pub struct Block {
    pub marker: String,
    pub language: String,
    pub text: String,
    /// The first line of the block on the page.
    pub line: usize,
}

/// The check of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Runs it as a reader would type it.
    Run,
    /// Compares it with the output of the previous block, except for ages.
    Output,
    /// Checks the shell syntax only, because the block needs something that is missing here, which the marker
    /// names.
    Syntax,
    /// Checks that the Makefile has this target.
    Make,
    /// Checks that the API server accepts the objects.
    Objects,
    /// Checks that the chart renders with these values.
    Values,
    /// Checks that the policy is the one the operator needs.
    Policy,
    Json,
    /// Run by crates/reader/tests/reader/recipes.rs.
    Recipe,
    /// Checks that the operator has the metrics in these queries.
    Queries,
    Drawing,
}

impl Block {
    /// Returns the check of this block; `None` if nothing would check it.
    pub fn check(&self) -> Option<Check> {
        Some(match (self.marker.as_str(), self.language.as_str()) {
            (marker, _) if marker.starts_with("recipe: ") => Check::Recipe,
            ("run", "sh") => Check::Run,
            ("output", "text") => Check::Output,
            (marker, "sh") if marker.starts_with("syntax: ") => Check::Syntax,
            ("", "sh") if self.text.starts_with("make ") => Check::Make,
            ("values", "yaml") => Check::Values,
            ("", "yaml") => Check::Objects,
            ("policy", "json") => Check::Policy,
            ("", "json") => Check::Json,
            ("", "promql") => Check::Queries,
            ("", "mermaid") => Check::Drawing,
            _ => return None,
        })
    }
}

/// Returns the text of a page, given relative to the root of the repository.
pub fn text(page: &str) -> String {
    std::fs::read_to_string(root().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"))
}

/// Returns blocks and stage directions.
pub fn items(text: &str) -> Vec<Item> {
    let mut items = Vec::new();
    let (mut marker, mut open) = (String::new(), None::<Block>);
    for (number, line) in text.lines().enumerate() {
        match &mut open {
            Some(_) if line.starts_with("```") => items.extend(open.take().map(Item::Block)),
            Some(block) => block.text.extend([line, "\n"]),
            None if line.starts_with("```") => {
                let language = line.trim_start_matches('`').to_owned();
                let marker = std::mem::take(&mut marker);
                open = Some(Block { marker, language, text: String::new(), line: number + 1 });
            }
            None if line.starts_with("<!--") => {
                let inner = line.trim_start_matches("<!--").trim_end_matches("-->").trim();
                match inner.strip_prefix("stage: ") {
                    Some(direction) => items.push(Item::Direction(direction.to_owned())),
                    None => inner.clone_into(&mut marker),
                }
            }
            None => marker.clear(),
        }
    }
    assert!(open.is_none(), "a block that does not end");
    items
}

/// Returns the lines outside of code.
pub fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

/// Returns the anchors of headings as on GitHub: lower case, without punctuation, spaces as hyphens; repeated
/// ones are numbered.
pub fn anchors(text: &str) -> Vec<String> {
    let mut seen = BTreeMap::<String, u32>::new();
    let headings = prose(text).filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#'));
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, '-' | '_' | ' ');
    headings
        .map(|heading| {
            let words = heading.trim().to_lowercase();
            let anchor = words.chars().filter(kept).collect::<String>().replace(' ', "-");
            let count = seen.entry(anchor.clone()).or_default();
            *count += 1;
            if *count == 1 { anchor } else { format!("{anchor}-{}", *count - 1) }
        })
        .collect()
}

/// Returns the targets of the links on a page: `[text](target)`, outside of code.
pub fn links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    for line in prose(text) {
        let outside: String = line.split('`').step_by(2).collect::<Vec<_>>().join("code");
        for (at, _) in outside.match_indices("](") {
            let target = &outside[at + 2..];
            let end = target.find(')').unwrap_or_else(|| panic!("a link that does not end: {line}"));
            links.push(target[..end].to_owned());
        }
        let bare = outside.split('<').skip(1).filter(|rest| rest.starts_with("http"));
        links.extend(bare.filter_map(|rest| rest.split_once('>')).map(|(target, _)| target.to_owned()));
    }
    links
}

#[test]
fn anchors_are_those_of_github() {
    let text = "# A `pmirror`, moved\n```sh\n# no heading\n```\n## 3 a.m.: what now?\n## Keys\n## Keys\n";
    assert_eq!(anchors(text), ["a-pmirror-moved", "3-am-what-now", "keys", "keys-1"]);
}

#[test]
fn links_in_code_are_none() {
    let text = "[a](b.md#c) and `[x](y)` and <https://a.b/c>\n```md\n[x](y)\n```\n[d](e) [f](g)";
    assert_eq!(links(text), ["b.md#c", "https://a.b/c", "e", "g"]);
}

#[test]
fn a_block_without_marker_or_language_is_not_checked_by_anything() {
    let text = "<!-- run -->\n```sh\nls\n```\n```text\nx\n```\n<!-- run -->\n\n```sh\nls\n```\n<!-- stage: SSM is down -->\n";
    let checks: Vec<_> = items(text)
        .iter()
        .map(|item| match item {
            Item::Block(block) => block.check(),
            Item::Direction(direction) => {
                assert_eq!(direction, "SSM is down");
                Some(Check::Drawing)
            }
        })
        .collect();
    assert_eq!(checks, [Some(Check::Run), None, None, Some(Check::Drawing)]);
}
