//! Examples that are still attacked: rows of a batch, taken out so that cost falls with their number.

use guard_sdk::{Batch, Device, Kind, Result, Space, Tensor};

/// Rows of a batch, with what belongs to them.
pub struct Examples {
    /// `[M,C,H,W]`, pixels.
    pub images: Tensor,
    /// int64 `[M]`.
    pub labels: Tensor,
    /// `[M,K]`, where the batch has soft labels.
    soft_labels: Option<Tensor>,
    ids: Vec<u64>,
    /// Where they are in the batch, int64 `[M]`.
    pub rows: Tensor,
}

impl Examples {
    /// All rows of `batch`.
    pub fn all(batch: &Batch) -> Self {
        Self {
            images: batch.images.detach(),
            labels: batch.labels.shallow_clone(),
            soft_labels: batch.soft_labels.map(Tensor::shallow_clone),
            ids: batch.ids.to_vec(),
            rows: Tensor::arange(batch.len() as i64, (Kind::Int64, batch.images.device())),
        }
    }

    /// The rows at `positions`, int64 `[M]`, of these.
    ///
    /// # Errors
    /// If the positions cannot be read.
    pub fn at(&self, positions: &Tensor) -> Result<Self> {
        let numbers = Vec::<i64>::try_from(positions.to_device(Device::Cpu))?;
        Ok(Self {
            images: self.images.index_select(0, positions),
            labels: self.labels.index_select(0, positions),
            soft_labels: self.soft_labels.as_ref().map(|soft| soft.index_select(0, positions)),
            ids: numbers.into_iter().map(|position| self.ids[position as usize]).collect(),
            rows: self.rows.index_select(0, positions),
        })
    }

    /// So many copies of all rows, one after the other; each copy has the ids of the first.
    pub fn repeated(&self, times: i64) -> Self {
        let copies = |tensor: &Tensor| repeated(tensor, times);
        Self {
            images: copies(&self.images),
            labels: copies(&self.labels),
            soft_labels: self.soft_labels.as_ref().map(copies),
            ids: self.ids.repeat(times as usize),
            rows: copies(&self.rows),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Lends them as a batch.
    pub fn batch(&self) -> Batch<'_> {
        Batch {
            images: &self.images,
            labels: &self.labels,
            soft_labels: self.soft_labels.as_ref(),
            ids: &self.ids,
            space: Space::Pixels,
        }
    }

    /// True if there are none left.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Of `whole`, with one row per example of the batch, the rows of these.
    pub fn of(&self, whole: &Tensor) -> Tensor {
        whole.index_select(0, &self.rows)
    }

    /// `whole` with `values` in the rows of these.
    pub fn put(&self, whole: &Tensor, values: &Tensor) -> Tensor {
        whole.index_copy(0, &self.rows, values)
    }
}

/// So many copies of a tensor's rows, one after the other.
pub fn repeated(tensor: &Tensor, times: i64) -> Tensor {
    Tensor::cat(&vec![tensor; times as usize], 0)
}

/// How many of `rounds` rounds are made together on `left` examples where a pass may be of `room` images: as many as fill it.
/// What is left of a batch is otherwise too little to keep the processor busy.
pub fn rounds_together(room: usize, left: usize, rounds: u64) -> u64 {
    (room.checked_div(left).unwrap_or(1) as u64).clamp(1, rounds.max(1))
}

/// Where `mask` `[N]` holds, int64 `[M]`. Waits for the device.
pub fn positions(mask: &Tensor) -> Tensor {
    mask.nonzero().flatten(0, -1)
}

/// Where `done` `[N]` does not hold, if it holds anywhere. Waits for the device.
pub fn remaining(done: &Tensor) -> Option<Tensor> {
    let rest = positions(&done.logical_not());
    (rest.size()[0] < done.size()[0]).then_some(rest)
}

/// Keeps the rows at `positions` of each tensor.
pub fn keep(tensors: &mut [&mut Tensor], positions: &Tensor) {
    for tensor in tensors {
        **tensor = tensor.index_select(0, positions);
    }
}
