//! The order of the axes of pictures and kernels.
//!
//! The suite has pictures [N, C, H, W] and kernels [O, C, kh, kw], as `PyTorch` does. A backend with another order
//! names it, and the check turns its tensors. Only tensors with four axes have an order: a kernel is one whose name
//! ends in `weight`, everything else is pictures.

use std::fmt;
use std::str::FromStr;

use ndarray::ArrayD;

use crate::error::{Error, Result};

/// An order of the axes that is not the suite's: pictures [N, H, W, C], and kernels in one of three orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PictureLayout {
    /// [kh, kw, C, O]: Keras, Flax.
    Hwio,
    /// [O, kh, kw, C]: MLX.
    Ohwi,
    /// [O, C, kh, kw], as the suite has them.
    Oihw,
}

impl PictureLayout {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Hwio, Self::Ohwi, Self::Oihw];

    /// Its name on the command line.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hwio => "nhwc-hwio",
            Self::Ohwi => "nhwc-ohwi",
            Self::Oihw => "nhwc-oihw",
        }
    }

    /// For each axis of a tensor in this layout, which axis of the suite's it is.
    fn axes(self, name: &str) -> [usize; 4] {
        let kernel = name == "weight" || name.ends_with(".weight");
        match self {
            _ if !kernel => [0, 2, 3, 1],
            Self::Hwio => [2, 3, 1, 0],
            Self::Ohwi => [0, 2, 3, 1],
            Self::Oihw => [0, 1, 2, 3],
        }
    }

    /// A tensor of the suite in this layout.
    #[must_use]
    pub(crate) fn turned_from(self, name: &str, x: &ArrayD<f64>) -> ArrayD<f64> {
        turned(x, self.axes(name))
    }

    /// A tensor in this layout as the suite has it.
    #[must_use]
    pub(crate) fn turned_back(self, name: &str, x: &ArrayD<f64>) -> ArrayD<f64> {
        let mut back = [0; 4];
        for (here, there) in self.axes(name).into_iter().enumerate() {
            back[there] = here;
        }
        turned(x, back)
    }
}

/// The tensor with its axes in this order, if it has four.
fn turned(x: &ArrayD<f64>, axes: [usize; 4]) -> ArrayD<f64> {
    if x.ndim() != 4 {
        return x.clone();
    }
    x.view().permuted_axes(axes.to_vec()).as_standard_layout().into_owned()
}

impl fmt::Display for PictureLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for PictureLayout {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|layout| layout.name() == name).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.into_iter().map(Self::name).collect();
            Error::config("layout", format!("one of {}", names.join(", ")), name)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_axis_goes_where_the_name_says() {
        let x = ArrayD::from_shape_fn(vec![2, 3, 5, 7], |at| (at[0] * 1000 + at[1] * 100 + at[2] * 10 + at[3]) as f64);
        let names = [(PictureLayout::Hwio, "HWIO"), (PictureLayout::Ohwi, "OHWI"), (PictureLayout::Oihw, "OIHW")];
        for (layout, kernel) in names {
            assert!(layout.name().ends_with(&kernel.to_lowercase()));
            for (name, letters, canonical) in [
                ("grad.in.x", "NHWC", "NCHW"),
                ("mid.conv1", "NHWC", "NCHW"),
                ("grad.weight", kernel, "OIHW"),
                ("param.downsample.0.weight", kernel, "OIHW"),
            ] {
                let there = layout.turned_from(name, &x);
                let sizes: Vec<usize> = letters.chars().map(|l| x.shape()[canonical.find(l).unwrap()]).collect();
                assert_eq!(there.shape(), sizes, "{layout}: {name}");
                let place: Vec<usize> = letters.chars().map(|l| [1, 2, 4, 6][canonical.find(l).unwrap()]).collect();
                assert_eq!(there[place.as_slice()], 1246.0, "{layout}: {name}");
                assert_eq!(layout.turned_back(name, &there), x, "{layout}: {name}");
            }
        }
        assert_eq!(PictureLayout::Hwio.turned_back("mid.mean", &ndarray::arr1(&[1.0, 2.0]).into_dyn()).shape(), [2]);
        assert!("nhwc".parse::<PictureLayout>().unwrap_err().to_string().contains("nhwc-hwio"));
    }
}
