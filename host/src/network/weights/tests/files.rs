//! Reading and writing files.

use super::*;
use crate::network::weights::write_tensors;

#[test]
fn a_state_dict_keeps_its_names_order_kinds_and_values() {
    for (name, kind) in [
        ("zip.pth", Kind::Float),
        ("legacy.pth", Kind::Float),
        ("protocol4.pth", Kind::Float),
        ("legacy_protocol5.pth", Kind::Float),
        ("without_crc.pth", Kind::Float),
        ("half.pth", Kind::Half),
        ("bfloat16.pth", Kind::BFloat16),
    ] {
        let tensors = read_tensors(&fixture(name)).unwrap();
        assert_eq!(tensors.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), names(), "{name}");
        for (tensor, found) in &tensors {
            same(found, &expected(tensor, &found.size(), kind), &format!("{tensor} in {name}"));
        }
    }
}

#[test]
fn every_kind_of_element_is_read_in_every_format() {
    for name in ["dtypes.pth", "legacy_dtypes.pth", "dtypes.safetensors"] {
        let tensors = read_tensors(&fixture(name)).unwrap();
        assert_eq!(tensors.len(), 10, "{name}");
        for (dtype, found) in &tensors {
            let integers = Tensor::from_slice(&[0i64, 1, 2, 100, 101, 127]).reshape([2, 3]);
            let expected = match dtype.as_str() {
                "torch.float64" => values(0, &[2, 3], Kind::Double),
                "torch.float32" => values(1, &[2, 3], Kind::Float),
                "torch.float16" => values(2, &[2, 3], Kind::Half),
                "torch.bfloat16" => values(3, &[2, 3], Kind::BFloat16),
                "torch.uint8" => integers.to_kind(Kind::Uint8),
                "torch.int8" => integers.to_kind(Kind::Int8),
                "torch.int16" => integers.to_kind(Kind::Int16),
                "torch.int32" => integers.to_kind(Kind::Int),
                "torch.int64" => integers,
                "torch.bool" => Tensor::from_slice(&[true, false, true, false, false, true]).reshape([2, 3]),
                other => panic!("{other} in {name}"),
            };
            same(found, &expected, &format!("{dtype} in {name}"));
        }
    }
}

#[test]
fn views_show_what_they_showed_and_share_what_they_shared() {
    for name in ["views.pth", "legacy_views.pth"] {
        let tensors = read_tensors(&fixture(name)).unwrap();
        let tensor = |wanted: &str| &tensors.iter().find(|(name, _)| name == wanted).unwrap().1;
        let base = values(0, &[4, 6], Kind::Float);
        same(tensor("base"), &base, name);
        same(tensor("transposed"), &base.tr(), name);
        same(tensor("slice"), &base.slice(0, 1, 3, 1).slice(1, None, None, 2), name);
        same(tensor("expanded"), &base.get(0).slice(0, 0, 1, 1).expand([3, 1], true), name);
        same(tensor("scalar"), &base.get(2).get(3), name);
        same(tensor("empty"), &Tensor::zeros([0, 3], (Kind::Float, Device::Cpu)), name);
        same(tensor("channels_last"), &values(1, &[2, 3, 2, 2], Kind::Float), name);
        assert_eq!(tensor("channels_last").stride(), [12, 1, 6, 3], "{name}");
        same(tensor("parameter"), &base.get(3), name);
        assert_eq!(tensor("base").data_ptr(), tensor("transposed").data_ptr(), "{name}");
    }
}

#[test]
fn synthetic_sets_of_other_programs_can_be_walked_through() {
    let file = TorchFile::open(&fixture("synthetic.pt")).unwrap();
    let data = file.root().get("data").unwrap();
    let [images, labels] = [0, 1].map(|position| data.item(0).unwrap().item(position).unwrap());
    same(&file.tensor(images).unwrap().unwrap(), &values(0, &[2, 1, 2, 2], Kind::Float), "images");
    same(&file.tensor(labels).unwrap().unwrap(), &Tensor::from_slice(&[0i64, 1]), "labels");
    assert!(file.tensor(data).unwrap().is_none());
    let error = refused("synthetic.pt");
    assert!(error.message.ends_with("a dictionary with the keys `data`, `accs_all_exps`"), "{error}");
}

#[test]
fn what_lies_beside_the_state_dict_is_data() {
    let file = TorchFile::open(&fixture("checkpoint.pth")).unwrap();
    assert_eq!(file.root().get("epoch").unwrap().integer(), Some(3));
    let arguments = file.root().get("args").unwrap();
    assert_eq!(arguments.describe(), "an object of `argparse.Namespace`");
    let attributes = arguments.call().unwrap().state.unwrap();
    assert_eq!(attributes.get("arch").unwrap().text(), Some("resnet"));
    let command = TorchFile::open(&fixture("malicious.pth")).unwrap();
    let command = command.root().get("payload").unwrap().call().unwrap();
    assert_eq!(command.function, ("posix", "system"));
    assert_eq!(command.argument(0).unwrap().text(), Some("echo this file ran a command"));
}

