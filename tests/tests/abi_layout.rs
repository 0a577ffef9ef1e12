//! The layout of everything that crosses the boundary, compared with what was published.

use abi_stable::{
    StableAbi,
    type_layout::{TLFunction, TypeLayout},
};
use std::{collections::BTreeMap, env, fmt::Write, fs, iter, path::Path};

/// Every table with an id, and the root.
const TABLES: [(&str, &TypeLayout); 10] = [
    ("the root", guard_abi::RootRef::LAYOUT),
    (guard_abi::ids::REGULARIZER, guard_abi::RegularizerTable::LAYOUT),
    (guard_abi::ids::ATTACK, guard_abi::AttackTable::LAYOUT),
    (guard_abi::ids::OBJECTIVE, guard_abi::ObjectiveTable::LAYOUT),
    (guard_abi::ids::NETWORK, guard_abi::NetworkTable::LAYOUT),
    (guard_abi::ids::SERVICES, guard_abi::ServicesTable::LAYOUT),
    (guard_abi::ids::LAB, guard_abi::LabTable::LAYOUT),
    (guard_abi::ids::NETWORKS, guard_abi::NetworksTable::LAYOUT),
    (guard_abi::ids::CLEAN, guard_abi::CleanTable::LAYOUT),
    (guard_abi::ids::NUMBERS, guard_abi::NumbersTable::LAYOUT),
];

/// True for the types whose layout is ours to keep; those of abi_stable are pinned with its version.
fn ours(layout: &TypeLayout) -> bool {
    layout.package().as_str() == "guard-abi"
}

/// The types that a type of abi_stable or of the language itself is about.
fn arguments(layout: &'static TypeLayout) -> Vec<&'static TypeLayout> {
    let fields =
        || layout.get_fields().into_iter().flat_map(|fields| fields.to_vec()).map(|field| field.layout());
    match layout.name() {
        "RResult" | "ROption" => fields().collect(),
        // What follows the pointer is the same for all.
        "RVec" | "RSlice" => fields().flat_map(arguments).take(1).collect(),
        "PrefixRef" | "NonNull" | "&" | "*const" | "*mut" => {
            layout.shared_vars().type_layouts().iter().map(|inner| inner()).collect()
        }
        _ => Vec::new(),
    }
}

/// The type as in the source.
fn name(layout: &'static TypeLayout) -> String {
    let words =
        layout.full_type().to_string().split_whitespace().collect::<Vec<_>>().join(" ").replace(" >", ">");
    match layout.name() {
        "RResult" | "ROption" | "RVec" | "RSlice" => {
            let inner: Vec<_> = arguments(layout).into_iter().map(name).collect();
            format!("{}<{}>", layout.name(), inner.join(", "))
        }
        _ => words,
    }
}

/// A function's parameters and what it returns.
fn signature(function: &TLFunction) -> (Vec<(&'static str, &'static TypeLayout)>, &'static TypeLayout) {
    let names = function
        .param_names
        .as_str()
        .split([',', ';'])
        .filter(|name| !name.is_empty())
        .chain(iter::repeat("_"));
    let types = function.param_type_layouts.iter().map(|layout| layout());
    (names.zip(types).collect(), function.return_type_layout().map_or(<()>::LAYOUT, |layout| layout()))
}

/// One paragraph for each of our types, with its fields and the parameters of its functions; a line for all others.
fn collect(layout: &'static TypeLayout, types: &mut BTreeMap<String, String>) {
    if types.contains_key(&name(layout)) {
        return;
    }
    let mut text = format!("{}: {} bytes, aligned to {}\n", name(layout), layout.size(), layout.alignment());
    let mut inner = arguments(layout);
    for field in layout.get_fields().into_iter().flat_map(|fields| fields.to_vec()).filter(|_| ours(layout)) {
        let described = match field.function_range().iter().next() {
            Some(function) => {
                let (parameters, returned) = signature(&function);
                inner.extend(parameters.iter().map(|(_, layout)| *layout).chain([returned]));
                let parameters: Vec<_> =
                    parameters.iter().map(|(at, layout)| format!("{at}: {}", name(layout))).collect();
                let qualifier = if function.fn_qualifs.is_unsafe() { "unsafe fn" } else { "fn" };
                format!("{qualifier}({}) -> {}", parameters.join(", "), name(returned))
            }
            None => {
                inner.push(field.layout());
                name(field.layout())
            }
        };
        writeln!(text, "    {}: {described}", field.name()).unwrap();
    }
    types.insert(name(layout), text);
    for inner in inner {
        collect(inner, types);
    }
}

fn snapshot() -> String {
    let mut text = String::from(
        "Published layouts of the plugin boundary on 64-bit targets. What stands here never changes.\n\n",
    );
    let mut types = BTreeMap::new();
    for (id, layout) in TABLES {
        writeln!(text, "{id} = {}", name(layout)).unwrap();
        collect(layout, &mut types);
    }
    let (paragraphs, lines): (Vec<_>, Vec<_>) = types.values().partition(|text| text.lines().count() > 1);
    for paragraph in paragraphs {
        write!(text, "\n{paragraph}").unwrap();
    }
    text.push('\n');
    text.extend(lines.into_iter().map(String::as_str));
    text
}

#[test]
fn published_layouts_are_what_they_were() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots/abi-0.1.txt");
    let present = snapshot();
    if env::var_os("GUARD_UPDATE_SNAPSHOTS").is_some() {
        fs::write(&path, &present).unwrap();
    }
    let published = fs::read_to_string(&path).unwrap();
    let differs = |text: &str, other: &str, sign: char| {
        let lines = text.lines().filter(|line| !other.lines().any(|known| known == *line));
        lines.map(|line| format!("{sign} {line}\n")).collect::<String>()
    };
    assert!(
        present == published,
        "the plugin boundary differs from `tests/snapshots/abi-0.1.txt`:\n{}{}\
         A table with a published id never changes: plugins in the field would be refused. Put it back, and add the new \
         table under a new id beside it. Once only additions are left, accept them with GUARD_UPDATE_SNAPSHOTS=1.",
        differs(&published, &present, '-'),
        differs(&present, &published, '+'),
    );
}

#[test]
fn every_interface_that_the_sdk_names_is_in_the_snapshot() {
    let ids = TABLES.map(|(id, _)| id);
    for kind in [
        guard_sdk::manifest::Kind::Objective,
        guard_sdk::manifest::Kind::Regularizer,
        guard_sdk::manifest::Kind::Attack,
    ] {
        assert!(ids.contains(&kind.interface()), "{kind}");
    }
}
