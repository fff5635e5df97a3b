//! The known mistakes: single changes of the computation, each with what it is, how to fix it, and the relations that
//! a backend with it computes.
//!
//! The suite must catch every mistake (the tests plant each one), and the diagnosis recognises it: it computes a case
//! with it and names the one that gives the backend's values.

/// What is known about a mistake.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mistake {
    /// Its name in manifests and reports.
    pub id: &'static str,
    /// What the backend computes, as the end of "these are the values of …".
    pub says: &'static str,
    /// How to fix it.
    pub fix: &'static str,
    /// The relations in the place of those with the same left side: `group: relation`, line by line. A left side that
    /// is new comes before the next one.
    pub relations: &'static str,
}

macro_rules! mistakes {
    ($($id:literal, $says:literal, $fix:literal, $relations:literal;)*) => {
        /// All of them, in the order of the data flow.
        pub(crate) static ALL: &[Mistake] =
            &[$(Mistake { id: $id, says: $says, fix: $fix, relations: $relations }),*];
    };
}

mistakes! {
    // Word vectors
    "word-off-by-one", "word vectors that are read one row too far (W[w + 1])",
        "ids count from 0, with <pad> = 0: use the id itself as the row",
        "words: words[b,t,e] = W[id_plus_1(b,t),e]";
    "word-id-8-bits", "word ids kept in 8 bits (W[w mod 256])",
        "keep ids in at least 32 bits",
        "words: words[b,t,e] = W[id_modulo_256(b,t),e]";
    "word-gradient-overwritten", "word gradients where the last occurrence overwrites the others",
        "a word that occurs several times gets the sum: dW[w] += dx, atomically or by a sorted segment sum",
        "words: d.W[id(b,t),e] = last_occurrence[b,t] d.words[b,t,e]";
    "word-gradient-averaged", "word gradients divided by how often the word occurs",
        "add the gradients of all occurrences and do not divide (scale_grad_by_freq = False)",
        "words: d.W[id(b,t),e] = per_word[b,t] d.words[b,t,e]";

    // GRU: weights and gates
    "gates-rnz", "gate blocks read in the order r, n, z",
        "the blocks of weights and biases are stacked r, z, n",
        "gru: z[b,t,k] = σ(a.n[b,t,k] + c.n[b,t,k])
         gru: n[b,t,k] = tanh(a.z[b,t,k] + r[b,t,k] c.z[b,t,k])";
    "gates-zrn", "gate blocks read in the order z, r, n (ONNX, Keras, WebNN's zrn)",
        "the blocks of weights and biases are stacked r, z, n: swap the first two when converting",
        "gru: r[b,t,k] = σ(a.z[b,t,k] + c.z[b,t,k])
         gru: z[b,t,k] = σ(a.r[b,t,k] + c.r[b,t,k])";
    "gates-znr", "gate blocks read in the order z, n, r",
        "the blocks of weights and biases are stacked r, z, n",
        "gru: r[b,t,k] = σ(a.n[b,t,k] + c.n[b,t,k])
         gru: z[b,t,k] = σ(a.r[b,t,k] + c.r[b,t,k])
         gru: n[b,t,k] = tanh(a.z[b,t,k] + r[b,t,k] c.z[b,t,k])";
    "gates-nrz", "gate blocks read in the order n, r, z",
        "the blocks of weights and biases are stacked r, z, n",
        "gru: r[b,t,k] = σ(a.z[b,t,k] + c.z[b,t,k])
         gru: z[b,t,k] = σ(a.n[b,t,k] + c.n[b,t,k])
         gru: n[b,t,k] = tanh(a.r[b,t,k] + r[b,t,k] c.r[b,t,k])";
    "gates-nzr", "gate blocks read in the order n, z, r",
        "the blocks of weights and biases are stacked r, z, n",
        "gru: r[b,t,k] = σ(a.n[b,t,k] + c.n[b,t,k])
         gru: z[b,t,k] = σ(a.z[b,t,k] + c.z[b,t,k])
         gru: n[b,t,k] = tanh(a.r[b,t,k] + r[b,t,k] c.r[b,t,k])";
    "gates-swapped-in-input", "r and z swapped on the input side alone (W_ih, b_ih)",
        "convert W_ih and b_ih as W_hh and b_hh: r, z, n",
        "gru: a[b,t,j] = x[b,t,e] W_ih{zrn}[j,e] + b_ih{zrn}[j]";
    "gates-swapped-in-recurrent", "r and z swapped on the recurrent side alone (W_hh, b_hh)",
        "convert W_hh and b_hh as W_ih and b_ih: r, z, n",
        "gru: c[b,t,j] = h[b,t-1,k] W_hh{zrn}[j,k] + b_hh{zrn}[j]";
    "gates-swapped-in-biases", "r and z swapped in the biases alone",
        "convert the biases as the weights: r, z, n",
        "gru: a[b,t,j] = x[b,t,e] W_ih[j,e] + b_ih{zrn}[j]
         gru: c[b,t,j] = h[b,t-1,k] W_hh[j,k] + b_hh{zrn}[j]";
    "gates-swapped-in-weights", "r and z swapped in the weights alone, not in the biases",
        "convert the weights as the biases: r, z, n",
        "gru: a[b,t,j] = x[b,t,e] W_ih{zrn}[j,e] + b_ih[j]
         gru: c[b,t,j] = h[b,t-1,k] W_hh{zrn}[j,k] + b_hh[j]";
    "recurrent-transposed", "the blocks of W_hh transposed (h W instead of W h)",
        "c = W_hh h: for a row-major kernel multiply by the transposed block",
        "gru: c[b,t,j] = h[b,t-1,k] W_hh{T}[j,k] + b_hh[j]";
    "input-transposed", "the blocks of W_ih transposed (x W instead of W x)",
        "a = W_ih x: for a row-major kernel multiply by the transposed block",
        "gru: a[b,t,j] = x[b,t,e] W_ih{T}[j,e] + b_ih[j]";
    "input-strides-swapped", "W_ih read with its two strides exchanged, which goes unseen unless 3H = E",
        "row i of W_ih begins at i E: its strides are (E, 1), and x W_ihᵀ needs no other",
        "gru: a[b,t,j] = x[b,t,e] W_ih[e,j] + b_ih[j]";
    "input-bias-dropped", "a GRU without b_ih",
        "a = W_ih x + b_ih",
        "gru: a[b,t,j] = x[b,t,e] W_ih[j,e]";
    "recurrent-bias-dropped", "a GRU without b_hh",
        "c = W_hh h + b_hh",
        "gru: c[b,t,j] = h[b,t-1,k] W_hh[j,k]";
    "new-gate-bias-dropped", "a GRU without b_hn (Flax #5594)",
        "n = tanh(a_n + r ∘ (W_hn h + b_hn))",
        "gru: n[b,t,k] = tanh(a.n[b,t,k] + r[b,t,k] c.n[b,t,k] - r[b,t,k] b_hh.n[k])";
    "new-gate-bias-dropped-first", "a first step without b_hn where no state is given (MLX #3249)",
        "a state of 0 is no reason to leave out b_hn: n = tanh(a_n + r ∘ (W_hn h + b_hn)) at every step",
        "gru: n[b,t,k] = tanh(a.n[b,t,k] + r[b,t,k] c.n[b,t,k] - start_of_zeros[t] r[b,t,k] b_hh.n[k])";
    "biases-dropped", "a GRU without biases",
        "a = W_ih x + b_ih and c = W_hh h + b_hh",
        "gru: a[b,t,j] = x[b,t,e] W_ih[j,e]
         gru: c[b,t,j] = h[b,t-1,k] W_hh[j,k]";
    "input-bias-for-both", "a GRU with b_ih instead of b_hh",
        "c = W_hh h + b_hh: two biases, not one twice",
        "gru: c[b,t,j] = h[b,t-1,k] W_hh[j,k] + b_ih[j]";
    "biases-swapped", "a GRU with b_ih and b_hh exchanged",
        "b_ih goes to the input side, b_hh to the recurrent side; they differ for n, where r multiplies b_hn alone",
        "gru: a[b,t,j] = x[b,t,e] W_ih[j,e] + b_hh[j]
         gru: c[b,t,j] = h[b,t-1,k] W_hh[j,k] + b_ih[j]";
    "recurrent-bias-outside-reset", "b_hn outside the reset gate: n = tanh(a_n + r ∘ (W_hn h) + b_hn)",
        "n = tanh(a_n + r ∘ (W_hn h + b_hn)): the bias is inside; only b_hr and b_hz may be merged with b_ir and b_iz",
        "gru: n[b,t,k] = tanh(a.n[b,t,k] + r[b,t,k] c.n[b,t,k] - r[b,t,k] b_hh.n[k] + b_hh.n[k])";
    "reset-before-product", "the reset gate applied before the product: n = tanh(a_n + W_hn (r ∘ h) + b_hn) (Cho et al. 2014, equation 8)",
        "n = tanh(a_n + r ∘ (W_hn h + b_hn)): multiply by r after the product (Keras: reset_after=True, ONNX: linear_before_reset=1)",
        "gru: rh[b,t,k] = r[b,t,k] h[b,t-1,k]
         gru: q[b,t,j] = rh[b,t,k] W_hh[j,k] + b_hh[j]
         gru: n[b,t,k] = tanh(a.n[b,t,k] + q.n[b,t,k])";
    "reset-ignored", "a GRU without reset gate: n = tanh(a_n + c_n)",
        "n = tanh(a_n + r ∘ c_n)",
        "gru: n[b,t,k] = tanh(a.n[b,t,k] + c.n[b,t,k])";
    "reset-on-both", "the reset gate on both sides: n = tanh(r ∘ (a_n + c_n))",
        "n = tanh(a_n + r ∘ c_n)",
        "gru: n[b,t,k] = tanh(r[b,t,k] a.n[b,t,k] + r[b,t,k] c.n[b,t,k])";
    "update-complement", "z and 1 − z exchanged: h' = z ∘ n + (1 − z) ∘ h",
        "h' = (1 − z) ∘ n + z ∘ h",
        "gru: h[b,t,k] = z[b,t,k] n[b,t,k] + (1-z)[b,t,k] h[b,t-1,k]";
    "update-negated", "σ of the negated sum in the update gate",
        "z = σ(a_z + c_z)",
        "gru: z[b,t,k] = σ(- a.z[b,t,k] - c.z[b,t,k])";
    "update-ignored", "h' = n, without update gate",
        "h' = (1 − z) ∘ n + z ∘ h",
        "gru: h[b,t,k] = n[b,t,k]";
    "update-without-complement", "h' = n + z ∘ h",
        "h' = (1 − z) ∘ n + z ∘ h",
        "gru: h[b,t,k] = n[b,t,k] + z[b,t,k] h[b,t-1,k]";
    "new-gate-sigmoid", "σ instead of tanh in the new gate",
        "n = tanh(a_n + r ∘ c_n)",
        "gru: n[b,t,k] = σ(a.n[b,t,k] + r[b,t,k] c.n[b,t,k])";
    "new-gate-relu", "max(0, ·) instead of tanh in the new gate",
        "n = tanh(a_n + r ∘ c_n)",
        "gru: n[b,t,k] = relu(a.n[b,t,k] + r[b,t,k] c.n[b,t,k])";
    "new-gate-linear", "a new gate without tanh",
        "n = tanh(a_n + r ∘ c_n)",
        "gru: n[b,t,k] = a.n[b,t,k] + r[b,t,k] c.n[b,t,k]";
    "gates-tanh", "tanh instead of σ in the gates r and z",
        "r = σ(a_r + c_r), z = σ(a_z + c_z)",
        "gru: r[b,t,k] = tanh(a.r[b,t,k] + c.r[b,t,k])
         gru: z[b,t,k] = tanh(a.z[b,t,k] + c.z[b,t,k])";
    "hard-sigmoid", "a hard sigmoid, clip(0.2 x + 0.5, 0, 1), for σ",
        "σ(x) = 1 / (1 + exp(−x)) (Keras: recurrent_activation=\"sigmoid\")",
        "gru: sum_r[b,t,k] = a.r[b,t,k] + c.r[b,t,k]
         gru: r[b,t,k] = clip(0.2sum_r+0.5)[b,t,k]
         gru: sum_z[b,t,k] = a.z[b,t,k] + c.z[b,t,k]
         gru: z[b,t,k] = clip(0.2sum_z+0.5)[b,t,k]";
    "hard-sigmoid-six", "a hard sigmoid, clip(x / 6 + 0.5, 0, 1), for σ",
        "σ(x) = 1 / (1 + exp(−x))",
        "gru: sum_r[b,t,k] = a.r[b,t,k] + c.r[b,t,k]
         gru: r[b,t,k] = clip(sum_r/6+0.5)[b,t,k]
         gru: sum_z[b,t,k] = a.z[b,t,k] + c.z[b,t,k]
         gru: z[b,t,k] = clip(sum_z/6+0.5)[b,t,k]";

    // GRU: sequences
    "initial-state-ignored", "a GRU that starts from 0 instead of the given state",
        "take h₀ (or h) from the inputs",
        "gru: c[b,t,j] = h{0}[b,t-1,k] W_hh[j,k] + b_hh[j]
         gru: h[b,t,k] = (1-z)[b,t,k] n[b,t,k] + z[b,t,k] h{0}[b,t-1,k]
         gru: d.z[b,t,k] = d.h[b,t,k] h{0}[b,t-1,k] - d.h[b,t,k] n[b,t,k]
         gru: d.W_hh[j,k] = d.c[b,t,j] h{0}[b,t-1,k]";
    "initial-state-ones", "a GRU that starts from a state of ones",
        "h₀ = 0, or what the inputs give: clear the state before every batch",
        "gru: c[b,t,j] = h{1}[b,t-1,k] W_hh[j,k] + b_hh[j]
         gru: h[b,t,k] = (1-z)[b,t,k] n[b,t,k] + z[b,t,k] h{1}[b,t-1,k]
         gru: d.z[b,t,k] = d.h[b,t,k] h{1}[b,t-1,k] - d.h[b,t,k] n[b,t,k]
         gru: d.W_hh[j,k] = d.c[b,t,j] h{1}[b,t-1,k]";
    "initial-state-always", "every step computed from the initial state (burn #2701)",
        "each step reads the state after the step before",
        "gru: c[b,t,j] = h0[b,k] W_hh[j,k] + b_hh[j]
         gru: h[b,t,k] = (1-z)[b,t,k] n[b,t,k] + z[b,t,k] h0[b,k]";
    "recurrent-product-not-cleared", "W_hn h added up over the steps (ONNX Runtime #3893)",
        "clear the buffer of the product before each step",
        "gru: p[b,t,j] = h[b,t-1,k] W_hh[j,k] + p[b,t-1,j]
         gru: n[b,t,k] = tanh(a.n[b,t,k] + r[b,t,k] p.n[b,t,k] + r[b,t,k] b_hh.n[k])";
    "last-at-padded-end", "the state at the padded end of the batch, after padding has been read",
        "take each row's state at its own last token, t = length − 1",
        "last: last[b,k] = padded_end[b,t] h[b,t,k]";
    "last-of-zeros", "the last column of states, which is 0 for every row that ends earlier",
        "take each row's state at its own last token, t = length − 1",
        "last: last[b,k] = full_end[b,t] h[b,t,k]";
    "last-off-by-one", "the state one token too early",
        "take each row's state at t = length − 1: after <end>, not before it",
        "last: last[b,k] = end[b,t] h[b,t-1,k]";
    "last-is-first", "the state after the first token",
        "take each row's state at its own last token, t = length − 1",
        "last: last[b,k] = first[b,t] h[b,t,k]";
    "first-token-skipped", "captions without their first token",
        "a caption is <start> w₁ … wₙ <end>: all of them are read",
        "gru: h[b,t,k] = (1-first)[b,t] (1-z)[b,t,k] n[b,t,k] + (1-first)[b,t] z[b,t,k] h[b,t-1,k] + first[b,t] h[b,t-1,k]";
    "reversed", "captions read from the end to the beginning",
        "read from t = 0 upwards",
        "gru 0: a[b,t,j] = x[b,reversed(t),e] W_ih[j,e] + b_ih[j]
         gru 0: d.W_ih[j,e] = d.a[b,t,j] x[b,reversed(t),e]";
    "mean-pooling", "the mean of the states over a caption",
        "take the state at the row's own last token, no mean",
        "last: last[b,k] = mean[b,t] h[b,t,k]";
    "max-pooling", "the largest of the states over a caption, element by element",
        "take the state at the row's own last token, no maximum",
        "last: more[b,t,k] = relu(h[b,t,k] + 2 - most[b,t-1,k])
         last: most[b,t,k] = most[b,t-1,k] + more[b,t,k]
         last: last[b,k] = end[b,t] most[b,t,k] - 2";
    "rows-not-restored", "rows left in the order of falling lengths",
        "put the rows back into the order of the batch after sorting by length (enforce_sorted=False does)",
        "last: last[b,k] = end[sorted(b),t] h[sorted(b),t,k]";
    "bottom-layer", "the last state of the bottom layer",
        "take the last state of the top layer",
        "last: last[b,k] = end[b,t] bottom[b,t,k]";
    "layers-share-weights", "upper layers with the recurrent weights of layer 0",
        "layer k has weights of its own: weight_hh_l{k}",
        "gru: c[b,t,j] = h[b,t-1,k] first.W_hh[j,k] + b_hh[j]";

    // GRU: backward
    "state-gradient-without-update", "a state gradient that lacks the part through z ∘ h",
        "dh = dh' ∘ z + dc W_hh",
        "gru: d.h[b,t,k] = end[b,t] d.last[b,k] + d.c[b,t+1,j] W_hh[j,k]
         gru: d.h[b,t,k] = up.d.a[b,t,j] up.W_ih[j,k] + d.c[b,t+1,j] W_hh[j,k]
         gru: d.h0[b,k] = start[t] d.c[b,t,j] W_hh[j,k]";
    "state-gradient-without-recurrent", "a state gradient that lacks the part through W_hh",
        "dh = dh' ∘ z + dc W_hh",
        "gru: d.h[b,t,k] = end[b,t] d.last[b,k] + z[b,t+1,k] d.h[b,t+1,k]
         gru: d.h[b,t,k] = up.d.a[b,t,j] up.W_ih[j,k] + z[b,t+1,k] d.h[b,t+1,k]
         gru: d.h0[b,k] = start[t] z[b,t,k] d.h[b,t,k]";
    "truncated", "backpropagation cut after one step (the state detached)",
        "carry dh = dh' ∘ z + dc W_hh to the step before, down to t = 0",
        "gru: d.h[b,t,k] = end[b,t] d.last[b,k]
         gru: d.h[b,t,k] = up.d.a[b,t,j] up.W_ih[j,k]
         gru: d.h0[b,k] = 0 first[b,t] d.h[b,t,k]";
    "recurrent-gradient-without-reset", "dc_n = da_n, without the reset gate",
        "dc_n = da_n ∘ r",
        "gru: d.c.n[b,t,k] = d.a.n[b,t,k]";
    "reset-gradient-without-bias", "dr = da_n ∘ (W_hn h), without b_hn",
        "dr = da_n ∘ (W_hn h + b_hn)",
        "gru: p[b,t,j] = h[b,t-1,k] W_hh[j,k]
         gru: d.r[b,t,k] = d.a.n[b,t,k] p.n[b,t,k]";
    "reset-gradient-dropped", "no gradient through the reset gate",
        "da_r = da_n ∘ c_n ∘ r ∘ (1 − r)",
        "gru: d.r[b,t,k] = 0 d.a.n[b,t,k]";
    "update-gradient-dropped", "no gradient through the update gate",
        "da_z = dh' ∘ (h − n) ∘ z ∘ (1 − z)",
        "gru: d.z[b,t,k] = 0 d.h[b,t,k]";
    "reset-derivative-missing", "da_r without σ' = r (1 − r)",
        "da_r = dr ∘ r ∘ (1 − r)",
        "gru: d.a.r[b,t,k] = d.r[b,t,k]
         gru: d.c.r[b,t,k] = d.r[b,t,k]";
    "update-derivative-missing", "da_z without σ' = z (1 − z)",
        "da_z = dz ∘ z ∘ (1 − z)",
        "gru: d.a.z[b,t,k] = d.z[b,t,k]
         gru: d.c.z[b,t,k] = d.z[b,t,k]";
    "gate-derivatives-of-sums", "σ' = s (1 − s) with the sum s = a + c instead of the gate (ONNX Runtime #16862)",
        "da_r = dr ∘ r ∘ (1 − r), da_z = dz ∘ z ∘ (1 − z)",
        "gru: before_r[b,t,k] = a.r[b,t,k] + c.r[b,t,k]
         gru: d.a.r[b,t,k] = d.r[b,t,k] before_r(1-before_r)[b,t,k]
         gru: before_z[b,t,k] = a.z[b,t,k] + c.z[b,t,k]
         gru: d.a.z[b,t,k] = d.z[b,t,k] before_z(1-before_z)[b,t,k]
         gru: d.c.r[b,t,k] = d.r[b,t,k] before_r(1-before_r)[b,t,k]
         gru: d.c.z[b,t,k] = d.z[b,t,k] before_z(1-before_z)[b,t,k]";
    "new-derivative-missing", "da_n without tanh' = 1 − n²",
        "da_n = dn ∘ (1 − n²)",
        "gru: d.a.n[b,t,k] = d.n[b,t,k]";
    "new-derivative-sigmoid", "da_n with n (1 − n), the derivative of σ",
        "da_n = dn ∘ (1 − n²)",
        "gru: d.a.n[b,t,k] = d.n[b,t,k] n(1-n)[b,t,k]";
    "update-gradient-sign", "dz with the wrong sign",
        "dz = dh' ∘ (h − n)",
        "gru: d.z[b,t,k] = d.h[b,t,k] n[b,t,k] - d.h[b,t,k] h[b,t-1,k]";
    "update-gradient-without-state", "dz = −dh' ∘ n, without the state",
        "dz = dh' ∘ (h − n)",
        "gru: d.z[b,t,k] = - d.h[b,t,k] n[b,t,k]";
    "new-gradient-complement", "dn = dh' ∘ z",
        "dn = dh' ∘ (1 − z)",
        "gru: d.n[b,t,k] = d.h[b,t,k] z[b,t,k]";
    "recurrent-weight-by-new-state", "dW_hh = dcᵀ h', with the state after the step",
        "dW_hh += dcᵀ h, with the state before the step",
        "gru: d.W_hh[j,k] = d.c[b,t,j] h[b,t,k]";
    "recurrent-weight-as-input", "dW_hh and db_hh made of da, without the reset gate",
        "dW_hh += dcᵀ h, db_hh += Σ dc, with dc_n = da_n ∘ r",
        "gru: d.W_hh[j,k] = d.a[b,t,j] h[b,t-1,k]
         gru: d.b_hh[j] = d.a[b,t,j]";
    "recurrent-bias-as-input", "db_hh = db_ih",
        "db_hh = Σ dc: its part for n has the factor r",
        "gru: d.b_hh[j] = d.a[b,t,j]";
    "input-gradient-by-recurrent", "dx made of dc, with the reset gate in it",
        "dx = da W_ih",
        "gru: d.h[b,t,k] = up.d.c[b,t,j] up.W_ih[j,k] + z[b,t+1,k] d.h[b,t+1,k] + d.c[b,t+1,j] W_hh[j,k]
         gru: d.x[b,t,e] = d.c[b,t,j] W_ih[j,e]";
    "initial-state-gradient-dropped", "no gradient for the first state",
        "carry dh down to h₀",
        "gru: d.h0[b,k] = 0 start[t] d.h[b,t,k]";
    "gradient-at-padded-end", "the gradient put in at the padded end, where shorter rows have no state",
        "put each row's gradient in at its own last token",
        "gru: d.h[b,t,k] = full_end[b,t] d.last[b,k] + z[b,t+1,k] d.h[b,t+1,k] + d.c[b,t+1,j] W_hh[j,k]";
    "weight-gradient-last-step", "weight gradients of one time step alone, overwritten by the next",
        "accumulate over the steps: dW +=, db +=",
        "gru: d.W_ih[j,e] = start[t] d.a[b,t,j] x[b,t,e]
         gru: d.W_hh[j,k] = start[t] d.c[b,t,j] h[b,t-1,k]
         gru: d.b_ih[j] = start[t] d.a[b,t,j]
         gru: d.b_hh[j] = start[t] d.c[b,t,j]";
    "weight-gradient-averaged", "the GRU's weight gradients divided by the batch size",
        "add over the batch and do not divide",
        "gru: d.W_ih[j,e] = per_row[b] d.a[b,t,j] x[b,t,e]
         gru: d.W_hh[j,k] = per_row[b] d.c[b,t,j] h[b,t-1,k]
         gru: d.b_ih[j] = per_row[b] d.a[b,t,j]
         gru: d.b_hh[j] = per_row[b] d.c[b,t,j]";

    // Projections
    "fc-bias-dropped", "img_enc.fc without its bias",
        "y = x Wᵀ + b",
        "linear image: y[n,o] = x[n,i] W[o,i]
         linear -: y[n,o] = x[n,i] W[o,i]";
    "projection-bias-dropped", "txt_enc.proj without its bias",
        "y = x Wᵀ + b",
        "linear caption: y[n,o] = x[n,i] W[o,i]";
    "projection-by-fc", "txt_enc.proj with the weight of img_enc.fc",
        "each side has a projection of its own",
        "linear caption: y[n,o] = x[n,i] fc.W[o,i] + bias[o]";
    "features-normalised", "image features L2-normalised before img_enc.fc",
        "use precomputed features as they are",
        "linear image: length[n] = √(x[n,i] x[n,i])
         linear image: unit[n,i] = x[n,i] 1/length[n]
         linear image: y[n,o] = unit[n,i] W[o,i] + bias[o]";
    "linear-bias-averaged", "a projection's bias gradient divided by the batch size",
        "db = Σ dy over the batch",
        "linear: d.bias[o] = per_row[n] d.y[n,o]";
    "linear-weight-averaged", "a projection's weight gradient divided by the batch size",
        "dW = dyᵀ x, summed over the batch",
        "linear: d.W[o,i] = per_row[n] d.y[n,o] x[n,i]";
    "linear-backward-by-output", "a projection's gradients from the gradient of the normalised vectors",
        "go back through the normalisation first, then dW = dyᵀ x",
        "abs image: d.x[n,d] = d.y[n,d]
         norm image: d.x[n,d] = d.y[n,d]";

    // Normalisation and absolute value
    "norm-over-columns", "columns normalised instead of rows",
        "every row has norm 1: reduce over the dimension D",
        "norm: column[d] = √(x[n,d] x[n,d])
         norm: y[n,d] = x[n,d] 1/column[d]";
    "norm-l1", "division by the sum of absolute values (L1)",
        "y = x / ‖x‖₂",
        "norm: norm[n] = |x|[n,d]";
    "norm-max", "division by the largest absolute value",
        "y = x / ‖x‖₂",
        "norm: top_d[n] = argmax(|x|[n,d])
         norm: is_top[n,top_d(n)] = 0 x[n,d] + 1
         norm: norm[n] = is_top[n,d] |x|[n,d]";
    "norm-squared", "division by the squared norm (the root is missing)",
        "y = x / ‖x‖₂",
        "norm: norm[n] = x[n,d] x[n,d]";
    "norm-skipped", "vectors that are not normalised",
        "y = x / ‖x‖₂ on both sides (image side: unless no_imgnorm)",
        "norm: y[n,d] = x[n,d]";
    "image-norm-skipped", "an image side that is not normalised",
        "normalise the images unless no_imgnorm",
        "norm image: y[n,d] = x[n,d]";
    "caption-norm-skipped", "a caption side that is not normalised",
        "captions are always normalised",
        "norm caption: y[n,d] = x[n,d]";
    "image-norm-forced", "an image side that is normalised in spite of no_imgnorm",
        "with no_imgnorm use the projection as it is",
        "same image: length[n] = √(x[n,d] x[n,d])
         same image: y[n,d] = x[n,d] 1/length[n]";
    "norm-plus-1e-8", "y = x / (‖x‖ + 1e-8)",
        "there is no epsilon: y = x / ‖x‖",
        "norm: longer[n] = norm[n] + 1e-8
         norm: y[n,d] = x[n,d] 1/longer[n]";
    "norm-plus-1e-6", "y = x / (‖x‖ + 1e-6)",
        "there is no epsilon: y = x / ‖x‖",
        "norm: longer[n] = norm[n] + 1e-6
         norm: y[n,d] = x[n,d] 1/longer[n]";
    "norm-plus-1e-5", "y = x / (‖x‖ + 1e-5)",
        "there is no epsilon: y = x / ‖x‖",
        "norm: longer[n] = norm[n] + 1e-5
         norm: y[n,d] = x[n,d] 1/longer[n]";
    "norm-at-least-1e-12", "y = x / max(‖x‖, 1e-12) (torch.nn.functional.normalize)",
        "there is no epsilon: divide by x.norm(dim=1, keepdim=True)",
        "norm: more[n] = relu(norm[n] - 1e-12)
         norm: bounded[n] = more[n] + 1e-12
         norm: y[n,d] = x[n,d] 1/bounded[n]";
    "norm-at-least-1e-8", "y = x / max(‖x‖, 1e-8)",
        "there is no epsilon: y = x / ‖x‖",
        "norm: more[n] = relu(norm[n] - 1e-8)
         norm: bounded[n] = more[n] + 1e-8
         norm: y[n,d] = x[n,d] 1/bounded[n]";
    "norm-root-1e-12", "y = x / √(Σ x² + 1e-12)",
        "there is no epsilon: y = x / ‖x‖",
        "norm: norm[n] = √(x[n,d] x[n,d] + 1e-12)";
    "norm-root-1e-8", "y = x / √(Σ x² + 1e-8)",
        "there is no epsilon: y = x / ‖x‖",
        "norm: norm[n] = √(x[n,d] x[n,d] + 1e-8)";
    "norm-root-1e-6", "y = x / √(Σ x² + 1e-6)",
        "there is no epsilon: y = x / ‖x‖",
        "norm: norm[n] = √(x[n,d] x[n,d] + 1e-6)";
    "norm-root-1e-5", "y = x / √(Σ x² + 1e-5)",
        "there is no epsilon: y = x / ‖x‖",
        "norm: norm[n] = √(x[n,d] x[n,d] + 1e-5)";
    "norm-backward-without-projection", "dx = dy / ‖x‖, without the part along the row (the norm detached)",
        "dx = (dy − y (y · dy)) / ‖x‖",
        "norm: d.x[n,d] = d.y[n,d] 1/norm[n]";
    "norm-backward-without-division", "dx = dy − y (y · dy), not divided by the norm",
        "dx = (dy − y (y · dy)) / ‖x‖",
        "norm: d.x[n,d] = d.y[n,d] - y[n,d] along[n]";
    "norm-backward-by-input", "dx = (dy − x (x · dy)) / ‖x‖, with x instead of y",
        "dx = (dy − y (y · dy)) / ‖x‖",
        "norm: by_input[n] = x[n,d] d.y[n,d]
         norm: d.x[n,d] = d.y[n,d] 1/norm[n] - x[n,d] by_input[n] 1/norm[n]";
    "norm-backward-squared", "dx divided by ‖x‖²",
        "dx = (dy − y (y · dy)) / ‖x‖",
        "norm: d.x[n,d] = d.y[n,d] 1/norm[n] 1/norm[n] - y[n,d] along[n] 1/norm[n] 1/norm[n]";
    "norm-backward-skipped", "dx = dy, the normalisation left out of the backward pass",
        "dx = (dy − y (y · dy)) / ‖x‖",
        "norm: d.x[n,d] = d.y[n,d]";
    "abs-dropped", "embeddings without the absolute value of use_abs",
        "with use_abs: |y| on both sides, after the normalisation",
        "abs: y[n,d] = x[n,d]";
    "abs-images-alone", "absolute values on the image side alone",
        "with use_abs: |y| on both sides",
        "abs caption: y[n,d] = x[n,d]";
    "abs-captions-alone", "absolute values on the caption side alone",
        "with use_abs: |y| on both sides",
        "abs image: y[n,d] = x[n,d]";
    "abs-relu", "max(0, y) instead of |y|",
        "with use_abs: |y| on both sides",
        "abs: y[n,d] = relu(x[n,d])";
    "abs-forced", "absolute values without use_abs",
        "|y| only with use_abs",
        "norm to embedding: unit[n,d] = x[n,d] 1/norm[n]
         norm to embedding: y[n,d] = |unit|[n,d]
         norm to embedding: along[n] = unit[n,d] d.y[n,d]
         norm to embedding: d.x[n,d] = d.y[n,d] 1/norm[n] - unit[n,d] along[n] 1/norm[n]
         same to embedding: y[n,d] = |x|[n,d]";
    "abs-backward-sign", "dx = dy, without the sign of the absolute value",
        "dx = sign(x) dy",
        "abs: d.x[n,d] = d.y[n,d]";

    // Scores
    "scores-transposed", "the score matrix transposed",
        "rows are images, columns are captions: S = F Gᵀ",
        "cosine: s[i,j] = f[j,d] g[i,d]
         order: s[i,j] = -√(v[j,i,d] v[j,i,d])
         order-squared: s[i,j] = - v[j,i,d] v[j,i,d]";
    "scores-halved", "scores divided by √D",
        "s = f · g, with no scale",
        "cosine: s[i,j] = per_root_of_D[] f[i,d] g[j,d]";
    "order-reversed", "the order violation max(0, f − g), the wrong way round",
        "v = max(0, g − f): captions above their images",
        "order: v[i,j,d] = relu(f[i,d] - g[j,d])
         order-squared: v[i,j,d] = relu(f[i,d] - g[j,d])";
    "order-absolute", "the distance ‖g − f‖, without max(0, ·)",
        "v = max(0, g − f)",
        "order: v[i,j,d] = g[j,d] - f[i,d]
         order-squared: v[i,j,d] = g[j,d] - f[i,d]";
    "order-root-missing", "the squared order violation where the root is asked for",
        "measure = order: s = −‖v‖₂, with the root",
        "order: s[i,j] = - v[i,j,d] v[i,j,d]";
    "order-root-extra", "the root of the order violation where the square is asked for",
        "measure = order-squared: s = −‖v‖₂², without the root",
        "order-squared: s[i,j] = -√(v[i,j,d] v[i,j,d])";
    "order-sign", "an order violation with a positive sign",
        "s = −‖v‖: a violation lowers the score",
        "order: s[i,j] = √(v[i,j,d] v[i,j,d])
         order-squared: s[i,j] = v[i,j,d] v[i,j,d]";
    "measure-ignored", "inner products instead of the order similarity",
        "use the measure of the config",
        "order: s[i,j] = f[i,d] g[j,d]
         order-squared: s[i,j] = f[i,d] g[j,d]";
    "score-gradient-transposed", "dF = dSᵀ G and dG = dS F",
        "dF = dS G, dG = dSᵀ F",
        "cosine: d.f[i,d] = d.s[j,i] g[j,d]
         cosine: d.g[j,d] = d.s[j,i] f[i,d]";
    "order-gradient-halved", "an order-squared gradient without its factor 2",
        "dg −= 2 dS v, df += 2 dS v",
        "order-squared: d.f[i,d] = d.s[i,j] v[i,j,d]
         order-squared: d.g[j,d] = - d.s[i,j] v[i,j,d]";
    "order-gradient-without-root", "an order gradient that is not divided by the norm",
        "dg += dS v / s, df −= dS v / s",
        "order: d.f[i,d] = d.s[i,j] v[i,j,d]
         order: d.g[j,d] = - d.s[i,j] v[i,j,d]";
    "order-gradient-images-dropped", "no order gradient for the images",
        "df −= dS v / s",
        "order: d.f[i,d] = 0 d.s[i,j] v[i,j,d]
         order-squared: d.f[i,d] = 0 d.s[i,j] v[i,j,d]";

    // Losses
    "mean-over-batch", "the loss divided by B",
        "sum over the batch, not the mean: clipping depends on it",
        "loss: loss[] = per_pair[] cost_s[i,j] active_s[i,j] + per_pair[] cost_im[i,j] active_im[i,j]
         log-sum-exp: loss[] = per_pair[] value_s[i] + per_pair[] value_im[j]";
    "mean-over-pairs", "the loss divided by B²",
        "sum over all pairs, not the mean",
        "loss: loss[] = per_pair[] per_pair[] cost_s[i,j] active_s[i,j] + per_pair[] per_pair[] cost_im[i,j] active_im[i,j]";
    "half-loss", "half of the loss (the mean of both directions)",
        "add both directions",
        "loss: loss[] = 0.5 cost_s[i,j] active_s[i,j] + 0.5 cost_im[i,j] active_im[i,j]
         log-sum-exp: loss[] = 0.5 value_s[i] + 0.5 value_im[j]";
    "caption-side-only", "the hinges along the rows alone (caption retrieval)",
        "add both directions: rows and columns",
        "loss: loss[] = cost_s[i,j] active_s[i,j]
         log-sum-exp: loss[] = value_s[i]";
    "image-side-only", "the hinges along the columns alone (image retrieval)",
        "add both directions: rows and columns",
        "loss: loss[] = cost_im[i,j] active_im[i,j]
         log-sum-exp: loss[] = value_im[j]";
    "diagonal-included", "hinges that include the diagonal, where each is α",
        "leave out i = j",
        "loss: cost_s[i,j] = wrong[i,j] hinge_s[i,j] + eye[i,j] hinge_s[i,j]
         loss: cost_im[i,j] = wrong[i,j] hinge_im[i,j] + eye[i,j] hinge_im[i,j]";
    "diagonal-swapped", "S_ij compared with d_j along the row and with d_i along the column",
        "cost_s[i, j] = [α + S_ij − d_i]₊, cost_im[i, j] = [α + S_ij − d_j]₊",
        "loss: hinge_s[i,j] = relu(margin[] + s[i,j] - s[j,j])
         loss: hinge_im[i,j] = relu(margin[] + s[i,j] - s[i,i])";
    "max-along-wrong-axis", "the hardest negatives taken along the wrong axis",
        "Σ_i max_j cost_s[i, j] + Σ_j max_i cost_im[i, j]",
        "max: hardest_s[j] = argmax(cost_s[i,j])
         max: hardest_im[i] = argmax(cost_im[i,j])
         max: active_s[hardest_s(j),j] = 1
         max: active_im[i,hardest_im(i)] = 1";
    "margin-sign", "hinges with −α",
        "[α + S_ij − d]₊",
        "loss: hinge_s[i,j] = relu(- margin[] + s[i,j] - s[i,i])
         loss: hinge_im[i,j] = relu(- margin[] + s[i,j] - s[j,j])
         log-sum-exp: raw_s[i,j] = - margin[] + s[i,j] - s[i,i]
         log-sum-exp: raw_im[i,j] = - margin[] + s[i,j] - s[j,j]";
    "margin-dropped", "hinges without margin",
        "[α + S_ij − d]₊",
        "loss: hinge_s[i,j] = relu(s[i,j] - s[i,i])
         loss: hinge_im[i,j] = relu(s[i,j] - s[j,j])
         log-sum-exp: raw_s[i,j] = s[i,j] - s[i,i]
         log-sum-exp: raw_im[i,j] = s[i,j] - s[j,j]";
    "hinge-sign", "hinges with S and d exchanged",
        "[α + S_ij − d]₊: a wrong pair's score is added, the right pair's subtracted",
        "loss: hinge_s[i,j] = relu(margin[] + s[i,i] - s[i,j])
         loss: hinge_im[i,j] = relu(margin[] + s[j,j] - s[i,j])";
    "squared-hinge", "squared hinges",
        "[·]₊, not its square",
        "loss: cost_s[i,j] = wrong[i,j] hinge_s[i,j] hinge_s[i,j]
         loss: cost_im[i,j] = wrong[i,j] hinge_im[i,j] hinge_im[i,j]";
    "no-hinge", "α + S_ij − d without the hinge",
        "negative terms count as 0",
        "loss: hinge_s[i,j] = margin[] + s[i,j] - s[i,i]
         sum: active_s[i,j] = wrong[i,j]
         max: lifted_s[i,j] = cost_s[i,j] + 1000 wrong[i,j]
         max: hardest_s[i] = argmax(lifted_s[i,j])
         loss: hinge_im[i,j] = margin[] + s[i,j] - s[j,j]
         sum: active_im[i,j] = wrong[i,j]
         max: lifted_im[i,j] = cost_im[i,j] + 1000 wrong[i,j]
         max: hardest_im[j] = argmax(lifted_im[i,j])";
    "softplus", "log(1 + eˣ) instead of the hinge",
        "[x]₊ = max(0, x)",
        "loss: raw_s[i,j] = margin[] + s[i,j] - s[i,i]
         loss: hinge_s[i,j] = log(1+exp(raw_s))[i,j]
         loss: raw_im[i,j] = margin[] + s[i,j] - s[j,j]
         loss: hinge_im[i,j] = log(1+exp(raw_im))[i,j]";
    "sum-for-max", "the sum of hinges (SH) where the maximum is asked for",
        "max_violation: only the hardest negative of each query",
        "max: active_s[i,j] = [cost_s>0][i,j]
         max: active_im[i,j] = [cost_im>0][i,j]";
    "max-for-sum", "the hardest negatives (MH) where the sum is asked for",
        "without max_violation all negatives count",
        "sum: winner_j[i] = argmax(cost_s[i,j])
         sum: active_s[i,winner_j(i)] = 1
         sum: winner_i[j] = argmax(cost_im[i,j])
         sum: active_im[winner_i(j),j] = 1";
    "batch-hardest", "one hardest negative for the whole batch",
        "one for each row and one for each column",
        "max: own_s[i,hardest_s(i)] = 0 cost_s[i,j] + 1
         max: most_s[i] = own_s[i,j] cost_s[i,j]
         max: top_i[] = argmax(most_s[i])
         max: chosen_s[top_i()] = 0 most_s[i] + 1
         max: active_s[i,j] = chosen_s[i] own_s[i,j]
         max: own_im[hardest_im(j),j] = 0 cost_im[i,j] + 1
         max: most_im[j] = own_im[i,j] cost_im[i,j]
         max: top_j[] = argmax(most_im[j])
         max: chosen_im[top_j()] = 0 most_im[j] + 1
         max: active_im[i,j] = chosen_im[j] own_im[i,j]";
    "semi-hard", "the hardest among the negatives that score below the right pair",
        "the hardest of all negatives",
        "max: room_s[i,j] = s[i,i] - s[i,j]
         max: below_s[i,j] = [room_s>0][i,j] cost_s[i,j]
         max: hardest_s[i] = argmax(below_s[i,j])
         max: room_im[i,j] = s[j,j] - s[i,j]
         max: below_im[i,j] = [room_im>0][i,j] cost_im[i,j]
         max: hardest_im[j] = argmax(below_im[i,j])
         sum: room_s[i,j] = s[i,i] - s[i,j]
         sum: below_s[i,j] = [room_s>0][i,j] cost_s[i,j]
         sum: active_s[i,j] = [below_s>0][i,j]
         sum: room_im[i,j] = s[j,j] - s[i,j]
         sum: below_im[i,j] = [room_im>0][i,j] cost_im[i,j]
         sum: active_im[i,j] = [below_im>0][i,j]";
    "hardest-one-more", "the k + 1 hardest negatives where k are asked for",
        "a negative counts if fewer than k are harder",
        "hardest: room_s[i,j] = most[] + 1 - rank_s[i,j]
         hardest: room_im[i,j] = most[] + 1 - rank_im[i,j]";
    "hardest-one-alone", "the hardest negative alone where the k hardest are asked for",
        "hardest = k: the k hardest of each query",
        "hardest: room_s[i,j] = 1 - rank_s[i,j]
         hardest: room_im[i,j] = 1 - rank_im[i,j]";
    "hardest-averaged", "the mean of the k hardest negatives",
        "add them: a sum, not a mean",
        "loss: loss[] = 1/most[] cost_s[i,j] active_s[i,j] + 1/most[] cost_im[i,j] active_im[i,j]";
    "log-sum-exp-not-scaled", "ln Σ exp(cost / τ) without τ before it",
        "τ ln Σ exp(cost / τ)",
        "log-sum-exp: value_s[i] = relu(log_s[i])
         log-sum-exp: value_im[j] = relu(log_im[j])";
    "log-mean-exp", "the mean of exp(cost / τ) in the place of the sum",
        "τ ln Σ exp(cost / τ): not divided by the number of negatives",
        "log-sum-exp: count_s[i] = wrong[i,j]
         log-sum-exp: mean_s[i] = sum_s[i] [count_s≠0]/count_s[i]
         log-sum-exp: log_s[i] = ln(mean_s)[i] + most_s[i]
         log-sum-exp: count_im[j] = wrong[i,j]
         log-sum-exp: mean_im[j] = sum_im[j] [count_im≠0]/count_im[j]
         log-sum-exp: log_im[j] = ln(mean_im)[j] + most_im[j]";
    "log-sum-exp-of-hinges", "the log-sum-exp of hinges, where each easy negative counts as 0",
        "the costs α + S − d go into exp as they are, negative ones too: one hinge for each query, after ln",
        "log-sum-exp: scaled_s[i,j] = relu(raw_s)[i,j] 1/temperature[]
         log-sum-exp: scaled_im[i,j] = relu(raw_im)[i,j] 1/temperature[]";
    "log-sum-exp-with-one", "τ ln(1 + Σ exp(cost / τ)), as in a softmax with the right pair in its denominator",
        "the negatives alone: τ ln Σ exp(cost / τ)",
        "log-sum-exp: minus_s[i] = - most_s[i]
         log-sum-exp: sum_s[i] = wrong[i,j] exp(shifted_s)[i,j] + exp(minus_s)[i]
         log-sum-exp: minus_im[j] = - most_im[j]
         log-sum-exp: sum_im[j] = wrong[i,j] exp(shifted_im)[i,j] + exp(minus_im)[j]";
    "log-sum-exp-without-hinge", "a log-sum-exp that may be negative",
        "[τ ln Σ exp(cost / τ)]₊: a query below 0 counts as 0",
        "log-sum-exp: value_s[i] = temperature[] log_s[i]
         log-sum-exp: active_s[i,j] = wrong[i,j] exp(shifted_s)[i,j] [sum_s≠0]/sum_s[i]
         log-sum-exp: value_im[j] = temperature[] log_im[j]
         log-sum-exp: active_im[i,j] = wrong[i,j] exp(shifted_im)[i,j] [sum_im≠0]/sum_im[j]";
    "hardest-of-matrix", "the B k hardest pairs of the whole batch where each query has its own k",
        "rank within each row, and within each column",
        "hardest: beyond_s[i,j,k,l] = cost_s[k,l] - cost_s[i,j]
         hardest: rank_s[i,j] = [beyond_s>0][i,j,k,l]
         hardest: room_s[i,j] = most[] 1/per_pair[] - rank_s[i,j]
         hardest: beyond_im[i,j,k,l] = cost_im[k,l] - cost_im[i,j]
         hardest: rank_im[i,j] = [beyond_im>0][i,j,k,l]
         hardest: room_im[i,j] = most[] 1/per_pair[] - rank_im[i,j]";
    "semi-hard-ignored", "the hardest of all negatives where semi-hard ones are asked for",
        "semi_hard: only negatives that score below the right pair",
        "semi-hard: cost_s[i,j] = wrong[i,j] hinge_s[i,j]
         semi-hard: cost_im[i,j] = wrong[i,j] hinge_im[i,j]";
    "semi-hard-at-most", "negatives that score as high as the right pair taken as semi-hard (≤ instead of <)",
        "strictly below: S_ij < d",
        "semi-hard: cost_s[i,j] = wrong[i,j] [gap_s≥0][i,j] hinge_s[i,j]
         semi-hard: cost_im[i,j] = wrong[i,j] [gap_im≥0][i,j] hinge_im[i,j]";
    "semi-hard-else-hardest", "the hardest of all negatives for a query without a semi-hard one",
        "a query without a negative below its right pair has no term",
        "semi-hard: below_s[i] = wrong[i,j] [gap_s>0][i,j]
         semi-hard: any_s[i] = [below_s>0][i]
         semi-hard: cost_s[i,j] = wrong[i,j] [gap_s>0][i,j] hinge_s[i,j] + (1-any_s)[i] wrong[i,j] hinge_s[i,j]
         semi-hard: below_im[j] = wrong[i,j] [gap_im>0][i,j]
         semi-hard: any_im[j] = [below_im>0][j]
         semi-hard: cost_im[i,j] = wrong[i,j] [gap_im>0][i,j] hinge_im[i,j] + (1-any_im)[j] wrong[i,j] hinge_im[i,j]";
    "semi-hard-else-easiest", "the lowest-scoring negative for a query without a semi-hard one (TensorFlow Addons)",
        "a query without a negative below its right pair has no term",
        "semi-hard: below_s[i] = wrong[i,j] [gap_s>0][i,j]
         semi-hard: any_s[i] = [below_s>0][i]
         semi-hard: lowest_j[i] = argmax(wrong[i,j] gap_s[i,j])
         semi-hard: low_s[i,lowest_j(i)] = 1
         semi-hard: cost_s[i,j] = wrong[i,j] [gap_s>0][i,j] hinge_s[i,j] + (1-any_s)[i] low_s[i,j] hinge_s[i,j]
         semi-hard: below_im[j] = wrong[i,j] [gap_im>0][i,j]
         semi-hard: any_im[j] = [below_im>0][j]
         semi-hard: lowest_i[j] = argmax(wrong[i,j] gap_im[i,j])
         semi-hard: low_im[lowest_i(j),j] = 1
         semi-hard: cost_im[i,j] = wrong[i,j] [gap_im>0][i,j] hinge_im[i,j] + (1-any_im)[j] low_im[i,j] hinge_im[i,j]";
    "mask-ignored", "captions of one image counted as negatives in spite of mask_same_image",
        "leave out the pairs with equal image_ids, in both directions",
        "loss: cost_s[i,j] = off_diagonal[i,j] hinge_s[i,j]
         loss: cost_im[i,j] = off_diagonal[i,j] hinge_im[i,j]
         semi-hard: cost_s[i,j] = off_diagonal[i,j] [gap_s>0][i,j] hinge_s[i,j]
         semi-hard: cost_im[i,j] = off_diagonal[i,j] [gap_im>0][i,j] hinge_im[i,j]
         log-sum-exp: cost_s[i,j] = off_diagonal[i,j] relu(raw_s)[i,j]
         log-sum-exp: cost_im[i,j] = off_diagonal[i,j] relu(raw_im)[i,j]
         log-sum-exp: first_j[i] = argmax(off_diagonal[i,j] scaled_s[i,j])
         log-sum-exp: first_i[j] = argmax(off_diagonal[i,j] scaled_im[i,j])
         log-sum-exp: sum_s[i] = off_diagonal[i,j] exp(shifted_s)[i,j]
         log-sum-exp: sum_im[j] = off_diagonal[i,j] exp(shifted_im)[i,j]
         log-sum-exp: active_s[i,j] = [value_s>0][i] off_diagonal[i,j] exp(shifted_s)[i,j] [sum_s≠0]/sum_s[i]
         log-sum-exp: active_im[i,j] = [value_im>0][j] off_diagonal[i,j] exp(shifted_im)[i,j] [sum_im≠0]/sum_im[j]";
    "mask-caption-side-only", "mask_same_image applied along the rows alone",
        "leave out the pairs with equal image_ids, in both directions",
        "loss: cost_im[i,j] = off_diagonal[i,j] hinge_im[i,j]";
    "kink-active", "a gradient at hinges that are exactly 0 (≥ instead of >)",
        "a term counts only if it is > 0",
        "max: raw_s[i,j] = margin[] + s[i,j] - s[i,i]
         max: lifted_s[i,j] = wrong[i,j] [raw_s≥0][i,j] cost_s[i,j] + wrong[i,j] [raw_s≥0][i,j]
         max: hardest_s[i] = argmax(lifted_s[i,j])
         max: raw_im[i,j] = margin[] + s[i,j] - s[j,j]
         max: lifted_im[i,j] = wrong[i,j] [raw_im≥0][i,j] cost_im[i,j] + wrong[i,j] [raw_im≥0][i,j]
         max: hardest_im[j] = argmax(lifted_im[i,j])
         sum: raw_s[i,j] = margin[] + s[i,j] - s[i,i]
         sum: active_s[i,j] = wrong[i,j] [raw_s≥0][i,j]
         sum: raw_im[i,j] = margin[] + s[i,j] - s[j,j]
         sum: active_im[i,j] = wrong[i,j] [raw_im≥0][i,j]";
    "tie-all", "the whole gradient given to each of equally hard negatives",
        "one winner, or shares that add up to 1",
        "max: own_s[i,hardest_s(i)] = 0 cost_s[i,j] + 1
         max: most_s[i] = own_s[i,j] cost_s[i,j]
         max: behind_s[i,j] = cost_s[i,j] - most_s[i]
         max: active_s[i,j] = [behind_s≥0][i,j] [cost_s>0][i,j]
         max: own_im[hardest_im(j),j] = 0 cost_im[i,j] + 1
         max: most_im[j] = own_im[i,j] cost_im[i,j]
         max: behind_im[i,j] = cost_im[i,j] - most_im[j]
         max: active_im[i,j] = [behind_im≥0][i,j] [cost_im>0][i,j]";
    "positive-detached", "no gradient for the right pairs (the diagonal detached)",
        "each term that counts adds −1 at its right pair",
        "loss: d.s[i,j] = active_s[i,j] + active_im[i,j]";
    "negative-detached", "no gradient for the wrong pairs",
        "each term that counts adds +1 at its own place",
        "loss: d.s[i,j] = - eye[i,j] active_s[i,k] - eye[i,j] active_im[k,j]";
    "gradient-rows-only", "a gradient of the hinges along the rows alone",
        "both directions have a gradient",
        "loss: d.s[i,j] = active_s[i,j] - eye[i,j] active_s[i,k]";
    "gradient-columns-only", "a gradient of the hinges along the columns alone",
        "both directions have a gradient",
        "loss: d.s[i,j] = active_im[i,j] - eye[i,j] active_im[k,j]";
    "diagonal-gradient-swapped", "−1 put at the other term's right pair (j for rows, i for columns)",
        "a term of row i adds −1 at (i, i), a term of column j at (j, j)",
        "loss: d.s[i,j] = active_s[i,j] + active_im[i,j] - eye[i,j] active_s[k,j] - eye[i,j] active_im[i,k]";

    // Clipping and Adam
    "clip-dropped", "an optimiser without clipping",
        "g ← g · max_norm / (norm + 1e-6) where that is < 1",
        "clip: clip[s] = ones[s]";
    "clip-per-tensor", "every tensor clipped by its own norm",
        "one norm over all parameters together",
        "adam: own_norm[u] = √(g[u,x] g[u,x])
         adam: own_ratio[u] = limit[] 1/(own_norm+1e-6)[u]
         adam: own_clip[u] = min1(own_ratio[u])
         adam: m_all[u,x] = beta1[] m_all[u-1,x] + (1-beta1)[] own_clip[u] g[u,x]
         adam: v_all[u,x] = beta2[] v_all[u-1,x] + (1-beta2)[] own_clip[u] g[u,x] own_clip[u] g[u,x]";
    "clip-without-epsilon", "a clipping coefficient without 1e-6",
        "max_norm / (norm + 1e-6)",
        "clip: ratio[s] = limit[] 1/norms[s]";
    "clip-epsilon-always", "limit / (limit + 1e-6) where nothing is clipped: limit / (max(norm, limit) + 1e-6)",
        "the coefficient is 1 where the norm is below the limit",
        "clip: more[s] = relu(norms[s] - limit[])
         clip: larger[s] = more[s] + limit[]
         clip: clip[s] = limit[] 1/(larger+1e-6)[s]";
    "clip-by-value", "every element clipped to ± max_norm",
        "scale the whole gradient by one coefficient",
        "clip: clip[s] = ones[s]
         adam: over[u,x] = relu(g[u,x] - limit[])
         adam: under[u,x] = relu(- g[u,x] - limit[])
         adam: cut[u,x] = g[u,x] - over[u,x] + under[u,x]
         adam: m_all[u,x] = beta1[] m_all[u-1,x] + (1-beta1)[] cut[u,x]
         adam: v_all[u,x] = beta2[] v_all[u-1,x] + (1-beta2)[] cut[u,x] cut[u,x]";
    "clip-always", "gradients scaled up to the limit too",
        "the coefficient acts only where it is < 1",
        "clip: clip[s] = ratio[s]";
    "clip-sum-of-norms", "the sum of the tensors' norms as the global norm",
        "norm = √(Σ over all tensors of ‖g‖²)",
        "clip: squares[s,part_p(x)] = all[s,x] all[s,x] + 0 parts[p]
         clip: root_of[s,p] = √(squares[s,p])
         clip: norms[s] = root_of[s,p]";
    "clip-largest", "the largest element as the norm",
        "norm = √(Σ over all tensors of ‖g‖²)",
        "clip: top_x[s] = argmax(|all|[s,x])
         clip: is_top[s,top_x(s)] = 0 all[s,x] + 1
         clip: norms[s] = is_top[s,x] |all|[s,x]";
    "adam-no-bias-correction", "Adam without bias correction",
        "m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ)",
        "adam: v_hat[u,x] = v_all[u,x]
         adam: p[x] = p0[x] - rate[] m_all[u,x] 1/root[u,x]";
    "adam-no-first-correction", "Adam without the correction of m",
        "m̂ = m / (1 − β₁ᵗ)",
        "adam: p[x] = p0[x] - rate[] m_all[u,x] 1/root[u,x]";
    "adam-no-second-correction", "Adam without the correction of v",
        "v̂ = v / (1 − β₂ᵗ)",
        "adam: v_hat[u,x] = v_all[u,x]";
    "adam-epsilon-inside-root", "√(v̂ + ε) instead of √v̂ + ε",
        "add ε outside the root",
        "adam: root[u,x] = √(v_hat[u,x] + 1e-8)";
    "adam-epsilon-before-correction", "ε added to √v before the bias correction (the paper's ε-hat; TensorFlow 1)",
        "√v̂ + ε, with v̂ = v / (1 − β₂ᵗ)",
        "adam: root[u,x] = √ε(v_all)[u,x] √(correct_v)[u]";
    "adam-epsilon-dropped", "Adam without ε",
        "√v̂ + ε, ε = 1e-8",
        "adam: root[u,x] = √(v_hat[u,x])";
    "adam-epsilon-1e-7", "ε = 1e-7 (Keras)",
        "ε = 1e-8",
        "adam: bare[u,x] = √(v_hat[u,x])
         adam: root[u,x] = bare[u,x] + 1e-7";
    "adam-epsilon-1e-6", "ε = 1e-6",
        "ε = 1e-8",
        "adam: bare[u,x] = √(v_hat[u,x])
         adam: root[u,x] = bare[u,x] + 1e-6";
    "adam-beta2-0.99", "β₂ = 0.99",
        "β₂ = 0.999",
        "adam: v_all[u,x] = beta_99[] v_all[u-1,x] + (1-beta_99)[] clip[u] clip[u] g[u,x] g[u,x]
         adam: v_hat[u,x] = v_all[u,x] correct_99[u]";
    "adam-betas-swapped", "β₁ and β₂ exchanged",
        "β₁ = 0.9 for m, β₂ = 0.999 for v",
        "adam: m_all[u,x] = beta2[] m_all[u-1,x] + (1-beta2)[] clip[u] g[u,x]
         adam: v_all[u,x] = beta1[] v_all[u-1,x] + (1-beta1)[] clip[u] clip[u] g[u,x] g[u,x]
         adam: v_hat[u,x] = v_all[u,x] correct_m[u]
         adam: p[x] = p0[x] - rate[] m_all[u,x] correct_v[u] 1/root[u,x]";
    "adam-step-stale", "a bias correction that always has t = 1",
        "count t up with every step",
        "adam: v_hat[u,x] = v_all[u,x] stale_v[u]
         adam: p[x] = p0[x] - rate[] m_all[u,x] stale_m[u] 1/root[u,x]";
    "adam-step-ahead", "a step count t that is one ahead",
        "t = 1 in the first step",
        "adam: v_hat[u,x] = v_all[u,x] ahead_v[u]
         adam: p[x] = p0[x] - rate[] m_all[u,x] ahead_m[u] 1/root[u,x]";
    "adam-step-late", "a step count t = 1, 1, 2, 3, …",
        "t is 2 in the second step",
        "adam: v_hat[u,x] = v_all[u,x] late_v[u]
         adam: p[x] = p0[x] - rate[] m_all[u,x] late_m[u] 1/root[u,x]";
    "adam-state-forgotten", "moments and step that start anew",
        "continue with the given moments and step",
        "adam: m_new[u,x] = beta1[] m_new[u-1,x] + (1-beta1)[] clip[u] g[u,x]
         adam: v_new[u,x] = beta2[] v_new[u-1,x] + (1-beta2)[] clip[u] clip[u] g[u,x] g[u,x]
         adam: m[x] = final[u] m_new[u,x]
         adam: v[x] = final[u] v_new[u,x]
         adam: v_hat[u,x] = v_new[u,x] fresh_v[u]
         adam: p[x] = p0[x] - rate[] m_new[u,x] fresh_m[u] 1/root[u,x]";
    "adam-weight-decay", "an L2 penalty of 0.01 in the gradient",
        "no weight decay",
        "adam: decayed[u,x] = clip[u] g[u,x] + 0.01 q[u-1,x]
         adam: m_all[u,x] = beta1[] m_all[u-1,x] + (1-beta1)[] decayed[u,x]
         adam: v_all[u,x] = beta2[] v_all[u-1,x] + (1-beta2)[] decayed[u,x] decayed[u,x]
         adam: q[u,x] = q[u-1,x] - rate[] m_all[u,x] correct_m[u] 1/root[u,x]
         adam: p[x] = final[u] q[u,x]";
    "adamw", "decoupled weight decay of 0.01 (AdamW)",
        "no weight decay",
        "adam: q[u,x] = q[u-1,x] - rate[] m_all[u,x] correct_m[u] 1/root[u,x] - 0.01 rate[] q[u-1,x]
         adam: p[x] = final[u] q[u,x]";
    "adam-sparse", "elements with gradient 0 left as they are",
        "dense: moments decay and parameters move where g = 0 too",
        "adam: side[u,x] = sign(g)[u,x]
         adam: m_all[u,x] = m_all[u-1,x] - 0.1 side[u,x] side[u,x] m_all[u-1,x] + 0.1 clip[u] g[u,x]
         adam: v_all[u,x] = v_all[u-1,x] - 0.001 side[u,x] side[u,x] v_all[u-1,x] + 0.001 clip[u] clip[u] g[u,x] g[u,x]
         adam: q[u,x] = q[u-1,x] - side[u,x] side[u,x] rate[] m_all[u,x] correct_m[u] 1/root[u,x]
         adam: p[x] = final[u] q[u,x]";
    "adam-moments-before", "an update with the moments of the step before",
        "update m and v first, then the parameters",
        "adam: v_hat[u,x] = v_all[u-1,x] correct_v[u]
         adam: p[x] = p0[x] - rate[] m_all[u-1,x] correct_m[u] 1/root[u,x]";
    "adam-second-moment-absolute", "|g| instead of g² in v",
        "v = β₂ v + (1 − β₂) g²",
        "adam: v_all[u,x] = beta2[] v_all[u-1,x] + (1-beta2)[] clip[u] |g|[u,x]";
    "adam-first-moment-not-damped", "m = β₁ m + g",
        "m = β₁ m + (1 − β₁) g",
        "adam: m_all[u,x] = beta1[] m_all[u-1,x] + clip[u] g[u,x]";
    "adam-amsgrad", "AMSGrad: the largest v so far",
        "plain Adam: v as it is",
        "adam: more[u,x] = relu(v_all[u,x] - largest[u-1,x])
         adam: largest[u,x] = largest[u-1,x] + more[u,x]
         adam: v_hat[u,x] = largest[u,x] correct_v[u]";
    "adam-ascent", "steps up the gradient",
        "θ ← θ − lr m̂ / (√v̂ + ε)",
        "adam: p[x] = p0[x] + rate[] m_all[u,x] correct_m[u] 1/root[u,x]";
    "sgd", "plain gradient descent",
        "Adam",
        "adam: m[x] = m_all0[x]
         adam: v[x] = v_all0[x]
         adam: p[x] = p0[x] - rate[] clip[s] g[s,x]";
    "gradient-accumulates", "gradients that are not cleared between steps",
        "clear the gradient before each backward pass",
        "clip: so_far[u,x] = so_far[u-1,x] + all[u,x]
         clip: norms[s] = √(so_far[s,x] so_far[s,x])
         adam: so_far[u,x] = so_far[u-1,x] + g[u,x]
         adam: m_all[u,x] = beta1[] m_all[u-1,x] + (1-beta1)[] clip[u] so_far[u,x]
         adam: v_all[u,x] = beta2[] v_all[u-1,x] + (1-beta2)[] clip[u] so_far[u,x] clip[u] so_far[u,x]";
    "moments-unclipped", "moments of the gradient before clipping",
        "clip first; Adam sees the clipped gradient",
        "adam: m_all[u,x] = beta1[] m_all[u-1,x] + (1-beta1)[] g[u,x]
         adam: v_all[u,x] = beta2[] v_all[u-1,x] + (1-beta2)[] g[u,x] g[u,x]";

    // Pictures: convolution
    "conv-padding-after", "a convolution with all of its padding below and on the right",
        "pad p rows above as well as below, and p columns on each side",
        "conv: y[n,o,p,q] = x[n,c,row_after(p,u),column_after(q,v)] W[o,c,u,v] + bias[o]";
    "conv-padding-before", "a convolution with all of its padding above and on the left",
        "pad p rows below as well as above, and p columns on each side",
        "conv: y[n,o,p,q] = x[n,c,row_before(p,u),column_before(q,v)] W[o,c,u,v] + bias[o]";
    "conv-padding-same", "a convolution padded as TensorFlow's SAME does, with the odd row below and the odd column on the right",
        "pad p rows and columns on each side, whatever the stride: ZeroPadding2D, then a convolution with padding=\"valid\"",
        "conv: y[n,o,p,q] = x[n,c,row_same(p,u),column_same(q,v)] W[o,c,u,v] + bias[o]";
    "conv-padding-edge", "a convolution that repeats the outermost pixels in the place of zeros",
        "outside the picture x is 0 (padding_mode=\"zeros\")",
        "conv: y[n,o,p,q] = x[n,c,row_clamped(p,u),column_clamped(q,v)] W[o,c,u,v] + bias[o]";
    "conv-padding-wrapped", "a convolution that goes on at the other end of the picture, as a negative index does",
        "outside the picture x is 0: mask what lies there",
        "conv: y[n,o,p,q] = x[n,c,row_wrapped(p,u),column_wrapped(q,v)] W[o,c,u,v] + bias[o]";
    "conv-stride-ignored", "a convolution of stride 1: the first rows and columns of its result",
        "y[i, j] reads x from row s i − p and column s j − p on",
        "conv: y[n,o,p,q] = x[n,c,row_dense(p,u),column_dense(q,v)] W[o,c,u,v] + bias[o]";
    "conv-stride-from-end", "a convolution whose last kernel ends where the padded picture does",
        "the first kernel begins at −p; what is left over is below and on the right",
        "conv: y[n,o,p,q] = x[n,c,row_from_end(p,u),column_from_end(q,v)] W[o,c,u,v] + bias[o]";
    "conv-kernel-flipped", "a kernel that is flipped, as in the convolution of mathematics",
        "the layer is a cross-correlation: y[i] = Σ W[u] x[i + u]",
        "conv: y[n,o,p,q] = x[n,c,row(p,u),column(q,v)] W[o,c,reversed(u),reversed(v)] + bias[o]";
    "conv-kernel-transposed", "a kernel with its rows and columns exchanged",
        "a kernel is [O, C, kh, kw], the rows first",
        "conv: y[n,o,p,q] = x[n,c,row(p,u),column(q,v)] W[o,c,v,u] + bias[o]";
    "conv-inputs-and-outputs-swapped", "a kernel with its inputs and outputs exchanged",
        "a kernel is [O, C, kh, kw]: y sums over the second axis",
        "conv: y[n,o,p,q] = x[n,c,row(p,u),column(q,v)] W[c,o,u,v] + bias[o]";
    "conv-channels-reversed", "the channels of a convolution's input in the opposite order (BGR for RGB)",
        "channels are R, G, B, in the order of the file",
        "conv: y[n,o,p,q] = x[n,reversed(c),row(p,u),column(q,v)] W[o,c,u,v] + bias[o]";
    "bgr", "pictures with their channels in the order B, G, R",
        "channels are R, G, B; OpenCV reads B, G, R",
        "conv conv1: y[n,o,p,q] = x[n,reversed(c),row(p,u),column(q,v)] W[o,c,u,v] + bias[o]
         conv features.0: y[n,o,p,q] = x[n,reversed(c),row(p,u),column(q,v)] W[o,c,u,v] + bias[o]";
    "conv-bias-dropped", "a convolution without its bias",
        "y = conv(x) + b",
        "conv: y[n,o,p,q] = x[n,c,row(p,u),column(q,v)] W[o,c,u,v]";
    "conv-input-gradient-not-turned", "dx of a convolution made with the kernel as it is, not turned by 180°",
        "dx is scattered: dx[s i + u − p] += W[u] dy[i]; as a convolution of dy it needs the turned kernel",
        "conv: d.x[n,c,row(p,u),column(q,v)] = d.y[n,o,p,q] W[o,c,reversed(u),reversed(v)]";
    "conv-input-gradient-stride-ignored", "dx of a convolution put where stride 1 would have it",
        "dx[s i + u − p] += W[u] dy[i]",
        "conv: d.x[n,c,row_dense(p,u),column_dense(q,v)] = d.y[n,o,p,q] W[o,c,u,v]";
    "conv-weight-gradient-flipped", "dW of a convolution flipped",
        "dW[u] += dy[i] x[s i + u − p]",
        "conv: d.W[o,c,reversed(u),reversed(v)] = d.y[n,o,p,q] x[n,c,row(p,u),column(q,v)]";
    "conv-weight-gradient-averaged", "dW and db of a convolution divided by the number of pictures",
        "add over the batch and do not divide",
        "conv: d.W[o,c,u,v] = per_picture[n] d.y[n,o,p,q] x[n,c,row(p,u),column(q,v)]
         conv: d.bias[o] = per_picture[n] d.y[n,o,p,q]";
    "conv-weight-gradient-last-picture", "dW and db of a convolution from the last picture alone, which overwrites the others",
        "accumulate over the batch: dW +=, db +=",
        "conv: d.W[o,c,u,v] = last_picture[n] d.y[n,o,p,q] x[n,c,row(p,u),column(q,v)]
         conv: d.bias[o] = last_picture[n] d.y[n,o,p,q]";

    // Pictures: batch normalisation
    "norm-unbiased-variance", "y normalised with the unbiased variance, Σ (x − μ)² / (M − 1)",
        "y takes the biased variance, / M; only the running variance takes the unbiased one",
        "batch-norm: scaled[c] = unbiased[] var[c]
         batch-norm: deviation[c] = √(scaled[c] + 1e-5)";
    "running-variance-biased", "a running variance that moves towards the biased one",
        "running_var ← 0.9 running_var + 0.1 σ² M / (M − 1)",
        "statistics: running_var[c] = 0.9 old_var[c] + 0.1 var[c]";
    "momentum-reversed", "running statistics that keep 0.1 and take 0.9 (momentum = 0.1 where it is the share that is kept, as in Keras)",
        "running ← 0.9 running + 0.1 batch: Keras' momentum is 1 − PyTorch's",
        "statistics: running_mean[c] = 0.1 old_mean[c] + 0.9 mean[c]
         statistics: running_var[c] = 0.1 old_var[c] + 0.9 unbiased[] var[c]";
    "momentum-0.01", "running statistics that take 0.01 (Keras' momentum = 0.99)",
        "running ← 0.9 running + 0.1 batch",
        "statistics: running_mean[c] = 0.99 old_mean[c] + 0.01 mean[c]
         statistics: running_var[c] = 0.99 old_var[c] + 0.01 unbiased[] var[c]";
    "running-statistics-not-moved", "running statistics that training leaves as they are",
        "running ← 0.9 running + 0.1 batch after every step of training",
        "statistics: running_mean[c] = old_mean[c]
         statistics: running_var[c] = old_var[c]";
    "running-statistics-replaced", "running statistics that are those of the last batch",
        "running ← 0.9 running + 0.1 batch",
        "statistics: running_mean[c] = mean[c]
         statistics: running_var[c] = unbiased[] var[c]";
    "running-deviation", "running statistics with the deviation σ in the place of the variance",
        "running_var moves towards σ² M / (M − 1)",
        "statistics: root[c] = √(unbiased[] var[c])
         statistics: running_var[c] = 0.9 old_var[c] + 0.1 root[c]";
    "norm-running-in-training", "a norm that takes the running statistics in training",
        "training normalises with the mean and variance of the batch",
        "batch-norm: off[n,c,h,w] = x[n,c,h,w] - old_mean[c]
         batch-norm: old_deviation[c] = √(old_var[c] + 1e-5)
         batch-norm: hat[n,c,h,w] = off[n,c,h,w] 1/old_deviation[c]";
    "norm-batch-in-evaluation", "a norm that takes the statistics of the batch in evaluation",
        "evaluation normalises with the running mean and variance: model.eval()",
        "batch-norm: own_mean[c] = per_number[] x[n,c,h,w]
         batch-norm: off[n,c,h,w] = x[n,c,h,w] - own_mean[c]
         batch-norm: own_var[c] = per_number[] off[n,c,h,w] off[n,c,h,w]
         batch-norm: own_deviation[c] = √(own_var[c] + 1e-5)
         batch-norm: hat[n,c,h,w] = off[n,c,h,w] 1/own_deviation[c]";
    "norm-per-picture", "a norm with the statistics of each picture (instance normalisation)",
        "mean and variance are those of a channel over all pictures and pixels",
        "batch-norm: own_mean[n,c] = per_pixel[] x[n,c,h,w]
         batch-norm: off[n,c,h,w] = x[n,c,h,w] - own_mean[n,c]
         batch-norm: own_var[n,c] = per_pixel[] off[n,c,h,w] off[n,c,h,w]
         batch-norm: own_deviation[n,c] = √(own_var[n,c] + 1e-5)
         batch-norm: hat[n,c,h,w] = off[n,c,h,w] 1/own_deviation[n,c]";
    "norm-epsilon-outside-root", "√σ² + ε in the place of √(σ² + ε)",
        "add ε = 1e-5 inside the root",
        "batch-norm: bare[c] = √(var[c])
         batch-norm: deviation[c] = bare[c] + 1e-5";
    "norm-epsilon-dropped", "a batch normalisation without ε",
        "y = γ (x − μ) / √(σ² + ε) + β, ε = 1e-5",
        "batch-norm: deviation[c] = √(var[c])";
    "norm-epsilon-1e-3", "a batch normalisation with ε = 1e-3 (Keras)",
        "ε = 1e-5",
        "batch-norm: deviation[c] = √(var[c] + 1e-3)";
    "norm-divided-by-variance", "a batch normalisation that divides by the variance, not by its root",
        "y = γ (x − μ) / √(σ² + ε) + β",
        "batch-norm: deviation[c] = var[c] + 1e-5";
    "norm-without-mean", "a batch normalisation that does not subtract the mean",
        "y = γ (x − μ) / √(σ² + ε) + β",
        "batch-norm: hat[n,c,h,w] = x[n,c,h,w] 1/deviation[c]";
    "norm-weight-dropped", "a batch normalisation without γ",
        "y = γ x̂ + β",
        "batch-norm: y[n,c,h,w] = hat[n,c,h,w] + bias[c]";
    "norm-bias-dropped", "a batch normalisation without β",
        "y = γ x̂ + β",
        "batch-norm: y[n,c,h,w] = weight[c] hat[n,c,h,w]";
    "norm-weight-and-bias-swapped", "γ and β exchanged",
        "y = γ x̂ + β: γ is weight, β is bias",
        "batch-norm: y[n,c,h,w] = bias[c] hat[n,c,h,w] + weight[c]";
    "norm-gradient-of-constants", "dx of a batch normalisation with mean and variance taken as constants",
        "in training both depend on x: dx = γ (dy − (Σ dy + x̂ Σ dy x̂) / M) / √(σ² + ε)",
        "statistics: d.x[n,c,h,w] = weight[c] 1/deviation[c] d.y[n,c,h,w]";
    "norm-gradient-without-variance", "dx of a batch normalisation without the part through the variance",
        "dx = γ (dy − (Σ dy + x̂ Σ dy x̂) / M) / √(σ² + ε)",
        "statistics: d.x[n,c,h,w] = weight[c] 1/deviation[c] d.y[n,c,h,w] - weight[c] 1/deviation[c] per_number[] d.bias[c]";
    "norm-gradient-without-mean", "dx of a batch normalisation without the part through the mean",
        "dx = γ (dy − (Σ dy + x̂ Σ dy x̂) / M) / √(σ² + ε)",
        "statistics: d.x[n,c,h,w] = weight[c] 1/deviation[c] d.y[n,c,h,w] - weight[c] 1/deviation[c] per_number[] hat[n,c,h,w] d.weight[c]";
    "norm-gradient-of-frozen-statistics", "dx of a batch normalisation in evaluation with the parts through mean and variance",
        "running statistics are constants: dx = γ dy / √(σ² + ε)",
        "frozen: d.x[n,c,h,w] = weight[c] 1/deviation[c] d.y[n,c,h,w] - weight[c] 1/deviation[c] per_number[] d.bias[c] - weight[c] 1/deviation[c] per_number[] hat[n,c,h,w] d.weight[c]";
    "norm-weight-gradient-not-normalised", "dγ made of x − μ, not of x̂",
        "dγ = Σ dy x̂, x̂ = (x − μ) / √(σ² + ε)",
        "batch-norm: d.weight[c] = d.y[n,c,h,w] centred[n,c,h,w]";
    "norm-weight-gradient-by-input", "dγ made of x, not of x̂",
        "dγ = Σ dy x̂, x̂ = (x − μ) / √(σ² + ε)",
        "batch-norm: d.weight[c] = d.y[n,c,h,w] x[n,c,h,w]";

    // Pictures: ReLU and pools
    "relu-leaky", "a leaky ReLU, with 0.01 x below 0",
        "y = max(0, x)",
        "relu: below[n,c,h,w] = relu(- x[n,c,h,w])
         relu: y[n,c,h,w] = x[n,c,h,w] + 0.99 below[n,c,h,w]";
    "relu-dropped", "no ReLU inside a block",
        "h = max(0, r) after each norm but the last",
        "relu: y[n,c,h,w] = x[n,c,h,w]";
    "relu-gradient-ungated", "a gradient that passes a ReLU everywhere",
        "dx = dy where x > 0, else 0",
        "relu: d.x[n,c,h,w] = d.y[n,c,h,w]
         block: d.sum[n,o,p,q] = d.y[n,o,p,q]";
    "pool-zeros-outside", "a max pool with zeros around the picture, which win against what is below 0",
        "outside there is no pixel: pad with −∞",
        "max-pool: largest[n,c,p,q] = argmax(every[p,q,k] x[n,c,pixel(p,q,k)])";
    "pool-padding-after", "a max pool with all of its padding below and on the right",
        "pad above and on the left too",
        "max-pool: largest[n,c,p,q] = argmax([pixel_after≥0][p,q,k] x[n,c,pixel_after(p,q,k)])
         max-pool: index[n,c,p,q] = chosen[n,c,p,q,k] pixel_after[p,q,k]
         max-pool: y[n,c,p,q] = chosen[n,c,p,q,k] x[n,c,pixel_after(p,q,k)]";
    "pool-padding-same", "a max pool padded as TensorFlow's SAME does",
        "pad p rows and columns on each side, whatever the stride",
        "max-pool: largest[n,c,p,q] = argmax([pixel_same≥0][p,q,k] x[n,c,pixel_same(p,q,k)])
         max-pool: index[n,c,p,q] = chosen[n,c,p,q,k] pixel_same[p,q,k]
         max-pool: y[n,c,p,q] = chosen[n,c,p,q,k] x[n,c,pixel_same(p,q,k)]";
    "pool-stride-ignored", "a max pool of stride 1: the first rows and columns of its result",
        "window i begins at row s i − p",
        "max-pool: largest[n,c,p,q] = argmax([pixel_dense≥0][p,q,k] x[n,c,pixel_dense(p,q,k)])
         max-pool: index[n,c,p,q] = chosen[n,c,p,q,k] pixel_dense[p,q,k]
         max-pool: y[n,c,p,q] = chosen[n,c,p,q,k] x[n,c,pixel_dense(p,q,k)]";
    "pool-from-end", "a max pool whose last window ends where the padded picture does",
        "the first window begins at −p; what is left over is below and on the right",
        "max-pool: largest[n,c,p,q] = argmax([pixel_from_end≥0][p,q,k] x[n,c,pixel_from_end(p,q,k)])
         max-pool: index[n,c,p,q] = chosen[n,c,p,q,k] pixel_from_end[p,q,k]
         max-pool: y[n,c,p,q] = chosen[n,c,p,q,k] x[n,c,pixel_from_end(p,q,k)]";
    "pool-last-of-equal", "a max pool that takes the last of equal maxima",
        "the first in the order of the rows: replace it only by what is larger (>, not ≥)",
        "max-pool: from_end[n,c,p,q] = argmax([pixel_reversed≥0][p,q,k] x[n,c,pixel_reversed(p,q,k)])
         max-pool: largest[n,c,p,q] = last_place[] - from_end[n,c,p,q]";
    "pool-gradient-to-all-equal", "a gradient of a max pool that goes to each of equal maxima",
        "the first in the order of the rows takes the whole gradient",
        "max-pool: gap[n,c,p,q,k] = x[n,c,pixel(p,q,k)] - y[n,c,p,q]
         max-pool: d.x[n,c,pixel(p,q,k)] = [pixel≥0][p,q,k] [gap≥0][n,c,p,q,k] d.y[n,c,p,q]";
    "pool-index-in-the-window", "the index of a maximum within its window",
        "the pixel's number in the picture, i W + j",
        "max-pool: index[n,c,p,q] = chosen[n,c,p,q,k] place[k]";
    "pool-of-magnitudes", "a max pool that compares magnitudes",
        "compare x, not |x|",
        "max-pool: largest[n,c,p,q] = argmax([pixel≥0][p,q,k] |x|[n,c,pixel(p,q,k)])";
    "cells-apart", "an average pool of cells that share no row or column",
        "cell i of k ends at ⌈(i + 1) H / k⌉: where H / k is not whole, cells overlap",
        "avg-pool: cell[n,c,p,q] = rows_apart[p,h] x[n,c,h,w] columns_apart[q,w]
         avg-pool: y[n,c,p,q] = cell[n,c,p,q] 1/pixels_apart[p,q]";
    "cells-of-one-size", "an average pool of windows of one size at one stride",
        "cell i of k covers the rows from ⌊i H / k⌋ up to ⌈(i + 1) H / k⌉",
        "avg-pool: cell[n,c,p,q] = rows_of_one_size[p,h] x[n,c,h,w] columns_of_one_size[q,w]
         avg-pool: y[n,c,p,q] = cell[n,c,p,q] 1/pixels_of_one_size[p,q]";
    "cells-divided-by-mean-size", "an average pool that divides by H W / k², whatever the size of a cell",
        "divide by the number of pixels of the cell",
        "avg-pool: y[n,c,p,q] = cell[n,c,p,q] 1/pixels_in_the_mean[p,q]";
    "cells-added", "an average pool that does not divide",
        "divide by the number of pixels of the cell",
        "avg-pool: y[n,c,p,q] = cell[n,c,p,q]";
    "cell-gradient-not-divided", "dx of an average pool that is not divided by the number of pixels",
        "dx += dy / (pixels of the cell)",
        "avg-pool: d.x[n,c,h,w] = rows[p,h] columns[q,w] d.y[n,c,p,q]";

    // Pictures: blocks and networks
    "row-channel-last", "a linear map after the average pool that takes its row with the channel last",
        "in the row the channel comes first, whatever the order of axes: turn NHWC before it is flattened",
        "linear classifier.0: y[n,o] = x[n,channel_last(i)] W[o,i] + bias[o]";
    "shortcut-dropped", "a block without its shortcut",
        "y = max(0, r + s)",
        "projected: sum[n,o,p,q] = r[n,o,p,q]
         identity: sum[n,o,p,q] = r[n,o,p,q]";
    "shortcut-norm-dropped", "a projected shortcut without its norm",
        "s = norm(conv(x)): downsample.1 after downsample.0",
        "projected: sum[n,o,p,q] = r[n,o,p,q] + bare[n,o,p,q]";
    "shortcut-channels-first", "a shortcut with all channels of zeros after those of x",
        "(O − C) / 2 channels of zeros before x and as many after it",
        "identity: sum[n,o,p,q] = r[n,o,p,q] + x[n,channel_first(o),row(p),column(q)]
         identity: d.side[n,c,h,w] = d.sum[n,output_first(c),output_row(h),output_column(w)]";
    "shortcut-pixels-late", "a shortcut that takes the last pixel of each step, not the first",
        "every stride-th row and column, from 0 on: x[:, :, ::s, ::s]",
        "identity: sum[n,o,p,q] = r[n,o,p,q] + x[n,channel(o),row_late(p),column_late(q)]";
    "relu-before-sum", "a ReLU before the shortcut is added, and none after",
        "y = max(0, r + s)",
        "projected: open[n,o,p,q] = relu(r[n,o,p,q])
         projected: sum[n,o,p,q] = open[n,o,p,q] + shortcut[n,o,p,q]
         identity: open[n,o,p,q] = relu(r[n,o,p,q])
         identity: sum[n,o,p,q] = open[n,o,p,q] + x[n,channel(o),row(p),column(q)]
         block: y[n,o,p,q] = sum[n,o,p,q]";
    "relu-on-both-sides", "a ReLU on the last norm of a block too",
        "no ReLU before the sum: y = max(0, r + s)",
        "projected: open[n,o,p,q] = relu(r[n,o,p,q])
         projected: sum[n,o,p,q] = open[n,o,p,q] + shortcut[n,o,p,q]
         identity: open[n,o,p,q] = relu(r[n,o,p,q])
         identity: sum[n,o,p,q] = open[n,o,p,q] + x[n,channel(o),row(p),column(q)]";
    "relu-on-shortcut", "a ReLU on the norm of a projected shortcut",
        "no ReLU before the sum: y = max(0, r + s)",
        "projected: open[n,o,p,q] = relu(shortcut[n,o,p,q])
         projected: sum[n,o,p,q] = r[n,o,p,q] + open[n,o,p,q]";
    "relu-after-sum-dropped", "a block without its last ReLU",
        "y = max(0, r + s)",
        "block: y[n,o,p,q] = sum[n,o,p,q]";
    "shortcut-gradient-dropped", "a gradient that does not come back through the shortcut",
        "dx is the sum of both: through the convolutions and through the shortcut",
        "block: d.x[n,c,h,w] = d.main[n,c,h,w]";
    "residual-gradient-dropped", "a gradient that comes back through the shortcut alone",
        "dx is the sum of both: through the convolutions and through the shortcut",
        "block: d.x[n,c,h,w] = d.side[n,c,h,w]";
}

/// The mistake with this name.
#[cfg(test)]
pub(crate) fn named(id: &str) -> &'static Mistake {
    ALL.iter().find(|mistake| mistake.id == id).unwrap_or_else(|| panic!("no mistake {id}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_sentences_have_no_stop() {
        for (place, mistake) in ALL.iter().enumerate() {
            assert_eq!(ALL.iter().position(|other| other.id == mistake.id), Some(place), "{}", mistake.id);
            assert!(!mistake.says.ends_with('.') && !mistake.fix.ends_with('.'), "{}", mistake.id);
        }
        assert!(ALL.len() >= 171);
    }
}
