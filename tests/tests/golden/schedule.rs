//! `cda_schedule`: the smallest crop over the run. Keys are `<kind>_N<iterations>_ms<milestone>_lb<floor>`, rows are
//! (iteration, smallest crop).

use crate::checks::{Checks, Precision};
use guard_sdk::{Error, Result, Tensor, augment::CropSchedule};

pub fn check(checks: &mut Checks) -> Result<()> {
    for key in checks.case.keys() {
        let (schedule, iterations, milestone, floor) = parse(&key)?;
        let rows = Vec::<Vec<f64>>::try_from(checks.table(&key)?)?;
        let found: Vec<f64> = rows
            .iter()
            .flat_map(|row| [row[0], schedule.minimal_scale(row[0] as u64, iterations, milestone, floor)])
            .collect();
        checks.compare(&key, &Tensor::from_slice(&found).reshape([-1, 2]), Precision::Smooth);
    }
    Ok(())
}

fn parse(key: &str) -> Result<(CropSchedule, u64, f64, f64)> {
    let parts: Vec<&str> = key.split('_').collect();
    let parsed = match parts[..] {
        [kind, iterations, milestone, floor] => (|| {
            Some((
                serde_json::from_value(kind.into()).ok()?,
                iterations.strip_prefix('N')?.parse().ok()?,
                milestone.strip_prefix("ms")?.parse().ok()?,
                floor.strip_prefix("lb")?.parse().ok()?,
            ))
        })(),
        _ => None,
    };
    parsed.ok_or_else(|| Error::new(format!("`{key}` is not `<kind>_N<iterations>_ms<milestone>_lb<floor>`")))
}
