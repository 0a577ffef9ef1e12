//! Presets: the protocol by which a paper trains its students and makes their labels.
//!
//! The rule: a preset says what the recipe leaves unsaid in `[student]` and `[relabel]`, and nothing else. What it filled in
//! stands in the resolved plan.

use super::document::{Document, child};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The protocol of a paper, by the data that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// SRe2L on ImageNet-1K (arXiv 2306.13092 and `relabel.sh`, `train_FKD.sh`): labels stored as float16, T = 20; crops of
    /// 8 % and more, flip, CutMix; AdamW, 300 epochs in batches of 1024.
    Sre2lImagenet,
    /// SRe2L on CIFAR (`relabel_cifar.py` and `.sh`): labels on-line, T = 30; padded crop, flip, Mixup 0.8; AdamW, 400 epochs
    /// in batches of 128.
    Sre2lCifar,
    /// CDA (arXiv 2311.18838), whose relabelling is SRe2L's, in batches of 128.
    Cda,
    /// RDED (arXiv 2312.03526 and `argument.py`, `validation/main.py`) for images of four crops: labels on-line, T = 20; crops
    /// of half and more, flip, CutMix; AdamW, 300 epochs in batches of 100. Its shuffling of an image's four crops, and its
    /// learning rate that ends at the half, are left out.
    Rded,
    /// RDED for images of one crop (CIFAR, Tiny-ImageNet): the same with flip and CutMix alone, in batches of 50.
    RdedCifar,
    /// GUARD on ImageNette and Tiny-ImageNet (arXiv 2403.10045 and `run.sh`): SRe2L's for ImageNet in batches of 100.
    GuardImagenet,
    /// GUARD on CIFAR (`run.sh`, `relabel_cifar.py`): SRe2L's for CIFAR.
    GuardCifar,
}

impl Preset {
    /// The tables that it fills in.
    pub(super) fn tables(self) -> [(&'static str, Value); 2] {
        // `AdamW(lr=0.001, weight_decay=0.01)` with a cosine throughout.
        let student = |epochs: usize, batch_size: usize, augment: Value, mixup: f64, cutmix: f64| {
            json!({
                "epochs": epochs,
                "batch_size": batch_size,
                "optimizer": { "kind": "adamw", "learning_rate": 0.001, "weight_decay": 0.01 },
                "schedule": "cosine",
                "augment": augment,
                "mixup": mixup,
                "cutmix": cutmix,
            })
        };
        let relabel =
            |labels: &str, temperature: f64| json!({ "labels": labels, "temperature": temperature });
        let crops =
            |smallest: f64| json!([{ "kind": "random-resized-crop", "scale": [smallest, 1.0] }, "flip"]);
        let (student, relabel) = match self {
            Preset::Sre2lImagenet => (student(300, 1024, crops(0.08), 0.0, 1.0), relabel("stored", 20.0)),
            Preset::Cda => (student(300, 128, crops(0.08), 0.0, 1.0), relabel("stored", 20.0)),
            Preset::GuardImagenet => (student(300, 100, crops(0.08), 0.0, 1.0), relabel("stored", 20.0)),
            Preset::Sre2lCifar | Preset::GuardCifar => {
                (student(400, 128, json!(["crop", "flip"]), 0.8, 0.0), relabel("online", 30.0))
            }
            Preset::Rded => (student(300, 100, crops(0.5), 0.0, 1.0), relabel("online", 20.0)),
            Preset::RdedCifar => (student(300, 50, json!(["flip"]), 0.0, 1.0), relabel("online", 20.0)),
        };
        [("/student", student), ("/relabel", relabel)]
    }
}

impl Document {
    /// Fills in what `student.preset` says and the recipe does not. An unknown preset, or tables that are none, are left to
    /// the schema.
    pub(super) fn fill_in_preset(&mut self) {
        let named = self.get("/student/preset").cloned();
        let Some(preset) = named.and_then(|name| serde_json::from_value::<Preset>(name).ok()) else { return };
        for (pointer, table) in preset.tables() {
            let Value::Object(defaults) = table else { continue };
            if self.get(pointer).is_none()
                && let Value::Object(recipe) = &mut self.value
            {
                recipe.insert(pointer[1..].to_string(), Value::Object(Map::new()));
            }
            self.fill_in(pointer, &defaults);
        }
    }

