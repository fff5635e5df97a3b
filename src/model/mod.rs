//! The model: settings, named parameters, the two towers, and VSE++ as a whole.

mod batch;
pub mod config;
mod head;
mod image_tower;
mod parameters;
mod text_tower;
mod vse;

pub use batch::{Batch, Images};
pub use config::{Architecture, Config, Preset, ValidConfig};
pub use head::HeadCache;
pub use image_tower::{ImageCache, ImageTower};
pub use parameters::Parameters;
pub use text_tower::{TextCache, TextTower};
pub use vse::{Objective, Pass, Vse};
