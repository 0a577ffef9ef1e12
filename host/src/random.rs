//! Random numbers that depend on names and not on order.
//!
//! A [`Streams`] is a path of names and numbers (run seed, stage, method, iteration, ...). Its key is the BLAKE3 hash of the
//! path, and each example's row is a ChaCha8 stream of that key, numbered by the example's id. So a resumed, re-ordered or
//! sharded run draws the same numbers, and a row does not depend on its batch mates.

use guard_sdk::{
    Error, Kind, Result, Tensor,
    services::{Distribution, Draw},
};
use rand::seq::SliceRandom;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use rand_distr::{Beta, Distribution as _, StandardNormal};

/// Where a method's random numbers come from: [`Streams`], or a recording that is replayed.
pub trait RandomSource {
    /// The numbers that `method` asks for in `iteration`.
    ///
    /// # Errors
    /// If a recording does not fit the request.
    fn random(&self, method: &str, iteration: u64, draw: &Draw) -> Result<Tensor>;

    /// The seed of libtorch's own generator while `method` runs in `iteration`.
    fn seed(&self, method: &str, iteration: u64) -> u64;
}

impl RandomSource for Streams {
    fn random(&self, method: &str, iteration: u64, draw: &Draw) -> Result<Tensor> {
        let streams = self.named(method).numbered(iteration).named(draw.stream).numbered(draw.draw);
        streams.rows(draw.ids, draw.shape, draw.distribution, draw.kind)
    }

    fn seed(&self, method: &str, iteration: u64) -> u64 {
        self.named(method).numbered(iteration).named("libtorch").number()
    }
}

/// A path of names and numbers.
#[derive(Clone)]
pub struct Streams(blake3::Hasher);

impl Streams {
    /// The streams of a run.
    pub fn new(seed: u64) -> Self {
        Self(blake3::Hasher::new()).named("guard-host/1").numbered(seed)
    }

    /// The path with a name appended.
    pub fn named(&self, name: &str) -> Self {
        let mut hasher = self.0.clone();
        // The length first, so that "ab" + "c" and "a" + "bc" differ.
        hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
        Self(hasher)
    }

    /// The path with a number appended.
    pub fn numbered(&self, number: u64) -> Self {
        let mut hasher = self.0.clone();
        hasher.update(&number.to_le_bytes());
        Self(hasher)
    }

    fn generator(&self, id: u64) -> ChaCha8Rng {
        let mut generator = ChaCha8Rng::from_seed(*self.0.finalize().as_bytes());
        generator.set_stream(id);
        generator
    }

    /// The path's own number, e.g. a seed for generators that are not ours.
    pub fn number(&self) -> u64 {
        self.generator(0).next_u64()
    }

    /// `[ids.len(), shape...]` on the CPU, one stream per row.
    ///
    /// # Errors
    /// If the shape is negative or libtorch refuses.
    pub fn rows(&self, ids: &[u64], shape: &[i64], distribution: Distribution, kind: Kind) -> Result<Tensor> {
        if shape.iter().any(|&length| length < 0) {
            return Err(Error::new(format!("random numbers cannot have shape {shape:?}")));
        }
        let length = shape.iter().try_fold(1usize, |length, &side| length.checked_mul(side as usize));
        let too_many =
            || Error::new(format!("{} random rows of shape {shape:?} do not fit into memory", ids.len()));
        let length = length.ok_or_else(too_many)?;
        let count = length.checked_mul(ids.len()).ok_or_else(too_many)?;
        let mut size = vec![ids.len() as i64];
        size.extend(shape);
        let rows = |fill: &mut dyn FnMut(&mut ChaCha8Rng)| {
            // The path is hashed once.
            let first = self.generator(0);
            for &id in ids {
                let mut generator = first.clone();
                generator.set_stream(id);
                for _ in 0..length {
                    fill(&mut generator);
                }
            }
        };
        let flat = match kind {
            Kind::Double => {
                let mut values = Vec::new();
                values.try_reserve_exact(count).map_err(|_| too_many())?;
                rows(&mut |generator| values.push(number(generator, distribution)));
                Tensor::f_from_slice(&values)?
            }
            Kind::Float => {
                let mut values = Vec::new();
                values.try_reserve_exact(count).map_err(|_| too_many())?;
                rows(&mut |generator| values.push(single(number(generator, distribution), distribution)));
                Tensor::f_from_slice(&values)?
            }
            other => {
                return Err(Error::new(format!("random numbers come as float32 or float64, not {other:?}")));
            }
        };
        Ok(flat.f_reshape(size)?)
    }

