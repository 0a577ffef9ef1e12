//! The kinds of elements that files hold, by their names in each format, and tensors from and to their bytes.

use super::failure;
use guard_sdk::{Kind, Result, Tensor};
use safetensors::Dtype;

/// One kind of element: PyTorch's storage class, PyTorch's dtype and the dtype in safetensors.
struct Element(Kind, &'static str, &'static str, Dtype);

const ELEMENTS: [Element; 10] = [
    Element(Kind::Float, "FloatStorage", "float32", Dtype::F32),
    Element(Kind::Double, "DoubleStorage", "float64", Dtype::F64),
    Element(Kind::Half, "HalfStorage", "float16", Dtype::F16),
    Element(Kind::BFloat16, "BFloat16Storage", "bfloat16", Dtype::BF16),
    Element(Kind::Int64, "LongStorage", "int64", Dtype::I64),
    Element(Kind::Int, "IntStorage", "int32", Dtype::I32),
    Element(Kind::Int16, "ShortStorage", "int16", Dtype::I16),
    Element(Kind::Int8, "CharStorage", "int8", Dtype::I8),
    Element(Kind::Uint8, "ByteStorage", "uint8", Dtype::U8),
    Element(Kind::Bool, "BoolStorage", "bool", Dtype::BOOL),
];

/// The kind of the elements in `torch.<class>`.
pub(super) fn of_storage(class: &str) -> Option<Kind> {
    ELEMENTS.iter().find(|element| element.1 == class).map(|element| element.0)
}

/// The kind called `torch.<dtype>`.
pub(super) fn of_dtype(dtype: &str) -> Option<Kind> {
    ELEMENTS.iter().find(|element| element.2 == dtype).map(|element| element.0)
}

/// The kind called `dtype` in a safetensors file.
pub(super) fn of_safetensors(dtype: Dtype) -> Result<Kind> {
    let known = ELEMENTS.iter().find(|element| element.3 == dtype).map(|element| element.0);
    known.ok_or_else(|| failure(format!("elements of dtype `{dtype}` cannot be read")))
}

/// The storage class and the safetensors dtype of a kind that can be written.
pub(super) fn names(kind: Kind) -> Result<(&'static str, Dtype)> {
    let known = ELEMENTS.iter().find(|element| element.0 == kind).map(|element| (element.1, element.3));
    known.ok_or_else(|| failure(format!("elements of kind {kind:?} cannot be written")))
}

/// A tensor of this shape, whose elements lie row by row in `bytes` (little-endian).
///
/// # Errors
/// If the number of bytes is another.
pub(super) fn tensor(mut bytes: Vec<u8>, shape: &[i64], kind: Kind) -> Result<Tensor> {
    let size = kind.elt_size_in_bytes() as i64;
    let expected = shape.iter().try_fold(size, |product, &length| product.checked_mul(length));
    if expected != Some(bytes.len() as i64) || shape.iter().any(|&length| length < 0) {
        return Err(failure(format!("shape {shape:?} in {kind:?} does not fit {} bytes", bytes.len())));
    }
    if kind == Kind::Bool {
        // Any other byte in a C++ `bool` is undefined behaviour.
        bytes.iter_mut().for_each(|byte| *byte = (*byte != 0).into());
    }
    Ok(Tensor::f_from_data_size(&bytes, shape, kind)?)
}

/// The elements row by row, little-endian.
pub(super) fn bytes(tensor: &Tensor) -> Result<Vec<u8>> {
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
    Ok(bytes)
}
