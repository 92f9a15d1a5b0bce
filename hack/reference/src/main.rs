//! Writes reference documentation out of the code.
//!
//! Without arguments it prints docs/reference/api.md: every field of both resources with its type, default, limits and rules, from
//! the CRDs that the API server gets. `make generate` writes the page, and CI checks that it is up to date. With `cli DIR`
//! it writes the man pages and the completions of both programs into a folder; `make release` packs them.

mod schema;

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use clap::{CommandFactory as _, ValueEnum as _};
use clap_complete::Shell;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps,
};
use parameter_mirror::api;

const HEAD: &str = "# API reference

Every field of the two resources of `parameter-mirror.dev/v1alpha1`. `make generate` writes this
page from the CRDs, so it says the same as `kubectl explain`. The terms are explained in
[Concepts](../concepts.md), the conditions and reasons in [Events and reasons](reasons.md).

The rules below a table are checked by the API server, which refuses an object with exactly these
messages.
";
/// The length of a line of text, as in all pages.
const WIDTH: usize = 100;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => print!("{}", page(&api::crds())),
        ["cli", folder] => command_lines(Path::new(folder))?,
        _ => bail!("run it without arguments, or with `cli DIR`"),
    }
    Ok(())
}

/// Writes `man1/*.1` and `completions/*` of both programs.
fn command_lines(folder: &Path) -> anyhow::Result<()> {
    let (man, completions) = (folder.join("man1"), folder.join("completions"));
    for folder in [&man, &completions] {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    for mut program in [parameter_mirror::cli::Cli::command(), parameter_mirror_reader::cli::Cli::command()] {
        let name = program.get_name().to_owned();
        for &shell in Shell::value_variants() {
            clap_complete::generate_to(shell, &mut program, &name, &completions)?;
        }
        clap_mangen::generate_to(program, &man)?;
    }
    Ok(())
}

/// Returns the whole page.
fn page(definitions: &[CustomResourceDefinition]) -> String {
    let mut page = HEAD.to_owned();
    for definition in definitions {
        page += &resource(definition);
    }
    page
}

/// Describes one resource: its purpose, the columns of `kubectl get`, and a section for each object in it.
fn resource(definition: &CustomResourceDefinition) -> String {
    let names = &definition.spec.names;
    let mut text = format!("\n## {}\n", names.kind);
    for version in &definition.spec.versions {
        let Some(root) = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref()) else {
            continue;
        };
        let short = names.short_names.iter().flatten().map(|name| format!("`{name}`")).collect::<Vec<_>>();
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "\n{}\n\n{}, short name {}.\n",
            textwrap::fill(root.description.as_deref().unwrap_or_default(), WIDTH),
            definition.spec.scope,
            short.join(", ")
        );
        text += "`kubectl get` prints:\n\n| column | holds |\n|---|---|\n";
        for column in version.additional_printer_columns.iter().flatten() {
            let _ = writeln!(text, "| {} | `{}` |", column.name.to_uppercase(), column.json_path);
        }
        for part in ["spec", "status"] {
            if let Some(schema) = root.properties.as_ref().and_then(|properties| properties.get(part)) {
                text += &section(&names.kind, part, schema);
            }
        }
    }
    text
}

