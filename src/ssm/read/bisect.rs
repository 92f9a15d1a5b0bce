//! Finds a parameter that cannot be read. AWS answers for a batch as a whole: one key that is disabled or one name that
//! IAM denies fails ten. The person who has to fix it needs a name.

use crate::mirror::snapshot::{ReadError, ReadErrorKind};
use crate::ssm::coalesce::{NamesRequest, PageRequest};
use parameter_mirror_ssm::{Batch, ListPage};

use super::Read;

impl Read<'_> {
    /// Requests names. If some of them cannot be read, the error names one.
    pub(super) async fn get(&mut self, names: &[String], decrypt: bool) -> Result<Batch, ReadError> {
        match self.ask(names_question(names, decrypt)).await {
            Err(failure) => Err(self.bisect(names, decrypt, failure).await),
            answered => answered,
        }
    }

    /// Bisects a page of a listing that cannot be decrypted; the names on it are read without their values.
    pub(super) async fn bisect_page(&mut self, page: ListPage<'_>, failure: ReadError) -> ReadError {
        if failure.reason != ReadErrorKind::KmsUnavailable || !page.decrypt {
            return failure;
        }
        let undecrypted = self.call(&PageRequest::from(&ListPage { decrypt: false, ..page })).await;
        let Ok(undecrypted) = undecrypted else { return failure };
        let secret = undecrypted.parameters.into_iter().filter(|one| one.value.is_none());
        let names: Vec<String> = secret.map(|one| one.name).collect();
        self.bisect(&names, true, failure).await
    }

    async fn bisect(&mut self, names: &[String], decrypt: bool, failure: ReadError) -> ReadError {
        if !matches!(failure.reason, ReadErrorKind::KmsUnavailable | ReadErrorKind::AccessDenied) {
            return failure;
        }
        let culprit = match self.request.last_failure.as_ref().filter(|last| last.reason == failure.reason) {
            // The last read searched already, and all names failed alike: a search costs up to nine calls.
            Some(ReadError { culprit: None, .. }) => None,
            Some(ReadError { culprit: Some(last), .. })
                if names.contains(last) && self.fails_with(failure.reason, last, decrypt).await =>
            {
                Some(last.clone())
            }
            _ => self.search(names, decrypt, failure.reason).await,
        };
        match culprit {
            Some(name) => ReadError {
                detail: format!("{}. It is about {name}, and maybe others", failure.detail),
                culprit: Some(name),
                ..failure
            },
            None => failure,
        }
    }

    /// Halves the names until one is left. It is returned only if it fails alone while another one is answered: when
    /// everything fails, no single parameter is the cause.
    async fn search(&mut self, names: &[String], decrypt: bool, reason: ReadErrorKind) -> Option<String> {
        if let [only] = names {
            return Some(only.clone());
        }
        let (mut suspects, mut another_is_fine) = (names, false);
        while suspects.len() > 1 {
            let (one, other) = suspects.split_at(suspects.len() / 2);
            match self.call(&names_question(one, decrypt)).await {
                Ok(_) => (suspects, another_is_fine) = (other, true),
                Err(failure) if failure.reason == reason => suspects = one,
                Err(_) => return None,
            }
        }
        let [suspect] = suspects else { return None };
        let mut others = names.iter().rev().filter(|name| *name != suspect).take(3);
        while !another_is_fine && let Some(other) = others.next() {
            another_is_fine = !self.fails_with(reason, other, decrypt).await;
        }
        let is_it = another_is_fine && self.fails_with(reason, suspect, decrypt).await;
        is_it.then(|| suspect.clone())
    }

    async fn fails_with(&mut self, reason: ReadErrorKind, name: &str, decrypt: bool) -> bool {
        let alone = [name.to_owned()];
        self.call(&names_question(&alone, decrypt)).await.is_err_and(|failure| failure.reason == reason)
    }
}

pub(super) fn names_question(names: &[String], decrypt: bool) -> NamesRequest {
    NamesRequest { names: names.to_vec(), decrypt }
}

#[cfg(test)]
mod tests {
    use tracing_mutex::parkinglot::Mutex;

    use async_trait::async_trait;
    use rstest::rstest;

    use super::super::tests::{InMemory, known_of, name, one, path, reading_after};
    use super::*;
    use crate::mirror::selection::Selection;
    use crate::ssm::api::ParameterApi;
    use parameter_mirror_ssm::Page;

    /// An SSM that cannot decrypt these names, or denies them altogether.
    struct Locked {
        ssm: InMemory,
        culprits: Vec<&'static str>,
        reason: ReadErrorKind,
        calls: Mutex<usize>,
    }

    impl Locked {
        fn new(culprits: &[&'static str], reason: ReadErrorKind) -> Self {
            let all = (0..10).map(|number| one(&format!("/a/{number}"), 1, "v"));
            Self { ssm: InMemory::new(all), culprits: culprits.to_vec(), reason, calls: Mutex::new(0) }
        }

        fn judge<'n>(
            &self,
            mut names: impl Iterator<Item = &'n str>,
            decrypt: bool,
        ) -> Result<(), ReadError> {
            *self.calls.lock() += 1;
            let concerns = decrypt || self.reason == ReadErrorKind::AccessDenied;
            let hit = concerns && names.any(|name| self.culprits.contains(&name));
            if hit { Err(ReadError::new(self.reason, "no")) } else { Ok(()) }
        }
    }

