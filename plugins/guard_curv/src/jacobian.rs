//! Jacobian regularization (Hoffman et al. 2019, arXiv 1908.02729): the Frobenius norm of the logits' Jacobian to the image,
//! by random projections.
//!
//! | paper | here |
//! |---|---|
//! | λ_JR / 2 | the recipe's `weight` |
//! | n_proj | `projections` |
//! | v̂ | uniform on the unit sphere in K dimensions |

use guard_sdk::{
    Batch, CleanRequest, Kind, Method, Network, Regularizer, Result, Services, Space, StatisticsFrom, Step,
    Tensor,
    autograd::{Graph, vector_jacobian},
    batch::sum_each,
};

/// Options of `jacobian`.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JacobianOptions {
    /// Number of random projections of an example; more give a less noisy estimate of the same norm.
    #[schemars(range(min = 1))]
    pub projections: u64,
    /// Where derivatives are taken: behind the network's normalisation, or in pixels.
    pub space: Space,
    /// Whose statistics BatchNorm uses: the running ones, or the batch's, as the cross-entropy does.
    pub statistics: StatisticsFrom,
}

impl Default for JacobianOptions {
    fn default() -> Self {
        Self { projections: 1, space: Space::Normalised, statistics: StatisticsFrom::Running }
    }
}

/// mean_i ‖∂f(xᵢ)/∂x‖_F², estimated without bias by K · mean over projections of ‖∂(v̂ᵀf(xᵢ))/∂x‖₂².
pub struct Jacobian {
    options: JacobianOptions,
}

impl Method for Jacobian {
    type Options = JacobianOptions;
    const NAME: &'static str = "jacobian";

    fn new(options: JacobianOptions, _: &Services) -> Result<Self> {
        Ok(Self { options })
    }
}

impl Regularizer for Jacobian {
    /// Passes: 1 forward, shared, and one input backward with graph for each projection.
    fn penalty(&mut self, step: &Step, network: &Network, batch: &Batch) -> Result<Tensor> {
        let Self { options } = self;
        let request = CleanRequest { mode: options.statistics.mode(), ..CleanRequest::default() };
        let clean = step.clean(network, batch, request)?;
        let classes = clean.logits.size()[1];
        let mut squares = clean.losses.zeros_like();
        for projection in 0..options.projections {
            let normal = step.normal("projection", projection, batch, &[classes])?;
            let direction = &normal / normal.norm_scalaropt_dim(2.0, -1, true);
            let row = vector_jacobian(&[&clean.logits], &[&direction], &[&clean.images], Graph::Create)?;
            squares += sum_each(&network.convert_gradient(&row[0], batch.space, options.space).square());
        }
        Ok(squares.mean(None::<Kind>) * (classes as f64 / options.projections as f64))
    }
}
