//! Embeddings of a split's images, computed block by block.

use ndarray::{Array1, Array2, Axis, s};

use crate::data::{ImageStore, Split};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Encoder, Vse};
use crate::nn::l2norm::normalise;

/// Joint embeddings of all images of a split, [N, D]. Only one block of images is in memory at a time.
/// An embedding does not depend on its block, to the bit.
///
/// # Errors
///
/// If an image cannot be read, does not have the size that the model takes, or has an embedding that is
/// zero or not finite. The row in the message is that of the split.
pub(crate) fn embed_images(model: &Vse<f32>, split: &Split) -> Result<Array2<f32>> {
    let mut embeddings = Array2::zeros((split.images().len(), model.architecture.embed_size));
    split.images.in_blocks(|first, images| {
        let block = model.embed(images).map_err(|error| match *error.kind() {
            ErrorKind::ZeroNorm { ref tensor, row } => {
                ErrorKind::ZeroNorm { tensor: tensor.clone(), row: first + row }.into()
            }
            ErrorKind::NotFinite { ref tensor, ref index, value } => {
                let (tensor, mut index) = (tensor.clone(), index.clone());
                if let Some(row) = index.first_mut() {
                    *row += first;
                }
                ErrorKind::NotFinite { tensor, index, value }.into()
            }
            _ => error,
        })?;
        embeddings.slice_mut(s![first..first + block.nrows(), ..]).assign(&block);
        Ok(())
    })?;
    Ok(embeddings)
}

/// A split whose pictures are replaced by their φ, [N, F] in memory: for an encoder that does not move. After each
/// block `progress` gets how many images are done.
///
/// # Errors
///
/// If a picture cannot be read, or if its features are zero or not finite.
pub(crate) fn encode_split(model: &Vse<f32>, mut split: Split, mut progress: impl FnMut(usize)) -> Result<Split> {
    let mut features = Array2::zeros((split.images().len(), model.architecture.img_dim));
    split.images.in_blocks(|first, images| {
        let block = model.encode_pictures(images.pixels()?)?;
        features.slice_mut(s![first..first + block.nrows(), ..]).assign(&block);
        progress(first + block.nrows());
        Ok(())
    })?;
    split.images = features.into();
    Ok(split)
}

/// The same with ten crops of each picture: φ is the mean of their features before it is normalised (10C in the paper).
///
/// # Errors
///
/// If there is no encoder, if the images are not pictures, or as [`encode_split`].
pub(crate) fn encode_split_ten(model: &Vse<f32>, mut split: Split, mut progress: impl FnMut(usize)) -> Result<Split> {
    let Some(encoder) = &model.parameters.img_enc.cnn else {
        return Err(Error::mismatch("ten crops: the run has no image encoder: it was trained on feature vectors"));
    };
    let mut features = Array2::zeros((split.images().len(), model.architecture.img_dim));
    for (row, mut mean) in features.outer_iter_mut().enumerate() {
        mean.assign(&mean_of_ten(encoder, &split.images, row)?);
        progress(row + 1);
    }
    normalise(&mut features).map_err(|error| error.of("image features"))?;
    split.images = features.into();
    Ok(split)
}

/// The mean of the features of ten crops, `[F]`.
///
/// # Errors
///
/// As [`ImageStore::ten`].
pub(super) fn mean_of_ten(encoder: &Encoder<f32>, images: &dyn ImageStore, row: usize) -> Result<Array1<f32>> {
    let phi = encoder.embed(images.ten(row)?.view())?;
    Ok(phi.mean_axis(Axis(0)).expect("ten rows"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Crops;
    use crate::data::scenes::{Part, PixelScenes};
    use crate::model::Config;

    #[test]
    fn blocks_change_no_bit_and_errors_name_the_image_of_the_split() {
        // Two blocks of 16 MiB, the second one small.
        let (rows, columns) = (4100, 1024);
        let mut features =
            Array2::from_shape_fn((rows, columns), |(r, c)| ((r * 7919 + c * 7) % 10_007) as f32 / 5000.0 - 1.0);
        let config = Config { embed_size: 5, word_dim: 3, ..Config::default() }.check().unwrap();
        let model = Vse::<f32>::init(config.architecture(10, columns), 0);
        let split = |features: &Array2<f32>| {
            Split::new("test", features.clone(), (0..rows).map(|i| i.to_string()).collect()).unwrap()
        };
        let mut blocks = 0;
        split(&features)
            .images
            .in_blocks(|_, _| {
                blocks += 1;
                Ok(())
            })
            .unwrap();
        assert_eq!(blocks, 2);
        assert_eq!(embed_images(&model, &split(&features)).unwrap(), model.embed_images(features.view()).unwrap());
        let message =
            |model: &Vse<f32>, features: &Array2<f32>| embed_images(model, &split(features)).unwrap_err().to_string();
        features.row_mut(4098).fill(f32::MAX);
        let whole = model.embed_images(features.view()).unwrap_err().to_string();
        assert!(message(&model, &features) == whole && whole.contains("4098"), "{whole}");
        features.row_mut(4098).fill(0.0);
        let whole = model.embed_images(features.view()).unwrap_err().to_string();
        assert!(message(&model, &features) == whole && whole.contains("row 4098"), "{whole}");
    }

    #[test]
    fn ten_crops_are_the_mean_of_their_features() {
        let crops = Crops { resize: 20, crop: 16, ..Crops::default() };
        let split = PixelScenes { pictures: [1, 3, 1], ..PixelScenes::CAPTIONED }.split(Part::Dev, crops).unwrap();
        let config = Config { encoder: "resnet8,planes=2-3-4".parse().ok(), ..Config::pixels() }.check().unwrap();
        let model = Vse::init(config.architecture(9, 0), 1);
        let encoder = model.parameters.img_enc.cnn.as_ref().unwrap();
        let found = encode_split_ten(&model, split.clone(), |_| {}).unwrap().images.to_array().unwrap();
        for (row, found) in found.outer_iter().enumerate() {
            let mut mean = encoder.embed(split.images().ten(row).unwrap().view()).unwrap().mean_axis(Axis(0)).unwrap();
            mean /= mean.dot(&mean).sqrt();
            // The norm is summed in another order: f32's rounding of a sum of 4.
            assert!(found.iter().zip(&mean).all(|(a, b)| (a - b).abs() < 1e-6), "{found} {mean}");
        }
        let one = encode_split(&model, split, |_| {}).unwrap().images.to_array().unwrap();
        assert!((&one - &found).iter().any(|x| x.abs() > 1e-3));
    }
}
