//! Tensors: pointers to libtorch's own `at::Tensor`. Storage is never copied, and the autograd graph crosses.

use abi_stable::{StableAbi, std_types::RStr, std_types::RString};
use std::marker::PhantomData;

/// One owned reference to an `at::Tensor` on the heap.
///
/// The side that makes it says how it is released, so that this crate needs no libtorch.
#[repr(C)]
#[derive(StableAbi)]
pub struct TensorHandle {
    pointer: *mut (),
    release: unsafe extern "C" fn(*mut ()),
}

// SAFETY: an `at::Tensor` is an atomically counted pointer; the handle owns one count of it.
unsafe impl Send for TensorHandle {}

impl TensorHandle {
    /// Takes over `pointer`.
    ///
    /// # Safety
    /// `pointer` is a heap-allocated `at::Tensor` that nobody else frees, and `release` frees it.
    pub unsafe fn new(pointer: *mut (), release: unsafe extern "C" fn(*mut ())) -> Self {
        Self { pointer, release }
    }

    /// Gives the pointer up to the caller, who now frees it.
    pub fn into_pointer(self) -> *mut () {
        let pointer = self.pointer;
        std::mem::forget(self);
        pointer
    }

    /// The pointer, still owned by the handle.
    pub fn as_pointer(&self) -> *mut () {
        self.pointer
    }
}

impl Drop for TensorHandle {
    fn drop(&mut self) {
        // SAFETY: `new` was promised a pointer that `release` frees, and `into_pointer` forgets the handle.
        unsafe { (self.release)(self.pointer) }
    }
}

/// An `at::Tensor` lent for the duration of a call.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct TensorView<'a> {
    pointer: *mut (),
    lent: PhantomData<&'a ()>,
}

impl TensorView<'_> {
    /// Lends `pointer`.
    ///
    /// # Safety
    /// `pointer` is a live `at::Tensor` for as long as the view's lifetime.
    pub unsafe fn new(pointer: *mut ()) -> Self {
        Self { pointer, lent: PhantomData }
    }

    /// The pointer, which the callee does not free.
    pub fn as_pointer(&self) -> *mut () {
        self.pointer
    }
}

/// An owned tensor with its name.
#[repr(C)]
#[derive(StableAbi)]
pub struct NamedHandle {
    /// torchvision's name, e.g. `layer1.0.conv1.weight`.
    pub name: RString,
    /// The tensor.
    pub tensor: TensorHandle,
}

/// A lent tensor with its name.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct NamedView<'a> {
    /// The name.
    pub name: RStr<'a>,
    /// The tensor.
    pub tensor: TensorView<'a>,
}
