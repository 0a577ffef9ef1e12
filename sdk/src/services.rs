//! What the host does for a method during a call: numbers, words, and other methods of the recipe.

use crate::{Batch, Budget, Clean, CleanRequest, Error, Network, OwnedNetwork, Result};
use tch::{Device, Kind, Tensor};

/// How loud a line of the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something the user should know.
    Warning,
    /// Something the user may want to know.
    Information,
    /// For who looks into it.
    Detail,
}

/// A distribution of random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// Uniform on [0,1).
    Uniform,
    /// Normal with mean 0 and variance 1.
    Normal,
}

/// Random numbers, one row per example. A row depends on run seed, stage, method, iteration, `stream`, `draw` and its
/// own id, and on nothing else: not on batch mates, batch size or earlier draws.
#[derive(Debug, Clone, Copy)]
pub struct Draw<'a> {
    /// Names the use, e.g. `start`.
    pub stream: &'a str,
    /// Tells repeated draws of one call from each other, e.g. a restart's number.
    pub draw: u64,
    /// One id per row: the batch's ids, or any number of one's own.
    pub ids: &'a [u64],
    /// The shape of one row.
    pub shape: &'a [i64],
    /// The distribution.
    pub distribution: Distribution,
    /// float32 or float64.
    pub kind: Kind,
}

/// What stands behind [`Services`]; the host implements it, and the boundary.
pub trait ServicesBackend {
    /// See [`Services::log`].
    fn log(&self, level: Level, message: &str);
    /// See [`Services::metric`].
    fn metric(&self, name: &str, value: &Tensor) -> Result<()>;
    /// See [`Services::cancelled`].
    fn cancelled(&self) -> bool;
    /// See [`Services::progress`].
    fn progress(&self, fraction: f64);
    /// See [`Services::device`].
    fn device(&self) -> Device;
    /// See [`Services::random`].
    fn random(&self, draw: &Draw) -> Result<Tensor>;
    /// See [`Services::numbers`].
    fn numbers(&self, draw: &Draw) -> Result<Vec<f64>> {
        on_cpu(&self.random(draw)?)
    }
    /// See [`Services::attack`].
    fn attack(&self, name: &str, options: &serde_json::Value) -> Result<u64>;
    /// See [`Services::regularizer`].
    fn regularizer(&self, name: &str, options: &serde_json::Value) -> Result<u64>;
    /// See [`AttackHandle::perturb`].
    fn perturb(
        &self,
        key: u64,
        step: &Step,
        network: &Network,
        batch: &Batch,
        budget: &Budget,
    ) -> Result<Tensor>;
    /// See [`RegularizerHandle::penalty`].
    fn penalty(&self, key: u64, step: &Step, network: &Network, batch: &Batch) -> Result<Tensor>;
    /// See [`Services::network`]. Hosts that lend no networks say so.
    fn network(&self, name: &str) -> Result<OwnedNetwork> {
        Err(Error::unsupported(format!("this host lends no networks, and none of the name `{name}`")))
    }

    /// See [`Step::clean`].
    fn clean(&self, network: &Network, batch: &Batch, request: CleanRequest) -> Result<Clean> {
        Clean::compute(network, batch, request)
    }
}

/// The host's services, lent for a call.
#[derive(Clone, Copy)]
pub struct Services<'a>(&'a dyn ServicesBackend);

impl<'a> Services<'a> {
    /// Lends a backend.
    pub fn lend(backend: &'a dyn ServicesBackend) -> Self {
        Self(backend)
    }

