//! Rows for people, and the same figures as one line of JSON for programs.

use serde_json::{Map, Value, json};

/// Prints one row: the median, the goal, and all figures.
pub fn line(what: &str, figures: &[f64], goal: &str) {
    let all: Vec<_> = figures.iter().map(|figure| format!("{figure:.2}")).collect();
    println!("{what:<70}{:>10.2}{goal:>10}   {}", median(figures), all.join(" "));
}

/// Returns the median.
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The figures of one run. Each is printed as soon as it is known.
pub struct Table {
    part: String,
    figures: Map<String, Value>,
}

impl Table {
    /// Creates an empty table and prints its header.
    pub fn new(part: &str) -> Self {
        println!("\n{part:<78}{:>10}{:>10}", "measured", "limit");
        Self { part: part.to_owned(), figures: Map::new() }
    }

    /// Adds a figure without a limit.
    pub fn figure(&mut self, key: &str, what: &str, figure: f64) {
        self.row(key, what, figure, None);
    }

    /// Adds a figure and the least possible value, given the request limit or the breaker.
    pub fn limited(&mut self, key: &str, what: &str, figure: f64, limit: f64) {
        self.row(key, what, figure, Some(limit));
    }

    fn row(&mut self, key: &str, what: &str, figure: f64, limit: Option<f64>) {
        let text = limit.map(|limit| format!("{limit:.1}")).unwrap_or_default();
        println!("{what:<78}{:>10}{text:>10}", short(figure));
        self.figures.insert(key.to_owned(), json!({"measured": figure, "limit": limit}));
    }

    /// Prints all figures as one line of JSON, with a description of the machine.
    pub fn end(self, machine: &Value) {
        println!("{}", json!({"part": self.part, "machine": machine, "figures": self.figures}));
    }
}

/// Formats counts without a fraction, everything else with two decimals. What never happened is infinite.
fn short(figure: f64) -> String {
    match figure {
        f64::INFINITY => "never".to_owned(),
        _ if figure.fract() == 0.0 => format!("{figure:.0}"),
        _ => format!("{figure:.2}"),
    }
}
