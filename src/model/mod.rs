//! The model: settings, named parameters, initialisation, the two towers, and VSE++ as a whole.

mod batch;
mod config;
mod head;
mod image_tower;
mod init;
mod parameters;
mod text_tower;
mod vse;

pub use batch::Batch;
pub use config::{Architecture, Config, Objective, Preset, ValidConfig};
pub use head::{Head, HeadCache};
pub use image_tower::{ImageCache, ImageTower};
pub use parameters::Parameters;
pub use text_tower::{TextCache, TextTower};
pub use vse::{Forward, Vse};
