//! A `SecureString` that SSM returns encrypted despite `WithDecryption` must never become a program's
//! password. The operator has the same rule (`src/ssm/read/ciphertext_check.rs`).

use parameter_mirror_format::content::coverage::normalised;
use parameter_mirror_format::content::entry::looks_sealed;
use serde_json::json;

use super::answers::{self, Batch, Named};
use super::error::{SsmError, invalid};
use super::read::{Found, LOOK_UP, Read, batches};

impl Read<'_> {
    /// Compares values that look like ciphertext with what SSM returns without decryption. `names` are the
    /// selected names.
    pub(super) async fn refuse_ciphertext(
        &mut self,
        names: &[String],
        found: &Found,
    ) -> Result<(), SsmError> {
        let as_requested = |name: &String| {
            let selected = names.iter().find(|requested| normalised(requested) == *name);
            selected.unwrap_or(name).clone()
        };
        let suspects: Vec<String> = found
            .iter()
            .filter(|(_, one)| looks_sealed(one.kind, &one.value))
            .map(|(name, _)| as_requested(name))
            .collect();
        for batch in batches(&suspects) {
            let names: Vec<&str> = batch.iter().map(|wanted| wanted.requested).collect();
            let input = json!({ "Names": names, "WithDecryption": false });
            let Batch { parameters, .. } = self.ask(LOOK_UP, &input).await?;
            for Named { name, parameter, .. } in answers::complete(LOOK_UP, parameters)? {
                if found.values().any(|one| one.value == parameter.value) {
                    let what = format!("it answers {name} encrypted, although it was to decrypt it");
                    return Err(invalid("WithDecryption", &what));
                }
            }
        }
        Ok(())
    }
}
