//! `export`: writes all parameters in a format for other programs.
//!
//! Every value is read as it is by the programs that a format is for, or it is refused by name. The tests run these
//! programs (`tests/reader/formats.rs`, `tests/sdk/formats.rs`).
#![expect(clippy::disallowed_methods, reason = "`export` prints values: it is what it is for")]

use std::fmt::Write as _;

use parameter_mirror_format::content::entry::Entry;
use zeroize::Zeroizing;

use crate::cli::Format;
use crate::variables::{KeyProblem, Variables, is_for_shells, members, variables};

/// A text for other programs.
pub struct Exported {
    /// The text. It ends with a line break, and contains the values.
    pub text: Zeroizing<String>,
    /// What the format has no place for, for a warning.
    pub left_out: Vec<String>,
}

/// Returns the text of parameters, each given under its name in SSM. What has no name that the format allows is left out, and does not
/// stop the rest.
pub fn export(parameters: &[(String, Entry)], format: Format) -> Result<Exported, KeyProblem> {
    if matches!(format, Format::Json | Format::Yaml) {
        let (variables, keyless) = members(parameters)?;
        let left_out =
            keyless.into_iter().map(|name| format!("{name}, which has no key in the mirror")).collect();
        return Ok(Exported { text: text(&variables, format)?, left_out });
    }
    let (variables, illegal): (Variables, Variables) =
        variables(parameters)?.into_iter().partition(|(key, _)| is_for_shells(key));
    let left_out =
        illegal.into_keys().map(|key| format!("{key}, which is no name that shells accept")).collect();
    Ok(Exported { text: text(&variables, format)?, left_out })
}

/// Returns the text of variables whose names the format allows.
pub fn text(variables: &Variables, format: Format) -> Result<Zeroizing<String>, KeyProblem> {
    let (mut lines, mut refused) = (Vec::new(), Vec::new());
    for (key, value) in variables {
        match line(key, value.expose(), format) {
            Ok(line) => lines.push(line),
            Err(why) => refused.push(format!("{key} ({why})")),
        }
    }
    if !refused.is_empty() {
        return Err(KeyProblem::NotForFormat(refused));
    }
    let (begin, separator, end) = match format {
        Format::Json => ("{\n  ", ",\n  ", "\n}\n"),
        Format::Dotenv | Format::Docker | Format::Shell | Format::Yaml => ("", "\n", "\n"),
    };
    let length = lines.iter().map(|line| line.len() + separator.len()).sum::<usize>();
    let mut text = Zeroizing::new(String::with_capacity(begin.len() + length + end.len()));
    text.push_str(begin);
    for (at, line) in lines.iter().enumerate() {
        text.push_str(if at == 0 { "" } else { separator });
        text.push_str(line);
    }
    text.push_str(end);
    Ok(text)
}

/// Returns a variable as it stands in the text, or why the format cannot carry its value.
fn line(key: &str, value: &str, format: Format) -> Result<Zeroizing<String>, &'static str> {
    let line = match format {
        Format::Shell => {
            format!("export {key}='{}'", Zeroizing::new(value.replace('\'', r"'\''")).as_str())
        }
        Format::Dotenv => format!("{key}={}", dotenv(value)?.as_str()),
        Format::Docker if value.contains(['\n', '\r']) => return Err("it has a line break"),
        Format::Docker => format!("{key}={value}"),
        // JSON text is valid YAML, and needs none of YAML's rules about what looks like a number or a date.
        Format::Yaml | Format::Json => format!("{}: {}", json(key).as_str(), json(value).as_str()),
    };
    Ok(Zeroizing::new(line))
}

/// Quotes a text so that JSON and YAML agree on it: YAML refuses some characters that JSON takes as they are (YAML 1.1,
/// 5.1), and takes others for line breaks.
fn json(text: &str) -> Zeroizing<String> {
    let quoted = Zeroizing::new(serde_json::Value::from(text).to_string());
    let mut escaped = Zeroizing::new(String::with_capacity(quoted.len()));
    for character in quoted.chars() {
        match character {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                // Writing to a String cannot fail.
                let _ = write!(escaped, "\\u{:04x}", u32::from(character));
            }
            other => escaped.push(other),
        }
    }
    escaped
}

