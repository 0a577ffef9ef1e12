//! How many steps the images take with each network, and for how many epochs the network learns from them after each.
//!
//! DC's code has these numbers for 1, 10, 20, 30, 40 and 50 images per class and exits at any other; here they are
//! interpolated, and the log says so.

use guard_sdk::{Lab, Level, Step, objective::interpolated};

/// Steps of the images with each network, by images per class.
pub const OUTER: [(u64, u64); 6] = [(1, 1), (10, 10), (20, 20), (30, 30), (40, 40), (50, 50)];
/// The network's epochs on the synthetic images after each step but the last.
pub const INNER: [(u64, u64); 6] = [(1, 1), (10, 50), (20, 25), (30, 20), (40, 15), (50, 10)];

/// The loops of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loops {
    /// Steps of the images with each network.
    pub outer: u64,
    /// The network's epochs after each of them but the last.
    pub inner: u64,
}

impl Loops {
    /// The published numbers, unless the recipe has its own.
    pub fn of(images_per_class: u64, outer: Option<u64>, inner: Option<u64>) -> Self {
        Self {
            outer: outer.unwrap_or_else(|| interpolated(&OUTER, images_per_class)),
            inner: inner.unwrap_or_else(|| interpolated(&INNER, images_per_class)),
        }
    }

    /// Says in the log where a number is not a published one.
    pub fn tell(self, step: &Step, lab: &Lab, given: bool) {
        let images = lab.info().images_per_class;
        if !given && !OUTER.iter().any(|(published, _)| *published as i64 == images) {
            let Self { outer, inner } = self;
            let loops = format!("outer loops {outer} and inner epochs {inner} at {images} images per class");
            step.services.log(Level::Information, &format!("{loops} are interpolated, not published"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_loops_are_kept_others_interpolated_and_a_recipe_has_the_last_word() {
        assert_eq!(Loops::of(10, None, None), Loops { outer: 10, inner: 50 });
        assert_eq!(Loops::of(5, None, None), Loops { outer: 5, inner: 23 });
        assert_eq!(Loops::of(100, None, None), Loops { outer: 50, inner: 10 });
        assert_eq!(Loops::of(10, Some(3), None), Loops { outer: 3, inner: 50 });
    }
}
