//! Files that say more than they hold.

use super::*;
use crate::network::weights::pickle::unpickle;
use std::io::{Cursor, Write};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// A zip file of `torch.save` with this pickle and one storage of 16 bytes, `0`.
fn archive(pickle: &[u8], method: CompressionMethod) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in [("archive/data.pkl", pickle), ("archive/data/0", &[0; 16])] {
        archive.start_file(name, options).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// A dictionary with one tensor, `t`; integers in four bytes.
fn tensor(class: &str, key: &str, length: i32, offset: i32, size: &[i32], stride: &[i32]) -> Vec<u8> {
    let mut pickle = b"\x80\x02}X\x01\0\0\0tctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storage".to_vec();
    let integer = |value: i32| [&b"J"[..], &value.to_le_bytes()].concat();
    let integers = |values: &[i32]| {
        [b"(".to_vec(), values.iter().flat_map(|&value| integer(value)).collect(), b"t".to_vec()].concat()
    };
    pickle.extend(format!("ctorch\n{class}\n").bytes());
    pickle.extend([b'X', key.len() as u8, 0, 0, 0]);
    pickle.extend(key.bytes());
    pickle.extend(b"N");
    pickle.extend(integer(length));
    pickle.extend(b"tQ");
    pickle.extend(integer(offset));
    pickle.extend(integers(size));
    pickle.extend(integers(stride));
    pickle.extend(b"\x89NtRs.");
    pickle
}

fn read(pickle: &[u8]) -> Result<Vec<(String, Tensor)>, Error> {
    read_bytes(&archive(pickle, CompressionMethod::Stored))
}

#[test]
fn a_view_may_reach_the_last_element_of_its_storage_and_no_further() {
    let good = read(&tensor("FloatStorage", "0", 4, 1, &[1, 2], &[7, 2])).unwrap();
    assert_eq!(good[0].1.size(), [1, 2]);
    for (offset, size, stride) in [
        (2, &[1, 2][..], &[7, 2][..]),
        (0, &[5], &[1]),
        (4, &[], &[]),
        (0, &[2, 2], &[3, 1]),
        (0, &[i32::MAX, i32::MAX], &[1, 1]),
        (i32::MAX, &[2, 3], &[i32::MAX, i32::MAX]),
    ] {
        let error = read(&tensor("FloatStorage", "0", 4, offset, size, stride)).unwrap_err();
        assert!(error.message.contains("reaches element"), "{error}");
    }
    let absurd = read(&tensor("FloatStorage", "0", 4, 0, &[i32::MAX; 3], &[0; 3])).unwrap_err();
    assert!(absurd.message.contains("cannot be"), "{absurd}");
    for (offset, size, stride) in
        [(-1, &[1][..], &[1][..]), (0, &[-1], &[1]), (0, &[2], &[-1]), (0, &[2], &[])]
    {
        let error = read(&tensor("FloatStorage", "0", 4, offset, size, stride)).unwrap_err();
        assert!(error.message.contains("the record of a tensor is malformed"), "{error}");
    }
}

#[test]
fn an_empty_tensor_needs_nothing_of_its_storage() {
    let empty = read(&tensor("FloatStorage", "0", 4, 100, &[0, 3], &[3, 1])).unwrap();
    assert_eq!(empty[0].1.size(), [0, 3]);
}

#[test]
fn a_storage_is_there_and_has_the_length_that_is_said() {
    for (class, key, length, message) in [
        ("FloatStorage", "0", 5, "should have 5 elements of kind Float, found 16 bytes"),
        ("DoubleStorage", "0", 4, "should have 4 elements of kind Double, found 16 bytes"),
        ("FloatStorage", "1", 4, "storage `1` is missing"),
        ("QInt8Storage", "0", 16, "elements of `torch.QInt8Storage` cannot be read"),
        ("FloatStorage", "0", -4, "the record of a storage is malformed"),
    ] {
        let error = read(&tensor(class, key, length, 0, &[1], &[1])).unwrap_err();
        assert!(error.message.contains(message), "{error}");
    }
}

#[test]
fn a_boolean_of_any_byte_is_true_or_false() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bool.safetensors");
    let header = br#"{"t":{"dtype":"BOOL","shape":[3],"data_offsets":[0,3]}}"#;
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header, &[0, 1, 255]].concat();
    fs::write(&path, bytes).unwrap();
    let found = &read_tensors(&path).unwrap()[0].1;
    same(&found.sum(Kind::Int64), &Tensor::from(2i64), "sum");
}

