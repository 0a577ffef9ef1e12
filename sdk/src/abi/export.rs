//! How a library becomes a plugin: [`plugin!`](crate::plugin).

use crate::{
    Attack, Error, Method, Objective, Regularizer, Result, Services,
    abi::exports::{AnyAttack, AnyObjective, AnyRegularizer},
};

/// What the macro collects of a plugin.
#[doc(hidden)]
pub trait Plugin: 'static {
    const ID: &'static str;
    const MANIFEST: &'static str;
    const OBJECTIVES: &'static [Entry<dyn AnyObjective>];
    const REGULARIZERS: &'static [Entry<dyn AnyRegularizer>];
    const ATTACKS: &'static [Entry<dyn AnyAttack>];
}

/// A method of a plugin: its name, its options' schema, and how to make one.
#[doc(hidden)]
pub struct Entry<D: ?Sized + 'static> {
    pub name: &'static str,
    pub schema: fn() -> serde_json::Value,
    pub create: fn(serde_json::Value, &Services) -> Result<Box<D>>,
}

/// Set in the schema of a method with [`Method::STOPS_GRADIENT`].
pub const STOPS_GRADIENT: &str = "x-guard-stops-gradient";

fn schema<T: Method>() -> serde_json::Value {
    let mut schema = schemars::schema_for!(T::Options);
    if T::STOPS_GRADIENT {
        schema.insert(STOPS_GRADIENT.into(), true.into());
    }
    schema.to_value()
}

pub(crate) fn new<T: Method>(options: serde_json::Value, services: &Services) -> Result<T> {
    let options =
        serde_json::from_value(options).map_err(|error| Error::with_code("options", error.to_string()))?;
    T::new(options, services)
}

#[doc(hidden)]
pub const fn objective<T: Objective>() -> Entry<dyn AnyObjective> {
    Entry {
        name: T::NAME,
        schema: schema::<T>,
        create: |options, services| Ok(Box::new(new::<T>(options, services)?)),
    }
}

#[doc(hidden)]
pub const fn regularizer<T: Regularizer>() -> Entry<dyn AnyRegularizer> {
    Entry {
        name: T::NAME,
        schema: schema::<T>,
        create: |options, services| Ok(Box::new(new::<T>(options, services)?)),
    }
}

#[doc(hidden)]
pub const fn attack<T: Attack>() -> Entry<dyn AnyAttack> {
    Entry {
        name: T::NAME,
        schema: schema::<T>,
        create: |options, services| Ok(Box::new(new::<T>(options, services)?)),
    }
}

#[doc(hidden)]
pub mod private {
    pub use abi_stable::library;
    pub use guard_abi::RootRef;
}

/// Makes the library a plugin. Once per library, at the root of the crate, whose `crate-type` contains `cdylib`:
///
/// ```ignore
/// guard_sdk::plugin! {
///     id: "example.curvature",
///     objectives: [Sre2l],
///     regularizers: [Curvature, GradientNorm],
///     attacks: [Pgd],
/// }
/// ```
///
/// Groups that are empty are left out. The plugin's version is the crate's.
#[macro_export]
macro_rules! plugin {
    (
        id: $id:literal
        $(, objectives: [$($objective:ty),* $(,)?])?
        $(, regularizers: [$($regularizer:ty),* $(,)?])?
        $(, attacks: [$($attack:ty),* $(,)?])?
        $(,)?
    ) => {
        const _: () = {
            use $crate::{abi::exports, export, export::private::{RootRef, library}, manifest};

            struct ThisPlugin;

            const OFFERS: &[&[manifest::Offer]] = &[
                &[$($(manifest::Offer(manifest::Kind::Objective, <$objective as $crate::Method>::NAME, <$objective as $crate::Method>::CAPTURABLE)),*)?],
                &[$($(manifest::Offer(manifest::Kind::Regularizer, <$regularizer as $crate::Method>::NAME, <$regularizer as $crate::Method>::CAPTURABLE)),*)?],
                &[$($(manifest::Offer(manifest::Kind::Attack, <$attack as $crate::Method>::NAME, <$attack as $crate::Method>::CAPTURABLE)),*)?],
            ];
            const VERSION: &str = env!("CARGO_PKG_VERSION");
            const UNWINDS: bool = cfg!(panic = "unwind");
            const LENGTH: usize = manifest::render(&mut [], $id, VERSION, UNWINDS, OFFERS);

            #[used]
            #[unsafe(link_section = ".guard_manifest")]
            static MANIFEST: [u8; LENGTH] = {
                let mut text = [0; LENGTH];
                manifest::render(&mut text, $id, VERSION, UNWINDS, OFFERS);
                text
            };

            impl export::Plugin for ThisPlugin {
                const ID: &'static str = $id;
                const MANIFEST: &'static str = match ::core::str::from_utf8(&MANIFEST) {
                    Ok(text) => text,
                    Err(_) => panic!("the manifest is UTF-8"),
                };
                const OBJECTIVES: &'static [export::Entry<dyn $crate::abi::exports::AnyObjective>] =
                    &[$($(export::objective::<$objective>()),*)?];
                const REGULARIZERS: &'static [export::Entry<dyn $crate::abi::exports::AnyRegularizer>] =
                    &[$($(export::regularizer::<$regularizer>()),*)?];
                const ATTACKS: &'static [export::Entry<dyn $crate::abi::exports::AnyAttack>] =
                    &[$($(export::attack::<$attack>()),*)?];
            }

            extern "C" fn root_module() -> library::RootModuleResult {
                library::__call_root_module_loader(exports::root::<ThisPlugin>)
            }

            // SAFETY: the constructor returns the erased `RootRef`.
            #[unsafe(export_name = "_1as_0lib_1header_0root_bmodule_bloader")]
            static LIBRARY_HEADER: library::LibHeader = unsafe {
                library::LibHeader::from_constructor::<RootRef>(root_module, library::CheckTypeLayout::Yes)
            };
        };
    };
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_exported_symbol_is_the_one_that_abi_stable_looks_for() {
        assert_eq!(abi_stable::library::ROOT_MODULE_LOADER_NAME, "_1as_0lib_1header_0root_bmodule_bloader");
    }
}
