//! The tensors of a model: one list, from which everything else derives.
//!
//! A module lists its tensors and its parts once, with [`module!`](crate::module). [`Module::visit`] goes
//! through the list in order and gives every tensor its path, the names of its parents and its own:
//! `txt_enc.rnn.weight_ih_l0`. Names, shapes, counts, initialisation, checkpoints, clipping and Adam all
//! use it, so they cannot disagree about what a model consists of.
//!
//! Several values of one type (a model, its gradient) are visited **in lockstep**: the visitor sees the
//! tensors of one path together. A tensor that one of them lacks, or has in another shape, is an error
//! that names it.

use std::fmt::{self, Display, Write};

use ndarray::{Array, ArrayD, ArrayView, ArrayViewD, ArrayViewMut, ArrayViewMutD, Dimension};
use ndarray_rand::RandomExt;

use crate::error::{Error, Result};
use crate::random::{Normal, Symmetric, stream};
use crate::real::Scalar;

/// The role of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The tensor has a gradient and moments, and the optimiser updates it.
    Trained,
    /// The tensor is saved but has neither gradient nor moments, for example running statistics.
    Buffer,
}

/// A module's description of one of its tensors: its role and its initial values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tensor {
    /// Trained, or only saved.
    pub role: Role,
    start: Start,
}

/// Initial values.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Start {
    /// One number.
    Constant(f64),
    /// U(±bound)
    Uniform(f64),
    /// N(0, σ²), by its standard deviation σ.
    Normal(f64),
}

impl Tensor {
    /// A trained tensor that begins with numbers from U(±`bound`).
    #[must_use]
    pub const fn uniform(bound: f64) -> Self {
        Self { role: Role::Trained, start: Start::Uniform(bound) }
    }

    /// A trained tensor that begins with numbers from N(0, σ²), by their standard deviation σ.
    #[must_use]
    pub const fn normal(deviation: f64) -> Self {
        Self { role: Role::Trained, start: Start::Normal(deviation) }
    }

    /// A trained tensor that begins with one number everywhere.
    #[must_use]
    pub const fn constant(value: f64) -> Self {
        Self { role: Role::Trained, start: Start::Constant(value) }
    }

    /// A tensor that is not trained, and begins with one number everywhere.
    #[must_use]
    pub const fn buffer(value: f64) -> Self {
        Self { role: Role::Buffer, start: Start::Constant(value) }
    }
}

/// Where a tensor is in a model; displays as `txt_enc.rnn.weight_ih_l0`.
///
/// A path is a chain of names on the stack, so that making one allocates nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    name: &'a str,
    number: Option<usize>,
}

impl<'a> Path<'a> {
    /// The path of a part or a tensor.
    #[must_use]
    pub fn child(&'a self, name: &'a str) -> Self {
        Self { parent: Some(self), name, number: None }
    }

    /// The same with a number at the end of the name: `weight_ih_l` and 0 give `weight_ih_l0`.
    #[must_use]
    pub(crate) fn numbered(&'a self, name: &'a str, number: usize) -> Self {
        Self { parent: Some(self), name, number: Some(number) }
    }

    /// Whether the path is `prefix` or below it, in whole names: `txt_enc.rnn` is within `txt_enc`.
    #[must_use]
    pub(crate) fn is_within(&self, prefix: &str) -> bool {
        let mut rest = Rest { prefix, after: None };
        // `Rest` returns an error at the first difference.
        write!(rest, "{self}").is_ok() && rest.prefix.is_empty() && matches!(rest.after, None | Some('.'))
    }

    /// Whether `name` is this path in full.
    #[must_use]
    pub(crate) fn is(&self, name: &str) -> bool {
        let mut rest = Rest { prefix: name, after: None };
        write!(rest, "{self}").is_ok() && rest.prefix.is_empty() && rest.after.is_none()
    }
}

impl Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent.filter(|parent| parent.parent.is_some()) {
            write!(f, "{parent}.")?;
        }
        f.write_str(self.name)?;
        self.number.map_or(Ok(()), |number| write!(f, "{number}"))
    }
}

/// Compares a path with a prefix while it is being written, without allocating.
struct Rest<'a> {
    /// What of the prefix has not been matched yet.
    prefix: &'a str,
    /// The first character after the prefix.
    after: Option<char>,
}

impl Write for Rest<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let shared = text.len().min(self.prefix.len());
        let (head, tail) = self.prefix.split_at_checked(shared).ok_or(fmt::Error)?;
        let after = text.strip_prefix(head).ok_or(fmt::Error)?;
        self.prefix = tail;
        self.after = self.after.or(after.chars().next());
        Ok(())
    }
}

