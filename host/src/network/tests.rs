//! What architectures refuse and what they cost. That they compute what PyTorch computes: `tests/tests/networks.rs`.

use super::*;
use serde_json::{Value, json};

fn spec(network: Value, input: [i64; 3], classes: i64) -> NetworkSpec {
    let channels = input[0].max(0) as usize;
    NetworkSpec {
        architecture: serde_json::from_value(network).unwrap(),
        input,
        classes,
        mean: vec![0.5; channels],
        std: vec![0.25; channels],
        whitening: None,
        precision: Default::default(),
    }
}

fn refusal(network: Value, input: [i64; 3]) -> String {
    spec(network, input, 10).program().unwrap_err().message
}

#[test]
fn images_that_do_not_fit_the_architecture_are_refused() {
    let refused = |network: Value, input, message: &str| assert_eq!(refusal(network, input), message);
    let small = "images of 8x4 are too small for 3 poolings by 2";
    refused(json!({ "architecture": "convnet" }), [3, 8, 4], small);
    refused(json!({ "architecture": "resnet18_ap" }), [3, 8, 4], small);
    let single = "instance norm `layer4.0.bn2` would see a single position, and give 0 for it";
    refused(json!({ "architecture": "resnet18_ap" }), [3, 15, 8], single);
    let batch = json!({ "architecture": "resnet18_ap", "norm": "batch" });
    assert!(spec(batch, [3, 8, 8], 10).program().is_ok());
    let vit = json!({ "architecture": "vit_tiny" });
    refused(vit.clone(), [3, 32, 8], "images of 32x8 are too small for patches of 16x16");
    refused(vit.clone(), [3, 32, 40], "patches of 16x16 do not divide images of 32x40");
    for odd in [[3, 0, 32], [0, 32, 32], [3, 32, -1], [3, 40_000, 16]] {
        assert!(refusal(vit.clone(), odd).starts_with("there is no network for 10 classes of "), "{odd:?}");
    }
    let none = spec(vit, [3, 32, 32], 0).program().unwrap_err();
    assert_eq!(none.message, "there is no network for 0 classes of 3x32x32 images");
}

#[test]
fn widths_that_do_not_fit_the_architecture_are_refused() {
    let odd = json!({ "architecture": "resnet20", "width": 15 });
    assert_eq!(refusal(odd, [3, 32, 32]), "shortcuts without parameters need an even `width`, found 15");
    let groups = "group norm has 4 groups, which do not divide a width of 6";
    for architecture in ["convnet", "resnet18_ap"] {
        let network = json!({ "architecture": architecture, "width": 6, "norm": "group" });
        assert_eq!(refusal(network, [3, 32, 32]), groups);
    }
    let huge = json!({ "architecture": "resnet101", "width": 65536 });
    assert!(refusal(huge, [3, 32, 32]).contains("parameters, more than 4000000000"));
}

#[test]
fn a_name_stands_for_the_sizes_that_it_is_known_by() {
    let program = |network: Value| spec(network, [3, 32, 32], 10).program().unwrap();
    for (name, blocks, bottleneck) in [("resnet18", [2, 2, 2, 2], false), ("resnet50", [3, 4, 6, 3], true)] {
        let named = program(json!({ "architecture": name, "stem": "cifar", "width": 8 }));
        let network =
            json!({ "architecture": "resnet", "width": 8, "blocks": blocks, "bottleneck": bottleneck });
        assert_eq!(named, program(network));
    }
}

#[test]
fn architectures_are_called_as_recipes_write_them() {
    for name in ["convnet", "resnet", "resnet18_ap", "wrn-16-2", "vit_tiny", "mobilenet_v2", "shufflenet_v2"]
    {
        let spec = spec(json!({ "architecture": name }), [3, 32, 32], 10);
        assert_eq!(spec.architecture.name(), name);
        let written = serde_json::to_value(&spec).unwrap();
        assert_eq!(serde_json::from_value::<NetworkSpec>(written).unwrap(), spec);
    }
}

/// Parameters and multiply-adds (in units of 10⁹) as torchvision's model cards have them; those of the last five as
/// PyTorch's `FlopCounterMode` counts them.
#[test]
fn the_published_networks_have_the_published_costs() {
    let published = [
        ("resnet18", 11_689_512, "1.814"),
        ("resnet34", 21_797_672, "3.664"),
        ("resnet50", 25_557_032, "4.089"),
        ("resnet101", 44_549_160, "7.801"),
        ("mobilenet_v2", 3_504_872, "0.301"),
        ("shufflenet_v2", 2_278_604, "0.145"),
        ("vit_base", 86_567_656, "17.564"),
        ("vit_tiny", 5_717_416, "1.254"),
        ("vit_small", 22_050_664, "4.599"),
        ("resnet20", 269_722, "0.041"),
        ("wrn-16-2", 691_674, "0.101"),
        ("convnet", 320_010, "0.051"),
    ];
    for (name, parameters, multiply_adds) in published {
        let architecture: Architecture = serde_json::from_value(json!({ "architecture": name })).unwrap();
        let (input, classes) = architecture.published_for();
        let summary = Summary::of(&spec(json!({ "architecture": name }), input, classes)).unwrap();
        let found = format!("{:.3}", summary.multiply_adds as f64 / 1e9);
        assert_eq!((summary.parameters, found.as_str()), (parameters, multiply_adds), "{name}");
        assert_eq!(summary.layers.last().unwrap().output, [classes], "{name}");
    }
}

#[test]
fn layers_are_listed_in_order_with_shapes_and_costs() {
    let network = json!({ "architecture": "vit_tiny", "depth": 1 });
    let summary = Summary::of(&spec(network, [3, 32, 48], 10)).unwrap();
    let rows: Vec<_> = summary
        .layers
        .iter()
        .map(|layer| {
            let Layer { name, operation, output, parameters, multiply_adds } = layer;
            (name.as_str(), operation.as_str(), output.as_slice(), *parameters, *multiply_adds)
        })
        .collect();
    let expected: [(&str, &str, &[i64], i64, i64); 12] = [
        ("patch_embed.proj", "conv 16x16, stride 16", &[192, 2, 3], 147_648, 884_736),
        ("cls_token, pos_embed", "class token and positions", &[7, 192], 1_536, 0),
        ("blocks.0.norm1", "layer norm", &[7, 192], 384, 0),
        ("blocks.0.attn.qkv", "linear", &[7, 576], 111_168, 774_144),
        ("", "attention, heads 3", &[7, 192], 0, 18_816),
        ("blocks.0.attn.proj", "linear", &[7, 192], 37_056, 258_048),
        ("blocks.0.norm2", "layer norm", &[7, 192], 384, 0),
        ("blocks.0.mlp.fc1", "linear", &[7, 768], 148_224, 1_032_192),
        ("blocks.0.mlp.fc2", "linear", &[7, 192], 147_648, 1_032_192),
        ("norm", "layer norm", &[7, 192], 384, 0),
        ("", "class token", &[192], 0, 0),
        ("head", "linear", &[10], 1_930, 1_920),
    ];
    assert_eq!(rows, expected);
}
