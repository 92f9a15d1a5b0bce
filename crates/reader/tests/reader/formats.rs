//! `export --format shell`, read by every shell that this machine has.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use parameter_mirror_format::value::Value;
use parameter_mirror_reader::cli::Format;
use parameter_mirror_reader::variables::Variables;
use parameter_mirror_reader::variables::export::text;

use crate::values::values;

/// The shells, each as a command that reads a script from standard input. `sh` is the only one that must be there.
const SHELLS: [&[&str]; 6] = [&["sh"], &["dash"], &["bash"], &["zsh"], &["busybox", "sh"], &["ksh"]];

/// Returns what the shell prints, or `None` if this machine does not have it.
fn run(shell: &[&str], script: &str) -> Option<Vec<u8>> {
    let (name, arguments) = shell.split_first().unwrap();
    let mut command = Command::new(name);
    command.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().ok()?;
    let (mut input, script) = (child.stdin.take().unwrap(), script.to_owned());
    let writing = std::thread::spawn(move || input.write_all(script.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    assert!(output.status.success(), "{shell:?}: {}", output.status);
    Some(output.stdout)
}

#[test]
fn every_shell_reads_every_value_as_it_is() {
    let values = values();
    let keys = (0..values.len()).map(|number| format!("V{number}"));
    let variables: Variables = keys.zip(values.iter().map(|value| Value::from(value.as_str()))).collect();
    let mut script = text(&variables, Format::Shell).unwrap().to_string();
    for number in 0..values.len() {
        writeln!(script, "printf '%s\\0' \"$V{number}\"").unwrap();
    }
    let expected = values.join("\0") + "\0";
    let mut tried = Vec::new();
    for shell in SHELLS {
        let Some(printed) = run(shell, &script) else { continue };
        tried.push(shell[0]);
        let printed = String::from_utf8(printed).unwrap();
        for (printed, expected) in printed.split('\0').zip(expected.split('\0')) {
            assert_eq!(printed, expected, "{shell:?}");
        }
        assert_eq!(printed.len(), expected.len(), "{shell:?}");
    }
    assert!(tried.contains(&"sh"), "{tried:?}");
}
