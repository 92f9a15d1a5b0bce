//! `dataFrom[].find`: everything below a path. It converts only with a rewrite that makes the keys of one of our key formats.

use crate::commands::convert::fields::{Notes, SpecFields};

/// A path whose mirror gets the same keys as in ESO.
#[derive(Debug, PartialEq, Eq)]
pub struct Listing {
    pub path: String,
    pub key_format: &'static str,
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
    find.take("conversionStrategy"); // Has no effect beside a rewrite.
    if !find.only("decodingStrategy", "None", "values are mirrored as SSM has them", notes) {
        return None;
    }
    let pattern = find.object("name").text("regexp").unwrap_or_default();
    if !["", ".", ".*", ".+", "^.*", "^.*$", "^.+$"].contains(&pattern.as_str()) {
        let why = format!(
            "{pattern}: a path is mirrored whole, but for what `exclude` leaves out; select by name instead"
        );
        notes.lost(&find.at("name.regexp"), &why);
        return None;
    }
    let Some(path) = find.text("path").filter(|path| path.starts_with('/')) else {
        notes.lost(
            &find.at("path"),
            "a path that starts with / is needed: without it every parameter of the account is read",
        );
        return None;
    };
    find.rest(notes);
    let path = if path == "/" { path } else { path.trim_end_matches('/').to_owned() };
    let Some(key_format) = key_format(&path, rewrites) else {
        let why = format!(
            "keys would differ. ESO makes them of whole names ({}_db_host) and rewrites these; a mirror makes DB_HOST (EnvVar), db.host \
             (Dotted) or host (Basename) of {path}/db/host. The same are: one rewrite by regexp of ^{path}/(.*)$ or .*/(.*) to $1",
            path.replace('/', "_")
        );
        notes.lost(&format!("{at}.rewrite"), &why);
        return None;
    };
    Some(Listing { path, key_format })
}

/// Returns the key format that makes the same keys.
///
/// ESO refuses keys with a `/`. A rewrite that cuts off the path therefore works only if every parameter lies directly
/// below it, and `Dotted` leaves such a key as it is. A rewrite to the last segment is `Basename`.
fn key_format(path: &str, rewrites: Vec<SpecFields>) -> Option<&'static str> {
    let [rewrite]: [SpecFields; 1] = rewrites.try_into().ok()?;
    let mut rewrite = rewrite;
    let mut regexp = rewrite.object("regexp");
    let (source, target) = (regexp.text("source")?, regexp.text("target").unwrap_or_default());
    if !rewrite.is_empty() {
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
        Some("Dotted")
    } else if first && [".*/(.*)", ".*/(.+)", ".*/([^/]+)", ".*/([^/]*)", "(?:.*/)?([^/]+)"].contains(&bare) {
        Some("Basename")
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
        listing(
            SpecFields::of("spec.dataFrom[0]", json!({"find": find, "rewrite": rewrite})),
            &mut Notes::default(),
        )
    }

    #[rstest]
    #[case::the_path_cut_off("^/prod/checkout/(.*)$", "$1", Some("Dotted"))]
    #[case::unanchored("/prod/checkout/(.*)", "$1", Some("Dotted"))]
    #[case::removed("/prod/checkout/", "", Some("Dotted"))]
    #[case::the_last_segment(".*/(.*)", "$1", Some("Basename"))]
    #[case::the_last_segment_by_its_letters("(?:.*/)?([^/]+)", "${1}", Some("Basename"))]
    #[case::another_path("/prod/(.*)", "$1", None)]
    #[case::a_prefix_put_before("/prod/checkout/(.*)", "APP_$1", None)]
    #[case::something_else("[^a-zA-Z0-9]", "_", None)]
    fn a_rewrite_is_carried_over_if_a_key_format_does_the_same(
        #[case] source: &str,
        #[case] target: &str,
        #[case] format: Option<&str>,
    ) {
        let find = json!({"path": "/prod/checkout/", "name": {"regexp": ".*"}});
        let found = listed(&find, &json!([{"regexp": {"source": source, "target": target}}]));
        assert_eq!(found.as_ref().map(|found| found.key_format), format);
        assert!(found.is_none_or(|found| found.path == "/prod/checkout"));
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
