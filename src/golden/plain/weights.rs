//! How a backend reads the weights of a GRU layer, and where it writes their gradients.

use ndarray::{Array1, Array2, Axis, s};

use super::Plain;
use crate::golden::mistakes::Mistake as M;
use crate::real::Real;
use crate::spec::gru::GruLayer;

impl Plain<'_> {
    /// The weights of layer k as this backend reads them.
    pub(super) fn read_weights<T: Real>(&self, layer: &GruLayer<T>, first: &GruLayer<T>, k: usize) -> GruLayer<T> {
        let mut w = layer.clone();
        if k > 0 && self.wrong(M::LayersShareWeights) {
            w.weight_hh.assign(&first.weight_hh);
        }
        self.rearrange(&mut w);
        if self.wrong(M::BiasesSwapped) {
            std::mem::swap(&mut w.bias_ih, &mut w.bias_hh);
        }
        if self.wrong(M::InputBiasForBoth) {
            w.bias_hh.assign(&w.bias_ih);
        }
        if self.wrong(M::InputBiasDropped) || self.wrong(M::BiasesDropped) {
            w.bias_ih.fill(T::zero());
        }
        if self.wrong(M::RecurrentBiasDropped) || self.wrong(M::BiasesDropped) {
            w.bias_hh.fill(T::zero());
        }
        w
    }

    /// Exchanges that undo themselves: done once when reading weights, once more on their gradients.
    fn rearrange<T: Real>(&self, w: &mut GruLayer<T>) {
        let hidden = w.weight_hh.ncols();
        let swap = |rows: &mut Array2<T>| {
            let (mut r, z) = rows.multi_slice_mut((s![..hidden, ..], s![hidden..2 * hidden, ..]));
            ndarray::Zip::from(&mut r).and(z).for_each(std::mem::swap);
        };
        let swap_bias = |bias: &mut Array1<T>| (0..hidden).for_each(|k| bias.swap(k, hidden + k));
        let (input, recurrent) = (self.wrong(M::GatesSwappedInInput), self.wrong(M::GatesSwappedInRecurrent));
        let (weights, biases) = (self.wrong(M::GatesSwappedInWeights), self.wrong(M::GatesSwappedInBiases));
        if input || weights {
            swap(&mut w.weight_ih);
        }
        if recurrent || weights {
            swap(&mut w.weight_hh);
        }
        if input || biases {
            swap_bias(&mut w.bias_ih);
        }
        if recurrent || biases {
            swap_bias(&mut w.bias_hh);
        }
        let transpose = |weight: &mut Array2<T>| {
            for mut block in weight.axis_chunks_iter_mut(Axis(0), hidden) {
                let turned = block.t().to_owned();
                block.assign(&turned);
            }
        };
        if self.wrong(M::RecurrentTransposed) {
            transpose(&mut w.weight_hh);
        }
        if self.wrong(M::InputTransposed) && w.weight_ih.ncols() == hidden {
            transpose(&mut w.weight_ih);
        }
        if self.wrong(M::InputStridesSwapped) && w.weight_ih.is_square() {
            w.weight_ih.swap_axes(0, 1);
            w.weight_ih = w.weight_ih.as_standard_layout().into_owned();
        }
    }

    /// The weights' gradients, put back where the weights came from.
    pub(super) fn return_gradient<T: Real>(&self, mut d: GruLayer<T>) -> GruLayer<T> {
        if self.wrong(M::InputBiasForBoth) {
            d.bias_ih = &d.bias_ih + &d.bias_hh;
            d.bias_hh.fill(T::zero());
        }
        if self.wrong(M::InputBiasDropped) || self.wrong(M::BiasesDropped) {
            d.bias_ih.fill(T::zero());
        }
        if self.wrong(M::RecurrentBiasDropped) || self.wrong(M::BiasesDropped) {
            d.bias_hh.fill(T::zero());
        }
        if self.wrong(M::BiasesSwapped) {
            std::mem::swap(&mut d.bias_ih, &mut d.bias_hh);
        }
        self.rearrange(&mut d);
        d
    }

    /// Where the blocks of r, z and n are.
    pub(super) fn blocks(&self) -> [usize; 3] {
        let orders = [
            (M::GatesRnz, [0, 2, 1]),
            (M::GatesZrn, [1, 0, 2]),
            (M::GatesZnr, [2, 0, 1]),
            (M::GatesNrz, [1, 2, 0]),
            (M::GatesNzr, [2, 1, 0]),
        ];
        orders.into_iter().find(|&(mistake, _)| self.wrong(mistake)).map_or([0, 1, 2], |(_, blocks)| blocks)
    }
}