    #[async_trait]
    impl ParameterApi for Locked {
        async fn list(&self, page: ListPage<'_>) -> Result<Page, ReadError> {
            let decrypt = page.decrypt;
            let listed = self.ssm.list(page).await?;
            let of_kms = decrypt && self.reason == ReadErrorKind::KmsUnavailable;
            self.judge(listed.parameters.iter().map(|one| one.name.as_str()), of_kms)?;
            Ok(listed)
        }

        async fn get(&self, names: &[String], decrypt: bool) -> Result<Batch, ReadError> {
            self.judge(names.iter().map(String::as_str), decrypt)?;
            self.ssm.get(names, decrypt).await
        }

        async fn probe(&self, _: &Selection) -> Result<(), ReadError> {
            unreachable!("a read does not probe")
        }
    }

    fn names() -> Vec<Selection> {
        (0..10).map(|number| name(&format!("/a/{number}"))).collect()
    }

    async fn culprit(ssm: &Locked, selections: &[Selection], last: Option<ReadError>) -> Option<String> {
        let failure = reading_after(ssm, selections, known_of(&[]), last).await.unwrap_err();
        assert_eq!(failure.reason, ssm.reason);
        if let Some(culprit) = &failure.culprit {
            assert!(failure.detail.contains(culprit), "{}", failure.detail);
        }
        failure.culprit
    }

    #[rstest]
    #[case::first(&["/a/0"], "/a/0")]
    #[case::last(&["/a/9"], "/a/9")]
    #[case::in_the_middle(&["/a/5"], "/a/5")]
    #[case::one_of_two(&["/a/1", "/a/6"], "/a/1")]
    #[case::one_of_many(&["/a/0", "/a/2", "/a/4", "/a/6"], "/a/0")]
    #[tokio::test]
    async fn one_of_ten_is_found_in_a_batch_and_on_a_page(
        #[case] culprits: &[&'static str],
        #[case] expected: &str,
    ) {
        let ssm = Locked::new(culprits, ReadErrorKind::KmsUnavailable);
        assert_eq!(culprit(&ssm, &[path("/a")], None).await.as_deref(), Some(expected));
        let ssm = Locked::new(culprits, ReadErrorKind::AccessDenied);
        assert_eq!(culprit(&ssm, &names(), None).await.as_deref(), Some(expected));
        assert!(*ssm.calls.lock() <= 9);
    }

    #[tokio::test]
    async fn when_everything_fails_nobody_is_blamed_and_it_is_not_looked_for_again() {
        let all = ["/a/0", "/a/1", "/a/2", "/a/3", "/a/4", "/a/5", "/a/6", "/a/7", "/a/8", "/a/9"];
        let ssm = Locked::new(&all, ReadErrorKind::AccessDenied);
        assert_eq!(culprit(&ssm, &names(), None).await, None);
        *ssm.calls.lock() = 0;
        let last = ReadError::new(ReadErrorKind::AccessDenied, "no");
        assert_eq!(culprit(&ssm, &names(), Some(last)).await, None);
        assert_eq!(*ssm.calls.lock(), 1);
    }

    #[tokio::test]
    async fn a_known_one_is_asked_for_alone_and_another_one_is_looked_for_when_it_is_mended() {
        let last = ReadError {
            culprit: Some("/a/7".to_owned()),
            ..ReadError::new(ReadErrorKind::KmsUnavailable, "no")
        };
        let ssm = Locked::new(&["/a/7"], ReadErrorKind::KmsUnavailable);
        assert_eq!(culprit(&ssm, &names(), Some(last.clone())).await.as_deref(), Some("/a/7"));
        assert_eq!(*ssm.calls.lock(), 2);
        let ssm = Locked::new(&["/a/2"], ReadErrorKind::KmsUnavailable);
        assert_eq!(culprit(&ssm, &names(), Some(last)).await.as_deref(), Some("/a/2"));
    }

    /// What is excluded is not decrypted, so that its key may be disabled.
    #[tokio::test]
    async fn an_excluded_parameter_that_cannot_be_decrypted_stops_nothing() {
        let ssm = Locked::new(&["/a/5"], ReadErrorKind::KmsUnavailable);
        let Selection::Path(mut all) = path("/a") else { unreachable!("a path") };
        all.exclude.insert("5".to_owned());
        let read = reading_after(&ssm, &[Selection::Path(all)], known_of(&[]), None).await.unwrap();
        assert_eq!(read.parameters.len(), 9);
    }

    /// A failure of one selection among several names it.
    #[tokio::test]
    async fn the_selection_that_is_denied_is_named_among_several() {
        let ssm = Locked::new(&["/a/1"], ReadErrorKind::AccessDenied);
        let selections = [path("/b"), path("/a"), name("/a/1")];
        let failure = reading_after(&ssm, &selections, known_of(&[]), None).await.unwrap_err();
        assert!(failure.detail.ends_with("the selection of /a"), "{}", failure.detail);
    }

    #[tokio::test]
    async fn an_outage_is_not_searched_for_names() {
        let ssm = Locked::new(&["/a/3"], ReadErrorKind::SourceUnavailable);
        assert_eq!(culprit(&ssm, &names(), None).await, None);
        assert_eq!(*ssm.calls.lock(), 1);
    }
}
