//! The programs of docs/readers on real hashes. They are written from docs/reference/redis-format.md and share no code
//! with ours.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use parameter_mirror_format::content::entry::ParameterType;
use parameter_mirror_format::hash::fields::Fields;
use parameter_mirror_format::hash::{
    COUNT, ENC, EncryptionMode, FORMAT, MAC, PARAMS, READ_AT, READER_MAC, REVISION, SOURCE,
};
use parameter_mirror_test_support::{MirrorHash, Redis, Scratch};
use serde::Deserialize;

use crate::mirror::{Expected, KEY, laid_out};
use crate::programs::{program, root, run};

const SECURE: &str = "/app/db/password";
const OTHER_SECURE: &str = "/app/token";
const PLAIN: &str = "/app/db/host";

/// One of the programs, on its own Redis.
struct Reader {
    name: &'static str,
    redis: Redis,
    scratch: Arc<Scratch>,
}

impl Reader {
    async fn new(name: &'static str) -> Self {
        Self { name, redis: Redis::start().await, scratch: Arc::new(Scratch::new("hashes").unwrap()) }
    }

    /// Writes a hash, and returns the values that the program prints for it, or its error.
    async fn read(&self, hash: &MirrorHash) -> Result<BTreeMap<String, String>, String> {
        hash.write(&self.redis).await;
        self.read_with(&hash.sub_key).await
    }

    /// Reads what is in Redis with these sub-keys, one per line; without any, there is no file.
    async fn read_with(&self, sub_keys: &str) -> Result<BTreeMap<String, String>, String> {
        self.read_by(&self.redis.url(), sub_keys).await
    }

    async fn read_by(&self, url: &str, sub_keys: &str) -> Result<BTreeMap<String, String>, String> {
        let file = if sub_keys.is_empty() { vec![] } else { vec![self.file(sub_keys)] };
        self.run(url, &file).await
    }

    fn file(&self, sub_keys: &str) -> String {
        let file = self.scratch.path().join("sub-keys");
        fs::write(&file, sub_keys).unwrap();
        file.to_str().unwrap().to_owned()
    }

    async fn run(&self, url: &str, arguments: &[String]) -> Result<BTreeMap<String, String>, String> {
        let mut command = program(self.name);
        command.args([url, KEY]).args(arguments);
        Ok(serde_json::from_str(&run(&command).await?).expect("a JSON object of texts"))
    }

    /// Asserts one line that names the hash and `what`, and contains no value.
    async fn refuses(&self, hash: &MirrorHash, what: &str) {
        let printed = self.read(hash).await;
        self.is_refusal(printed, what);
    }

    fn is_refusal(&self, printed: Result<BTreeMap<String, String>, String>, what: &str) {
        let name = self.name;
        let line = printed.expect_err(&format!("{name} reads it, although {what}"));
        assert_eq!(line.lines().count(), 1, "{name}: {line}");
        assert!(line.starts_with(KEY) && line.contains(what), "{name}, for {what}: {line}");
        for value in Expected::read().values().values().filter(|value| value.len() > 2) {
            assert!(!line.contains(value), "{name} shows a value: {line}");
        }
    }
}

async fn reads_every_hash(name: &'static str) {
    let reader = Reader::new(name).await;
    let expected = Expected::read();
    for mode in [EncryptionMode::SecureStrings, EncryptionMode::All] {
        let hash = laid_out(&expected, mode);
        assert_eq!(reader.read(&hash).await, Ok(expected.values()), "{name}, {mode:?}");
    }
    // With a sub-key, plain values are verified, too.
    let strings = Expected::read().only(|kind| kind != ParameterType::SecureString);
    let hash = laid_out(&strings, EncryptionMode::None);
    assert_eq!(reader.read(&hash).await, Ok(strings.values()), "{name}, nothing secret");
    // During a rotation a reader has two sub-keys.
    let hash = laid_out(&expected, EncryptionMode::All);
    hash.write(&reader.redis).await;
    let two = format!("k-old:{}\n{}\n", "A".repeat(43), hash.sub_key);
    assert_eq!(reader.read_with(&two).await, Ok(expected.values()), "{name}, two sub-keys");
    let plain = MirrorHash { sub_key: String::new(), ..laid_out(&expected, EncryptionMode::None) };
    assert_eq!(reader.read(&plain).await, Ok(expected.values()), "{name}, no sub-key needed");
}

/// The test vectors of the layout come from an implementation that is neither the operator nor one of these
/// programs.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vector {
    manifest: BTreeMap<String, serde_json::Value>,
    values: BTreeMap<String, String>,
    sub_key: String,
    enc: String,
    source: String,
    read_at: i64,
    revision: String,
    mac: String,
    params: String,
    reader_mac: String,
    checked_mac: String,
    fields: BTreeMap<String, Field>,
}

