//! Batches that are read, decoded and augmented ahead of time on another thread.

use super::{
    split::{Loaded, Split},
    view::View,
};
use guard_sdk::{Error, Result};
use std::{
    sync::mpsc::{Receiver, sync_channel},
    thread,
};

/// How many finished batches may wait.
const AHEAD: usize = 2;

/// Yields one batch per list of positions, in order. Dropping it ends the thread.
pub struct Batches {
    ready: Receiver<Result<Loaded>>,
    left: usize,
}

impl Batches {
    pub(super) fn start(split: Split, lists: Vec<Vec<i64>>, view: View) -> Self {
        let (send, ready) = sync_channel(AHEAD);
        let left = lists.len();
        let work = move || {
            for positions in lists {
                let batch = split.batch(&positions, &view);
                let failed = batch.is_err();
                // Nobody waits for more once the receiver is gone.
                if send.send(batch).is_err() || failed {
                    return;
                }
            }
        };
        // If no thread can be had, the channel is closed and the first batch says so.
        let _ = thread::Builder::new().name("loader".into()).spawn(work);
        Self { ready, left }
    }
}

impl Iterator for Batches {
    type Item = Result<Loaded>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let batch =
            self.ready.recv().unwrap_or_else(|_| Err(Error::new("the thread that loads images ended early")));
        if batch.is_err() {
            self.left = 0;
        }
        Some(batch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        data::store::Store,
        random::Streams,
        recipe::{Augmentation, Augmentations},
    };
    use guard_sdk::augment::PaddedCropOptions;

    fn split(count: usize) -> Split {
        let values = (0..count * 12).map(|i| i as u8).collect();
        Split::new(Store::Bytes { values, shape: [3, 2, 2], brightest: 255 }, vec![0; count])
    }

    #[test]
    fn batches_come_in_order_and_are_what_the_split_gives_itself() {
        let split = split(10);
        let augment = Augmentations(vec![
            Augmentation::Crop(PaddedCropOptions { padding: 1, ..Default::default() }),
            Augmentation::Flip,
        ]);
        let view = View { augment, streams: Streams::new(7) };
        let lists = vec![vec![3, 1, 4], vec![1], vec![], vec![5, 9, 2, 6]];
        let batches: Vec<Loaded> = split.batches(lists.clone(), view.clone()).collect::<Result<_>>().unwrap();
        assert_eq!(batches.len(), 4);
        for (batch, positions) in batches.iter().zip(&lists) {
            let direct = split.batch(positions, &view).unwrap();
            assert_eq!(batch.images, direct.images);
            assert_eq!(batch.ids, positions.iter().map(|&position| position as u64).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_failure_ends_the_batches_where_it_happens() {
        let batches: Vec<_> = split(4).batches(vec![vec![0], vec![4], vec![1]], View::plain()).collect();
        assert_eq!(batches.len(), 2);
        assert!(batches[0].is_ok());
        let error = batches[1].as_ref().err().unwrap().to_string();
        assert_eq!(error, "there are 4 images, none at position 4");
    }

    #[test]
    fn batches_that_nobody_takes_end_their_thread() {
        let split = split(2);
        let shared = split.batches(vec![vec![0]; 100], View::plain());
        drop(shared);
        for _ in 0..1000 {
            if split.is_shared_by_none() {
                return;
            }
            thread::sleep(std::time::Duration::from_millis(1));
        }
        panic!("the loader still holds the images");
    }
}