/// Receives the tensors that several values have at one path: first those of the M values that it may
/// change, then those of the S values that it only reads.
pub type Visitor<'a, T, const M: usize, const S: usize> =
    dyn FnMut(&Path<'_>, Tensor, [ArrayViewMutD<'_, T>; M], [ArrayViewD<'_, T>; S]) -> Result<()> + 'a;

/// Something made of named tensors: a layer, a tower, a model. Gradients are values of the same type.
///
/// [`module!`](crate::module) implements it from a list of fields.
///
/// ```
/// use ndarray::{Array1, Array4};
/// use vsepp::nn::{Module, Tensor};
///
/// /// A layer with a weight of four axes and a running mean, which is saved and not trained.
/// struct Conv<T> {
///     weight: Array4<T>,
///     mean: Array1<T>,
/// }
///
/// vsepp::module!(Conv<T>, layer {
///     weight: Tensor::uniform(1.0 / (layer.weight.len() as f64).sqrt()),
///     mean: Tensor::buffer(0.0),
/// });
///
/// let mut conv = Conv { weight: Array4::<f32>::zeros((2, 3, 5, 5)), mean: Array1::zeros(2) };
/// conv.init(7);
/// let names: Vec<String> = conv.tensors().into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["weight", "mean"]);
/// ```
pub trait Module<T: Clone + Default>: Sized {
    /// Visits the tensors of several values of one type in lockstep, in the order of the listing.
    ///
    /// # Errors
    ///
    /// If one of the values lacks a tensor that another has, or has it in another shape (an empty tensor
    /// is allowed: a frozen tensor has an empty gradient), or if the visitor fails.
    fn visit<const M: usize, const S: usize>(
        changed: [&mut Self; M],
        read: [&Self; S],
        path: &Path<'_>,
        visitor: &mut Visitor<'_, T, M, S>,
    ) -> Result<()>;

    /// Empties every tensor for which `which` is true: a gradient needs no memory for what is not trained.
    fn empty(&mut self, path: &Path<'_>, which: &dyn Fn(&Path<'_>, Tensor) -> bool);

    /// Every tensor, to read.
    fn each(&self, mut visitor: impl FnMut(&Path<'_>, Tensor, ArrayViewD<'_, T>)) {
        // One value cannot disagree with itself, and this visitor never fails.
        let _ = Self::visit([], [self], &Path::default(), &mut |path, tensor, [], [x]| {
            visitor(path, tensor, x);
            Ok(())
        });
    }

    /// Every tensor, to change.
    fn each_mut(&mut self, mut visitor: impl FnMut(&Path<'_>, Tensor, ArrayViewMutD<'_, T>)) {
        let _ = Self::visit([self], [], &Path::default(), &mut |path, tensor, [x], []| {
            visitor(path, tensor, x);
            Ok(())
        });
    }

    /// Copies of all tensors with their names.
    fn tensors(&self) -> Vec<(String, ArrayD<T>)> {
        let mut tensors = Vec::new();
        self.each(|path, _, x| tensors.push((path.to_string(), x.to_owned())));
        tensors
    }

    /// Gives every tensor the values that `values` has for its name and shape.
    ///
    /// # Errors
    ///
    /// If `values` fails. The tensors before that one have been filled then.
    fn fill(&mut self, mut values: impl FnMut(&str, &[usize]) -> Result<ArrayD<T>>) -> Result<()> {
        Self::visit([self], [], &Path::default(), &mut |path, _, [mut x], []| {
            let values = values(&path.to_string(), x.shape())?;
            x.assign(&values);
            Ok(())
        })
    }

    /// How many numbers there are.
    fn count(&self) -> usize {
        let mut count = 0;
        self.each(|_, _, x| count += x.len());
        count
    }

    /// Gives every tensor its values before training, each from a random stream of its own, named after
    /// its path.
    fn init(&mut self, seed: u64)
    where
        T: Scalar,
    {
        self.each_mut(|path, Tensor { start, .. }, mut x| {
            let mut rng = stream(seed, &format!("init/{path}"));
            let values = match start {
                Start::Constant(value) => return x.fill(T::from_f64(value)),
                Start::Uniform(bound) => Array::random_using(x.raw_dim(), Symmetric(bound), &mut rng),
                Start::Normal(deviation) => Array::random_using(x.raw_dim(), Normal(deviation), &mut rng),
            };
            x.zip_mut_with(&values, |x, &value| *x = T::from_f64(value));
        });
    }

    /// Checks that a gradient has the tensors of this module, in their shapes or empty.
    ///
    /// # Errors
    ///
    /// With the name of the first tensor that differs.
    fn check_gradient(&self, gradient: &Self) -> Result<()> {
        Self::visit([], [self, gradient], &Path::default(), &mut |_, _, [], _| Ok(()))
    }
}