    /// A tensor of uniform numbers on [0,1) under `name`.
    ///
    /// # Errors
    /// See [`Streams::rows`].
    pub fn uniform(&self, name: &str, shape: &[i64], kind: Kind) -> Result<Tensor> {
        Ok(self.named(name).rows(&[0], shape, Distribution::Uniform, kind)?.squeeze_dim(0))
    }

    /// A tensor of standard normal numbers under `name`.
    ///
    /// # Errors
    /// See [`Streams::rows`].
    pub fn normal(&self, name: &str, shape: &[i64], kind: Kind) -> Result<Tensor> {
        Ok(self.named(name).rows(&[0], shape, Distribution::Normal, kind)?.squeeze_dim(0))
    }

    /// The numbers 0..n in random order.
    pub fn permutation(&self, n: usize) -> Vec<i64> {
        let mut order: Vec<i64> = (0..n as i64).collect();
        order.shuffle(&mut self.generator(0));
        order
    }

    /// A number of the Beta(α, α) distribution.
    ///
    /// # Errors
    /// If α is not positive.
    pub fn beta(&self, alpha: f64) -> Result<f64> {
        let beta = Beta::new(alpha, alpha)
            .map_err(|error| Error::new(format!("Beta({alpha}, {alpha}): {error}")))?;
        Ok(beta.sample(&mut self.generator(0)))
    }
}

fn number(generator: &mut ChaCha8Rng, distribution: Distribution) -> f64 {
    match distribution {
        Distribution::Uniform => (generator.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64),
        Distribution::Normal => StandardNormal.sample(generator),
    }
}

/// The float32 below, so that a number on [0,1) stays there.
fn single(number: f64, distribution: Distribution) -> f32 {
    match distribution {
        Distribution::Uniform => ((number * (1 << 24) as f64) as u32) as f32 * (1.0 / (1 << 24) as f32),
        Distribution::Normal => number as f32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(ids: &[u64], distribution: Distribution) -> Vec<Vec<f64>> {
        let tensor = Streams::new(7).named("x").rows(ids, &[50], distribution, Kind::Double).unwrap();
        (0..ids.len() as i64).map(|row| Vec::<f64>::try_from(tensor.get(row)).unwrap()).collect()
    }

    #[test]
    fn a_row_depends_on_its_id_alone() {
        for distribution in [Distribution::Uniform, Distribution::Normal] {
            let all = rows(&[0, 1, 2, 3], distribution);
            assert_eq!(rows(&[3, 1], distribution), [all[3].clone(), all[1].clone()]);
            assert_ne!(all[0], all[1]);
        }
    }

    #[test]
    fn paths_that_read_alike_are_different_streams() {
        let streams = Streams::new(0);
        assert_ne!(streams.named("ab").named("c").number(), streams.named("a").named("bc").number());
        assert_ne!(streams.named("a").numbered(1).number(), streams.named("a").numbered(2).number());
        assert_ne!(Streams::new(0).number(), Streams::new(1).number());
        assert_eq!(streams.named("a").number(), Streams::new(0).named("a").number());
    }

    #[test]
    fn the_distributions_have_their_moments() {
        let streams = Streams::new(3);
        for (distribution, mean, variance) in
            [(Distribution::Uniform, 0.5, 1.0 / 12.0), (Distribution::Normal, 0.0, 1.0)]
        {
            let draws = streams.rows(&[5], &[200_000], distribution, Kind::Double).unwrap();
            assert!((draws.mean(Kind::Double).double_value(&[]) - mean).abs() < 0.01);
            assert!((draws.var(true).double_value(&[]) - variance).abs() < 0.01);
        }
    }

    #[test]
    fn float32_is_float64_rounded_and_stays_below_one() {
        let streams = Streams::new(1).named("x");
        let double = streams.rows(&[1, 2], &[1000], Distribution::Uniform, Kind::Double).unwrap();
        let single_precision = streams.rows(&[1, 2], &[1000], Distribution::Uniform, Kind::Float).unwrap();
        let off = (double - single_precision.to_kind(Kind::Double)).abs().max().double_value(&[]);
        assert!(off < 1e-7, "{off}");
        assert!(single(1.0 - f64::EPSILON / 2.0, Distribution::Uniform) < 1.0);
    }

    #[test]
    fn a_permutation_holds_every_number_once() {
        let mut order = Streams::new(2).permutation(100);
        assert_ne!(order, (0..100).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }
}
