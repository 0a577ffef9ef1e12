//! `[sweep]`: keys, and for each of them a list of values. Every combination is a variant.
//!
//! The rule: a sweep is nothing but variants that nobody had to write down. So they share what is equal in them, a teacher
//! first of all, and are resumed, compared and reported as variants are.

use serde_json::{Map, Value};

use super::document::{Document, Mark, child, dotted, last};
use super::explain::name;
use super::problem::{Location, Problem};
use super::variants::{Named, refused_key};
use super::words::{kind_of, short};

const TABLE: &str = "/sweep";

/// More variants than these are a slip of the pen.
const MOST: usize = 1000;

/// One of the keys that are swept.
struct Axis {
    /// The keys that lead to it, with their places.
    path: Vec<(String, Location)>,
    /// What names of variants call it.
    label: String,
    /// The pointer of its list, and the values in it.
    list: String,
    values: Vec<Value>,
}

/// Every variant at every point of the sweep, and what is wrong with the sweep. `alone` is what the recipe itself is called,
/// where it has no variants.
pub(super) fn sweep(document: &Document, variants: Vec<Named>, alone: &str) -> (Vec<Named>, Vec<Problem>) {
    let Some(Value::Object(table)) = document.get(TABLE) else { return (variants, Vec::new()) };
    let (mut axes, mut problems) = (Vec::new(), Vec::new());
    collect(document, TABLE, table, &mut axes, &mut problems);
    name_axes(&mut axes);
    let bases = match document.get("/variants") {
        Some(_) => variants,
        None => {
            let mut document = document.clone();
            document.remove(TABLE);
            vec![Named { name: alone.to_owned(), baseline: false, document }]
        }
    };
    let count = axes.iter().fold(bases.len(), |count, axis| count.saturating_mul(axis.values.len()));
    if count > MOST {
        let problem = document.problem(TABLE, Mark::Value, format!("the sweep has {count} variants"));
        problems.push(problem.help(format!("a run has at most {MOST}")));
    }
    if axes.is_empty() || !problems.is_empty() {
        return (bases, problems);
    }
    let named = document.get("/variants").is_some();
    let mut points = Vec::new();
    for base in &bases {
        for number in 0..count / bases.len() {
            let (mut point, mut words) = (base.document.clone(), Vec::new());
            if named {
                words.push(base.name.clone());
            }
            // The last axis goes fastest.
            let mut rest = number;
            let places: Vec<usize> = axes
                .iter()
                .rev()
                .map(|axis| {
                    let place = rest % axis.values.len();
                    rest /= axis.values.len();
                    place
                })
                .collect();
            for (axis, place) in axes.iter().zip(places.into_iter().rev()) {
                words.push(format!("{} {}", axis.label, value_name(&axis.values[place], place)));
                if let Err(problem) = point.put(axis, place, document) {
                    let of = if named { format!(" (variant `{}`)", base.name) } else { String::new() };
                    problems.push(Problem { message: format!("{}{of}", problem.message), ..problem });
                }
            }
            points.push(Named { name: words.join(" "), baseline: base.baseline, document: point });
        }
    }
    let repeated =
        (1..points.len()).find(|&place| points[..place].iter().any(|each| each.name == points[place].name));
    if let Some(place) = repeated {
        let message = format!("two variants of the sweep are called `{}`", points[place].name);
        problems.push(document.problem(TABLE, Mark::Value, message).help("list each value once"));
    }
    (points, problems)
}

/// Finds the lists of the table at `pointer`.
fn collect(
    document: &Document,
    pointer: &str,
    table: &Map<String, Value>,
    axes: &mut Vec<Axis>,
    problems: &mut Vec<Problem>,
) {
    for (key, value) in table {
        let at = child(pointer, key);
        if pointer == TABLE && key.contains('.') {
            let problem =
                document.problem(&at, Mark::Key, format!("`{key}` is one key in quotes, not a path"));
            problems.push(problem.help(format!("leave out the quotes: `{key} = [...]`")));
            continue;
        }
        if pointer == TABLE && !super::variants::may_differ(key) {
            problems.push(refused_key(document, key, &at));
            continue;
        }
        match value {
            Value::Object(inner) => collect(document, &at, inner, axes, problems),
            Value::Array(values) if values.is_empty() => {
                problems.push(document.problem(&at, Mark::Value, format!("{} has no values", name(&at))));
            }
            Value::Array(values) => axes.push(Axis {
                path: path(document, &at),
                label: String::new(),
                list: at,
                values: values.clone(),
            }),
            other => {
                let message =
                    format!("expected a list of values for {}, found {}", name(&at), kind_of(other));
                let problem = document.problem(&at, Mark::Value, message);
                problems.push(problem.help(format!("write `[{}]`", short(&other.to_string()))));
            }
        }
    }
}

/// The keys below the table of the sweep, each at the place where it was written.
fn path(document: &Document, list: &str) -> Vec<(String, Location)> {
    let ends = list.match_indices('/').map(|(at, _)| at).skip(2).chain([list.len()]);
    ends.map(|end| {
        let pointer = &list[..end];
        let location = document.problem(pointer, Mark::Key, "").location;
        (last(pointer).unwrap_or_default(), location.unwrap_or_else(|| document.whole()))
    })
    .collect()
}

