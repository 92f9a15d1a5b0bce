//! `dataFrom[].find`: everything below a path. It converts only with a rewrite that makes the keys of one of our key formats.

use crate::api::KeyFormat;
use crate::commands::convert::fields::SpecFields;
use crate::commands::convert::notes::Notes;
use crate::mirror::selection::is_at_or_below;

/// A path whose mirror gets the same keys as in ESO.
#[derive(Debug, PartialEq, Eq)]
pub struct Listing {
    pub path: String,
    pub key_format: KeyFormat,
}

/// Converts an entry of `dataFrom`; `None` if its keys or its set of parameters would differ.
pub fn listing(mut item: SpecFields, notes: &mut Notes) -> Option<Listing> {
    let at = item.path.clone();
    let mut find = item.object("find");
    let rewrites = item.list("rewrite");
    item.rest(notes);
    if find.take("tags").is_some() {
        notes.lost(&find.at("tags"), "parameters are selected by path and name, not by tag");
        return None;
    }
    // Without a rewrite it decides about the keys; beside one it has no effect.
    let conversion = find.text("conversionStrategy");
    if !find.only("decodingStrategy", "None", "values are mirrored as SSM has them", notes) {
        return None;
    }
    if find.take("rewrite").is_some() {
        let why = "there is no such field, so the API server drops it: it stands beside `find`, two spaces further left";
        notes.lost(&find.at("rewrite"), why);
    }
    let path = path(&mut find, notes)?;
    find.rest(notes);
    let key_format = if rewrites.is_empty() { None } else { key_format(&path, rewrites) };
    let Some(key_format) = key_format else {
        notes.lost(&format!("{at}.rewrite"), &other_keys(&path, conversion.as_deref()));
        return None;
    };
    Some(Listing { path, key_format })
}

/// Returns the path below which exactly the same parameters lie.
fn path(find: &mut SpecFields, notes: &mut Notes) -> Option<String> {
    let mut name = find.object("name");
    let pattern = name.text("regexp").unwrap_or_default();
    let at_pattern = name.at("regexp");
    name.rest(notes);
    let path = find.text("path");
    let trimmed = path.as_deref().map(|path| if path == "/" { path } else { path.trim_end_matches('/') });
    if ["", ".", ".*", ".+", "^.*", "^.*$", "^.+$"].contains(&pattern.as_str()) {
        let path = trimmed.filter(|path| path.starts_with('/'));
        if path.is_none() {
            let why =
                "a path that starts with / is needed: without it every parameter of the account is read";
            notes.lost(&find.at("path"), why);
        }
        return path.map(str::to_owned);
    }
    let folder = folder(&pattern).filter(|folder| trimmed.is_none_or(|path| is_at_or_below(folder, path)));
    if let Some(folder) = folder {
        notes.know(&at_pattern, &format!("{pattern} is everything below the path {folder}"));
    } else {
        let why = format!(
            "{pattern}: a path is mirrored whole, but for what `exclude` leaves out; select by name instead"
        );
        notes.lost(&at_pattern, &why);
    }
    folder.map(str::to_owned)
}

/// Returns the path whose parameters are those that a pattern like `^/catalog/` matches. A `.` would match more than itself.
fn folder(pattern: &str) -> Option<&str> {
    let bare = pattern.strip_prefix('^')?;
    let bare =
        bare.strip_suffix('$').map_or(Some(bare), |bare| bare.ends_with(['*', '+', ')']).then_some(bare))?;
    let rest = [".*", ".+", "(.*)", "(.+)"].iter().find_map(|rest| bare.strip_suffix(rest));
    let folder = rest.unwrap_or(bare).strip_suffix('/')?;
    let is_literal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-');
    (folder.starts_with('/') && folder.chars().all(is_literal)).then_some(folder)
}

/// Says which keys ESO makes and which a mirror makes, for a parameter below this path.
fn other_keys(path: &str, conversion: Option<&str>) -> String {
    let path = path.trim_end_matches('/');
    let name = format!("{path}/db/host");
    let in_eso = match conversion {
        Some("Unicode") => name.replace('/', "_U002f_"),
        _ => name.replace('/', "_"),
    };
    format!(
        "keys would differ. Of {name} a mirror makes DB_HOST (EnvVar), db.host (Dotted) or host (Basename); ESO makes {in_eso}, or what \
         a rewrite makes of {name}. The same are: one rewrite by regexp of ^{path}/(.*)$ or .*/(.*) to $1"
    )
}

