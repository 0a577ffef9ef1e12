//! Stored labels are replayed: what a student learns from the file is what the teacher says of the very same views.

use guard_host::{
    engine::{LabelSource, StudentTrainer, TrainingLoss, Views, relabel},
    network::{Model, NormLayer},
    random::Streams,
    recipe::{Relabel, Student},
    run::{LabelPlan, Observer, SoftLabels},
};
use guard_sdk::{Device, Kind, Tensor};
use guard_tests::{Bench, Examples, spec};
use serde_json::json;

struct Unobserved;

impl Observer for Unobserved {
    fn iteration(&self, _: u64, _: u64) {}
}

/// Everything that is random in a view, in batches that do not divide the images.
fn student() -> Student {
    let changes = json!({
        "epochs": 3, "batch_size": 4, "augment": ["random-resized-crop", "flip"], "mixup": 0.8, "cutmix": 1.0
    });
    serde_json::from_value(changes).unwrap()
}

/// Ten images, and a teacher whose logits are far apart.
fn images_and_teacher() -> (Examples, Model) {
    let examples = Examples::with_norm(NormLayer::Batch, Kind::Float, 10).frozen();
    let louder = |tensor: &Tensor| tensor * 3.0;
    let parameters: Vec<Tensor> = examples.model.parameters().iter().map(louder).collect();
    let teacher = examples.model.copy(Kind::Float, false);
    for (parameter, louder) in teacher.parameters().iter().zip(&parameters) {
        guard_sdk::autograd::no_grad(|| parameter.shallow_clone().copy_(louder));
    }
    (examples, teacher)
}

fn stored(
    folder: &std::path::Path,
    examples: &Examples,
    teacher: &Model,
    relabelling: &Relabel,
) -> SoftLabels {
    let student = student();
    let views = Views { images: &examples.images, student: &student, streams: Streams::new(3) };
    let plan = LabelPlan::new(relabelling, &student, 3, 10, 4);
    let path = folder.join("soft-labels.safetensors");
    relabel([&folder.join("aside"), &path], &plan, &views, teacher, &Unobserved).unwrap();
    SoftLabels::open(&path, plan).unwrap()
}

#[test]
fn every_stored_row_is_the_teachers_answer_to_its_view_rounded_to_float16() {
    let folder = tempfile::tempdir().unwrap();
    let (examples, teacher) = images_and_teacher();
    let labels = stored(folder.path(), &examples, &teacher, &Relabel::default());
    let student = student();
    let views = Views { images: &examples.images, student: &student, streams: Streams::new(3) };
    let mut seen = 0;
    for epoch in 0..3 {
        for (iteration, positions) in (epoch * views.per_epoch()..).zip(views.order(epoch)) {
            let view = views.batch(epoch, iteration, &positions).unwrap();
            let online = teacher.eval_logits(&view.images).unwrap();
            let kept = labels.logits(epoch as i64, &view.positions).unwrap();
            assert_eq!(kept, online.to_kind(Kind::Half).to_kind(Kind::Float), "epoch {epoch}");
            assert_ne!(kept, online);
            seen += positions.len();
        }
    }
    assert_eq!(seen, 30);
}

/// The parameters of a student that was trained on labels of `source`, views of `streams`.
fn trained(examples: &Examples, source: LabelSource, streams: Streams, student: &Student) -> Tensor {
    let (bench, penalties) = (Bench::new(&[]), TrainingLoss::new(0.0, 0.0, Vec::new()));
    let trainer = StudentTrainer {
        views: Views { images: &examples.images, student, streams },
        labels: &examples.labels,
        classes: 4,
        source: &source,
        temperature: 2.0,
        penalties: &penalties,
        streams: Streams::new(9),
        observer: &Unobserved,
    };
    let fresh = Model::fresh(&spec(NormLayer::Instance), &Streams::new(5), Device::Cpu).unwrap();
    let trained = trainer.run(fresh, &bench.context());
    assert!(trained.failure.is_none(), "{:?}", trained.failure);
    let flat: Vec<Tensor> =
        trained.model.parameters().iter().map(|parameter| parameter.detach().flatten(0, -1)).collect();
    Tensor::cat(&flat, 0)
}

#[test]
fn a_student_of_stored_labels_is_that_of_on_line_labels_up_to_their_rounding() {
    let folder = tempfile::tempdir().unwrap();
    let (examples, teacher) = images_and_teacher();
    let labels = stored(folder.path(), &examples, &teacher, &Relabel::default());
    let mut student = student();
    // Adam divides by the size of gradients, and with it their rounding.
    student.optimizer =
        serde_json::from_value(json!({ "kind": "sgd", "learning_rate": 0.1, "momentum": 0.0 })).unwrap();
    let run = |source, seed| trained(&examples, source, Streams::new(seed), &student);
    let replayed = run(LabelSource::Stored(labels), 3);
    let online = run(LabelSource::Online(teacher.frozen()), 3);
    let otherwise = run(LabelSource::Online(teacher.frozen()), 4);
    let distance = |other: &Tensor| (&replayed - other).abs().max().double_value(&[]);
    assert!(distance(&online) < 1e-4, "{}", distance(&online));
    assert!(
        distance(&otherwise) > 100.0 * distance(&online),
        "{} {}",
        distance(&otherwise),
        distance(&online)
    );
}

#[test]
fn both_terms_of_a_students_loss_have_their_weights() {
    let (examples, teacher) = images_and_teacher();
    let with = |kl_weight: f64, cross_entropy_weight: f64| {
        let student = Student { kl_weight, cross_entropy_weight, ..student() };
        trained(&examples, LabelSource::Online(teacher.frozen()), Streams::new(3), &student)
    };
    let hard = trained(&examples, LabelSource::Hard, Streams::new(3), &student());
    // The cross-entropy alone, whoever asks for it.
    assert_eq!(with(0.0, 1.0), hard);
    assert_ne!(with(1.0, 0.0), hard);
    assert_ne!(with(1.0, 1.0), with(1.0, 0.0));
}
