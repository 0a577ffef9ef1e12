//! Good recipes come back typed, with every default filled in and every variant resolved.

use super::*;

#[test]
fn a_full_recipe_comes_back_typed() {
    let loaded = good(FULL, &["training.epochs=3", "student.batch_size = 16"]);
    let recipe = &loaded.recipe;
    assert_eq!(loaded.name, "digits");
    assert_eq!(recipe.training.epochs, 3);
    assert_eq!(recipe.student.batch_size, 16);
    assert_eq!(recipe.student.epochs, 300);
    assert_eq!(recipe.training.regularizers[0].options["radius"], 1.5);
    let threat = recipe.evaluate.threat.as_ref().expect("a threat");
    let radii: Vec<String> = threat.epsilon.0.iter().map(ToString::to_string).collect();
    assert_eq!(radii, ["1/255", "0.05"]);
    let labels: Vec<&str> = recipe.evaluate.attacks.iter().map(AttackUse::label).collect();
    assert_eq!(labels, ["pgd-100", "pgd"]);
}

#[test]
fn a_variant_is_the_recipe_with_its_keys_replaced() {
    let loaded = good(FULL, &[]);
    let [plain, matching] = loaded.variants.as_slice() else {
        panic!("two variants");
    };
    assert_eq!((plain.name.as_str(), matching.name.as_str()), ("plain", "matching"));
    assert!(plain.recipe.training.regularizers.is_empty());
    assert_eq!(plain.recipe.distill, loaded.recipe.distill);
    assert!(plain.recipe.variants.is_empty());

    let distill = matching.recipe.distill.as_ref().expect("a distillation");
    assert_eq!((distill.objective.as_str(), distill.images_per_class), ("dm", 1));
    assert!(distill.options.is_empty(), "they are options of sre2l");
    let Optimizer::Sgd(sgd) = &matching.recipe.training.optimizer else {
        panic!("still sgd");
    };
    assert_eq!((sgd.learning_rate, sgd.momentum), (0.05, 0.5));
    let origin = matching.document.origin("/distill/objective");
    assert_eq!(origin.map(|place| place.to_string()).as_deref(), Some("recipes/my.toml:61:25"));
}

#[test]
fn without_variants_the_recipe_is_the_only_one_and_takes_the_name_of_its_file() {
    let loaded = good(SHORT, &[]);
    assert_eq!(loaded.name, "my");
    assert_eq!(loaded.variants.len(), 1);
    assert_eq!(loaded.variants[0].name, "my");
    assert_eq!(loaded.variants[0].recipe, loaded.recipe);
    assert_eq!(name_from_file("a/süß x.v2.toml"), "s-- x.v2");
    assert_eq!(name_from_file("recipes/my süß.toml"), "my s");
    assert_eq!(name_from_file("<built-in>"), "built-in");
    assert_eq!(name_from_file(""), "recipe");
}

#[test]
fn a_resolved_recipe_reads_back_as_itself() {
    for text in [SHORT, FULL] {
        let recipe = good(text, &[]).recipe;
        let written = toml::to_string(&recipe).expect("TOML can say it");
        assert_eq!(good(&written, &[]).recipe, recipe, "{written}");
    }
}

#[test]
fn every_key_of_the_schema_is_described() {
    fn undescribed(at: &str, schema: &Value, found: &mut Vec<String>) {
        if let Some(properties) = schema["properties"].as_object() {
            for (key, property) in properties {
                let tag = property.get("const").is_some();
                if !tag && property.get("description").is_none() {
                    found.push(format!("{at}/{key}"));
                }
            }
        }
        let parts: Box<dyn Iterator<Item = (String, &Value)>> = match schema {
            Value::Object(table) => Box::new(table.iter().map(|(key, part)| (key.clone(), part))),
            Value::Array(list) => Box::new(list.iter().map(|part| (String::new(), part))),
            _ => return,
        };
        for (key, part) in parts {
            undescribed(&format!("{at}/{key}"), part, found);
        }
    }
    let mut found = Vec::new();
    undescribed("", &schema(), &mut found);
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn a_schedule_is_a_name_or_a_table() {
    let schedule = |written: &str| {
        good(&with(&format!("[training]\nschedule = {written}\n")), &[]).recipe.training.schedule
    };
    assert_eq!(schedule("\"constant\""), Schedule::Constant);
    let milestones = MultiStepSchedule { milestones: vec![0.5, 0.75], factor: 0.1 };
    assert_eq!(
        schedule("{ kind = \"multi-step\", milestones = [0.5, 0.75] }"),
        Schedule::MultiStep(milestones)
    );
    assert_eq!(
        schedule("{ kind = \"step\", every = 0.25, factor = 0.5 }"),
        Schedule::Step(StepSchedule { every: 0.25, factor: 0.5 })
    );
    assert_eq!(schedule("\"one-cycle\""), Schedule::OneCycle(OneCycleSchedule { rise: 0.3 }));
}
