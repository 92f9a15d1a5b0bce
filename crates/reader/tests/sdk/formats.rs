//! `export`, read by the programs that its formats are for.

use std::collections::BTreeMap;

use parameter_mirror_format::value::Value;
use parameter_mirror_reader::cli::Format;
use parameter_mirror_reader::variables::Variables;
use parameter_mirror_reader::variables::export::text;
use parameter_mirror_test_support::Scratch;
use rstest::rstest;

use crate::programs::{program, run};
use crate::values::values;

/// Returns a variable for each value that the format does not refuse, and how many it refuses.
fn carried(format: Format) -> (Variables, usize) {
    let all = values();
    let count = all.len();
    let numbered = all.into_iter().enumerate();
    let variables = numbered.map(|(number, value)| (format!("V{number}"), Value::new(value)));
    let carried: Variables = variables
        .filter(|(key, value)| text(&[(key.clone(), value.clone())].into(), format).is_ok())
        .collect();
    let refused = count - carried.len();
    (carried, refused)
}

#[rstest]
#[case::node("formats-node", "env-file", Format::Dotenv)]
#[case::dotenv_of_npm("formats-node", "dotenv", Format::Dotenv)]
#[case::python_dotenv("formats-python", "dotenv", Format::Dotenv)]
#[case::docker_compose("formats-go", "compose", Format::Dotenv)]
#[case::docker_run("formats-go", "docker", Format::Docker)]
#[case::json_of_node("formats-node", "json", Format::Json)]
#[case::json_of_python("formats-python", "json", Format::Json)]
#[case::js_yaml("formats-node", "yaml", Format::Yaml)]
#[case::py_yaml("formats-python", "yaml", Format::Yaml)]
#[tokio::test]
async fn every_value_is_read_as_it_is(#[case] name: &str, #[case] reader: &str, #[case] format: Format) {
    let (variables, _) = carried(format);
    let scratch = Scratch::new("formats").unwrap();
    let file = scratch.path().join("exported");
    std::fs::write(&file, text(&variables, format).unwrap().as_bytes()).unwrap();
    let mut command = program(name);
    command.arg(reader).arg(&file);
    let printed = run(&command).await.unwrap_or_else(|printed| panic!("{name} {reader}: {printed}"));
    let mut read: BTreeMap<String, String> = serde_json::from_str(&printed).unwrap();
    for (key, value) in &variables {
        assert_eq!(read.remove(key).as_deref(), Some(value.expose()), "{reader} {key}");
    }
    assert_eq!(read, BTreeMap::new(), "{reader} reads more than was written");
}

/// A format that refuses what it could carry would be right, and useless.
#[test]
fn few_values_are_refused() {
    let refused = |format| carried(format).1;
    assert_eq!((refused(Format::Json), refused(Format::Yaml), refused(Format::Shell)), (0, 0, 0));
    assert!((1..values().len() / 3).contains(&refused(Format::Dotenv)), "{}", refused(Format::Dotenv));
    assert!((1..values().len() / 2).contains(&refused(Format::Docker)), "{}", refused(Format::Docker));
}
