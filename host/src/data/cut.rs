//! One image, shifted and mirrored while it is copied.

/// What happens to an image of `[C,H,W]` on the way from the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cut {
    /// By how many pixels the window lies below and to the right of the image; what is outside is 0.
    pub shift: [isize; 2],
    /// Mirror the window left to right.
    pub flip: bool,
}

impl Cut {
    /// Copies `image` `[C,H,W]` to `out`, which has the same length.
    pub(super) fn apply<T: Copy + Default>(self, image: &[T], height: usize, width: usize, out: &mut [T]) {
        if self == Self::default() {
            out.copy_from_slice(image);
            return;
        }
        let [down, right] = self.shift;
        // The columns of the window that lie inside the image.
        let (first, last) = inside(right, width);
        for (channel, plane) in image.chunks_exact(height * width).zip(out.chunks_exact_mut(height * width)) {
            for (row, line) in plane.chunks_exact_mut(width).enumerate() {
                match row.checked_add_signed(down).filter(|&from| from < height) {
                    Some(from) if first < last => {
                        let start = (from * width + first).wrapping_add_signed(right);
                        line[..first].fill(T::default());
                        line[first..last].copy_from_slice(&channel[start..start + last - first]);
                        line[last..].fill(T::default());
                        if self.flip {
                            line.reverse();
                        }
                    }
                    _ => line.fill(T::default()),
                }
            }
        }
    }
}

/// The positions of a window that starts `shift` after an axis of `length` and is as long, where both overlap.
fn inside(shift: isize, length: usize) -> (usize, usize) {
    let gap = shift.unsigned_abs().min(length);
    if shift < 0 { (gap, length) } else { (0, length - gap) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guard_sdk::{Device, Kind, Tensor};

    #[test]
    fn a_cut_is_the_window_of_the_padded_image_mirrored() {
        let (height, width, padding) = (5, 4, 6);
        let image = Tensor::arange(2 * 5 * 4, (Kind::Float, Device::Cpu)).reshape([2, 5, 4]) + 1.0;
        let padded = image.constant_pad_nd([padding; 4]);
        let values = Vec::<f32>::try_from(image.flatten(0, -1)).unwrap();
        for down in -6..=6 {
            for right in -6..=6 {
                for flip in [false, true] {
                    let mut out = vec![9.0; values.len()];
                    Cut { shift: [down as isize, right as isize], flip }
                        .apply(&values, height, width, &mut out);
                    let window = padded.narrow(1, padding + down, height as i64).narrow(
                        2,
                        padding + right,
                        width as i64,
                    );
                    let expected = if flip { window.flip([2]) } else { window };
                    assert_eq!(
                        Tensor::from_slice(&out).reshape([2, 5, 4]),
                        expected,
                        "{down} {right} {flip}"
                    );
                }
            }
        }
    }
}
