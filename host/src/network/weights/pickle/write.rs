//! The pickle of a state dict, protocol 2, as `torch.save` would write it but without memo.

use crate::network::weights::element;
use guard_sdk::{Result, Tensor};

/// The pickle of an `OrderedDict` of tensors; the storage of the tensor at position i is called i, and holds nothing else.
///
/// # Errors
/// If a kind of elements has no name in PyTorch's files.
pub(in crate::network::weights) fn state_dict(tensors: &[(String, Tensor)]) -> Result<Vec<u8>> {
    let mut pickle = Writer(vec![0x80, 2]);
    pickle.ordered_dict();
    pickle.0.push(b'(');
    for (position, (name, tensor)) in tensors.iter().enumerate() {
        pickle.text(name);
        pickle.tensor(position, tensor)?;
    }
    pickle.0.extend(b"u.");
    Ok(pickle.0)
}

struct Writer(Vec<u8>);

impl Writer {
    fn global(&mut self, module: &str, name: &str) {
        self.0.extend(format!("c{module}\n{name}\n").bytes());
    }

    fn ordered_dict(&mut self) {
        self.global("collections", "OrderedDict");
        self.0.extend(b")R");
    }

    fn text(&mut self, text: &str) {
        self.0.push(b'X');
        self.0.extend((text.len() as u32).to_le_bytes());
        self.0.extend(text.bytes());
    }

    fn integer(&mut self, value: i64) {
        match i32::try_from(value) {
            Ok(value) => {
                self.0.push(b'J');
                self.0.extend(value.to_le_bytes());
            }
            Err(_) => {
                self.0.extend([0x8a, 8]);
                self.0.extend(value.to_le_bytes());
            }
        }
    }

    fn integers(&mut self, values: &[i64]) {
        self.0.push(b'(');
        values.iter().for_each(|&value| self.integer(value));
        self.0.push(b't');
    }

    /// `_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, backward_hooks)`.
    fn tensor(&mut self, storage: usize, tensor: &Tensor) -> Result<()> {
        let (class, _) = element::names(tensor.kind())?;
        let size = tensor.size();
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.0.extend(b"((");
        self.text("storage");
        self.global("torch", class);
        self.text(&storage.to_string());
        self.text("cpu");
        self.integer(tensor.numel() as i64);
        self.0.extend(b"tQ");
        self.integer(0);
        self.integers(&size);
        self.integers(&row_by_row(&size));
        self.0.push(0x89);
        self.ordered_dict();
        self.0.extend(b"tR");
        Ok(())
    }
}

/// The strides of a contiguous tensor.
fn row_by_row(size: &[i64]) -> Vec<i64> {
    let mut strides = vec![1; size.len()];
    for axis in (1..size.len()).rev() {
        strides[axis - 1] = strides[axis] * size[axis].max(1);
    }
    strides
}
