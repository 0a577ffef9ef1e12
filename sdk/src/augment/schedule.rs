//! How small a crop may be in the course of a run.

/// How the smallest crop shrinks over the run (CDA, arXiv 2311.18838): from 1 to `floor` over the first `milestone`
/// share of the iterations.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum CropSchedule {
    /// Along a half cosine.
    #[default]
    Cosine,
    /// Along a line.
    Linear,
    /// At once, at the milestone.
    Step,
}

impl CropSchedule {
    /// The smallest share of the image's area that a crop may keep, at `iteration` of `iterations`.
    pub fn minimal_scale(self, iteration: u64, iterations: u64, milestone: f64, floor: f64) -> f64 {
        let end = milestone * iterations as f64;
        if iteration as f64 >= end {
            return floor;
        }
        let progress = iteration as f64 / end;
        match self {
            CropSchedule::Step => 1.0,
            CropSchedule::Linear => 1.0 - (1.0 - floor) * progress,
            CropSchedule::Cosine => {
                floor + (1.0 - floor) * ((std::f64::consts::PI * progress).cos() + 1.0) / 2.0
            }
        }
    }
}
