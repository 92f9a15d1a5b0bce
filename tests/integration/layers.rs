//! The modules of the operator use each other in one direction: docs/design/architecture.md, "Layers".
//!
//! The sources are parsed as tokens, so that a path counts wherever it occurs. Tests may use everything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::world::root;

/// The layers from top to bottom, each with its folders or files. A folder may use the layers below it, and
/// in its own layer only the folders before it.
const LAYERS: [&[&str]; 8] = [
    &["process", "commands"],
    &["cli"],
    &["controller"],
    &["metrics"],
    &["kubernetes", "targets", "ssm"],
    &["mirror"],
    &["api"],
    &["fair_queue"],
];

/// What pure decisions must not use: clocks, threads, networks and the cluster.
const NOT_PURE: [&str; 19] = [
    "parameter_mirror_clock",
    "parameter_mirror_redis",
    "parameter_mirror_ssm",
    "tokio",
    "kube",
    "redis",
    "aws_config",
    "aws_sdk_ssm",
    "aws_sdk_sts",
    "axum",
    "hyper",
    "tracing",
    "Instant",
    "SystemTime",
    "fs",
    "net",
    "process",
    "thread",
    "env",
];

/// The modules of a crate by path, with their source text.
type Sources = BTreeMap<String, String>;

/// The modules that each module uses.
type Arrows = BTreeMap<String, BTreeSet<String>>;

fn sources(folder: &Path, module: &str, found: &mut Sources) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let name = if module.is_empty() { stem.to_owned() } else { format!("{module}::{stem}") };
        if path.is_dir() {
            sources(&path, &name, found);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !["lib", "main", "tests", "fixtures"].contains(&stem)
            && !stem.ends_with("_tests")
        {
            let name = if stem == "mod" { module.to_owned() } else { name };
            found.insert(name, std::fs::read_to_string(&path).unwrap());
        }
    }
}

fn operator() -> Sources {
    let mut found = Sources::new();
    sources(&root().join("src"), "", &mut found);
    assert!(found.len() > 80, "only {} modules were found", found.len());
    found
}

/// Returns the tokens outside tests.
fn tokens(source: &str) -> Vec<TokenTree> {
    fn without_tests(stream: TokenStream, found: &mut Vec<TokenTree>) {
        let mut tokens = stream.into_iter().peekable();
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Group(group) if group.to_string().replace(' ', "") == "[cfg(test)]" => {
                    // Skips to the end of the item.
                    for token in tokens.by_ref() {
                        let ends_it = match &token {
                            TokenTree::Punct(punct) => punct.as_char() == ';',
                            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
                            _ => false,
                        };
                        if ends_it {
                            break;
                        }
                    }
                }
                TokenTree::Group(group) => {
                    found.push(TokenTree::Group(group.clone()));
                    without_tests(group.stream(), found);
                }
                token => found.push(token),
            }
        }
    }
    let mut found = Vec::new();
    without_tests(source.parse().unwrap(), &mut found);
    found
}

/// Returns every path within this crate, relative to its root.
fn paths(module: &str, source: &str) -> BTreeSet<String> {
    let tokens = tokens(source);
    let mut found = BTreeSet::new();
    for (at, token) in tokens.iter().enumerate() {
        let TokenTree::Ident(ident) = token else { continue };
        let continues = at >= 2 && is_colon(&tokens[at - 1]) && is_colon(&tokens[at - 2]);
        let parent =
            |module: &str| module.rsplit_once("::").map_or_else(String::new, |(parent, _)| parent.to_owned());
        let start = match ident.to_string().as_str() {
            "crate" => Some(String::new()),
            "self" if !continues => Some(module.to_owned()),
            "super" if !continues => Some(parent(module)),
            _ => None,
        };
        let is_path = tokens.get(at + 1).is_some_and(is_colon) && tokens.get(at + 2).is_some_and(is_colon);
        if let Some(start) = start.filter(|_| is_path) {
            follow(&tokens[at + 1..], &start, &parent, &mut found);
        }
    }
    found
}

fn is_colon(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == ':')
}

/// Parses the rest of a path: `::name`, `::super`, or `::{...}`.
fn follow(tokens: &[TokenTree], so_far: &str, parent: &dyn Fn(&str) -> String, found: &mut BTreeSet<String>) {
    match tokens {
        [one, two, TokenTree::Ident(name), rest @ ..] if is_colon(one) && is_colon(two) => {
            let next = match name.to_string().as_str() {
                "super" => parent(so_far),
                name if so_far.is_empty() => name.to_owned(),
                name => format!("{so_far}::{name}"),
            };
            follow(rest, &next, parent, found);
        }
        [one, two, TokenTree::Group(group), ..] if is_colon(one) && is_colon(two) => {
            let colon = || "::".parse::<TokenStream>().unwrap().into_iter();
            let members: Vec<TokenTree> = group.stream().into_iter().collect();
            for member in
                members.split(|token| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ','))
            {
                let member: Vec<TokenTree> = colon().chain(member.iter().cloned()).collect();
                follow(&member, so_far, parent, found);
            }
        }
        _ => drop(found.insert(so_far.to_owned())),
    }
}

