//! What PyTorch writes into a pickle about a tensor: a call of one of its functions, with a storage and a view of it.

use super::{
    element, failure,
    pickle::{Call, Value},
};
use guard_sdk::{Kind, Result};

/// The most dimensions of a tensor.
const MOST_DIMENSIONS: usize = 64;

/// A one-dimensional array that the file keeps outside of its pickle.
#[derive(Clone, Copy)]
pub(super) struct StorageRecord<'a> {
    pub key: &'a str,
    pub kind: Kind,
    /// In elements.
    pub length: u64,
}

/// A view of a storage.
pub(super) struct TensorRecord<'a> {
    pub storage: StorageRecord<'a>,
    pub offset: i64,
    pub size: Vec<i64>,
    pub stride: Vec<i64>,
}

impl<'a> StorageRecord<'a> {
    /// From the name of a storage: `("storage", class, key, device, length)`, in old files also a view.
    ///
    /// # Errors
    /// If it is something else, or its elements are of an unknown kind.
    pub fn read(name: Value<'a>) -> Result<Self> {
        let malformed = || failure("the record of a storage is malformed");
        let part = |position: usize| name.item(position).ok_or_else(malformed);
        if part(0)?.text() != Some("storage") {
            return Err(malformed());
        }
        if name.item(5).is_some_and(|view| !view.is_none()) {
            let help = "load and save it with PyTorch 1.0 or later";
            return Err(failure("a storage is a view of another one, as PyTorch 0.3 wrote them").help(help));
        }
        let (module, class) = part(1)?.global().ok_or_else(malformed)?;
        let kind = match (module, class) {
            ("torch.storage", "UntypedStorage") => Some(Kind::Uint8),
            ("torch" | "torch.cuda", class) => element::of_storage(class),
            _ => None,
        };
        let kind = kind.ok_or_else(|| failure(format!("elements of `{module}.{class}` cannot be read")))?;
        let length = part(4)?.integer().and_then(|length| length.try_into().ok()).ok_or_else(malformed)?;
        Ok(Self { key: part(2)?.text().ok_or_else(malformed)?, kind, length })
    }
}

impl<'a> TensorRecord<'a> {
    /// What a value says of a tensor; `None` where it is something else.
    ///
    /// # Errors
    /// If it is a tensor that cannot be made from plain values.
    pub fn read(value: Value<'a>) -> Result<Option<Self>> {
        let Some(mut call) = value.call() else { return Ok(None) };
        let malformed = || failure("the record of a tensor is malformed");
        // A parameter is a tensor that is trained.
        if let ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") = call.function {
            call = call.argument(0).and_then(Value::call).ok_or_else(malformed)?;
        }
        // Of a subclass or with attributes: a function and its arguments.
        if call.function == ("torch._tensor", "_rebuild_from_type_v2") {
            let function = call.argument(0).and_then(Value::global).ok_or_else(malformed)?;
            call = Call { function, arguments: call.argument(2).ok_or_else(malformed)?, state: None };
        }
        match call.function {
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3") => {}
            // Quantised, sparse, on the meta device, ... .
            ("torch._utils", name) if name.starts_with("_rebuild_") => {
                return Err(failure(format!("tensors of `torch._utils.{name}` cannot be read"))
                    .help("save dense tensors: `tensor.dequantize()`, `tensor.to_dense()`"));
            }
            _ => return Ok(None),
        }
        Self::view(call).map(Some)
    }

    /// `(storage, offset, size, stride, requires_grad, hooks, [dtype], [metadata])`.
    fn view(call: Call<'a>) -> Result<Self> {
        let malformed = || failure("the record of a tensor is malformed");
        let argument = |position: usize| call.argument(position).ok_or_else(malformed);
        let mut storage = StorageRecord::read(argument(0)?.persistent().ok_or_else(malformed)?)?;
        let metadata = match call.function.1 {
            "_rebuild_tensor_v3" => {
                let (module, dtype) = argument(6)?.global().ok_or_else(malformed)?;
                storage.kind = element::of_dtype(dtype)
                    .filter(|_| module == "torch")
                    .ok_or_else(|| failure(format!("elements of `{module}.{dtype}` cannot be read")))?;
                storage.length /= storage.kind.elt_size_in_bytes() as u64;
                call.argument(7)
            }
            _ => call.argument(6),
        };
        // Negation and conjugation that PyTorch would apply on the fly.
        let plain =
            |value: Value<'_>| value.is_none() || value.entries().is_some_and(|entries| entries.is_empty());
        if !metadata.is_none_or(plain) {
            return Err(failure("a tensor with a negation or conjugation bit cannot be read")
                .help("save `tensor.resolve_neg()`"));
        }
        let offset = argument(1)?.integer().and_then(natural).ok_or_else(malformed)?;
        let (size, stride) = (lengths(argument(2)?), lengths(argument(3)?));
        match (size, stride) {
            (Some(size), Some(stride)) if size.len() == stride.len() => {
                Ok(Self { storage, offset, size, stride })
            }
            _ => Err(malformed()),
        }
    }

    /// The number of elements of its storage that it reaches, from the first one on.
    ///
    /// # Errors
    /// If that, or its own number of elements, is no 64-bit integer.
    pub fn reach(&self) -> Result<u64> {
        let Self { offset, size, stride, .. } = self;
        let overflow = || failure(format!("a tensor of size {size:?} with strides {stride:?} cannot be"));
        let count = size.iter().try_fold(1i64, |product, &length| product.checked_mul(length));
        if count.ok_or_else(overflow)? == 0 {
            return Ok(0);
        }
        let last = size
            .iter()
            .zip(stride)
            .try_fold(*offset, |last, (length, stride)| last.checked_add(stride.checked_mul(length - 1)?));
        Ok(last.and_then(|last| last.checked_add(1)).ok_or_else(overflow)? as u64)
    }
}

fn natural(value: i128) -> Option<i64> {
    i64::try_from(value).ok().filter(|&value| value >= 0)
}

fn lengths(value: Value<'_>) -> Option<Vec<i64>> {
    let items = value.items().filter(|items| items.len() <= MOST_DIMENSIONS)?;
    items.map(|item| natural(item.integer()?)).collect()
}
