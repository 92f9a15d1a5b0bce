//! Every field has a description for `kubectl explain`, and docs/reference/cli.md contains every command and flag.

use std::process::Command;

use parameter_mirror::api::crds;
use serde_json::Value;

use crate::world::{SOON, cluster, eventually, root};

/// Collects the paths of all fields without a description, except members of free maps and items of lists,
/// which have none of their own.
fn undescribed(path: &str, schema: &Value, found: &mut Vec<String>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        if field["description"].as_str().is_none_or(str::is_empty) {
            found.push(path.clone());
        }
        undescribed(&path, field, found);
        undescribed(&format!("{path}[]"), &field["items"], found);
    }
}

#[test]
fn every_field_of_both_resources_has_a_description() {
    for crd in crds() {
        let kind = crd.spec.names.kind.clone();
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
        let (mut found, root) = (Vec::new(), &schema["openAPIV3Schema"]);
        undescribed(&kind, root, &mut found);
        assert_eq!(found, Vec::<String>::new());
        assert!(
            root["properties"]["status"]["properties"].as_object().unwrap().len() > 4,
            "{kind}: nothing was looked at"
        );
    }
}

#[tokio::test]
async fn kubectl_explains_the_deepest_fields() {
    let cluster = cluster().await;
    for (field, words) in [
        ("pmirror.spec.parameters.exclude", "Relative paths to leave out"),
        ("pmirror.spec.redis.encryption", "Which values are encrypted in Redis"),
        ("pmirror.status.conditions.reason", "reason"),
        ("psource.spec.grants.namespaceSelector", "An empty selector selects nothing and is refused"),
    ] {
        // The API server publishes the schema a moment after it has accepted the CRD.
        eventually(&format!("kubectl explains {field}"), SOON, async || {
            let output = cluster.try_kubectl(&["explain", field]).await;
            // kubectl wraps what it prints.
            if output.stdout.split_whitespace().collect::<Vec<_>>().join(" ").contains(words) {
                Ok(())
            } else {
                Err(format!("{}{}", output.stdout, output.stderr))
            }
        })
        .await;
    }
}

fn help(command: &str) -> String {
    let mut program = Command::new(env!("CARGO_BIN_EXE_parameter-mirror"));
    if !command.is_empty() {
        program.arg(command);
    }
    let output = program.arg("--help").env_clear().output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The block below `<!-- help: verify -->` is the output of `parameter-mirror verify --help`; `UPDATE=1`
/// writes it.
#[test]
fn the_page_of_commands_is_what_they_say_of_themselves() {
    let page = root().join("docs/reference/cli.md");
    let mut text = std::fs::read_to_string(&page).unwrap();
    let commands = help("");
    let (_, commands) = commands.split_once("Commands:\n").unwrap();
    let commands = commands.lines().take_while(|line| !line.is_empty());
    // What goes on in the next line is indented further.
    let names = commands.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let commands: Vec<&str> = names.filter(|name| !name.is_empty() && *name != "help").collect();
    assert!(commands.contains(&"verify") && commands.contains(&"convert"), "{commands:?}");
    for command in commands {
        let marker = format!("<!-- help: {command} -->\n```text\n");
        let begins = text.find(&marker).unwrap_or_else(|| panic!("docs/reference/cli.md has no {marker}"))
            + marker.len();
        let ends = begins + text[begins..].find("```").unwrap();
        let printed: Vec<String> = help(command).lines().map(|line| line.trim_end().to_owned()).collect();
        let printed = printed.join("\n") + "\n";
        if std::env::var_os("UPDATE").is_some() {
            text.replace_range(begins..ends, &printed);
        } else {
            assert_eq!(&text[begins..ends], printed, "{command}");
        }
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(page, text).unwrap();
    }
}
