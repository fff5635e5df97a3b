//! The model: settings, named parameters, initialisation, the two towers, and VSE++ as a whole.

pub mod batch;
pub mod config;
pub mod head;
pub mod image_tower;
pub mod init;
pub mod parameters;
pub mod text_tower;
pub mod vse;

pub use batch::Batch;
pub use config::{Architecture, Config, Objective, Preset, ValidConfig};
pub use head::{Head, HeadCache};
pub use image_tower::{ImageCache, ImageTower};
pub use parameters::Parameters;
pub use text_tower::{TextBackward, TextCache, TextTower};
pub use vse::{Backward, Forward, Vse};
