//! What a step changes, as it was before: put back if the step fails, at once or, on a GPU, which is not waited for, by a flag
//! that lies there.

use guard_sdk::{Result, Tensor, autograd::no_grad};

/// Tensors and what was in them.
pub(super) struct Before(Vec<(Tensor, Tensor)>);

impl Before {
    /// Notes what is in `tensors`.
    ///
    /// # Errors
    /// If there is no room.
    pub fn of<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Result<Self> {
        no_grad(|| {
            let noted = |tensor: &'a Tensor| {
                let mut before = tensor.detach().f_empty_like()?;
                before.f_copy_(tensor)?;
                Ok((tensor.shallow_clone(), before))
            };
            Ok(Self(tensors.into_iter().map(noted).collect::<Result<_>>()?))
        })
    }

    /// Puts it back.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn put_back(&self) -> Result<()> {
        no_grad(|| self.0.iter().try_for_each(|(now, before)| Ok(now.shallow_clone().f_copy_(before)?)))
    }

    /// Puts it back unless the bool scalar `kept` is true.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn put_back_unless(&self, kept: &Tensor) -> Result<()> {
        no_grad(|| {
            self.0.iter().try_for_each(|(now, before)| {
                let _ = now.f_where_self_out(&now.shallow_clone(), kept, before)?;
                Ok(())
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_comes_back_at_once_or_by_a_flag() {
        let weights = Tensor::from_slice(&[1.0, 2.0]).set_requires_grad(true);
        let count = Tensor::from(3i64);
        let before = Before::of([&weights, &count]).unwrap();
        let spoil = || {
            no_grad(|| {
                let _ = weights.detach().fill_(f64::NAN);
                let _ = count.shallow_clone().fill_(9);
            });
        };
        let there = || (Vec::<f64>::try_from(weights.detach()).unwrap(), count.int64_value(&[]));
        spoil();
        before.put_back().unwrap();
        assert_eq!(there(), (vec![1.0, 2.0], 3));
        spoil();
        before.put_back_unless(&Tensor::from(true)).unwrap();
        assert!(there().0[0].is_nan() && there().1 == 9);
        before.put_back_unless(&Tensor::from(false)).unwrap();
        assert_eq!(there(), (vec![1.0, 2.0], 3));
    }
}
