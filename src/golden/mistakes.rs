//! The known mistakes: single changes of the computation, each with what it is and how to fix it.
//!
//! [`super::plain`] can compute with any of them. So the suite must catch every mistake (the tests plant
//! each one), and the diagnosis can recognise it: it tries the mistakes on the golden inputs and names the
//! one that gives the backend's values.

use std::collections::BTreeSet;

/// What is known about a mistake.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Description {
    /// The mistake.
    pub mistake: Mistake,
    /// Its name in manifests and reports.
    pub id: &'static str,
    /// What the backend computes, as the end of "these are the values of …".
    pub says: &'static str,
    /// How to fix it.
    pub fix: &'static str,
}

macro_rules! mistakes {
    ($($name:ident, $id:literal, $says:literal, $fix:literal;)*) => {
        /// One single mistake; [`Mistake::describe`] says what it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs)] // each is described in the table
        pub(crate) enum Mistake { $($name),* }

        /// All of them, in the order of the data flow.
        pub(crate) const ALL: &[Description] = &[
            $(Description { mistake: Mistake::$name, id: $id, says: $says, fix: $fix }),*
        ];
    };
}

mistakes! {
    // Word vectors
    WordOffByOne, "word-off-by-one",
        "word vectors that are read one row too far (W[w + 1])",
        "ids count from 0, with <pad> = 0: use the id itself as the row";
    WordGradientOverwritten, "word-gradient-overwritten",
        "word gradients where the last occurrence overwrites the others",
        "a word that occurs several times gets the sum: dW[w] += dx, atomically or by a sorted segment sum";
    WordGradientAveraged, "word-gradient-averaged",
        "word gradients divided by how often the word occurs",
        "add the gradients of all occurrences and do not divide (scale_grad_by_freq = False)";

    // GRU: weights and gates
    GatesRnz, "gates-rnz", "gate blocks read in the order r, n, z", "the blocks of weights and biases are stacked r, z, n";
    GatesZrn, "gates-zrn", "gate blocks read in the order z, r, n (ONNX, Keras, WebNN's zrn)",
        "the blocks of weights and biases are stacked r, z, n: swap the first two when converting";
    GatesZnr, "gates-znr", "gate blocks read in the order z, n, r", "the blocks of weights and biases are stacked r, z, n";
    GatesNrz, "gates-nrz", "gate blocks read in the order n, r, z", "the blocks of weights and biases are stacked r, z, n";
    GatesNzr, "gates-nzr", "gate blocks read in the order n, z, r", "the blocks of weights and biases are stacked r, z, n";
    GatesSwappedInInput, "gates-swapped-in-input",
        "r and z swapped on the input side alone (W_ih, b_ih)", "convert W_ih and b_ih as W_hh and b_hh: r, z, n";
    GatesSwappedInRecurrent, "gates-swapped-in-recurrent",
        "r and z swapped on the recurrent side alone (W_hh, b_hh)", "convert W_hh and b_hh as W_ih and b_ih: r, z, n";
    GatesSwappedInBiases, "gates-swapped-in-biases",
        "r and z swapped in the biases alone", "convert the biases as the weights: r, z, n";
    GatesSwappedInWeights, "gates-swapped-in-weights",
        "r and z swapped in the weights alone, not in the biases", "convert the weights as the biases: r, z, n";
    RecurrentTransposed, "recurrent-transposed",
        "the blocks of W_hh transposed (h W instead of W h)", "c = W_hh h: for a row-major kernel multiply by the transposed block";
    InputTransposed, "input-transposed",
        "the blocks of W_ih transposed (x W instead of W x)", "a = W_ih x: for a row-major kernel multiply by the transposed block";
    InputStridesSwapped, "input-strides-swapped",
        "W_ih read with its two strides exchanged, which goes unseen unless 3H = E", "row i of W_ih begins at i E: its strides are (E, 1), and x W_ihᵀ needs no other";
    InputBiasDropped, "input-bias-dropped", "a GRU without b_ih", "a = W_ih x + b_ih";
    RecurrentBiasDropped, "recurrent-bias-dropped", "a GRU without b_hh", "c = W_hh h + b_hh";
    BiasesDropped, "biases-dropped", "a GRU without biases", "a = W_ih x + b_ih and c = W_hh h + b_hh";
    InputBiasForBoth, "input-bias-for-both", "a GRU with b_ih instead of b_hh", "c = W_hh h + b_hh: two biases, not one twice";
    BiasesSwapped, "biases-swapped", "a GRU with b_ih and b_hh exchanged",
        "b_ih goes to the input side, b_hh to the recurrent side; they differ for n, where r multiplies b_hn alone";
    RecurrentBiasOutsideReset, "recurrent-bias-outside-reset",
        "b_hn outside the reset gate: n = tanh(a_n + r ∘ (W_hn h) + b_hn)",
        "n = tanh(a_n + r ∘ (W_hn h + b_hn)): the bias is inside; only b_hr and b_hz may be merged with b_ir and b_iz";
    ResetBefore, "reset-before-product",
        "the reset gate applied before the product: n = tanh(a_n + W_hn (r ∘ h) + b_hn) (Cho et al. 2014, equation 8)",
        "n = tanh(a_n + r ∘ (W_hn h + b_hn)): multiply by r after the product (Keras: reset_after=True, ONNX: linear_before_reset=1)";
    ResetIgnored, "reset-ignored", "a GRU without reset gate: n = tanh(a_n + c_n)", "n = tanh(a_n + r ∘ c_n)";
    UpdateComplement, "update-complement",
        "z and 1 − z exchanged: h' = z ∘ n + (1 − z) ∘ h", "h' = (1 − z) ∘ n + z ∘ h";
    UpdateIgnored, "update-ignored", "h' = n, without update gate", "h' = (1 − z) ∘ n + z ∘ h";
    UpdateWithoutComplement, "update-without-complement", "h' = n + z ∘ h", "h' = (1 − z) ∘ n + z ∘ h";
    NewGateSigmoid, "new-gate-sigmoid", "σ instead of tanh in the new gate", "n = tanh(a_n + r ∘ c_n)";
    NewGateRelu, "new-gate-relu", "max(0, ·) instead of tanh in the new gate", "n = tanh(a_n + r ∘ c_n)";
    NewGateLinear, "new-gate-linear", "a new gate without tanh", "n = tanh(a_n + r ∘ c_n)";
    GatesTanh, "gates-tanh", "tanh instead of σ in the gates r and z", "r = σ(a_r + c_r), z = σ(a_z + c_z)";
    HardSigmoid, "hard-sigmoid", "a hard sigmoid, clip(0.2 x + 0.5, 0, 1), for σ", "σ(x) = 1 / (1 + exp(−x)) (Keras: recurrent_activation=\"sigmoid\")";
    HardSigmoidSix, "hard-sigmoid-six", "a hard sigmoid, clip(x / 6 + 0.5, 0, 1), for σ", "σ(x) = 1 / (1 + exp(−x))";

    // GRU: sequences
    InitialStateIgnored, "initial-state-ignored", "a GRU that starts from 0 instead of the given state", "take h₀ (or h) from the inputs";
    InitialStateOnes, "initial-state-ones", "a GRU that starts from a state of ones", "h₀ = 0, or what the inputs give: clear the state before every batch";
    LastAtPaddedEnd, "last-at-padded-end",
        "the state at the padded end of the batch, after padding has been read", "take each row's state at its own last token, t = length − 1";
    LastOfZeros, "last-of-zeros",
        "the last column of states, which is 0 for every row that ends earlier", "take each row's state at its own last token, t = length − 1";
    LastBeforeEnd, "last-off-by-one", "the state one token too early", "take each row's state at t = length − 1: after <end>, not before it";
    LastFirst, "last-is-first", "the state after the first token", "take each row's state at its own last token, t = length − 1";
    FirstTokenSkipped, "first-token-skipped", "captions without their first token", "a caption is <start> w₁ … wₙ <end>: all of them are read";
    Reversed, "reversed", "captions read from the end to the beginning", "read from t = 0 upwards";
    MeanPooling, "mean-pooling", "the mean of the states over a caption", "take the state at the row's own last token, no mean";
    MaxPooling, "max-pooling", "the largest of the states over a caption, element by element", "take the state at the row's own last token, no maximum";
    RowsNotRestored, "rows-not-restored", "rows left in the order of falling lengths",
        "put the rows back into the order of the batch after sorting by length (enforce_sorted=False does)";
    BottomLayer, "bottom-layer", "the last state of the bottom layer", "take the last state of the top layer";
    LayersShareWeights, "layers-share-weights", "upper layers with the recurrent weights of layer 0", "layer k has weights of its own: weight_hh_l{k}";

    // GRU: backward
    StateGradientWithoutUpdate, "state-gradient-without-update", "a state gradient that lacks the part through z ∘ h", "dh = dh' ∘ z + dc W_hh";
    StateGradientWithoutRecurrent, "state-gradient-without-recurrent", "a state gradient that lacks the part through W_hh", "dh = dh' ∘ z + dc W_hh";
    Truncated, "truncated", "backpropagation cut after one step (the state detached)", "carry dh = dh' ∘ z + dc W_hh to the step before, down to t = 0";
    RecurrentGradientWithoutReset, "recurrent-gradient-without-reset", "dc_n = da_n, without the reset gate", "dc_n = da_n ∘ r";
    ResetGradientWithoutBias, "reset-gradient-without-bias", "dr = da_n ∘ (W_hn h), without b_hn", "dr = da_n ∘ (W_hn h + b_hn)";
    ResetGradientDropped, "reset-gradient-dropped", "no gradient through the reset gate", "da_r = da_n ∘ c_n ∘ r ∘ (1 − r)";
    UpdateGradientDropped, "update-gradient-dropped", "no gradient through the update gate", "da_z = dh' ∘ (h − n) ∘ z ∘ (1 − z)";
    ResetDerivativeMissing, "reset-derivative-missing", "da_r without σ' = r (1 − r)", "da_r = dr ∘ r ∘ (1 − r)";
    UpdateDerivativeMissing, "update-derivative-missing", "da_z without σ' = z (1 − z)", "da_z = dz ∘ z ∘ (1 − z)";
    NewDerivativeMissing, "new-derivative-missing", "da_n without tanh' = 1 − n²", "da_n = dn ∘ (1 − n²)";
    NewDerivativeSigmoid, "new-derivative-sigmoid", "da_n with n (1 − n), the derivative of σ", "da_n = dn ∘ (1 − n²)";
    UpdateGradientSign, "update-gradient-sign", "dz with the wrong sign", "dz = dh' ∘ (h − n)";
    UpdateGradientWithoutState, "update-gradient-without-state", "dz = −dh' ∘ n, without the state", "dz = dh' ∘ (h − n)";
    NewGradientComplement, "new-gradient-complement", "dn = dh' ∘ z", "dn = dh' ∘ (1 − z)";
    RecurrentWeightByNewState, "recurrent-weight-by-new-state", "dW_hh = dcᵀ h', with the state after the step", "dW_hh += dcᵀ h, with the state before the step";
    RecurrentWeightAsInput, "recurrent-weight-as-input", "dW_hh and db_hh made of da, without the reset gate", "dW_hh += dcᵀ h, db_hh += Σ dc, with dc_n = da_n ∘ r";
    RecurrentBiasAsInput, "recurrent-bias-as-input", "db_hh = db_ih", "db_hh = Σ dc: its part for n has the factor r";
    InputGradientByRecurrent, "input-gradient-by-recurrent", "dx made of dc, with the reset gate in it", "dx = da W_ih";
    InitialStateGradientDropped, "initial-state-gradient-dropped", "no gradient for the first state", "carry dh down to h₀";
    GradientAtPaddedEnd, "gradient-at-padded-end", "the gradient put in at the padded end, where shorter rows have no state", "put each row's gradient in at its own last token";
    WeightGradientLastStep, "weight-gradient-last-step", "weight gradients of one time step alone, overwritten by the next", "accumulate over the steps: dW +=, db +=";
    WeightGradientAveraged, "weight-gradient-averaged", "the GRU's weight gradients divided by the batch size", "add over the batch and do not divide";

    // Projections
    FcBiasDropped, "fc-bias-dropped", "img_enc.fc without its bias", "y = x Wᵀ + b";
    ProjectionBiasDropped, "projection-bias-dropped", "txt_enc.proj without its bias", "y = x Wᵀ + b";
    FeaturesNormalised, "features-normalised", "image features L2-normalised before img_enc.fc", "use precomputed features as they are";
    LinearBiasAveraged, "linear-bias-averaged", "a projection's bias gradient divided by the batch size", "db = Σ dy over the batch";
    LinearWeightAveraged, "linear-weight-averaged", "a projection's weight gradient divided by the batch size", "dW = dyᵀ x, summed over the batch";
    LinearBackwardUnnormalised, "linear-backward-by-output", "a projection's gradients from the gradient of the normalised vectors", "go back through the normalisation first, then dW = dyᵀ x";

    // Normalisation and absolute value
    NormOverColumns, "norm-over-columns", "columns normalised instead of rows", "every row has norm 1: reduce over the dimension D";
    NormL1, "norm-l1", "division by the sum of absolute values (L1)", "y = x / ‖x‖₂";
    NormMax, "norm-max", "division by the largest absolute value", "y = x / ‖x‖₂";
    NormSquared, "norm-squared", "division by the squared norm (the root is missing)", "y = x / ‖x‖₂";
    NormSkipped, "norm-skipped", "vectors that are not normalised", "y = x / ‖x‖₂ on both sides (image side: unless no_imgnorm)";
    ImageNormSkipped, "image-norm-skipped", "an image side that is not normalised", "normalise the images unless no_imgnorm";
    CaptionNormSkipped, "caption-norm-skipped", "a caption side that is not normalised", "captions are always normalised";
    ImageNormForced, "image-norm-forced", "an image side that is normalised in spite of no_imgnorm", "with no_imgnorm use the projection as it is";
    NormPlus1e8, "norm-plus-1e-8", "y = x / (‖x‖ + 1e-8)", "there is no epsilon: y = x / ‖x‖";
    NormPlus1e6, "norm-plus-1e-6", "y = x / (‖x‖ + 1e-6)", "there is no epsilon: y = x / ‖x‖";
    NormPlus1e5, "norm-plus-1e-5", "y = x / (‖x‖ + 1e-5)", "there is no epsilon: y = x / ‖x‖";
    NormAtLeast1e12, "norm-at-least-1e-12", "y = x / max(‖x‖, 1e-12) (torch.nn.functional.normalize)", "there is no epsilon: divide by x.norm(dim=1, keepdim=True)";
    NormAtLeast1e8, "norm-at-least-1e-8", "y = x / max(‖x‖, 1e-8)", "there is no epsilon: y = x / ‖x‖";
    NormRoot1e12, "norm-root-1e-12", "y = x / √(Σ x² + 1e-12)", "there is no epsilon: y = x / ‖x‖";
    NormRoot1e8, "norm-root-1e-8", "y = x / √(Σ x² + 1e-8)", "there is no epsilon: y = x / ‖x‖";
    NormRoot1e6, "norm-root-1e-6", "y = x / √(Σ x² + 1e-6)", "there is no epsilon: y = x / ‖x‖";
    NormRoot1e5, "norm-root-1e-5", "y = x / √(Σ x² + 1e-5)", "there is no epsilon: y = x / ‖x‖";
    NormBackwardWithoutProjection, "norm-backward-without-projection", "dx = dy / ‖x‖, without the part along the row (the norm detached)", "dx = (dy − y (y · dy)) / ‖x‖";
    NormBackwardWithoutDivision, "norm-backward-without-division", "dx = dy − y (y · dy), not divided by the norm", "dx = (dy − y (y · dy)) / ‖x‖";
    NormBackwardByInput, "norm-backward-by-input", "dx = (dy − x (x · dy)) / ‖x‖, with x instead of y", "dx = (dy − y (y · dy)) / ‖x‖";
    NormBackwardSquared, "norm-backward-squared", "dx divided by ‖x‖²", "dx = (dy − y (y · dy)) / ‖x‖";
    NormBackwardSkipped, "norm-backward-skipped", "dx = dy, the normalisation left out of the backward pass", "dx = (dy − y (y · dy)) / ‖x‖";
    AbsDropped, "abs-dropped", "embeddings without the absolute value of use_abs", "with use_abs: |y| on both sides, after the normalisation";
    AbsImagesAlone, "abs-images-alone", "absolute values on the image side alone", "with use_abs: |y| on both sides";
    AbsCaptionsAlone, "abs-captions-alone", "absolute values on the caption side alone", "with use_abs: |y| on both sides";
    AbsRelu, "abs-relu", "max(0, y) instead of |y|", "with use_abs: |y| on both sides";
    AbsForced, "abs-forced", "absolute values without use_abs", "|y| only with use_abs";
    AbsBackwardSign, "abs-backward-sign", "dx = dy, without the sign of the absolute value", "dx = sign(x) dy";

    // Scores
    ScoresTransposed, "scores-transposed", "the score matrix transposed", "rows are images, columns are captions: S = F Gᵀ";
    ScoresUnnormalised, "scores-halved", "scores divided by √D", "s = f · g, with no scale";
    OrderReversed, "order-reversed", "the order violation max(0, f − g), the wrong way round", "v = max(0, g − f): captions above their images";
    OrderAbsolute, "order-absolute", "the distance ‖g − f‖, without max(0, ·)", "v = max(0, g − f)";
    OrderRootMissing, "order-root-missing", "the squared order violation where the root is asked for", "measure = order: s = −‖v‖₂, with the root";
    OrderRootExtra, "order-root-extra", "the root of the order violation where the square is asked for", "measure = order-squared: s = −‖v‖₂², without the root";
    OrderSign, "order-sign", "an order violation with a positive sign", "s = −‖v‖: a violation lowers the score";
    MeasureIgnored, "measure-ignored", "inner products instead of the order similarity", "use the measure of the config";
    ScoreGradientTransposed, "score-gradient-transposed", "dF = dSᵀ G and dG = dS F", "dF = dS G, dG = dSᵀ F";
    OrderGradientHalved, "order-gradient-halved", "an order-squared gradient without its factor 2", "dg −= 2 dS v, df += 2 dS v";
    OrderGradientWithoutRoot, "order-gradient-without-root", "an order gradient that is not divided by the norm", "dg += dS v / s, df −= dS v / s";
    OrderGradientImagesDropped, "order-gradient-images-dropped", "no order gradient for the images", "df −= dS v / s";

    // Losses
    MeanOverBatch, "mean-over-batch", "the loss divided by B", "sum over the batch, not the mean: clipping depends on it";
    MeanOverPairs, "mean-over-pairs", "the loss divided by B²", "sum over all pairs, not the mean";
    HalfLoss, "half-loss", "half of the loss (the mean of both directions)", "add both directions";
    CaptionSideOnly, "caption-side-only", "the hinges along the rows alone (caption retrieval)", "add both directions: rows and columns";
    ImageSideOnly, "image-side-only", "the hinges along the columns alone (image retrieval)", "add both directions: rows and columns";
    DiagonalIncluded, "diagonal-included", "hinges that include the diagonal, where each is α", "leave out i = j";
    DiagonalSwapped, "diagonal-swapped", "S_ij compared with d_j along the row and with d_i along the column", "cost_s[i, j] = [α + S_ij − d_i]₊, cost_im[i, j] = [α + S_ij − d_j]₊";
    MaxAlongWrongAxis, "max-along-wrong-axis", "the hardest negatives taken along the wrong axis", "Σ_i max_j cost_s[i, j] + Σ_j max_i cost_im[i, j]";
    MarginSign, "margin-sign", "hinges with −α", "[α + S_ij − d]₊";
    MarginDropped, "margin-dropped", "hinges without margin", "[α + S_ij − d]₊";
    HingeSign, "hinge-sign", "hinges with S and d exchanged", "[α + S_ij − d]₊: a wrong pair's score is added, the right pair's subtracted";
    SquaredHinge, "squared-hinge", "squared hinges", "[·]₊, not its square";
    NoHinge, "no-hinge", "α + S_ij − d without the hinge", "negative terms count as 0";
    Softplus, "softplus", "log(1 + eˣ) instead of the hinge", "[x]₊ = max(0, x)";
    SumForMax, "sum-for-max", "the sum of hinges (SH) where the maximum is asked for", "max_violation: only the hardest negative of each query";
    MaxForSum, "max-for-sum", "the hardest negatives (MH) where the sum is asked for", "without max_violation all negatives count";
    BatchHardest, "batch-hardest", "one hardest negative for the whole batch", "one for each row and one for each column";
    SemiHard, "semi-hard", "the hardest among the negatives that score below the right pair", "the hardest of all negatives";
    MaskIgnored, "mask-ignored", "captions of one image counted as negatives in spite of mask_same_image", "leave out the pairs with equal image_ids, in both directions";
    MaskCaptionSideOnly, "mask-caption-side-only", "mask_same_image applied along the rows alone", "leave out the pairs with equal image_ids, in both directions";
    KinkActive, "kink-active", "a gradient at hinges that are exactly 0 (≥ instead of >)", "a term counts only if it is > 0";
    TieAll, "tie-all", "the whole gradient given to each of equally hard negatives", "one winner, or shares that add up to 1";
    PositiveDetached, "positive-detached", "no gradient for the right pairs (the diagonal detached)", "each term that counts adds −1 at its right pair";
    NegativeDetached, "negative-detached", "no gradient for the wrong pairs", "each term that counts adds +1 at its own place";
    GradientRowsOnly, "gradient-rows-only", "a gradient of the hinges along the rows alone", "both directions have a gradient";
    GradientColumnsOnly, "gradient-columns-only", "a gradient of the hinges along the columns alone", "both directions have a gradient";
    DiagonalGradientSwapped, "diagonal-gradient-swapped", "−1 put at the other term's right pair (j for rows, i for columns)", "a term of row i adds −1 at (i, i), a term of column j at (j, j)";

    // Clipping and Adam
    ClipDropped, "clip-dropped", "an optimiser without clipping", "g ← g · max_norm / (norm + 1e-6) where that is < 1";
    ClipPerTensor, "clip-per-tensor", "every tensor clipped by its own norm", "one norm over all parameters together";
    ClipWithoutEpsilon, "clip-without-epsilon", "a clipping coefficient without 1e-6", "max_norm / (norm + 1e-6)";
    ClipByValue, "clip-by-value", "every element clipped to ± max_norm", "scale the whole gradient by one coefficient";
    ClipAlways, "clip-always", "gradients scaled up to the limit too", "the coefficient acts only where it is < 1";
    ClipSumOfNorms, "clip-sum-of-norms", "the sum of the tensors' norms as the global norm", "norm = √(Σ over all tensors of ‖g‖²)";
    ClipLargest, "clip-largest", "the largest element as the norm", "norm = √(Σ over all tensors of ‖g‖²)";
    NoBiasCorrection, "adam-no-bias-correction", "Adam without bias correction", "m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ)";
    NoFirstCorrection, "adam-no-first-correction", "Adam without the correction of m", "m̂ = m / (1 − β₁ᵗ)";
    NoSecondCorrection, "adam-no-second-correction", "Adam without the correction of v", "v̂ = v / (1 − β₂ᵗ)";
    EpsilonInsideRoot, "adam-epsilon-inside-root", "√(v̂ + ε) instead of √v̂ + ε", "add ε outside the root";
    EpsilonBeforeCorrection, "adam-epsilon-before-correction", "ε added to √v before the bias correction (the paper's ε-hat; TensorFlow 1)", "√v̂ + ε, with v̂ = v / (1 − β₂ᵗ)";
    EpsilonDropped, "adam-epsilon-dropped", "Adam without ε", "√v̂ + ε, ε = 1e-8";
    Epsilon1e7, "adam-epsilon-1e-7", "ε = 1e-7 (Keras)", "ε = 1e-8";
    Epsilon1e6, "adam-epsilon-1e-6", "ε = 1e-6", "ε = 1e-8";
    Beta2Of99, "adam-beta2-0.99", "β₂ = 0.99", "β₂ = 0.999";
    BetasSwapped, "adam-betas-swapped", "β₁ and β₂ exchanged", "β₁ = 0.9 for m, β₂ = 0.999 for v";
    StepStale, "adam-step-stale", "a bias correction that always has t = 1", "count t up with every step";
    StepAhead, "adam-step-ahead", "a step count t that is one ahead", "t = 1 in the first step";
    StateForgotten, "adam-state-forgotten", "moments and step that start anew", "continue with the given moments and step";
    WeightDecay, "adam-weight-decay", "an L2 penalty of 0.01 in the gradient", "no weight decay";
    DecoupledDecay, "adamw", "decoupled weight decay of 0.01 (AdamW)", "no weight decay";
    SparseAdam, "adam-sparse", "elements with gradient 0 left as they are", "dense: moments decay and parameters move where g = 0 too";
    MomentsBefore, "adam-moments-before", "an update with the moments of the step before", "update m and v first, then the parameters";
    SecondMomentAbsolute, "adam-second-moment-absolute", "|g| instead of g² in v", "v = β₂ v + (1 − β₂) g²";
    FirstMomentNotDamped, "adam-first-moment-not-damped", "m = β₁ m + g", "m = β₁ m + (1 − β₁) g";
    AmsGrad, "adam-amsgrad", "AMSGrad: the largest v so far", "plain Adam: v as it is";
    Ascent, "adam-ascent", "steps up the gradient", "θ ← θ − lr m̂ / (√v̂ + ε)";
    Sgd, "sgd", "plain gradient descent", "Adam";
    GradientAccumulates, "gradient-accumulates", "gradients that are not cleared between steps", "clear the gradient before each backward pass";
    MomentsUnclipped, "moments-unclipped", "moments of the gradient before clipping", "clip first; Adam sees the clipped gradient";
}

impl Mistake {
    /// What it is and how to fix it.
    #[must_use]
    pub(crate) fn describe(self) -> &'static Description {
        &ALL[self as usize]
    }
}

/// The mistakes planted in a computation: none, one, or several together.
pub(crate) type Mistakes = BTreeSet<Mistake>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_names_and_ids_are_unique() {
        for (place, description) in ALL.iter().enumerate() {
            assert_eq!(description.mistake as usize, place);
            assert_eq!(ALL.iter().position(|other| other.id == description.id), Some(place), "{}", description.id);
            assert_eq!(description.mistake.describe().id, description.id);
            assert!(!description.says.ends_with('.') && !description.fix.ends_with('.'), "{}", description.id);
        }
        assert!(ALL.len() >= 40);
    }
}