/// Returns the key format that makes the same keys.
///
/// ESO refuses keys with a `/`. A rewrite that cuts off the path therefore works only if every parameter lies directly
/// below it, and `Dotted` leaves such a key as it is. A rewrite to the last segment is `Basename`.
fn key_format(path: &str, rewrites: Vec<SpecFields>) -> Option<KeyFormat> {
    let [rewrite]: [SpecFields; 1] = rewrites.try_into().ok()?;
    let mut rewrite = rewrite;
    let mut regexp = rewrite.object("regexp");
    let (source, target) = (regexp.text("source")?, regexp.text("target").unwrap_or_default());
    if rewrite.names().chain(regexp.names()).next().is_some() {
        return None;
    }
    let bare = source.strip_prefix('^').unwrap_or(&source);
    let bare = bare.strip_suffix('$').unwrap_or(bare);
    let cut = format!("{}/", path.trim_end_matches('/'));
    let first = ["$1", "${1}"].contains(&target.as_str());
    let rest = bare.strip_prefix(&cut);
    if (rest == Some("") && target.is_empty())
        || (first && rest.is_some_and(|rest| ["(.*)", "(.+)"].contains(&rest)))
    {
        Some(KeyFormat::Dotted)
    } else if first && [".*/(.*)", ".*/(.+)", ".*/([^/]+)", ".*/([^/]*)", "(?:.*/)?([^/]+)"].contains(&bare) {
        Some(KeyFormat::Basename)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn listed(find: &serde_json::Value, rewrite: &serde_json::Value) -> Option<Listing> {
        let entry = json!({"find": find, "rewrite": rewrite}).as_object().unwrap().clone();
        listing(SpecFields::of("spec.dataFrom[0]", entry), &mut Notes::default())
    }

    #[rstest]
    #[case::the_path_cut_off("^/prod/checkout/(.*)$", "$1", Some(KeyFormat::Dotted))]
    #[case::unanchored("/prod/checkout/(.*)", "$1", Some(KeyFormat::Dotted))]
    #[case::removed("/prod/checkout/", "", Some(KeyFormat::Dotted))]
    #[case::the_last_segment(".*/(.*)", "$1", Some(KeyFormat::Basename))]
    #[case::the_last_segment_by_its_letters("(?:.*/)?([^/]+)", "${1}", Some(KeyFormat::Basename))]
    #[case::another_path("/prod/(.*)", "$1", None)]
    #[case::a_prefix_put_before("/prod/checkout/(.*)", "APP_$1", None)]
    #[case::something_else("[^a-zA-Z0-9]", "_", None)]
    fn a_rewrite_is_carried_over_if_a_key_format_does_the_same(
        #[case] source: &str,
        #[case] target: &str,
        #[case] format: Option<KeyFormat>,
    ) {
        let find = json!({"path": "/prod/checkout/", "name": {"regexp": ".*"}});
        let found = listed(&find, &json!([{"regexp": {"source": source, "target": target}}]));
        assert_eq!(found.as_ref().map(|found| found.key_format), format);
        assert!(found.is_none_or(|found| found.path == "/prod/checkout"));
    }

    #[rstest]
    #[case::prefix("^/prod/checkout/", Some("/prod/checkout"))]
    #[case::prefix_and_anything("^/prod/checkout/.*", Some("/prod/checkout"))]
    #[case::to_the_end("^/prod/checkout/(.+)$", Some("/prod/checkout"))]
    #[case::not_at_the_beginning("/prod/checkout/", None)]
    #[case::siblings_too("^/prod/checkout", None)]
    #[case::only_the_folder_itself("^/prod/checkout/$", None)]
    #[case::any_character("^/prod/check.ut/", None)]
    #[case::some_of_them("^/prod/checkout/db.*", None)]
    fn a_pattern_is_a_path_if_it_matches_all_below_it(#[case] pattern: &str, #[case] path: Option<&str>) {
        assert_eq!(folder(pattern), path);
    }

    #[rstest]
    #[case::at_the_path("/prod/checkout", Some("/prod/checkout"))]
    #[case::below_the_path("/prod/", Some("/prod/checkout"))]
    #[case::beside_the_path("/prod/check", None)]
    fn a_pattern_narrows_a_path(#[case] path: &str, #[case] expected: Option<&str>) {
        let find = json!({"path": path, "name": {"regexp": "^/prod/checkout/.*"}});
        let found = listed(&find, &json!([{"regexp": {"source": "/prod/checkout/(.*)", "target": "$1"}}]));
        assert_eq!(found.as_ref().map(|found| found.path.as_str()), expected);
    }

    #[rstest]
    #[case::tags(json!({"path": "/p", "tags": {"a": "b"}}))]
    #[case::some_names(json!({"path": "/p", "name": {"regexp": "db"}}))]
    #[case::everything(json!({"name": {"regexp": ".*"}}))]
    #[case::decoded(json!({"path": "/p", "name": {"regexp": ".*"}, "decodingStrategy": "Base64"}))]
    fn what_selects_otherwise_is_not(#[case] find: serde_json::Value) {
        assert_eq!(listed(&find, &json!([{"regexp": {"source": "/p/(.*)", "target": "$1"}}])), None);
    }

    #[test]
    fn without_a_rewrite_or_with_two_keys_differ() {
        let find = json!({"path": "/p", "name": {"regexp": ".*"}});
        let cut = json!({"regexp": {"source": "/p/(.*)", "target": "$1"}});
        assert_eq!(listed(&find, &json!([])), None);
        assert_eq!(listed(&find, &json!([cut, cut])), None);
        assert_eq!(listed(&find, &json!([{"transform": {"template": "{{ .value | upper }}"}}])), None);
    }
}
