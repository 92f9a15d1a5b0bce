//! `export`: writes all parameters in a format for other programs.
#![expect(clippy::disallowed_methods, reason = "`export` prints values: it is what it is for")]

use std::fmt::Write as _;

use zeroize::Zeroizing;

use crate::cli::Format;
use crate::variables::{KeyProblem, Variables, is_for_shells};

/// Returns the text of all variables. It ends with a line break, and contains the values.
pub fn export(variables: &Variables, format: Format) -> Result<Zeroizing<String>, KeyProblem> {
    if matches!(format, Format::Dotenv | Format::Shell)
        && let Some(key) = variables.keys().find(|key| !is_for_shells(key))
    {
        return Err(KeyProblem::NotForShells(key.clone()));
    }
    let mut text = Zeroizing::new(String::new());
    // Writing to a String cannot fail.
    let _ = match format {
        Format::Shell => variables.iter().try_for_each(|(key, value)| {
            writeln!(
                text,
                "export {key}='{}'",
                Zeroizing::new(value.expose().replace('\'', r"'\''")).as_str()
            )
        }),
        Format::Dotenv => variables
            .iter()
            .try_for_each(|(key, value)| writeln!(text, "{key}=\"{}\"", dotenv(value.expose()).as_str())),
        // JSON text is valid YAML, and needs none of YAML's rules about what looks like a number or a date.
        Format::Yaml => variables.iter().try_for_each(|(key, value)| {
            writeln!(text, "{}: {}", json(key).as_str(), json(value.expose()).as_str())
        }),
        Format::Json => {
            text.push('{');
            let mut separator = "";
            let written = variables.iter().try_for_each(|(key, value)| {
                write!(text, "{separator}\n  {}: {}", json(key).as_str(), json(value.expose()).as_str())?;
                separator = ",";
                Ok(())
            });
            text.push_str("\n}\n");
            written
        }
    };
    Ok(text)
}

fn json(text: &str) -> Zeroizing<String> {
    Zeroizing::new(serde_json::Value::from(text).to_string())
}

/// Quotes a value with double quotes, as dotenv libraries read it; an unescaped `$` would start a variable.
fn dotenv(value: &str) -> Zeroizing<String> {
    let mut quoted = Zeroizing::new(String::with_capacity(value.len()));
    for character in value.chars() {
        match character {
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '"' | '\\' | '$' => quoted.extend(['\\', character]),
            other => quoted.push(other),
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use parameter_mirror_format::value::Value;

    use super::*;

    fn exported(key: &str, value: &str, format: Format) -> String {
        let variables = Variables::from([(key.to_owned(), Value::from(value))]);
        export(&variables, format).unwrap().to_string()
    }

    #[test]
    fn each_format_quotes_what_means_something_in_it() {
        let value = "it's \"$HOME\"\n\\";
        assert_eq!(exported("X", value, Format::Shell), "export X='it'\\''s \"$HOME\"\n\\'\n");
        assert_eq!(exported("X", value, Format::Dotenv), "X=\"it's \\\"\\$HOME\\\"\\n\\\\\"\n");
        assert_eq!(exported("X", value, Format::Yaml), "\"X\": \"it's \\\"$HOME\\\"\\n\\\\\"\n");
        assert_eq!(exported("X", value, Format::Json), "{\n  \"X\": \"it's \\\"$HOME\\\"\\n\\\\\"\n}\n");
    }

    #[test]
    fn names_that_a_shell_refuses_are_left_to_json_and_yaml() {
        let variables = Variables::from([("tls.crt".to_owned(), Value::from("x"))]);
        for format in [Format::Shell, Format::Dotenv] {
            assert_eq!(export(&variables, format), Err(KeyProblem::NotForShells("tls.crt".to_owned())));
        }
        assert_eq!(exported("tls.crt", "x", Format::Yaml), "\"tls.crt\": \"x\"\n");
    }
}
