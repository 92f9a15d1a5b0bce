//! A `SecureString` that SSM returns encrypted although decryption was requested must never be published as a value.

use std::collections::BTreeMap;

use parameter_mirror_format::content::entry::looks_sealed;

use parameter_mirror_ssm::{batches, refuse_ciphertext};

use crate::mirror::snapshot::{Parameter, ReadError};

use super::Read;
use super::bisect::names_question;

impl Read<'_> {
    /// Compares a new value that looks like ciphertext with what SSM returns without decryption.
    pub(super) async fn check_ciphertext(
        &mut self,
        parameters: &BTreeMap<String, Parameter>,
    ) -> Result<(), ReadError> {
        let is_known = |name: &String, parameter: &Parameter| {
            self.request.known.get(name).is_some_and(|known| known.parameter.value == parameter.value)
        };
        let suspects: Vec<String> = parameters
            .iter()
            .filter(|(name, parameter)| {
                looks_sealed(parameter.kind, &parameter.value) && !is_known(name, parameter)
            })
            .map(|(name, _)| self.requested(name, name))
            .collect();
        for batch in batches(suspects.iter().map(String::as_str)) {
            let undecrypted = self.call(&names_question(&batch.requested(), false)).await?;
            refuse_ciphertext(&undecrypted, parameters.values().map(|parameter| &parameter.value))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use parameter_mirror_format::value::Value;

    use super::super::tests::{InMemory, one, path, reading};
    use crate::mirror::snapshot::ReadErrorKind;
    use parameter_mirror_ssm::Listed;

    const SEALED: &str = "AQICAHhZ";

    fn shown(value: &str, ciphertext: &str) -> InMemory {
        InMemory::new([Listed { ciphertext: Some(Value::from(ciphertext)), ..one("/a/x", 1, value) }])
    }

    #[tokio::test]
    async fn ciphertext_in_place_of_a_value_is_no_answer() {
        let failure = reading(&shown(SEALED, SEALED), &[path("/a")], &[]).await.unwrap_err();
        assert_eq!(failure.reason, ReadErrorKind::InvalidResponse);
        assert!(failure.detail.contains("/a/x") && !failure.detail.contains(SEALED), "{}", failure.detail);
    }

    /// A user may store ciphertext of their own; a value that does not look like ciphertext costs no further call.
    #[tokio::test]
    async fn a_value_that_only_looks_like_ciphertext_is_a_value() {
        let read = reading(&shown(SEALED, "AQICAHother"), &[path("/a")], &[]).await.unwrap();
        assert_eq!(read.parameters["/a/x"].value.expose(), SEALED);
        let plain = shown("plain", "AQICAHother");
        reading(&plain, &[path("/a")], &[]).await.unwrap();
        assert_eq!(plain.log().len(), 1);
    }
}
