//! Augmentations against torchvision, Pillow and a plain form of DSA; recorded and replayed; differentiated.

mod derivatives;
mod reference;
mod replay;
mod samples;