#[derive(Deserialize)]
struct Field {
    text: String,
}

impl Vector {
    fn all() -> Vec<Self> {
        let vectors = fs::read(root().join("crates/format/tests/format-vectors.json")).unwrap();
        let vectors: Vec<Self> = serde_json::from_slice(&vectors).unwrap();
        assert_eq!(vectors.len(), 3);
        vectors
    }
}

async fn reads_the_vectors(name: &'static str) {
    let reader = Reader::new(name).await;
    for vector in Vector::all() {
        let mut fields = Fields::default();
        for (name, field) in vector.fields {
            fields.insert(name, field.text);
        }
        fields.insert(FORMAT, "1");
        fields.insert(COUNT, vector.manifest.len().to_string());
        for (name, text) in [
            (PARAMS, vector.params.as_str()),
            (ENC, &vector.enc),
            (SOURCE, &vector.source),
            (REVISION, &vector.revision),
            (READ_AT, &vector.read_at.to_string()),
            (MAC, &vector.mac),
            (READER_MAC, &vector.reader_mac),
        ] {
            fields.insert(name, text);
        }
        let hash = MirrorHash { key: KEY.to_owned(), fields, sub_key: vector.sub_key };
        assert_eq!(reader.read(&hash).await, Ok(vector.values), "{name}, {}", vector.enc);
    }
}

async fn refuses_what_is_damaged(name: &'static str) {
    type Damage = fn(&mut Fields);
    let reader = Reader::new(name).await;
    let damages: [(&str, Damage); 14] = [
        ("@readerMac does not fit", |fields| {
            let mut text = fields.text(SECURE).unwrap().to_owned();
            // Inside the ciphertext; the very last digit may carry bits that are ignored.
            let place = text.len() - 30;
            let other = if &text[place..=place] == "A" { "B" } else { "A" };
            text.replace_range(place..=place, other);
            fields.insert(SECURE, text);
        }),
        ("@readerMac does not fit", |fields| {
            let moved = fields.get(OTHER_SECURE).unwrap().to_vec();
            fields.insert(SECURE, moved);
        }),
        ("@readerMac does not fit", |fields| fields.insert(SECURE, "put here by hand")),
        ("@readerMac does not fit", |fields| fields.insert(PLAIN, "put here by hand")),
        ("@readerMac does not fit", |fields| fields.remove(PLAIN)),
        ("@readerMac does not fit", |fields| fields.insert("/app/more", "put here by hand")),
        ("@readerMac does not fit", |fields| fields.insert(COUNT, "13")),
        // A `SecureString` becomes a `String`, with an attacker's value.
        ("@readerMac does not fit", |fields| {
            let params = fields.text(PARAMS).unwrap().replace("SecureString", "String");
            fields.insert(PARAMS, params);
            fields.insert(ENC, "none");
        }),
        ("@readerMac does not fit", |fields| fields.insert(READER_MAC, "pm1:k-one:AAAA")),
        ("@readerMac needs the key k-two, which is not given", |fields| {
            let text = fields.text(READER_MAC).unwrap().replace("k-one", "k-two");
            fields.insert(READER_MAC, text);
        }),
        ("@readerMac needs the key , which is not given", |fields| fields.remove(READER_MAC)),
        ("the layout is 2, not 1", |fields| fields.insert(FORMAT, "2")),
        ("@readerMac does not fit", |fields| fields.insert(ENC, "Some:pm2:k-one")),
        ("no such hash", |fields| *fields = Fields::default()),
    ];
    for (what, damage) in damages {
        let mut hash = laid_out(&Expected::read(), EncryptionMode::SecureStrings);
        damage(&mut hash.fields);
        reader.refuses(&hash, what).await;
    }
    let hash = laid_out(&Expected::read(), EncryptionMode::SecureStrings);
    hash.write(&reader.redis).await;
    reader.is_refusal(reader.read_with("").await, "is encrypted with the key k-one, which is not given");
    let of_another_hash = format!("k-one:{}", "A".repeat(43));
    reader.is_refusal(reader.read_with(&of_another_hash).await, "@readerMac does not fit");
    let none = [reader.file("\n")];
    let printed = reader.run(&reader.redis.url(), &none).await;
    reader.is_refusal(printed, "@readerMac needs the key k-one, which is not given");
    reader.redis.kill();
    reader.is_refusal(reader.read_with("").await, "");
}

