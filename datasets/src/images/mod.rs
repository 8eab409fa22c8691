//! Images as sequences of bytes: pixels in raster order, each as its three colours.
//!
//! - [`ImageSet`]: images of one size, from the official files of downsampled ImageNet
//!   ([`ImageSet::open_npz`]) or from files of common formats ([`ImageSet::open_images`]). It is a
//!   set of [`Sequences`](crate::Sequences), so it can be trained on like any text.
//! - [`ImageNet64`]: the two sets of downsampled ImageNet, from the folder with its files.
//! - [`Picture`]: one sequence, generated or read, converted to an image, or several in a grid.

mod decode;
mod imagenet64;
mod jpeg;
mod npy;
mod npz;
mod picture;
mod set;

pub use imagenet64::ImageNet64;
pub use picture::Picture;
pub use set::ImageSet;
