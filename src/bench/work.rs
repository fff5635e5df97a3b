//! The work of a step: counts, products, operations.

use std::fmt;

use serde::Serialize;

use crate::model::Architecture;
use crate::nn::PrefixTree;

/// The numbers of states and rows that the prefix tree leaves for a batch of captions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    /// B.
    pub pairs: usize,
    /// Tokens: the states that a packed batch would compute.
    pub tokens: usize,
    /// The computed states: one for every distinct beginning.
    pub states: usize,
    /// Rows of the recurrent product: the states with a next state, including h₀.
    pub parents: usize,
    /// Rows of the input product.
    pub distinct_words: usize,
}

impl Counts {
    /// The counts of a batch.
    #[must_use]
    pub(crate) fn of(tree: &PrefixTree) -> Self {
        Self {
            pairs: tree.last().len(),
            tokens: tree.tokens(),
            states: tree.nodes() - 1, // the root's state is h₀
            parents: tree.inner_nodes(),
            distinct_words: tree.words().len(),
        }
    }
}

/// The pass of a step that computes a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Pass {
    /// From the batch to the loss.
    Forward,
    /// From the loss to the gradients.
    Backward,
}

/// The layout of the operands in memory, rows first. A product's speed depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Form {
    /// C = A Bᵀ: a layer's output, x Wᵀ.
    #[serde(rename = "A Bᵀ")]
    Output,
    /// C = A B: the gradient of a layer's input, dy W.
    #[serde(rename = "A B")]
    Input,
    /// C = Aᵀ B: the gradient of a weight, dyᵀ x.
    #[serde(rename = "Aᵀ B")]
    Weight,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Output => "A Bᵀ",
            Self::Input => "A B",
            Self::Weight => "Aᵀ B",
        })
    }
}

/// A product of a step: C [m, n] from [m, k] and [k, n], in one call or level by level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Product {
    /// The name of its result.
    pub name: &'static str,
    /// The pass that computes it.
    pub pass: Pass,
    /// The layout of its operands.
    pub form: Form,
    /// m of every call; the GRU makes one call per level of the tree.
    pub m: Vec<usize>,
    /// k, the length of the sums.
    pub k: usize,
    /// n, the columns.
    pub n: usize,
}

impl Product {
    /// Σm.
    #[must_use]
    pub(crate) fn rows(&self) -> usize {
        self.m.iter().sum()
    }

    /// 2mkn, a multiplication and an addition for each term, summed over the calls.
    #[must_use]
    pub(crate) fn operations(&self) -> f64 {
        2.0 * self.rows() as f64 * self.k as f64 * self.n as f64
    }
}

/// The products of one training step, in the order of computation. dℓ/dφ is not included, because training
/// on precomputed features does not need it.
#[must_use]
pub(super) fn products(architecture: &Architecture, tree: &PrefixTree) -> Vec<Product> {
    let Architecture { img_dim: f, word_dim: e, hidden_size: h, embed_size: d, .. } = *architecture;
    let (b, parents) = (tree.last().len(), tree.inner_nodes());
    let levels: Vec<usize> = tree.levels().iter().map(|level| level.parents.len()).collect();
    // Above the first layer of the GRU every node is a separate input, including the root.
    let layers: Vec<(usize, usize)> = (0..architecture.num_layers)
        .map(|k| if k == 0 { (tree.words().len(), e) } else { (tree.nodes(), h) })
        .collect();
    let mut products = Vec::new();
    let mut add = |name, pass, form, m: Vec<usize>, k, n| products.push(Product { name, pass, form, m, k, n });

    add("image projection", Pass::Forward, Form::Output, vec![b], f, d);
    for &(inputs, width) in &layers {
        add("input", Pass::Forward, Form::Output, vec![inputs], width, 3 * h);
        add("recurrent", Pass::Forward, Form::Output, levels.clone(), h, 3 * h);
    }
    if architecture.caption_projection {
        add("caption projection", Pass::Forward, Form::Output, vec![b], h, d);
    }
    add("scores", Pass::Forward, Form::Output, vec![b], d, b);

    add("d images", Pass::Backward, Form::Input, vec![b], b, d);
    add("d captions", Pass::Backward, Form::Weight, vec![b], b, d);
    if architecture.caption_projection {
        add("d W_g", Pass::Backward, Form::Weight, vec![d], b, h);
        add("d last state", Pass::Backward, Form::Input, vec![b], d, h);
    }
    for &(inputs, width) in layers.iter().rev() {
        add("d state", Pass::Backward, Form::Input, levels.iter().rev().copied().collect(), 3 * h, h);
        add("d W_hh", Pass::Backward, Form::Weight, vec![3 * h], parents, h);
        add("d W_ih", Pass::Backward, Form::Weight, vec![3 * h], inputs, width);
        add("d input", Pass::Backward, Form::Input, vec![inputs], 3 * h, width);
    }
    add("d W_f", Pass::Backward, Form::Weight, vec![d], b, f);
    products
}