/// A reader does not trust the hash on what is encrypted. With a sub-key it refuses a plain `SecureString`
/// even if the operator wrote it; without one, it detects a forged value by its form.
async fn decides_itself_what_has_to_be_encrypted(name: &'static str) {
    let reader = Reader::new(name).await;
    let plain = laid_out(&Expected::read(), EncryptionMode::None);
    reader.refuses(&plain, " is a SecureString that is not encrypted").await;
    let some = laid_out(&Expected::read(), EncryptionMode::SecureStrings);
    some.write(&reader.redis).await;
    let all = [reader.file(&some.sub_key), "All".to_owned()];
    let printed = reader.run(&reader.redis.url(), &all).await;
    reader.is_refusal(printed, "that is not encrypted");
    let encrypted = laid_out(&Expected::read(), EncryptionMode::All);
    encrypted.write(&reader.redis).await;
    let all = [reader.file(&encrypted.sub_key), "All".to_owned()];
    assert_eq!(reader.run(&reader.redis.url(), &all).await, Ok(Expected::read().values()), "{name}");
    let damaged = MirrorHash { sub_key: String::new(), ..some };
    for (what, name, text) in [
        ("@count is 13, but @params names 12", COUNT, "13"),
        ("@enc is Some:pm2:k-one", ENC, "Some:pm2:k-one"),
    ] {
        let mut fields = damaged.fields.clone();
        fields.insert(name, text);
        let hash = MirrorHash { fields, sub_key: String::new(), key: KEY.to_owned() };
        reader.refuses(&hash, what).await;
    }
    let mut fields = plain.fields.clone();
    fields.remove(PLAIN);
    let hash = MirrorHash { fields, sub_key: String::new(), key: KEY.to_owned() };
    reader.refuses(&hash, "/app/db/host is in @params and has no field").await;
}

async fn reads_with_the_documented_rights(name: &'static str) {
    let reader = Reader::new(name).await;
    let page = page();
    let rights = page.split_once("<!-- rights -->\n```text\n").unwrap().1.lines().next().unwrap();
    let rights: Vec<&str> = rights.split(' ').collect();
    assert!(rights.contains(&">PASSWORD") && rights.contains(&"checkout"), "{rights:?}");
    reader.redis.cli(&rights).await;

    let expected = Expected::read();
    let hash = laid_out(&expected, EncryptionMode::SecureStrings);
    hash.write(&reader.redis).await;
    let url = reader.redis.url().replace("redis://", "redis://checkout:PASSWORD@");
    assert_eq!(reader.read_by(&url, &hash.sub_key).await, Ok(expected.values()), "{name}");

    let may =
        async |command: &[&str]| reader.redis.cli(&[&["acl", "dryrun", "checkout"], command].concat()).await;
    assert_eq!(may(&["hmget", KEY, "@generation", "@checkedAt", "@status"]).await, "OK");
    for refused in
        [&["hset", KEY, "/x", "y"][..], &["del", KEY], &["hgetall", "pm:{shop/search}"], &["keys", "*"]]
    {
        assert_ne!(may(refused).await, "OK", "{refused:?}");
    }
}

fn page() -> String {
    fs::read_to_string(root().join("docs/reference/redis-format.md")).unwrap()
}

#[test]
fn the_page_shows_the_vectors() {
    // Wherever its lines end.
    let (page, vectors) = (page().replace('\n', " "), Vector::all());
    for vector in vectors.iter().filter(|vector| vector.enc != "none") {
        assert!(
            page.contains(&format!("With `@enc` = `{}` and the sub-key `{}`:", vector.enc, vector.sub_key))
        );
        for mac in [&vector.reader_mac, &vector.checked_mac] {
            assert!(page.contains(&format!("`{mac}`")), "{mac}");
        }
        for (name, field) in vector.fields.iter().filter(|(_, field)| !field.text.is_empty()) {
            let kind = vector.manifest[name]["type"].as_str().unwrap();
            let value = serde_json::to_string(&vector.values[name]).unwrap();
            let row = format!("| `{name}` | {kind} | `{}` | `{value}` |", field.text);
            assert!(page.contains(&row), "{row}");
        }
    }
}

macro_rules! tests_of {
    ($language:ident, $program:literal) => {
        mod $language {
            #[tokio::test]
            async fn reads_every_hash() {
                super::reads_every_hash($program).await;
            }

            #[tokio::test]
            async fn reads_the_vectors() {
                super::reads_the_vectors($program).await;
            }

            #[tokio::test]
            async fn reads_with_the_documented_rights() {
                super::reads_with_the_documented_rights($program).await;
            }

            #[tokio::test]
            async fn decides_itself_what_has_to_be_encrypted() {
                super::decides_itself_what_has_to_be_encrypted($program).await;
            }

            #[tokio::test]
            async fn refuses_what_is_damaged() {
                super::refuses_what_is_damaged($program).await;
            }
        }
    };
}

tests_of!(python, "reader-python");
tests_of!(javascript, "reader-node");
tests_of!(java, "reader-java");
tests_of!(go, "reader-go");