/// Writes a value as all readers of .env files read it. They agree on no escape: each form is used only for values in
/// which it means nothing.
fn dotenv(value: &str) -> Result<Zeroizing<String>, &'static str> {
    if value.contains('\r') {
        return Err("it has a carriage return, which Node.js drops");
    }
    if value.split_once("${").is_some_and(|(_, rest)| rest.contains('}')) {
        return Err("it has ${...}, which python-dotenv replaces in any quotes");
    }
    // `\\` is one backslash for python-dotenv, and `\'` does not end the value for dotenv of npm.
    let is_for_single_quotes = !value.contains(['\'']) && !value.contains(r"\\") && !value.ends_with('\\');
    let quoted = if !value.is_empty() && value.bytes().all(is_plain) {
        value.to_owned()
    } else if is_for_single_quotes {
        format!("'{value}'")
    } else if !value.contains(['"', '\\', '$']) {
        format!("\"{value}\"")
    } else if is_bare(value) {
        value.to_owned()
    } else {
        return Err("no quotes of .env files keep it as it is");
    };
    Ok(Zeroizing::new(quoted))
}

/// Whether a byte means nothing in any .env file.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-./:@%+,=~^".contains(&byte)
}

/// Whether a value without quotes ends where its line ends, and begins where it begins.
fn is_bare(value: &str) -> bool {
    let is_other = |c: char| c.is_control() || matches!(c, '#' | '$' | '\u{2028}' | '\u{2029}');
    value.trim() == value && !value.starts_with(['\'', '"', '`']) && !value.contains(is_other)
}

#[cfg(test)]
mod tests {
    use parameter_mirror_format::content::entry::ParameterType;
    use parameter_mirror_format::value::Value;
    use rstest::rstest;

    use super::*;

    fn exported(key: &str, value: &str, format: Format) -> String {
        let variables = Variables::from([(key.to_owned(), Value::from(value))]);
        text(&variables, format).unwrap().to_string()
    }

    #[test]
    fn each_format_quotes_what_means_something_in_it() {
        let value = "it's \"$HOME\"\n\\\u{7f}";
        assert_eq!(exported("X", value, Format::Shell), "export X='it'\\''s \"$HOME\"\n\\\u{7f}'\n");
        assert_eq!(exported("X", value, Format::Yaml), "\"X\": \"it's \\\"$HOME\\\"\\n\\\\\\u007f\"\n");
        assert_eq!(
            exported("X", value, Format::Json),
            "{\n  \"X\": \"it's \\\"$HOME\\\"\\n\\\\\\u007f\"\n}\n"
        );
    }

    #[rstest]
    #[case::plain("https://db.internal:5432/x", "https://db.internal:5432/x")]
    #[case::empty("", "''")]
    #[case::lines("a\nb ", "'a\nb '")]
    #[case::dollar("$HOME", "'$HOME'")]
    #[case::an_open_brace("${HOME", "'${HOME'")]
    #[case::apostrophe("it's", "\"it's\"")]
    #[case::both_quotes("it's \"x\"", "it's \"x\"")]
    #[case::backslashes(r"\\server\share\", r"\\server\share\")]
    fn a_dotenv_file_has_quotes_in_which_nothing_means_anything(#[case] value: &str, #[case] written: &str) {
        assert_eq!(exported("X", value, Format::Dotenv), format!("X={written}\n"));
    }

    #[test]
    fn what_a_format_cannot_carry_is_named_with_the_reason() {
        let values = [("CR", "a\r\nb"), ("GOOD", "x"), ("QUOTES", "'\"\n"), ("TEMPLATE", "${X}")];
        let variables = values.map(|(key, value)| (key.to_owned(), Value::from(value))).into();
        let refused = |format| text(&variables, format).unwrap_err().to_string();
        let dotenv = refused(Format::Dotenv);
        for why in ["CR (it has a carriage return", "QUOTES (no quotes", "TEMPLATE (it has ${...}"] {
            assert!(dotenv.contains(why), "{dotenv}");
        }
        assert!(!dotenv.contains("GOOD"), "{dotenv}");
        assert!(refused(Format::Docker).contains("CR (it has a line break), QUOTES (it has a line break)"));
    }

    #[test]
    fn a_name_that_a_shell_refuses_is_left_out_and_does_not_stop_the_rest() {
        let parameter = |key: &str| {
            let entry = Entry {
                key: Some(key.to_owned()),
                is_key_given: false,
                kind: ParameterType::String,
                version: 1,
                date: 1,
                value: Value::from("x"),
            };
            (format!("/a/{key}"), entry)
        };
        let parameters = [parameter("2FA"), parameter("OK"), parameter("tls.crt")];
        let left_out =
            ["2FA, which is no name that shells accept", "tls.crt, which is no name that shells accept"];
        let shell = export(&parameters, Format::Shell).unwrap();
        assert_eq!(
            (shell.text.as_str(), shell.left_out),
            ("export OK='x'\n", left_out.map(str::to_owned).to_vec())
        );
        let yaml = export(&parameters, Format::Yaml).unwrap();
        assert_eq!(yaml.text.as_str(), "\"2FA\": \"x\"\n\"OK\": \"x\"\n\"tls.crt\": \"x\"\n");
        assert!(yaml.left_out.is_empty());
    }
}