/// Describes an object with its fields and rules, followed by the objects in it.
fn section(kind: &str, path: &str, schema: &JSONSchemaProps) -> String {
    let description = schema.description.as_deref().unwrap_or_default();
    let description = textwrap::fill(&schema::line(description), WIDTH);
    let mut text = format!("\n### {}\n\n{description}\n", schema::title(kind, path));
    let (mut rules, mut inner) = (schema::rules(schema, None), String::new());
    text += "\n| field | type | default | meaning |\n|---|---|---|---|\n";
    for (name, field) in schema.properties.iter().flatten() {
        let required = schema.required.iter().flatten().any(|required| required == name);
        text += &schema::row(kind, path, name, field, required);
        rules.extend(schema::rules(field, Some(name)));
        if let Some((path, object)) = schema::object_in(path, name, field) {
            inner += &section(kind, &path, object);
        }
    }
    if !rules.is_empty() {
        text += "\nRules:\n\n";
        for rule in rules {
            let rule = textwrap::fill(
                &rule,
                textwrap::Options::new(WIDTH).initial_indent("- ").subsequent_indent("  "),
            );
            let _ = writeln!(text, "{rule}");
        }
    }
    text + &inner
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail wherever it stands")]
mod tests {
    use super::*;

    fn row<'a>(page: &'a str, section: &str, field: &str) -> &'a str {
        let (_, rest) = page.split_once(&format!("### {section}\n")).unwrap();
        let section = rest.split("\n### ").next().unwrap();
        section.lines().find(|line| line.starts_with(&format!("| `{field}` |"))).unwrap()
    }

    #[test]
    fn fields_have_type_default_limits_and_meaning() {
        let page = page(&api::crds());
        let interval = row(&page, "ParameterMirror: spec", "interval");
        assert!(interval.contains("| string | `5m` | How often SSM is read"), "{interval}");
        let parameters = row(&page, "ParameterMirror: spec", "parameters");
        assert!(parameters.contains("list of [parameters](#parametermirror-specparameters)"), "{parameters}");
        assert!(
            parameters.contains("| **required** |") && parameters.contains("1 to 100 items"),
            "{parameters}"
        );
        let format = row(&page, "ParameterMirror: spec.secret", "keyFormat");
        assert!(format.contains("`EnvVar`, `Dotted`, `Basename`"), "{format}");
        let labels = row(&page, "ParameterMirror: spec.secret", "labels");
        assert!(
            labels.contains("| map of string | `{}` |") && labels.contains("At most 32 entries"),
            "{labels}"
        );
        let percent = row(&page, "ParameterMirror: spec.guard", "maxRemovedPercent");
        assert!(percent.contains("| integer | `20` |") && percent.contains("0 to 100"), "{percent}");
        let names = row(&page, "ParameterSource: spec.grants", "namespaces");
        assert!(names.contains("list of string") && names.contains("each 1 to 63 characters"), "{names}");
    }

    #[test]
    fn every_rule_of_the_definitions_is_on_the_page() {
        fn messages(value: &serde_json::Value, found: &mut Vec<String>) {
            match value {
                serde_json::Value::Object(members) => {
                    for rule in members
                        .get("x-kubernetes-validations")
                        .and_then(|rules| rules.as_array())
                        .into_iter()
                        .flatten()
                    {
                        found.push(rule["message"].as_str().unwrap().to_owned());
                    }
                    members.values().for_each(|member| messages(member, found));
                }
                serde_json::Value::Array(items) => items.iter().for_each(|item| messages(item, found)),
                _ => {}
            }
        }
        let page = page(&api::crds()).replace("\n  ", " ");
        let mut found = Vec::new();
        messages(&serde_json::to_value(api::crds()).unwrap(), &mut found);
        assert!(found.len() > 15, "{found:?}");
        for message in found {
            assert!(page.contains(&message), "not on the page: {message}");
        }
    }

    #[test]
    fn the_page_is_up_to_date() {
        let written = include_str!("../../../docs/reference/api.md");
        assert!(
            written == page(&api::crds()),
            "docs/reference/api.md is not what the definitions say: run make generate"
        );
    }

    #[test]
    fn each_command_has_a_man_page_and_each_program_its_completions() {
        let folder = std::env::temp_dir().join(format!("parameter-mirror-cli-{}", std::process::id()));
        command_lines(&folder).unwrap();
        let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
        assert!(read("man1/parameter-mirror-run.1").contains(r"ssm\-requests\-per\-second"));
        assert!(read("man1/parameter-mirror-reader-exec.1").contains(r"max\-stale"));
        assert!(read("completions/parameter-mirror-reader.bash").contains("--max-stale"));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_cell_stays_a_cell() {
        assert_eq!(schema::line("a |\n b"), "a \\| b");
    }
}