/// Visits one tensor of several values; for [`module!`](crate::module) and modules written by hand.
///
/// # Errors
///
/// If two shapes differ and neither is empty, or if the visitor fails.
pub fn visit_tensor<T, D: Dimension, const M: usize, const S: usize>(
    tensor: Tensor,
    changed: [ArrayViewMut<'_, T, D>; M],
    read: [ArrayView<'_, T, D>; S],
    path: &Path<'_>,
    visitor: &mut Visitor<'_, T, M, S>,
) -> Result<()> {
    let shapes = || changed.iter().map(ArrayViewMut::shape).chain(read.iter().map(ArrayView::shape));
    let full = || shapes().filter(|shape| !shape.contains(&0));
    if let Some(expected) = full().next()
        && let Some(found) = full().find(|shape| *shape != expected)
    {
        return Err(Error::shape(&path.to_string(), format!("{expected:?}"), found));
    }
    visitor(path, tensor, changed.map(ArrayViewMut::into_dyn), read.map(ArrayView::into_dyn))
}

/// The error for what one of several values has and another lacks.
pub(super) fn missing(what: &dyn Display) -> Error {
    Error::mismatch(format!("{what}: one value has it, another has not"))
}

impl<T: Clone + Default, X: Module<T>> Module<T> for Option<X> {
    fn visit<const M: usize, const S: usize>(
        changed: [&mut Self; M],
        read: [&Self; S],
        path: &Path<'_>,
        visitor: &mut Visitor<'_, T, M, S>,
    ) -> Result<()> {
        let all = || changed.iter().map(|x| x.as_ref()).chain(read.iter().map(|x| x.as_ref()));
        let Some(present) = all().flatten().next() else { return Ok(()) };
        if all().any(|x| x.is_none()) {
            let mut names = Vec::new();
            X::visit([], [present], path, &mut |path, _, [], [_]| {
                names.push(path.to_string());
                Ok(())
            })?;
            return Err(missing(&names.join(", ")));
        }
        let changed = changed.map(|x| x.as_mut().expect("none is missing"));
        X::visit(changed, read.map(|x| x.as_ref().expect("none is missing")), path, visitor)
    }

    fn empty(&mut self, path: &Path<'_>, which: &dyn Fn(&Path<'_>, Tensor) -> bool) {
        if let Some(x) = self {
            x.empty(path, which);
        }
    }
}

/// Implements [`Module`](crate::nn::Module) for a struct, from the list of its tensors and parts.
///
/// `field: tensor` lists a tensor, an `ndarray::Array` of any number of axes, with its
/// [`Tensor`](crate::nn::Tensor); `field` alone lists a part, which is a module itself. The name before
/// the braces refers to the value itself, because a tensor's bound may depend on its sizes. `module!(Name)`
/// is for a struct without tensors.
#[macro_export]
macro_rules! module {
    ($module:ident<$number:ident>, $this:ident { $($field:ident $(: $tensor:expr)?),* $(,)? }) => {
        impl<$number: Clone + Default> $crate::nn::Module<$number> for $module<$number> {
            #[allow(unused_mut, unused_variables)]
            fn visit<const M: usize, const S: usize>(
                mut changed: [&mut Self; M],
                read: [&Self; S],
                path: &$crate::nn::Path<'_>,
                visitor: &mut $crate::nn::Visitor<'_, $number, M, S>,
            ) -> $crate::Result<()> {
                $($crate::module!(@visit changed, read, path, visitor, $this, $field $(, $tensor)?);)*
                Ok(())
            }

            #[allow(unused_variables)]
            fn empty(
                &mut self,
                path: &$crate::nn::Path<'_>,
                which: &dyn Fn(&$crate::nn::Path<'_>, $crate::nn::Tensor) -> bool,
            ) {
                $($crate::module!(@empty self, path, which, $this, $field $(, $tensor)?);)*
            }
        }
    };
    ($module:ident) => {
        impl<T: Clone + Default> $crate::nn::Module<T> for $module {
            fn visit<const M: usize, const S: usize>(
                _: [&mut Self; M],
                _: [&Self; S],
                _: &$crate::nn::Path<'_>,
                _: &mut $crate::nn::Visitor<'_, T, M, S>,
            ) -> $crate::Result<()> {
                Ok(())
            }

            fn empty(
                &mut self,
                _: &$crate::nn::Path<'_>,
                _: &dyn Fn(&$crate::nn::Path<'_>, $crate::nn::Tensor) -> bool,
            ) {
            }
        }
    };
    (@visit $changed:ident, $read:ident, $path:ident, $visitor:ident, $this:ident, $field:ident, $tensor:expr) => {
        let tensor = {
            let any = $changed.first().map(|value| &**value).or($read.first().copied());
            let $this = any.expect("a visit has a value");
            $tensor
        };
        let changed = $changed.each_mut().map(|value| value.$field.view_mut());
        let read = $read.map(|value| value.$field.view());
        $crate::nn::visit_tensor(tensor, changed, read, &$path.child(stringify!($field)), $visitor)?;
    };
    (@visit $changed:ident, $read:ident, $path:ident, $visitor:ident, $this:ident, $field:ident) => {
        let changed = $changed.each_mut().map(|value| &mut value.$field);
        let read = $read.map(|value| &value.$field);
        $crate::nn::Module::visit(changed, read, &$path.child(stringify!($field)), $visitor)?;
    };
    (@empty $self:ident, $path:ident, $which:ident, $this:ident, $field:ident, $tensor:expr) => {
        let tensor = {
            let $this = &*$self;
            $tensor
        };
        if $which(&$path.child(stringify!($field)), tensor) {
            $self.$field = Default::default();
        }
    };
    (@empty $self:ident, $path:ident, $which:ident, $this:ident, $field:ident) => {
        $crate::nn::Module::empty(&mut $self.$field, &$path.child(stringify!($field)), $which);
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Linear;
    use ndarray::{Array1, Array2};

    struct Pair<T> {
        first: Linear<T>,
        second: Option<Linear<T>>,
        mean: Array1<T>,
    }
    module!(Pair<T>, this { first, second, mean: Tensor::buffer(1.0) });

    fn pair() -> Pair<f64> {
        Pair { first: Linear::zeros(2, 3), second: Some(Linear::zeros(4, 2)), mean: Array1::zeros(2) }
    }

    #[test]
    fn paths_are_made_by_the_parents_in_the_order_of_the_listing() {
        let names: Vec<String> = pair().tensors().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["first.weight", "first.bias", "second.weight", "second.bias", "mean"]);
        assert_eq!(pair().count(), 6 + 2 + 8 + 4 + 2);
    }

    #[test]
    fn a_path_is_within_whole_names() {
        let root = Path::default();
        let (txt, rnn);
        txt = root.child("txt_enc");
        rnn = txt.child("rnn");
        let weight = rnn.numbered("weight_ih_l", 10);
        assert_eq!(weight.to_string(), "txt_enc.rnn.weight_ih_l10");
        for prefix in ["txt_enc", "txt_enc.rnn", "txt_enc.rnn.weight_ih_l10"] {
            assert!(weight.is_within(prefix), "{prefix}");
        }
        for prefix in ["txt", "txt_enc.", "rnn", "txt_enc.rnn.weight_ih_l1", "txt_enc.rnn.weight_ih_l10.x", "ä"] {
            assert!(!weight.is_within(prefix), "{prefix}");
        }
        let (layer, block);
        layer = root.numbered("layer", 3);
        block = layer.numbered("", 0);
        assert_eq!(block.child("conv1").to_string(), "layer3.0.conv1");
        assert!(weight.is("txt_enc.rnn.weight_ih_l10") && !weight.is("txt_enc.rnn") && !rnn.is("txt_enc.rnn.x"));
    }

    #[test]
    fn what_one_value_lacks_is_an_error_that_names_it() {
        let message = |spoil: fn(&mut Pair<f64>)| {
            let mut other = pair();
            spoil(&mut other);
            let forth = pair().check_gradient(&other).unwrap_err().to_string();
            let back = other.check_gradient(&pair()).unwrap_err().to_string();
            (forth, back)
        };
        let (forth, back) = message(|p| p.second = None);
        assert_eq!(forth, "second.weight, second.bias: one value has it, another has not");
        assert_eq!(back, forth);
        assert_eq!(
            message(|p| p.first.weight = Array2::zeros((2, 2))).0,
            "first.weight: expected [2, 3], found [2, 2]"
        );
        let mut frozen = pair();
        frozen.empty(&Path::default(), &|path, tensor| path.is_within("second") || tensor.role == Role::Buffer);
        pair().check_gradient(&frozen).unwrap();
        assert_eq!(frozen.count(), 8);
    }

    #[test]
    fn init_draws_each_tensor_from_its_own_stream() {
        let (mut a, mut b) = (pair(), pair());
        a.init(1);
        b.init(1);
        assert_eq!(a.tensors(), b.tensors());
        let bound = (6.0f64 / 5.0).sqrt();
        assert!(a.first.weight.iter().all(|x| x.abs() <= bound && *x != 0.0), "(INIT-1)");
        assert_eq!((a.first.bias, a.mean), (Array1::zeros(2), Array1::ones(2)));
        b.init(2);
        assert_ne!(a.second.unwrap().weight, b.second.unwrap().weight);
    }
}
