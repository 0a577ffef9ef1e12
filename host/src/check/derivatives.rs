//! Derivatives against finite differences in float64, on a network without kinks.

use super::{Test, Verdict, call::Regime, room::Room, subject::Subject};
use guard_sdk::{
    Batch, Kind as Dtype, Network, Result, Tensor, Value,
    manifest::Kind,
    testing::{SmallLab, gradient_error, second_derivative_error},
};

const WITH_DERIVATIVES: &[Kind] = &[Kind::Objective, Kind::Regularizer];
/// The largest relative error that differences explain.
const TOLERANCE: f64 = 1e-5;

pub(super) const TESTS: &[Test<Subject>] = &[
    Test {
        name: "first-derivatives",
        about: "gradients agree with finite differences in float64, unless the method stops them on purpose",
        kinds: WITH_DERIVATIVES,
        run: first,
    },
    Test {
        name: "second-derivatives",
        about: "where gradients have a graph of their own, their derivatives agree with finite differences too",
        kinds: WITH_DERIVATIVES,
        run: second,
    },
];

/// A function of what is learned, and where it is taken.
type Function<'a> = (Box<dyn FnMut(&[Tensor]) -> Result<Tensor> + 'a>, Vec<Tensor>);

fn first(subject: &Subject) -> Result<Verdict> {
    on_functions(subject, |function, at| {
        let error = gradient_error(function, at)?;
        Ok(Verdict::from(error <= TOLERANCE, || format!("the gradient is off by {error:.1e}, relatively")))
    })
}

fn second(subject: &Subject) -> Result<Verdict> {
    on_functions(subject, |function, at| {
        let error = match second_derivative_error(function, at) {
            Ok(Some(error)) => error,
            Ok(None) => return Ok(Verdict::Skipped("gradients have no graph of their own".into())),
            // libtorch cannot differentiate some operations twice, and says so.
            Err(error) if error.code == "torch" => return Ok(Verdict::Skipped(error.message)),
            Err(error) => return Err(error),
        };
        Ok(Verdict::from(error <= TOLERANCE, || {
            format!("second derivatives are off by {error:.1e}, relatively")
        }))
    })
}

/// Holds every function of the method against `test`.
fn on_functions(
    subject: &Subject,
    mut test: impl FnMut(&mut dyn FnMut(&[Tensor]) -> Result<Tensor>, &[Tensor]) -> Result<Verdict>,
) -> Result<Verdict> {
    if subject.stops_gradient() {
        return Ok(Verdict::Skipped("the method stops gradients on purpose".into()));
    }
    let room = Room::usual(subject.seed)?;
    let mut verdict = Verdict::Skipped("there is nothing to differentiate".into());
    for (what, (mut function, at)) in functions(subject, &room)? {
        match test(&mut function, &at) {
            Ok(Verdict::Failed(why)) => return Ok(Verdict::Failed(format!("{what}: {why}"))),
            Ok(Verdict::Passed) => verdict = Verdict::Passed,
            Ok(Verdict::Skipped(why)) if verdict != Verdict::Passed => verdict = Verdict::Skipped(why),
            Ok(Verdict::Skipped(_)) => {}
            Err(error) if error.code == "no-graph" => {}
            Err(error) => return Err(error.context(what)),
        }
    }
    Ok(verdict)
}

/// What the method is a function of, in words, and that function.
fn functions<'a>(subject: &'a Subject, room: &'a Room) -> Result<Vec<(&'static str, Function<'a>)>> {
    if subject.entry.kind == Kind::Regularizer {
        return Ok(vec![
            ("to the parameters", penalty(subject, room, Regime::Training)),
            ("to the images", penalty(subject, room, Regime::Distillation)),
        ]);
    }
    let mut made = subject.make(room)?;
    let needs = made.needs()?;
    if needs.iterations == 0 {
        return Ok(Vec::new());
    }
    let lab = SmallLab::new(room.input, room.kind, &needs);
    let (set, _) = made.first_set(&lab, &needs)?;
    let at = set.learned();
    let loss = move |learned: &[Tensor]| {
        let set = set.at(learned);
        match subject.make(room)?.value(&lab, &set, 0, needs.iterations)? {
            Value::Loss(loss) => Ok(loss),
            Value::Gradients { loss, gradients } => Ok(with_gradients(&loss, &gradients, &set.learned())),
        }
    };
    Ok(vec![("to what is learned", (Box::new(loss), at))])
}

fn penalty<'a>(subject: &'a Subject, room: &'a Room, regime: Regime) -> Function<'a> {
    let examples = &room.examples;
    let at = match regime {
        Regime::Training => examples.model.parameters().iter().map(Tensor::shallow_clone).collect(),
        Regime::Distillation => vec![examples.images.shallow_clone()],
    };
    let value = move |leaves: &[Tensor]| {
        let mut made = subject.make(room)?;
        match regime {
            Regime::Training => {
                made.penalty(&Network::lend(&examples.model.at(leaves)), &examples.batch(), 0)
            }
            Regime::Distillation => {
                let batch = Batch { images: &leaves[0], ..examples.batch() };
                made.penalty(&examples.network(), &batch, 0)
            }
        }
    };
    (Box::new(value), at)
}

/// A scalar of the value of `loss` whose gradients to `leaves` are `gradients`.
fn with_gradients(loss: &Tensor, gradients: &[Tensor], leaves: &[Tensor]) -> Tensor {
    let pairs = gradients.iter().zip(leaves);
    let linear: Tensor =
        pairs.map(|(gradient, leaf)| (gradient.detach() * (leaf - leaf.detach())).sum(None::<Dtype>)).sum();
    loss.detach() + linear
}