    fn fill_in(&mut self, pointer: &str, defaults: &Map<String, Value>) {
        for (key, default) in defaults {
            let at = child(pointer, key);
            let another_kind = |written: &Map<String, Value>| {
                written.get("kind").is_some_and(|kind| *kind != default["kind"])
            };
            match (self.value.pointer_mut(&at), default) {
                (None, _) => {
                    if let Some(Value::Object(table)) = self.value.pointer_mut(pointer) {
                        table.insert(key.clone(), default.clone());
                    }
                }
                // What belongs to one kind of optimizer would be unknown to another.
                (Some(Value::Object(written)), Value::Object(defaults)) if !another_kind(written) => {
                    let defaults = defaults.clone();
                    self.fill_in(&at, &defaults);
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AdamW, Labels, Optimizer, Recipe, load};
    use super::*;

    fn recipe(text: &str) -> Recipe {
        let text = format!("[data]\ndataset = \"digits\"\n{text}");
        load("my.toml", &text, &[]).unwrap_or_else(|problems| panic!("{problems}")).recipe
    }

    #[test]
    fn every_preset_is_a_good_recipe_and_reads_back_as_itself() {
        let schema = serde_json::to_value(schemars::schema_for!(Preset)).unwrap();
        let names: Vec<&str> =
            schema["oneOf"].as_array().unwrap().iter().map(|form| form["const"].as_str().unwrap()).collect();
        assert_eq!(names.len(), 7);
        for name in names {
            let filled = recipe(&format!("[student]\npreset = \"{name}\"\n"));
            let written = toml::to_string(&filled).unwrap();
            assert_eq!(load("my.toml", &written, &[]).unwrap().recipe, filled, "{name}");
        }
    }

    #[test]
    fn what_is_written_wins_and_the_rest_is_filled_in() {
        let filled = recipe(
            "[relabel]\ntemperature = 4\n[student]\npreset = \"sre2l-cifar\"\nepochs = 7\noptimizer.learning_rate = 0.5\n",
        );
        let student = &filled.student;
        assert_eq!((student.epochs, student.batch_size, student.mixup), (7, 128, 0.8));
        assert_eq!((filled.relabel.temperature, filled.relabel.labels), (4.0, Labels::Online));
        let Optimizer::Adamw(AdamW { learning_rate, weight_decay, .. }) = student.optimizer else {
            panic!("the preset's kind");
        };
        assert_eq!((learning_rate, weight_decay), (0.5, 0.01));
    }

    #[test]
    fn another_kind_of_optimizer_takes_nothing_from_the_presets() {
        let filled = recipe("[student]\npreset = \"rded\"\noptimizer = { kind = \"sgd\" }\n");
        assert_eq!(filled.student.optimizer, Optimizer::Sgd(Default::default()));
        assert_eq!((filled.student.cutmix, filled.student.mixup), (1.0, 0.0));
    }

    #[test]
    fn a_variant_may_have_a_preset_of_its_own() {
        let text = "[data]\ndataset = \"digits\"\n[student]\nepochs = 9\n[[variants]]\nname = \"a\"\n[[variants]]\n\
                    name = \"b\"\nstudent.preset = \"sre2l-imagenet\"\n";
        let loaded = load("my.toml", text, &[]).unwrap();
        let [a, b] = &loaded.variants[..] else { panic!("two variants") };
        assert_eq!((a.recipe.student.epochs, b.recipe.student.epochs), (9, 9));
        assert_eq!((a.recipe.relabel.labels, b.recipe.relabel.labels), (Labels::Online, Labels::Stored));
        assert_eq!(b.recipe.student.batch_size, 1024);
    }

    #[test]
    fn an_unknown_preset_is_told_with_those_there_are() {
        let text = "[data]\ndataset = \"digits\"\n[student]\npreset = \"sre2l\"\n";
        let problems = load("my.toml", text, &[]).unwrap_err().to_string();
        assert!(problems.contains("unknown value `sre2l` for `student.preset`"), "{problems}");
    }
}
