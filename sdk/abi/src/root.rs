//! The root module: a manifest, a fingerprint, and one function that hands out interfaces by id. Frozen for good.

use abi_stable::{
    StableAbi,
    abi_stability::check_layout_compatibility,
    library::RootModule,
    package_version_strings,
    sabi_types::VersionStrings,
    std_types::{ROption, RStr},
    type_layout::TypeLayout,
};

/// What a plugin library exports.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = RootRef)))]
#[sabi(missing_field(panic))]
pub struct Root {
    /// The manifest, the same text as in the library's manifest section.
    pub manifest: extern "C" fn() -> RStr<'static>,
    /// Which libtorch the plugin talks to.
    pub fingerprint: extern "C" fn() -> Fingerprint,
    /// The interface with this id, if the plugin offers it.
    #[sabi(last_prefix_field)]
    pub interface: extern "C" fn(id: RStr<'_>) -> ROption<Interface>,
}

impl RootModule for RootRef {
    abi_stable::declare_root_module_statics! {RootRef}
    const BASE_NAME: &'static str = "guard_plugin";
    const NAME: &'static str = "guard_plugin";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}

/// Evidence that both sides use one and the same libtorch: tensors cross as pointers into it.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// The libtorch version compiled against, e.g. `2.11.0`.
    pub torch: RStr<'static>,
    /// `_GLIBCXX_USE_CXX11_ABI` of the C++ code.
    pub cxx11_abi: bool,
    /// The address of libtorch's undefined-tensor singleton as this side sees it.
    pub symbol: usize,
}

/// A table of functions, with the layout that abi_stable recorded for it.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct Interface {
    layout: &'static TypeLayout,
    table: *const (),
}

impl Interface {
    /// Offers `table`.
    pub fn of<T: StableAbi>(table: &'static T) -> Self {
        Self { layout: T::LAYOUT, table: (table as *const T).cast() }
    }

    /// The table, once its layout is known to be that of `T` as compiled here.
    pub fn table<T: StableAbi>(&self) -> Result<&'static T, LayoutMismatch> {
        match check_layout_compatibility(T::LAYOUT, self.layout).into_result() {
            // SAFETY: `of` took a `&'static` to a type with this layout, which was just found to be `T`'s.
            Ok(_) => Ok(unsafe { &*self.table.cast::<T>() }),
            Err(errors) => Err(LayoutMismatch { details: errors.to_string() }),
        }
    }
}

/// An interface has another layout than its id stands for.
#[derive(Debug, Clone)]
pub struct LayoutMismatch {
    /// abi_stable's comparison, hundreds of lines long.
    pub details: String,
}
