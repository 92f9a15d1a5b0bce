//! Values that formats get wrong: those of real inventories (tests/sdk/parameters), single characters with a meaning, and
//! random mixtures of them.

use std::path::Path;

use serde::Deserialize;

/// What means something to a shell, to YAML, or to a reader of .env files.
const AWKWARD: [&str; 62] = [
    "",
    " ",
    "\n",
    "a\n",
    "\na",
    "a\nb",
    "a\r\nb",
    "a\rb",
    "\r",
    "it's",
    "\"x\"",
    "it's \"x\"",
    "'\"\n",
    "`id`",
    "$",
    "$X",
    "$(id)",
    "${X}",
    "${X:-y}",
    "${X",
    "a$",
    "\\",
    "a\\",
    "\\n",
    "a\\nb",
    "\\\\",
    "C:\\dir\\",
    "\\'",
    "'",
    "\"",
    "''",
    "#",
    "a#b",
    "a #b",
    "# x",
    " a",
    "a ",
    "\ta",
    "a\t",
    "\u{1}",
    "\u{1b}[0m",
    "\u{7f}",
    "\u{85}",
    "\u{a0}x",
    "\u{2028}",
    "a\u{2029}b",
    "\u{feff}",
    "\u{fffe}",
    "{{ x }}",
    "!",
    "a!b",
    "ü 日本",
    "\u{1f600}",
    "a=b",
    "export X=1",
    "KEY=1\n#c\nX='1'\n",
    "-x",
    "~",
    "a: b",
    "no",
    "0755",
    "1e3",
];

/// The pieces of random values.
const PIECES: [&str; 20] = [
    "a", "b ", "'", "\"", "`", "\\", "$", "#", "=", "{", "}", "!", "\n", " ", "\t", "\u{2028}", "\u{7f}",
    "ü", "${X}", "\\n",
];

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Parameter {
    value: String,
}

/// Returns all of them.
pub fn values() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/sdk/parameters");
    let mut values: Vec<String> = AWKWARD.map(str::to_owned).into();
    for file in std::fs::read_dir(folder).unwrap() {
        let json = std::fs::read(file.unwrap().path()).unwrap();
        let parameters: Vec<Parameter> = serde_json::from_slice(&json).unwrap();
        values.extend(parameters.into_iter().map(|parameter| parameter.value));
    }
    assert!(values.len() > 200, "only {} values were found", values.len());
    // The constants of Knuth's MMIX.
    let mut state = 17_u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    for _ in 0..1_000 {
        let pieces = next(9);
        values.push((0..pieces).map(|_| PIECES[next(PIECES.len())]).collect());
    }
    values
}
