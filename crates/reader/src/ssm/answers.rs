//! Parses SSM's answers. A `serde_json` error quotes its input, so it is never shown.

use parameter_mirror_format::content::coverage::normalised;
use parameter_mirror_format::content::entry::ParameterType;
use parameter_mirror_format::value::Value;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::Parameter;
use super::error::{SsmError, invalid};

/// The latest valid date: the end of the year 9999, Unix milliseconds.
const LAST_DATE: f64 = 253_402_300_799_999.0;

/// One page of `GetParametersByPath`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Page {
    /// Required: HTTP 200 without parameters is not an answer.
    pub(super) parameters: Vec<Member>,
    next_token: Option<String>,
}

/// The answer to `GetParameters`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Batch {
    pub(super) parameters: Vec<Member>,
    #[serde(default)]
    pub(super) invalid_parameters: Vec<String>,
}

/// One parameter of an answer. All fields are optional, so that the error can name a missing one.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Member {
    name: Option<String>,
    #[serde(rename = "Type")]
    kind: Option<String>,
    #[serde(default, deserialize_with = "secret")]
    value: Option<Value>,
    version: Option<i64>,
    last_modified_date: Option<f64>,
    selector: Option<String>,
}

/// A parameter with the name that SSM returns, beginning with `/`.
pub(super) struct Named {
    pub(super) name: String,
    /// The requested version or label, without the colon.
    pub(super) selector: Option<String>,
    pub(super) parameter: Parameter,
}

impl Page {
    /// Returns the members and the token of the next page. An empty token counts as none, as with the SDKs,
    /// because it cannot be sent back.
    pub(super) fn next(self) -> (Vec<Member>, Option<String>) {
        (self.parameters, self.next_token.filter(|token| !token.is_empty()))
    }
}

impl Member {
    /// Checks that all required fields are present; the error is the name of the first missing one.
    fn complete(self) -> Result<Named, &'static str> {
        let name = self.name.filter(|name| !name.is_empty()).ok_or("Name")?;
        let kind: ParameterType =
            self.kind.as_deref().and_then(|kind| kind.parse().ok()).ok_or("a known Type")?;
        let version = self.version.filter(|version| *version >= 1).ok_or("Version")?;
        let date = self.last_modified_date.and_then(millis).ok_or("LastModifiedDate")?;
        let value = self.value.ok_or("Value")?;
        let selector = self.selector.map(|selector| selector.trim_start_matches(':').to_owned());
        Ok(Named {
            name: normalised(&name),
            selector: selector.filter(|selector| !selector.is_empty()),
            parameter: Parameter { kind, version, date, value },
        })
    }
}

/// Parses the body of a successful answer.
pub(super) fn read<T: DeserializeOwned>(operation: &str, body: &[u8]) -> Result<T, SsmError> {
    serde_json::from_slice(body).map_err(|_| invalid(operation, "HTTP 200 with a body that is not its JSON"))
}

/// Checks all parameters of an answer for required fields.
pub(super) fn complete(operation: &str, members: Vec<Member>) -> Result<Vec<Named>, SsmError> {
    let complete = |member: Member| {
        member.complete().map_err(|missing| invalid(operation, &format!("a parameter without {missing}")))
    };
    members.into_iter().map(complete).collect()
}

/// Converts a date to Unix milliseconds. SSM sends seconds as a JSON double; `1795341879.12` has no exact
/// representation, so the result is rounded, as the operator does for the date it stores.
fn millis(seconds: f64) -> Option<i64> {
    let millis = (seconds * 1_000.0).round();
    #[allow(clippy::cast_possible_truncation, reason = "the bounds fit an i64")]
    (0.0..=LAST_DATE).contains(&millis).then_some(millis as i64)
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(Value::new))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"{"Parameters":[{"Name":"x","Type":"String","Value":"hunter2","Version":3,"LastModifiedDate":1795341879.12}]}"#;

    fn page(body: &str) -> Result<Vec<Named>, SsmError> {
        let page: Page = read("GetParametersByPath", body.as_bytes())?;
        complete("GetParametersByPath", page.next().0)
    }

    #[test]
    fn a_whole_parameter_is_taken() {
        let named = page(WHOLE).unwrap().remove(0);
        assert_eq!((named.name.as_str(), named.selector), ("/x", None));
        let Parameter { kind, version, date, value } = named.parameter;
        assert_eq!(
            (kind, version, date, value.expose()),
            (ParameterType::String, 3, 1_795_341_879_120, "hunter2")
        );
    }

    #[test]
    fn an_answer_cut_anywhere_is_none() {
        for length in 0..WHOLE.len() {
            assert!(page(&WHOLE[..length]).is_err(), "{} was taken", &WHOLE[..length]);
        }
    }

    #[test]
    fn no_damaged_byte_panics_or_is_quoted() {
        for at in 0..WHOLE.len() {
            for byte in [0, b' ', b'"', b'9', b'-', b'[', b'{', b'}', b'\\', 0xff] {
                let mut body = WHOLE.as_bytes().to_vec();
                body[at] = byte;
                let read =
                    read("GetParametersByPath", &body).and_then(|page: Page| complete("x", page.next().0));
                if let Err(error) = read {
                    assert!(!format!("{error} {error:?}").contains("hunter"), "{error}");
                }
            }
        }
    }

    /// `1.001 * 1000.0` is slightly less than 1001.
    #[test]
    fn dates_are_rounded() {
        assert_eq!(millis(1.001), Some(1_001));
        assert_eq!(millis(1_795_341_879.12), Some(1_795_341_879_120));
        assert_eq!((millis(-1.0), millis(f64::NAN), millis(f64::INFINITY)), (None, None, None));
    }

    #[test]
    fn what_lacks_something_or_has_another_type_is_no_answer_and_is_not_quoted() {
        let broken = [
            ("\"Name\":\"x\",", "", "without Name"),
            ("\"Type\":\"String\",", "", "without a known Type"),
            ("\"String\"", "\"Blob\"", "without a known Type"),
            ("\"Value\":\"hunter2\",", "", "without Value"),
            ("\"Version\":3,", "", "without Version"),
            ("\"Version\":3,", "\"Version\":0,", "without Version"),
            (",\"LastModifiedDate\":1795341879.12", "", "without LastModifiedDate"),
            ("1795341879.12", "1e300", "without LastModifiedDate"),
            ("\"Version\":3", "\"Version\":\"hunter2\"", "not its JSON"),
            ("Parameters", "Nothing", "not its JSON"),
        ];
        for (from, to, expected) in broken {
            assert!(WHOLE.contains(from), "{from}");
            let error = page(&WHOLE.replace(from, to)).err().unwrap();
            assert!(matches!(error, SsmError::InvalidResponse(_)), "{error}");
            assert!(error.to_string().contains(expected), "{error}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }
}
