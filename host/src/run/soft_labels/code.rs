//! Logits as they are written down, and back.

use super::LabelCode;
use crate::recipe::LabelStorage;
use guard_sdk::{Error, Kind, Result, Tensor};

/// The steps between the lowest and the highest of an image's logits.
const STEPS: f64 = 255.0;

impl LabelCode {
    /// `logits` `[N,K]` as the tensors of one epoch, in the order of the format's table.
    ///
    /// # Errors
    /// If a logit is not finite, or too large for float16.
    pub(super) fn encode(&self, logits: &Tensor) -> Result<Vec<Tensor>> {
        let (kept, rest) = match self.top_k {
            None => (logits.f_to_kind(Kind::Float)?, None),
            Some(k) => {
                let (largest, classes) = logits.f_to_kind(Kind::Float)?.f_topk(k, -1, true, true)?;
                let others =
                    logits.f_to_kind(Kind::Double)?.f_scatter_value(-1, &classes, f64::NEG_INFINITY)?;
                (largest, Some((classes.f_to_kind(Kind::Int16)?, self.rest(&others, k)?)))
            }
        };
        let mut parts = match self.storage {
            LabelStorage::Float16 => vec![kept.f_to_kind(Kind::Half)?],
            LabelStorage::Int8 => in_steps(&kept)?,
        };
        if let Some((classes, rest)) = rest {
            parts.extend([classes, rest]);
        }
        for part in parts.iter().filter(|part| part.kind() == Kind::Half) {
            if part.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
                return Err(Error::new(
                    "a logit of the teacher is not finite in float16, whose range ends at 65504",
                ));
            }
        }
        Ok(parts)
    }

    /// Logits `[N,K]` in float32, from the tensors of one epoch or of some of its rows.
    ///
    /// # Errors
    /// If the tensors are not those of the format.
    pub(super) fn decode(&self, parts: &[Tensor], classes: i64) -> Result<Tensor> {
        let few = || Error::new("soft labels lack a tensor");
        let mut parts = parts.iter();
        let mut next = || parts.next().ok_or_else(few);
        let mut logits = next()?.f_to_kind(Kind::Float)?;
        if self.storage == LabelStorage::Int8 {
            let range = next()?.f_to_kind(Kind::Float)?;
            logits = range.f_narrow(-1, 0, 1)? + logits * range.f_narrow(-1, 1, 1)?;
        }
        if self.top_k.is_none() {
            return Ok(logits);
        }
        let (at, rest) = (next()?.f_to_kind(Kind::Int64)?, next()?.f_to_kind(Kind::Float)?);
        let all = rest.f_unsqueeze(-1)?.f_repeat([1, classes])?;
        Ok(all.f_scatter(-1, &at, &logits)?)
    }

    /// The logit, the same for all, at which the other classes have the probability that they had together:
    /// T · log mean exp(z/T), of `others` `[N,K]` where the `k` kept ones are −∞.
    fn rest(&self, others: &Tensor, k: i64) -> Result<Tensor> {
        let classes = others.size()[1];
        if k == classes {
            return Ok(Tensor::f_zeros([others.size()[0]], (Kind::Half, others.device()))?);
        }
        let sum = (others / self.temperature).f_logsumexp([-1].as_slice(), false)?;
        Ok(((sum - ((classes - k) as f64).ln()) * self.temperature).f_to_kind(Kind::Half)?)
    }
}

/// Values, and lowest value and step of each row.
fn in_steps(logits: &Tensor) -> Result<Vec<Tensor>> {
    let (lowest, highest) = (logits.f_amin([-1].as_slice(), true)?, logits.f_amax([-1].as_slice(), true)?);
    // Values are counted from what the file will hold.
    let lowest = lowest.f_to_kind(Kind::Half)?;
    let start = lowest.f_to_kind(Kind::Float)?;
    let step = ((highest - &start) / STEPS).f_to_kind(Kind::Half)?;
    // A row of equal logits has no steps, and its values do not matter.
    let length = step.f_to_kind(Kind::Float)?.f_clamp_min(f64::from(f32::MIN_POSITIVE))?;
    let values = ((logits - &start) / length).f_round()?.f_clamp(0.0, STEPS)?.f_to_kind(Kind::Uint8)?;
    Ok(vec![values, Tensor::f_cat(&[lowest, step], -1)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use guard_sdk::Device;

    fn code(storage: LabelStorage, top_k: Option<i64>) -> LabelCode {
        LabelCode { storage, top_k, temperature: 4.0 }
    }

    fn logits() -> Tensor {
        tch::manual_seed(3);
        Tensor::randn([6, 40], (Kind::Float, Device::Cpu)) * 5.0
    }

    fn there_and_back(code: LabelCode, logits: &Tensor) -> Tensor {
        code.decode(&code.encode(logits).unwrap(), logits.size()[1]).unwrap()
    }

    fn farthest(one: &Tensor, other: &Tensor) -> f64 {
        (one - other).abs().max().double_value(&[])
    }

    #[test]
    fn float16_is_the_logits_rounded_and_nothing_else() {
        let logits = logits();
        let found = there_and_back(code(LabelStorage::Float16, None), &logits);
        assert_eq!(found, logits.to_kind(Kind::Half).to_kind(Kind::Float));
    }

    #[test]
    fn int8_is_off_by_half_a_step_and_what_float16_rounds() {
        let logits = logits();
        let found = there_and_back(code(LabelStorage::Int8, None), &logits);
        let step = (logits.max() - logits.min()).double_value(&[]) / 255.0;
        let off = farthest(&found, &logits);
        assert!(off < 0.9 * step && off > 0.1 * step, "{off} of a step of {step}");
        let equal = Tensor::full([2, 5], 3.0, (Kind::Float, Device::Cpu));
        assert_eq!(there_and_back(code(LabelStorage::Int8, None), &equal), equal);
    }

    #[test]
    fn the_largest_keep_their_probabilities_and_the_others_their_sum() {
        let logits = logits();
        let code = code(LabelStorage::Float16, Some(5));
        let probabilities = |logits: &Tensor| (logits / code.temperature).softmax(-1, Kind::Float);
        let (found, golden) = (probabilities(&there_and_back(code, &logits)), probabilities(&logits));
        let (_, largest) = logits.topk(5, -1, true, true);
        let off = farthest(&found.gather(-1, &largest, false), &golden.gather(-1, &largest, false));
        assert!(off < 1e-3, "{off}");
        assert!(farthest(&found, &golden) > 1e-3, "nothing was lost");
    }

    #[test]
    fn all_classes_kept_lose_nothing() {
        let logits = logits();
        let all = there_and_back(code(LabelStorage::Float16, Some(40)), &logits);
        assert_eq!(all, there_and_back(code(LabelStorage::Float16, None), &logits));
    }

    #[test]
    fn a_logit_beyond_float16_is_an_error() {
        for value in [1e6, f64::NAN] {
            let logits = Tensor::full([1, 3], value, (Kind::Float, Device::Cpu));
            assert!(code(LabelStorage::Float16, None).encode(&logits).is_err(), "{value}");
        }
    }
}