#[test]
fn files_without_a_state_dict_say_what_they_hold_and_how_to_save_one() {
    for (name, message, help) in [
        ("module.pth", "a whole module, an object of `__main__.ResNet`", "model.state_dict()"),
        ("legacy_module.pth", "a whole module, an object of `__main__.Scale`", "model.state_dict()"),
        ("script.pt", "a TorchScript archive", "torch.jit.load"),
        ("malicious_root.pth", "no state dict, but an object of `posix.system`", "model.state_dict()"),
        ("big_endian.pth", "big-endian", "as safetensors"),
        ("arrays.npz", "a zip archive of NumPy arrays", ""),
        ("complex.pth", "tensor `weight`: elements of `torch.ComplexFloatStorage`", ""),
        ("make.py", "something that begins with the bytes [22, 22, 22", ".safetensors"),
    ] {
        let error = refused(name);
        assert!(error.message.contains(message), "{error}");
        assert!(error.help.unwrap_or_default().contains(help), "{name}");
    }
}

#[test]
fn a_file_is_what_its_first_bytes_say() {
    for (bytes, found) in [
        (&b""[..], "empty"),
        (b"<!DOCTYPE html>", "an HTML or XML page"),
        (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
        (b"\x1f\x8b\x08\0", "gzip-compressed"),
        (b"\x80\x02}.", "the file is a pickle, but not one that `torch.save` wrote"),
        (b"\x80\x02cposix\nsystem\n(X\x02\0\0\0lstR.", "the file is a pickle"),
        (b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "but not one that `torch.save` wrote"),
    ] {
        let error = read_bytes(bytes).unwrap_err();
        assert!(error.message.contains(found), "{error}");
    }
    let absent = read_tensors(&fixture("absent.pth")).unwrap_err();
    assert_eq!(absent.code, "file");
}

#[test]
fn no_beginning_of_a_file_passes_for_the_file() {
    for name in ["zip.pth", "legacy.pth", "dtypes.safetensors"] {
        let bytes = fs::read(fixture(name)).unwrap();
        for length in (0..bytes.len()).step_by(7) {
            let error = read_bytes(&bytes[..length]).unwrap_err();
            assert!(["weights", "file"].contains(&error.code.as_str()), "{error}");
        }
    }
    let bytes = fs::read(fixture("dtypes.safetensors")).unwrap();
    let error = read_bytes(&bytes[..bytes.len() - 1]).unwrap_err();
    assert!(error.message.contains("it is shorter or longer than its header says"), "{error}");
}

#[test]
fn a_changed_byte_of_a_storage_is_found_by_its_checksum() {
    let mut bytes = fs::read(fixture("zip.pth")).unwrap();
    let value = 1.375f32.to_le_bytes();
    let at = bytes.windows(4).position(|window| window == value).unwrap();
    bytes[at] ^= 1;
    let error = read_bytes(&bytes).unwrap_err();
    assert!(error.message.contains("the checksum is wrong"), "{error}");
}

/// `tests/weights/check.py` reads the same files with PyTorch, from the folder `GUARD_EXPORT_DIR`.
#[test]
fn both_formats_hold_what_was_saved() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = std::env::var_os("GUARD_EXPORT_DIR").map_or(temporary.path().to_path_buf(), PathBuf::from);
    let model = load("zip.pth", 3).unwrap();
    for name in ["export.pth", "export.pt", "export.safetensors"] {
        let path = folder.join(name);
        model.save(&path).unwrap();
        let again = Model::load(&tiny(3), &path, Device::Cpu).unwrap();
        for ((tensor, saved), (_, found)) in named(&model).iter().zip(named(&again)) {
            same(&found, saved, &format!("{tensor} in {name}"));
        }
    }
    let error = model.save(&folder.join("export.bin")).unwrap_err();
    assert!(error.message.contains("the name says no format to write"), "{error}");
}

#[test]
fn every_kind_and_view_that_is_read_can_be_written() {
    let folder = tempfile::tempdir().unwrap();
    for source in ["dtypes.pth", "views.pth"] {
        let tensors = read_tensors(&fixture(source)).unwrap();
        for target in ["again.pth", "again.safetensors"] {
            let path = folder.path().join(target);
            write_tensors(&path, &tensors).unwrap();
            let again = read_tensors(&path).unwrap();
            assert_eq!(again.len(), tensors.len());
            for (name, found) in &again {
                let written = tensors.iter().find(|(each, _)| each == name).unwrap();
                same(found, &written.1, &format!("{name} of {source} in {target}"));
            }
        }
    }
}