    /// What stands behind.
    pub fn backend(&self) -> &'a dyn ServicesBackend {
        self.0
    }

    /// Writes a line to the run's log.
    pub fn log(&self, level: Level, message: &str) {
        self.0.log(level, message);
    }

    /// Records a scalar tensor `[]` under `name`; the host prefixes the method's name. The value is read when the log
    /// is written, so a step does not wait for the device.
    ///
    /// # Errors
    /// If `value` is not a scalar.
    pub fn metric(&self, name: &str, value: &Tensor) -> Result<()> {
        if value.numel() != 1 {
            return Err(Error::new(format!(
                "metric `{name}` must be a scalar, found shape {:?}",
                value.size()
            )));
        }
        self.0.metric(name, value)
    }

    /// True once the user asked the run to stop: long calls return early with [`Services::check_cancelled`].
    pub fn cancelled(&self) -> bool {
        self.0.cancelled()
    }

    /// An error with code `cancelled` once the user asked the run to stop.
    ///
    /// # Errors
    /// See above.
    pub fn check_cancelled(&self) -> Result<()> {
        if self.cancelled() {
            Err(Error::with_code("cancelled", "the run was asked to stop"))
        } else {
            Ok(())
        }
    }

    /// Tells how much of a long call is done, in [0,1].
    pub fn progress(&self, fraction: f64) {
        self.0.progress(fraction);
    }

    /// The run's device.
    pub fn device(&self) -> Device {
        self.0.device()
    }

    /// A tensor `[ids.len(), shape...]` of random numbers on the run's device; see [`Draw`].
    ///
    /// # Errors
    /// If a recorded stream was injected and does not fit.
    pub fn random(&self, draw: &Draw) -> Result<Tensor> {
        self.0.random(draw)
    }

    /// The numbers that [`random`](Self::random) would put into a tensor, in row-major order, for decisions that are made on the
    /// CPU: the device is not waited for.
    ///
    /// # Errors
    /// Those of [`random`](Self::random).
    pub fn numbers(&self, draw: &Draw) -> Result<Vec<f64>> {
        self.0.numbers(draw)
    }

    /// Makes an attack of any plugin of the run; `name` as in a recipe's `use`, `options` as in its `options` table.
    ///
    /// # Errors
    /// If no plugin offers it, or it refuses the options.
    pub fn attack(&self, name: &str, options: &serde_json::Value) -> Result<AttackHandle> {
        Ok(AttackHandle(self.0.attack(name, options)?))
    }

    /// Makes a regularizer of any plugin of the run.
    ///
    /// # Errors
    /// If no plugin offers it, or it refuses the options.
    pub fn regularizer(&self, name: &str, options: &serde_json::Value) -> Result<RegularizerHandle> {
        Ok(RegularizerHandle(self.0.regularizer(name, options)?))
    }

    /// A copy of another network of the run, by name: `teacher`, or one that the recipe names in `evaluate.networks`. It is in
    /// eval mode, its parameters need no gradients, and it can be kept between calls. In the stage `plan` it has the right
    /// architecture, and maybe not yet its weights.
    ///
    /// # Errors
    /// If the run has no network of that name; the help names the nearest.
    pub fn network(&self, name: &str) -> Result<OwnedNetwork> {
        self.0.network(name)
    }
}

/// An attack of the run, perhaps of another plugin.
#[derive(Debug)]
pub struct AttackHandle(u64);

impl AttackHandle {
    /// See [`Attack::perturb`](crate::Attack::perturb).
    ///
    /// # Errors
    /// Those of the attack.
    pub fn perturb(&self, step: &Step, network: &Network, batch: &Batch, budget: &Budget) -> Result<Tensor> {
        step.services.backend().perturb(self.0, step, network, batch, budget)
    }
}

/// A regularizer of the run, perhaps of another plugin.
#[derive(Debug)]
pub struct RegularizerHandle(u64);

impl RegularizerHandle {
    /// See [`Regularizer::penalty`](crate::Regularizer::penalty).
    ///
    /// # Errors
    /// Those of the regularizer.
    pub fn penalty(&self, step: &Step, network: &Network, batch: &Batch) -> Result<Tensor> {
        step.services.backend().penalty(self.0, step, network, batch)
    }
}

/// Where the run stands, and the host's services.
#[derive(Clone, Copy)]
pub struct Step<'a> {
    /// `plan` (methods are made to be checked), `train`, `distill`, `relabel`, `student` or `evaluate`.
    pub stage: &'a str,
    /// The current iteration, from 0.
    pub iteration: u64,
    /// How many iterations the stage has; 0 where that is not known.
    pub iterations: u64,
    /// The host's services.
    pub services: Services<'a>,
}

/// The numbers of a tensor of any dtype and device.
#[doc(hidden)]
pub fn on_cpu(tensor: &Tensor) -> Result<Vec<f64>> {
    let flat = tensor.f_to_kind(Kind::Double)?.f_to_device(Device::Cpu)?.f_reshape([-1])?;
    Ok(Vec::try_from(flat)?)
}

impl Step<'_> {
    /// Uniform numbers on [0,1), `[N, shape...]`, one row per example of `batch`.
    ///
    /// # Errors
    /// See [`Services::random`].
    pub fn uniform(&self, stream: &str, draw: u64, batch: &Batch, shape: &[i64]) -> Result<Tensor> {
        self.draw(Distribution::Uniform, stream, draw, batch, shape)
    }

    /// Standard normal numbers, `[N, shape...]`, one row per example of `batch`.
    ///
    /// # Errors
    /// See [`Services::random`].
    pub fn normal(&self, stream: &str, draw: u64, batch: &Batch, shape: &[i64]) -> Result<Tensor> {
        self.draw(Distribution::Normal, stream, draw, batch, shape)
    }

    fn draw(
        &self,
        distribution: Distribution,
        stream: &str,
        draw: u64,
        batch: &Batch,
        shape: &[i64],
    ) -> Result<Tensor> {
        self.services.random(&Draw {
            stream,
            draw,
            ids: batch.ids,
            shape,
            distribution,
            kind: batch.images.kind(),
        })
    }
}