/// The products that are compared with other libraries. What they are for, and their names on a command line:
///
/// | | |
/// |---|---|
/// | `square` | a large product |
/// | `gradient` | the gradient of `W_hh` |
/// | `input` | the input product of the GRU: short sums |
/// | `convolution` | 3 × 3, 256 channels, 28 × 28 places of two images, as a product |
/// | `levels` | the recurrent product, with about 50 rows in each of 23 levels |
/// | `projection` | the image's linear map: 128 rows, and a large weight |
#[must_use]
pub(super) fn compared() -> [Product; 6] {
    let product = |name, form, m: Vec<usize>, k, n| Product { name, pass: Pass::Forward, form, m, k, n };
    [
        product("square", Form::Input, vec![2048], 2048, 2048),
        product("gradient", Form::Weight, vec![3072], 1182, 1024),
        product("input", Form::Output, vec![532], 300, 3072),
        product("convolution", Form::Input, vec![256], 2304, 1568),
        product("levels", Form::Output, vec![51; 23], 1024, 3072),
        product("projection", Form::Output, vec![128], 4096, 1024),
    ]
}

/// The useful operations of a pass, or of both.
#[must_use]
pub(super) fn operations(products: &[Product], pass: Option<Pass>) -> f64 {
    let chosen = products.iter().filter(|product| pass.is_none_or(|pass| product.pass == pass));
    chosen.map(Product::operations).fold(0.0, |total, operations| total + operations)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::Config;

    fn captions() -> Vec<Vec<u32>> {
        vec![vec![1, 5, 6, 7, 2], vec![1, 5, 6, 9, 2], vec![1, 5, 8, 2], vec![1, 5, 8, 2]]
    }

    /// The distinct beginnings of the captions, including the empty one.
    fn prefixes() -> BTreeSet<Vec<u32>> {
        captions().iter().flat_map(|c| (0..=c.len()).map(|n| c[..n].to_vec())).collect()
    }

    #[test]
    fn counts_are_those_of_the_distinct_beginnings() {
        let prefixes = prefixes();
        let parents: BTreeSet<&[u32]> = prefixes.iter().filter(|p| !p.is_empty()).map(|p| &p[..p.len() - 1]).collect();
        let words: BTreeSet<u32> = captions().into_iter().flatten().collect();
        let expected = Counts {
            pairs: 4,
            tokens: 18,
            states: prefixes.len() - 1,
            parents: parents.len(),
            distinct_words: words.len(),
        };
        assert_eq!(Counts::of(&PrefixTree::new(&captions())), expected);
        assert_eq!((expected.states, expected.parents, expected.distinct_words), (9, 7, 7));
    }

    /// Counts the multiplications one by one, for every beginning of a caption, without the tree.
    fn by_definition(a: &Architecture) -> (f64, f64) {
        let prefixes = prefixes();
        let words: BTreeSet<u32> = captions().into_iter().flatten().collect();
        let is_parent = |p: &Vec<u32>| prefixes.iter().any(|q| q.len() == p.len() + 1 && q.starts_with(p));
        let (mut forward, mut backward) = (0, 0);
        let mut layer = |rows: usize, inputs: usize, outputs: usize| {
            for _ in 0..rows * inputs * outputs {
                forward += 1; // y = W x
                backward += 2; // dW = dy xᵀ, dx = Wᵀ dy
            }
        };
        layer(words.len(), a.word_dim, 3 * a.hidden_size);
        for prefix in &prefixes {
            for k in 0..a.num_layers {
                if is_parent(prefix) {
                    layer(1, a.hidden_size, 3 * a.hidden_size);
                }
                if k > 0 {
                    layer(1, a.hidden_size, 3 * a.hidden_size);
                }
            }
        }
        if a.caption_projection {
            layer(captions().len(), a.hidden_size, a.embed_size);
        }
        layer(captions().len(), a.embed_size, captions().len()); // scores: both sides are inputs
        let projection = captions().len() * a.img_dim * a.embed_size;
        (2.0 * (forward + projection) as f64, 2.0 * (backward + projection) as f64)
    }

    #[test]
    fn operations_are_those_counted_one_by_one() {
        for config in [
            Config { embed_size: 4, word_dim: 3, ..Config::default() },
            Config { embed_size: 5, word_dim: 2, hidden_size: Some(3), caption_projection: true, ..Config::default() },
            Config { embed_size: 4, word_dim: 3, num_layers: 3, ..Config::default() },
        ] {
            let architecture = config.check().unwrap().architecture(10, 6);
            let products = products(&architecture, &PrefixTree::new(&captions()));
            let found = [Pass::Forward, Pass::Backward].map(|pass| operations(&products, Some(pass)));
            assert_eq!((found[0], found[1]), by_definition(&architecture), "{architecture:?}");
            assert_eq!(operations(&products, None), found[0] + found[1]);
        }
    }

    #[test]
    fn the_recurrent_product_has_a_call_for_every_level() {
        let architecture = crate::bench::Size::Demo.model().architecture;
        let products = products(&architecture, &PrefixTree::new(&captions()));
        let recurrent = products.iter().find(|product| product.name == "recurrent").unwrap();
        assert_eq!((&recurrent.m[..], recurrent.k, recurrent.n), (&[1, 1, 1, 2, 2][..], 64, 192));
        let d_state = products.iter().find(|product| product.name == "d state").unwrap();
        assert_eq!((&d_state.m[..], d_state.k, d_state.n), (&[2, 2, 1, 1, 1][..], 192, 64));
    }
}