#[test]
fn entries_that_overlap_are_a_bomb() {
    // Two directory entries for the same bytes: the second one's name and place are changed to the first one's.
    let mut bytes = archive(&tensor("FloatStorage", "0", 4, 0, &[4], &[1]), CompressionMethod::Stored);
    let directory = bytes.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    let second =
        directory + 4 + bytes[directory + 4..].windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    let (size, place) = (directory + 20..directory + 28, directory + 42..directory + 46);
    bytes.copy_within(size, second + 20);
    bytes.copy_within(place, second + 42);
    let error = read_bytes(&bytes).unwrap_err();
    assert!(error.message.contains("the archive's entries overlap"), "{error}");
}

#[test]
fn pickles_that_are_deep_or_contain_themselves_are_data_too() {
    let deep = [b"\x80\x02".to_vec(), b"]".repeat(100_000), b"a".repeat(99_999), b".".to_vec()].concat();
    assert_eq!(unpickle(&mut deep.as_slice()).unwrap().root().items().unwrap().len(), 1);
    let itself = unpickle(&mut &b"\x80\x02]q\0h\0a."[..]).unwrap();
    assert_eq!(itself.root().item(0).unwrap().item(0).unwrap().describe(), "a list");
    assert!(read(b"\x80\x02}q\0X\x05\0\0\0modelh\0s.").unwrap_err().message.contains("no state dict"));
}

#[test]
fn a_length_is_believed_only_as_far_as_the_file_goes() {
    for pickle in [&b"\x80\x02X\xff\xff\xff\xffabc."[..], b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc."]
    {
        let error = unpickle(&mut &pickle[..]).err().unwrap();
        assert!(error.message.contains("bytes should follow, found 4"), "{error}");
    }
}

#[test]
fn damaged_pickles_say_where_and_why() {
    for (pickle, message) in [
        (&b"\x80\x02R."[..], "at byte 2: a value is missing"),
        (b"\x80\x02(Nu.", "at byte 4: a key has no value"),
        (b"\x80\x02e.", "at byte 2: a mark is missing"),
        (b"\x80\x02(.", "at byte 3: a value is missing"),
        (b"\x80\x02h\x07.", "at byte 2: value 7 was never kept"),
        (b"\x80\x02NNs.", "at byte 4: a value is missing"),
        (b"\x80\x02NNNs.", "at byte 5: entries are added to what is no dictionary"),
        (b"\x80\x02NNa.", "at byte 4: elements are added to what is no list"),
        (b"\x80\x02NNb.", "at byte 4: attributes are set on what is no object"),
        (b"\x80\x09.", "at byte 0: protocol 9 is unknown"),
        (b"\x80\x02I1\n.", "at byte 2: instruction 0x49 is unknown here"),
        (b"\x80\x02N", "at byte 3: the file ends in the middle"),
    ] {
        let error = unpickle(&mut &pickle[..]).err().unwrap();
        assert!(error.message.ends_with(message), "{error}");
    }
}

#[test]
fn dictionaries_of_python_2_have_their_entries_as_an_argument() {
    let pickle = b"\x80\x02ccollections\nOrderedDict\n(]](U\x01aK\x01eatRU\x01bK\x02s.";
    let pickle = unpickle(&mut &pickle[..]).unwrap();
    assert_eq!(pickle.root().get("a").unwrap().integer(), Some(1));
    assert_eq!(pickle.root().get("b").unwrap().integer(), Some(2));
}
