//! The nearest point of a hyperplane within the pixel range (Croce & Hein, ICML 2020, arXiv 1907.02044, section 2.2).

use guard_sdk::{
    Norm, Tensor,
    batch::{per_image, sum_each},
};

/// Newton's method ends after finitely many steps, in practice four to eight.
const MOST_STEPS: usize = 200;

/// The smallest step from each of `points` `[N,C,H,W]` that raises ⟨normal, ·⟩ by `rise` `[N]` and stays in [0,1]; where
/// none reaches so far, the one that gets farthest.
///
/// Each pixel moves along the sign of the normal (with the sign of the rise) as far as min(λvᵢ, roomᵢ), vᵢ = 1 for linf and
/// |wᵢ| for l2. The rise that this gives is increasing, concave and piecewise linear in λ, so that Newton's method from
/// λ = 0 never overshoots and is exact once it is on the right piece: no sorting of pixels is needed.
pub fn step_to(points: &Tensor, normals: &Tensor, rise: &Tensor, norm: Norm) -> Tensor {
    let direction = normals.sign() * per_image(&rise.sign());
    let weights = normals.abs();
    let room = (points.ones_like() - points).where_self(&direction.gt(0.0), points);
    let speed = match norm {
        Norm::Linf => weights.ones_like(),
        Norm::L2 => weights.shallow_clone(),
    };
    let (wanted, slopes) = (rise.abs(), &weights * &speed);
    let mut length = wanted.zeros_like();
    let mut moved = points.zeros_like();
    for _ in 0..MOST_STEPS {
        let missing = &wanted - sum_each(&(&weights * &moved));
        let slope = sum_each(&slopes.where_self(&moved.lt_tensor(&room), &slopes.zeros_like()));
        let possible = slope.gt(0.0);
        let more = (missing / slope.where_self(&possible, &slope.ones_like())).clamp_min(0.0);
        let next = (&length + more).where_self(&possible, &length);
        // A comparison with NaN does not hold.
        if next.gt_tensor(&length).any().int64_value(&[]) == 0 {
            break;
        }
        length = next;
        moved = (&speed * per_image(&length)).minimum(&room);
    }
    direction * moved
}

#[cfg(test)]
mod tests {
    use super::*;
    use guard_sdk::{Device, Kind};
    use std::sync::Mutex;

    fn problem() -> (Tensor, Tensor, Tensor) {
        // libtorch's generator is one for all tests, which run side by side.
        static DRAWS: Mutex<()> = Mutex::new(());
        let _alone = DRAWS.lock();
        tch::manual_seed(3);
        let options = (Kind::Double, Device::Cpu);
        let points = Tensor::rand([40, 2, 3, 3], options);
        let normals = Tensor::randn([40, 2, 3, 3], options);
        let rise = Tensor::randn([40], options) * 2.0;
        (points, normals, rise)
    }

    fn furthest(points: &Tensor, normals: &Tensor, rise: &Tensor) -> Tensor {
        let direction = normals.sign() * per_image(&rise.sign());
        let room = (points.ones_like() - points).where_self(&direction.gt(0.0), points);
        sum_each(&(normals.abs() * room))
    }

    #[test]
    fn the_step_rises_as_wanted_or_as_far_as_the_pixel_range_allows() {
        let (points, normals, rise) = problem();
        let reach = furthest(&points, &normals, &rise);
        assert!(reach.lt_tensor(&rise.abs()).any().int64_value(&[]) == 1, "some are out of reach");
        for norm in [Norm::Linf, Norm::L2] {
            let step = step_to(&points, &normals, &rise, norm);
            let risen = sum_each(&(&normals * &step));
            let off = (risen - rise.abs().minimum(&reach) * rise.sign()).abs().max().double_value(&[]);
            assert!(off < 1e-12, "{norm:?}: {off}");
            let arrived = &points + &step;
            assert!(arrived.min().double_value(&[]) >= 0.0 && arrived.max().double_value(&[]) <= 1.0 + 1e-15);
        }
    }

    #[test]
    fn no_other_step_that_rises_so_far_is_smaller() {
        let (points, normals, rise) = problem();
        let reachable = furthest(&points, &normals, &rise).gt_tensor(&(rise.abs() * 1.01));
        for norm in [Norm::Linf, Norm::L2] {
            let step = step_to(&points, &normals, &rise, norm);
            let size = crate::ball::size_each(&step, norm);
            // Of all steps within a ball that is a little smaller, none rises far enough.
            let smaller = per_image(&(&size * 0.999));
            let direction = normals.sign() * per_image(&rise.sign());
            let room = (points.ones_like() - &points).where_self(&direction.gt(0.0), &points);
            let strongest = match norm {
                Norm::Linf => room.minimum(&smaller) * normals.abs(),
                Norm::L2 => {
                    // Lagrange: min(λ|w|, room) with λ such that the length is that of the ball.
                    let scaled = |factor: &Tensor| (normals.abs() * per_image(factor)).minimum(&room);
                    let (mut low, mut high) = (rise.zeros_like(), rise.ones_like() * 100.0);
                    for _ in 0..200 {
                        let middle = (&low + &high) * 0.5;
                        let short =
                            crate::ball::size_each(&scaled(&middle), norm).lt_tensor(&(&size * 0.999));
                        low = middle.where_self(&short, &low);
                        high = high.where_self(&short, &middle);
                    }
                    scaled(&low) * normals.abs()
                }
            };
            let falls_short = sum_each(&strongest).lt_tensor(&rise.abs());
            assert!(falls_short.logical_or(&reachable.logical_not()).all().int64_value(&[]) == 1, "{norm:?}");
        }
    }

    #[test]
    fn a_normal_of_zero_and_a_rise_of_zero_give_no_step() {
        let (points, normals, rise) = problem();
        for norm in [Norm::Linf, Norm::L2] {
            for step in [
                step_to(&points, &normals.zeros_like(), &rise, norm),
                step_to(&points, &normals, &rise.zeros_like(), norm),
            ] {
                assert_eq!(step.abs().max().double_value(&[]), 0.0);
            }
        }
    }
}
