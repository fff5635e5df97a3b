//! An image encoder: a residual network, and φ.
use super::super::layers::l2norm;
use super::block::{Block, ConvNorm, Passed, Stage, block, block_backward, stage, stage_backward};
use super::norm::{flatten, flatten_backward, relu, relu_backward};
use super::pools::{Window, avg_pool, avg_pool_backward, max_pool, max_pool_backward};
use super::*;

/// The first convolution, a max pool for large pictures, and the blocks of all layers.
#[derive(Clone, Debug)]
pub struct ResNet<T> {
    pub first: ConvNorm<T>,
    pub pool: Option<Window>,
    pub blocks: Vec<Block<T>>,
}

/// What a pass computes: the first stage, the inputs of the blocks and the last output, and what the blocks compute.
pub struct Pass<T> {
    first: Stage<T>,
    h: Vec<Array4<T>>,
    blocks: Vec<Passed<T>>,
}

/// x [N, 3, Y, X] gives `cnn(x)` [N, F].
pub fn resnet<T: Scalar>(w: &ResNet<T>, x: &Array4<T>, of_batch: bool) -> (Array2<T>, Pass<T>) {
    // (RESNET-1)  h_0 = max(0, norm(conv(x))), then maxpool(h_0) for large pictures
    let first = stage(&w.first, x, of_batch);
    let h_0 = relu(&first.r);
    let mut pass = Pass { first, h: vec![w.pool.map_or(h_0.clone(), |pool| max_pool(&h_0, pool))], blocks: Vec::new() };
    for (k, w) in w.blocks.iter().enumerate() {
        // (RESNET-2)  h_k = block_k(h_{k − 1}), φ = the mean of the pixels of the last h
        pass.blocks.push(block(w, &pass.h[k], of_batch));
        pass.h.push(pass.blocks[k].0.clone());
    }
    (flatten(&avg_pool(&pass.h[w.blocks.len()], 1)), pass)
}

/// dy [N, F] gives the gradients of the parameters, in a network of the same form, and dx.
pub fn resnet_backward<T: Real>(w: &ResNet<T>, p: &Pass<T>, of_batch: bool, dy: &Array2<T>) -> (ResNet<T>, Array4<T>) {
    let (mut d, last) = (w.clone(), &p.h[w.blocks.len()]);
    // (RESNET-2′)  from dφ back through every block to dh_0
    let mut dh = avg_pool_backward(last, 1, &flatten_backward(&avg_pool(last, 1), dy));
    for k in (0..w.blocks.len()).rev() {
        (d.blocks[k], dh) = block_backward(&w.blocks[k], &p.blocks[k], of_batch, &dh);
    }
    // (RESNET-1′)  from dh_0 back through the first convolution to dx
    if let Some(pool) = w.pool {
        dh = max_pool_backward(&relu(&p.first.r), pool, &dh);
    }
    let (first, dx) = stage_backward(&w.first, &p.first, of_batch, &relu_backward(&p.first.r, &dh));
    (ResNet { first, ..d }, dx)
}

/// `cnn(x)` [N, F] gives φ [N, F], and the norms; a row of zeros is an error with its index.
pub fn features<T: Scalar>(cnn: &Array2<T>) -> Result<(Array2<T>, Array1<T>), usize> {
    l2norm(cnn) // (IMG-2)  φ(i) = cnn(i) / ‖cnn(i)‖
}
