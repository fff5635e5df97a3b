//! The model: settings, named parameters, the two towers, and VSE++ as a whole.

mod architecture;
mod batch;
pub(crate) mod config;
mod encoder;
mod head;
mod image_tower;
mod parameters;
mod setting;
mod text_tower;
mod view;
mod vse;

pub use architecture::Architecture;
pub use batch::{Batch, Images};
pub use config::{Config, Preset, ValidConfig};
pub use encoder::{Encoder, EncoderCache, Network};
pub use image_tower::ImageTower;
pub use parameters::Parameters;
pub(crate) use setting::{Kind, Setting};
pub use text_tower::TextTower;
pub use view::{Statistics, View};
pub use vse::{Objective, Pass, Vse};
