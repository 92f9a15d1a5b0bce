//! Requests, and answers that are checked to be complete.

use aws_sdk_ssm::types::Parameter;
use parameter_mirror_format::content::entry::ParameterType;
use parameter_mirror_format::value::Value;

use crate::error::{SsmError, malformed};

/// Maximum parameters of a page, and maximum names of a batch (API reference, both operations).
pub const PAGE: usize = 10;

/// The request for one page of `GetParametersByPath`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPage<'a> {
    /// The path.
    pub path: &'a str,
    /// Whether levels below the first are listed.
    pub recursive: bool,
    /// Whether `SecureString` values are decrypted; each costs a KMS call.
    pub decrypt: bool,
    /// The token of the previous page.
    pub token: Option<&'a str>,
}

/// One parameter in an answer, checked to be complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name as SSM writes it.
    pub name: String,
    /// The selector of the request, with the colon as SSM echoes it.
    pub selector: Option<String>,
    /// Its type.
    pub kind: ParameterType,
    /// Its version, at least 1.
    pub version: i64,
    /// Last-modified, Unix milliseconds.
    pub date: i64,
    /// The account in its ARN, if it has one.
    pub account: Option<String>,
    /// The plaintext value; `None` for a `SecureString` that was not decrypted, so that ciphertext can never be taken for a value.
    pub value: Option<Value>,
    /// The ciphertext of a `SecureString` that was not decrypted.
    pub ciphertext: Option<Value>,
}

/// A page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its parameters; there may be none although the listing goes on.
    pub parameters: Vec<Listed>,
    /// The token of the next page; only its absence ends a listing.
    pub next: Option<String>,
}

/// The answer to a batch of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The parameters that exist.
    pub parameters: Vec<Listed>,
    /// Requested names that do not exist, or not in the requested version or with the requested label.
    pub invalid: Vec<String>,
}

/// Checks every parameter of an answer.
pub(crate) fn listed(
    operation: &str,
    parameters: Vec<Parameter>,
    decrypted: bool,
) -> Result<Vec<Listed>, SsmError> {
    parameters
        .into_iter()
        .map(|parameter| {
            complete(parameter, decrypted)
                .map_err(|missing| malformed(operation, &format!("a parameter without {missing}")))
        })
        .collect()
}

/// Checks that a parameter has every member that publishing needs, or returns the name of the missing one.
fn complete(parameter: Parameter, decrypted: bool) -> Result<Listed, &'static str> {
    let kind: ParameterType =
        parameter.r#type.as_ref().and_then(|kind| kind.as_str().parse().ok()).ok_or("a known Type")?;
    let date = parameter.last_modified_date.ok_or("LastModifiedDate")?;
    let text = Value::new(parameter.value.ok_or("Value")?);
    let is_plain = decrypted || kind != ParameterType::SecureString;
    let (value, ciphertext) = if is_plain { (Some(text), None) } else { (None, Some(text)) };
    if parameter.version < 1 {
        return Err("Version");
    }
    Ok(Listed {
        name: parameter.name.filter(|name| !name.is_empty()).ok_or("Name")?,
        selector: parameter.selector.filter(|selector| !selector.is_empty()),
        kind,
        version: parameter.version,
        date: to_millis(date.secs(), date.subsec_nanos()),
        account: parameter
            .arn
            .as_deref()
            .and_then(|arn| arn.split(':').nth(4))
            .filter(|a| !a.is_empty())
            .map(str::to_owned),
        value,
        ciphertext,
    })
}

/// Rounds a date to milliseconds, because it is a JSON double: `1795341879.12` decodes to .119999885 s (measured).
fn to_millis(seconds: i64, nanos: u32) -> i64 {
    seconds.saturating_mul(1_000).saturating_add(i64::from((nanos + 500_000) / 1_000_000))
}

/// A `String` parameter as an answer has it.
#[cfg(test)]
pub(crate) fn of_name(name: &str) -> Listed {
    Listed {
        name: name.to_owned(),
        selector: None,
        kind: ParameterType::String,
        version: 1,
        date: 1,
        account: None,
        value: Some(Value::from("v")),
        ciphertext: None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_are_rounded_to_milliseconds() {
        assert_eq!(to_millis(1_795_341_879, 119_999_885), 1_795_341_879_120);
        assert_eq!(to_millis(1, 999_999_999), 2_000);
    }

    #[test]
    fn ciphertext_is_never_a_value() {
        let secret = Parameter::builder()
            .name("/x")
            .r#type(aws_sdk_ssm::types::ParameterType::SecureString)
            .value("AQICAHi")
            .version(1)
            .last_modified_date(aws_sdk_ssm::primitives::DateTime::from_secs(1))
            .build();
        let sealed = complete(secret.clone(), false).unwrap();
        assert_eq!((sealed.value, sealed.ciphertext), (None, Some(Value::from("AQICAHi"))));
        assert!(complete(secret, true).unwrap().value.is_some());
    }

    proptest! {
        /// Whatever is missing or odd: a parameter is complete or refused, never partial.
        #[test]
        fn no_answer_is_half_accepted(
            name in proptest::option::of("/?[a-z]{0,3}"),
            kind in proptest::option::of("String|SecureString|StringList|Other"),
            value in proptest::option::of("[a-z]{0,3}"),
            version in any::<i64>(),
            date in proptest::option::of(any::<i64>()),
            arn in proptest::option::of("(arn:)?[a-z:0-9]{0,12}"),
            decrypted in any::<bool>(),
        ) {
            let parameter = Parameter::builder()
                .set_name(name.clone())
                .set_type(kind.as_deref().map(Into::into))
                .set_value(value.clone())
                .version(version)
                .set_last_modified_date(date.map(aws_sdk_ssm::primitives::DateTime::from_secs))
                .set_arn(arn)
                .build();
            let known = kind.as_deref().is_some_and(|kind| kind != "Other");
            let whole = known && value.is_some() && version >= 1 && date.is_some() && name.is_some_and(|name| !name.is_empty());
            match complete(parameter, decrypted) {
                Ok(listed) => {
                    prop_assert!(whole);
                    prop_assert_eq!(listed.value.is_some(), decrypted || kind.as_deref() != Some("SecureString"));
                }
                Err(_) => prop_assert!(!whole),
            }
        }
    }

    #[test]
    fn a_parameter_that_lacks_something_is_malformed() {
        let bare = Parameter::builder().name("/x").r#type(aws_sdk_ssm::types::ParameterType::String);
        let dated = bare.last_modified_date(aws_sdk_ssm::primitives::DateTime::from_secs(1));
        assert_eq!(complete(dated.clone().version(1).build(), true), Err("Value"));
        assert_eq!(complete(dated.value("v").build(), true), Err("Version"));
    }
}