/// The last key that is no number; the whole path where two would be called the same.
fn name_axes(axes: &mut [Axis]) {
    let short = |axis: &Axis| {
        let mut keys = axis.path.iter().map(|(key, _)| key).rev();
        keys.find(|key| key.parse::<usize>().is_err()).cloned().unwrap_or_default()
    };
    let names: Vec<String> = axes.iter().map(short).collect();
    for (axis, name) in axes.iter_mut().zip(&names) {
        axis.label = match names.iter().filter(|other| *other == name).count() {
            1 => name.clone(),
            _ => dotted(&axis.list[TABLE.len()..]),
        };
    }
}

/// A value in the name of a folder.
fn value_name(value: &Value, place: usize) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(_) | Value::Bool(_) => value.to_string(),
        _ => (place + 1).to_string(),
    };
    text.chars().map(|c| if c.is_ascii_alphanumeric() || "._+-".contains(c) { c } else { '-' }).collect()
}

impl Document {
    /// Sets the key of an axis to its value at `place`, which `from` has.
    fn put(&mut self, axis: &Axis, place: usize, from: &Document) -> Result<(), Problem> {
        let here = self.open(&axis.path)?;
        self.adopt(&here, from, &child(&axis.list, &place.to_string()));
        if let Some(slot) = self.value.pointer_mut(&here) {
            slot.clone_from(&axis.values[place]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::recipe::{Loaded, load};

    const RECIPE: &str = "[data]\ndataset = \"digits\"\n[[training.regularizers]]\nuse = \"curvature\"\n[distill]\nobjective = \"sre2l\"\n";

    fn loaded(more: &str) -> Loaded {
        load("my.toml", &format!("{RECIPE}{more}"), &[]).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn names(loaded: &Loaded) -> Vec<&str> {
        loaded.variants.iter().map(|variant| variant.name.as_str()).collect()
    }

    #[test]
    fn every_combination_is_a_variant_and_the_last_key_goes_fastest() {
        let found = loaded(
            "[sweep]\ndistill.images_per_class = [1, 10]\ntraining.regularizers.0.weight = [0.5, 1e-3]\n",
        );
        assert_eq!(
            names(&found),
            [
                "images_per_class 1 weight 0.5",
                "images_per_class 1 weight 0.001",
                "images_per_class 10 weight 0.5",
                "images_per_class 10 weight 0.001"
            ]
        );
        let last = &found.variants[3];
        assert_eq!(last.recipe.distill.as_ref().unwrap().images_per_class, 10);
        assert_eq!(last.recipe.training.regularizers[0].weight, 0.001);
        assert_eq!(last.document.origin("/distill/images_per_class").unwrap().to_string(), "my.toml:8:32");
    }

    #[test]
    fn every_variant_is_swept_and_keeps_its_name_and_mark() {
        let found = loaded(
            "[sweep]\ntraining.epochs = [1, 2]\n[[variants]]\nname = \"a\"\n[[variants]]\nname = \"b\"\nbaseline = true\ntraining.epochs = 9\n",
        );
        assert_eq!(names(&found), ["a epochs 1", "a epochs 2", "b epochs 1", "b epochs 2"]);
        assert!(!found.variants[0].baseline && found.variants[3].baseline);
        assert_eq!(found.variants[3].recipe.training.epochs, 2);
    }

    #[test]
    fn lists_and_tables_are_swept_by_number_and_equal_keys_by_path() {
        let found = loaded("[sweep]\ntraining.augment = [[], [\"flip\"]]\nstudent.augment = [[\"flip\"]]\n");
        assert_eq!(
            names(&found),
            ["training.augment 1 student.augment 1", "training.augment 2 student.augment 1"]
        );
    }

    #[test]
    fn what_cannot_be_swept_is_told_at_its_place() {
        let told = |more: &str| load("my.toml", &format!("{RECIPE}{more}"), &[]).unwrap_err().to_string();
        let cases = [
            ("[sweep]\nseed = [1, 2]\n", "variants cannot differ in `seed`", "my.toml:8:1"),
            (
                "[sweep]\ntraining.epochs = 5\n",
                "expected a list of values for `sweep.training.epochs`, found",
                "my.toml:8:19",
            ),
            ("[sweep]\ntraining.epochs = []\n", "`sweep.training.epochs` has no values", "my.toml:8:19"),
            (
                "[sweep]\ntraining.regularizers.3.weight = [1]\n",
                "`training.regularizers` has no element `3`",
                "my.toml:8:23",
            ),
            (
                "[sweep]\ntraining.epochs = [5, 5]\n",
                "two variants of the sweep are called `epochs 5`",
                "my.toml:7:1",
            ),
            (
                "[sweep]\n\"training.epochs\" = [5]\n",
                "leave out the quotes: `training.epochs = [...]`",
                "my.toml:8:1",
            ),
            (
                "[sweep]\ntraining.epochs = [5, \"x\"]\n",
                "expected a whole number for `training.epochs`",
                "my.toml:8:23",
            ),
            ("[sweep]\ntraining.epoch = [5]\n", "unknown key `epoch` in `training`", "my.toml:8:"),
        ];
        for (more, message, place) in cases {
            let told = told(more);
            assert!(told.contains(message) && told.contains(place), "{told}");
        }
        let many = format!("[sweep]\ntraining.epochs = [{}]\n", "1, ".repeat(1001));
        assert!(told(&many).contains("the sweep has 1001 variants"));
    }
}
