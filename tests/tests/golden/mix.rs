//! `mix`: Mixup and CutMix of recorded pairs, and CutMix's rectangles. Rows of `bbox_table` are λ, the centre (row, column),
//! and the rectangle's first row and column and those after its last.

use crate::checks::{Checks, Precision::Smooth};
use guard_sdk::{
    Result, Tensor,
    augment::{CutMix, Mixup, Region},
};

pub fn check(checks: &mut Checks) -> Result<()> {
    let images = checks.input("images")?;
    let order = Vec::<i64>::try_from(checks.input("index")?)?;
    let share = checks.case.number("lam")?;
    checks.compare("mixup", &Mixup { share, order: order.clone() }.apply(&images)?, Smooth);
    let [top, left, bottom, right]: [i64; 4] = checks.case.param("bbox")?;
    let region = Region { top, left, height: bottom - top, width: right - left };
    checks.compare("cutmix", &CutMix { share, order, region }.apply(&images)?, Smooth);

    let (_, _, height, width) = images.size4()?;
    let mut found = Vec::new();
    for row in Vec::<Vec<f64>>::try_from(checks.table("bbox_table")?)? {
        let centre = [row[1] as i64, row[2] as i64];
        let Region { top, left, height, width } = CutMix::region(row[0], centre, [height, width])?;
        found.extend_from_slice(&row[..3]);
        found.extend([top, left, top + height, left + width].map(|edge| edge as f64));
    }
    checks.compare("bbox_table", &Tensor::from_slice(&found).reshape([-1, 7]), Smooth);
    Ok(())
}
