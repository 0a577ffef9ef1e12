//! TensorBoard's event files, read as TensorBoard reads them.

use guard_host::run::tensorboard::{Content, Event, START, Value, What};
use prost::Message;
use std::{fs, path::Path};

/// Tag, step and value of everything that the event file in a folder tells, sorted. There must be one file, whole.
pub fn told(folder: &Path) -> Vec<(String, i64, Content)> {
    let files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [file] = &files[..] else { panic!("{files:?}") };
    let mut events = events(&fs::read(file).unwrap()).into_iter();
    assert_eq!(events.next().unwrap().what, Some(What::FileVersion("brain.Event:2".into())));
    assert!(matches!(events.next().unwrap().what, Some(What::SessionLog(log)) if log.status == START));
    let mut told: Vec<_> = events
        .flat_map(|Event { wall_time, step, what }| {
            assert!(wall_time > 1.7e9);
            let Some(What::Summary(summary)) = what else { panic!("{what:?}") };
            summary.values.into_iter().map(move |Value { tag, content }| (tag, step, content.unwrap()))
        })
        .collect();
    told.sort_by(|one, other| (&one.0, one.1).cmp(&(&other.0, other.1)));
    told
}

/// The records of a TFRecord file, with their checksums checked bit by bit.
fn events(mut bytes: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_at(8);
        let count = u64::from_le_bytes(length.try_into().unwrap()) as usize;
        let (data, end) = rest[4..].split_at(count);
        assert_eq!((&rest[..4], &end[..4]), (&masked(length)[..], &masked(data)[..]));
        events.push(Event::decode(data).unwrap());
        bytes = &end[4..];
    }
    events
}

fn masked(data: &[u8]) -> [u8; 4] {
    let mut crc = u32::MAX;
    for byte in data {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    (!crc).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}
