//! `kd`: the divergence of students from soft labels at several temperatures, also from labels stored as float16.

use crate::checks::{Checks, Precision::Smooth};
use guard_host::engine::divergence;
use guard_sdk::{
    Kind, Result, Tensor,
    autograd::{Graph, grad},
};

pub fn check(checks: &mut Checks) -> Result<()> {
    let (student, teacher) = (checks.input("student")?.set_requires_grad(true), checks.input("teacher")?);
    let stored = teacher.to_kind(Kind::Half).to_kind(teacher.kind());
    for temperature in checks.case.param::<Vec<i64>>("T")? {
        let (key, t) = (format!("kl_T{temperature}"), temperature as f64);
        let from = |logits: &Tensor| divergence(&student, &(logits / t).softmax(-1, None::<Kind>), t);
        let found = from(&teacher);
        checks.compare(&key, &found, Smooth);
        checks.compare(&format!("{key}.grad_student"), &grad(&found, &[&student], Graph::Keep)?[0], Smooth);
        checks.compare(&format!("{key}_times_T2"), &(&found * t * t), Smooth);
        checks.compare(&format!("{key}_fp16labels"), &from(&stored), Smooth);
    }
    Ok(())
}