/// Returns the dependencies between modules. A parent that names its child re-exports it, which does not
/// count.
fn arrows(sources: &Sources) -> Arrows {
    let module_of = |path: &str| {
        let mut path = path;
        loop {
            match (sources.contains_key(path), path.rsplit_once("::")) {
                (true, _) => return Some(path.to_owned()),
                (false, Some((parent, _))) => path = parent,
                (false, None) => return None,
            }
        }
    };
    let used = |module: &String, source: &String| {
        let used = paths(module, source)
            .iter()
            .filter_map(|path| module_of(path))
            .filter(|used| used != module)
            .collect();
        (module.clone(), used)
    };
    sources.iter().map(|(module, source)| used(module, source)).collect()
}

/// Returns the modules on an import cycle.
fn circles(arrows: &Arrows) -> BTreeSet<String> {
    let reaches_itself = |start: &&String| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![*start]);
        while let Some(module) = next.pop() {
            for used in arrows.get(module).into_iter().flatten() {
                if used == *start {
                    return true;
                }
                if seen.insert(used) {
                    next.push(used);
                }
            }
        }
        false
    };
    arrows.keys().filter(reaches_itself).cloned().collect()
}

/// Returns the dependencies that point up, or back within a layer.
fn turned(arrows: &Arrows) -> Vec<String> {
    let place = |module: &str| {
        let folder = module.split("::").next().unwrap_or_default();
        let place = LAYERS
            .iter()
            .enumerate()
            .find_map(|(layer, folders)| folders.iter().position(|one| *one == folder).map(|at| (layer, at)));
        place.unwrap_or_else(|| {
            panic!("{folder} is in no layer: give it one in LAYERS and in docs/design/architecture.md")
        })
    };
    let mut found = Vec::new();
    for (module, used) in arrows {
        for used in used {
            let ((layer, at), (below, before)) = (place(module), place(used));
            let allowed = layer < below || (layer == below && at >= before);
            if !allowed {
                found.push(format!("{module} uses {used}"));
            }
        }
    }
    found
}

/// Returns the pure modules that name something impure.
fn impure(sources: &Sources) -> Vec<String> {
    let mut found = Vec::new();
    for (module, source) in sources.iter().filter(|(module, _)| module.split("::").next() == Some("mirror")) {
        let tokens = tokens(source);
        for (at, token) in tokens.iter().enumerate() {
            let is_path =
                tokens.get(at + 1).is_some_and(is_colon) && tokens.get(at + 2).is_some_and(is_colon);
            let is_core = tokens.get(at + 3).is_some_and(|next| next.to_string() == "core");
            if let TokenTree::Ident(ident) = token
                && is_path
                && !is_core
                && NOT_PURE.contains(&ident.to_string().as_str())
            {
                found.push(format!("{module} names {ident}"));
            }
        }
    }
    found
}

#[test]
fn no_module_uses_itself_through_others() {
    assert_eq!(circles(&arrows(&operator())), BTreeSet::new());
}

#[test]
fn every_arrow_points_down() {
    assert_eq!(turned(&arrows(&operator())), Vec::<String>::new());
}

#[test]
fn decisions_know_no_clock_no_network_and_no_cluster() {
    assert_eq!(impure(&operator()), Vec::<String>::new());
}

/// Control: the tests above find deliberate violations.
#[test]
fn a_circle_an_arrow_upwards_and_an_impure_decision_are_found() {
    let with = |changes: &[(&str, &str)]| {
        let mut sources: Sources = [
            (
                "controller::read",
                "use crate::mirror::plan::Plan; #[cfg(test)] mod tests { use crate::process::run; }",
            ),
            ("mirror::plan", "pub struct Plan;"),
            ("mirror::status", "use super::plan::{self, Plan};"),
            ("process::run", "fn f() { crate::controller::read::begin() }"),
        ]
        .map(|(module, source)| (module.to_owned(), source.to_owned()))
        .into();
        for (module, source) in changes {
            sources.insert((*module).to_owned(), (*source).to_owned());
        }
        sources
    };
    let good = arrows(&with(&[]));
    assert_eq!(good["controller::read"], BTreeSet::from(["mirror::plan".to_owned()]));
    assert_eq!(good["mirror::status"], BTreeSet::from(["mirror::plan".to_owned()]));
    assert!(circles(&good).is_empty() && turned(&good).is_empty() && impure(&with(&[])).is_empty());

    let circle = with(&[("mirror::plan", "pub fn f(of: &super::status::Status) {}")]);
    assert_eq!(
        circles(&arrows(&circle)),
        BTreeSet::from(["mirror::plan".to_owned(), "mirror::status".to_owned()])
    );
    let upwards = with(&[("mirror::plan", "use crate::{controller::{read::{Outcome}}};")]);
    assert_eq!(turned(&arrows(&upwards)), ["mirror::plan uses controller::read"]);
    let impure_plan = with(&[(
        "mirror::plan",
        "fn now() { tokio::time::Instant::now(); kube::core::Duration::default(); }",
    )]);
    assert_eq!(impure(&impure_plan), ["mirror::plan names tokio", "mirror::plan names Instant"]);
}
