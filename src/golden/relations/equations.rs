//! The relations of every program, group by group, in the order of the data flow.
//!
//! Short names: `d.x` is the gradient by x, `end` is 1 at each row's own last token, `wrong` is 1 for a pair that
//! counts as a negative, `eye` is 1 on the diagonal. The letters are those of `docs/01-notation.md`; j runs over the
//! 3H rows of a GRU's weights, in the loss over captions.

/// (EMB-1)
pub(super) const WORDS: &str = "words[b,t,e] = W[id(b,t),e]";
pub(super) const WORDS_BACK: &str = "d.W[id(b,t),e] = d.words[b,t,e]";

/// (LIN-1)
pub(super) const LINEAR: &str = "y[n,o] = x[n,i] W[o,i] + bias[o]";
pub(super) const LINEAR_BACK: &str = "
d.W[o,i] = d.y[n,o] x[n,i]
d.bias[o] = d.y[n,o]
d.x[n,i] = d.y[n,o] W[o,i]";

/// (GRU-1) to (GRU-4)
pub(super) const GRU: &str = "
a[b,t,j] = x[b,t,e] W_ih[j,e] + b_ih[j]
c[b,t,j] = h[b,t-1,k] W_hh[j,k] + b_hh[j]
r[b,t,k] = σ(a.r[b,t,k] + c.r[b,t,k])
z[b,t,k] = σ(a.z[b,t,k] + c.z[b,t,k])
n[b,t,k] = tanh(a.n[b,t,k] + r[b,t,k] c.n[b,t,k])
h[b,t,k] = (1-z)[b,t,k] n[b,t,k] + z[b,t,k] h[b,t-1,k]";
/// (TXT-1)
pub(super) const LAST: &str = "last[b,k] = end[b,t] h[b,t,k]";
/// (GRU-4′) to (GRU-1′); d.h of a cell is given.
pub(super) const STATE_BACK: &str =
    "d.h[b,t,k] = end[b,t] d.last[b,k] + z[b,t+1,k] d.h[b,t+1,k] + d.c[b,t+1,j] W_hh[j,k]";
pub(super) const STATE_BACK_BELOW: &str =
    "d.h[b,t,k] = up.d.a[b,t,j] up.W_ih[j,k] + z[b,t+1,k] d.h[b,t+1,k] + d.c[b,t+1,j] W_hh[j,k]";
pub(super) const GRU_BACK: &str = "
d.n[b,t,k] = d.h[b,t,k] (1-z)[b,t,k]
d.z[b,t,k] = d.h[b,t,k] h[b,t-1,k] - d.h[b,t,k] n[b,t,k]
d.a.n[b,t,k] = d.n[b,t,k] (1-n²)[b,t,k]
d.r[b,t,k] = d.a.n[b,t,k] c.n[b,t,k]
d.a.r[b,t,k] = d.r[b,t,k] r(1-r)[b,t,k]
d.a.z[b,t,k] = d.z[b,t,k] z(1-z)[b,t,k]
d.c.r[b,t,k] = d.r[b,t,k] r(1-r)[b,t,k]
d.c.z[b,t,k] = d.z[b,t,k] z(1-z)[b,t,k]
d.c.n[b,t,k] = d.a.n[b,t,k] r[b,t,k]
d.W_ih[j,e] = d.a[b,t,j] x[b,t,e]
d.W_hh[j,k] = d.c[b,t,j] h[b,t-1,k]
d.b_ih[j] = d.a[b,t,j]
d.b_hh[j] = d.c[b,t,j]";
pub(super) const GRU_INPUT_BACK: &str = "d.x[b,t,e] = d.a[b,t,j] W_ih[j,e]";
pub(super) const GRU_INITIAL_BACK: &str = "d.h0[b,k] = start[t] z[b,t,k] d.h[b,t,k] + start[t] d.c[b,t,j] W_hh[j,k]";

/// (NORM-1)
pub(super) const NORM: &str = "
norm[n] = √(x[n,d] x[n,d])
y[n,d] = x[n,d] 1/norm[n]";
pub(super) const NORM_BACK: &str = "
along[n] = y[n,d] d.y[n,d]
d.x[n,d] = d.y[n,d] 1/norm[n] - y[n,d] along[n] 1/norm[n]";
pub(super) const ABS: &str = "y[n,d] = |x|[n,d]";
pub(super) const ABS_BACK: &str = "d.x[n,d] = d.y[n,d] sign(x)[n,d]";
/// An embedding that is neither normalised nor made positive.
pub(super) const SAME: &str = "y[n,d] = x[n,d]";
pub(super) const SAME_BACK: &str = "d.x[n,d] = d.y[n,d]";

/// (SIM-1)
pub(super) const COSINE: &str = "s[i,j] = f[i,d] g[j,d]";
pub(super) const COSINE_BACK: &str = "
d.f[i,d] = d.s[i,j] g[j,d]
d.g[j,d] = d.s[i,j] f[i,d]";
/// (SIM-2)
pub(super) const ORDER: &str = "
v[i,j,d] = relu(g[j,d] - f[i,d])
s[i,j] = -√(v[i,j,d] v[i,j,d])";
pub(super) const ORDER_BACK: &str = "
d.f[i,d] = - d.s[i,j] [s≠0]/s[i,j] v[i,j,d]
d.g[j,d] = d.s[i,j] [s≠0]/s[i,j] v[i,j,d]";
/// (SIM-3)
pub(super) const ORDER_SQUARED: &str = "
v[i,j,d] = relu(g[j,d] - f[i,d])
s[i,j] = - v[i,j,d] v[i,j,d]";
pub(super) const ORDER_SQUARED_BACK: &str = "
d.f[i,d] = 2 d.s[i,j] v[i,j,d]
d.g[j,d] = - 2 d.s[i,j] v[i,j,d]";

/// (HINGE-1), (HINGE-2)
pub(super) const HINGES: &str = "
hinge_s[i,j] = relu(margin[] + s[i,j] - s[i,i])
hinge_im[i,j] = relu(margin[] + s[i,j] - s[j,j])";
pub(super) const COSTS: &str = "
cost_s[i,j] = wrong[i,j] hinge_s[i,j]
cost_im[i,j] = wrong[i,j] hinge_im[i,j]";
/// (MH-1)
pub(super) const HARDEST: &str = "
hardest_s[i] = argmax(cost_s[i,j])
hardest_im[j] = argmax(cost_im[i,j])
active_s[i,hardest_s(i)] = 1
active_im[hardest_im(j),j] = 1";
/// (SEMI-1): the costs of the negatives below the right pair; then as (MH-1).
pub(super) const COSTS_BELOW: &str = "
gap_s[i,j] = s[i,i] - s[i,j]
gap_im[i,j] = s[j,j] - s[i,j]
cost_s[i,j] = wrong[i,j] [gap_s>0][i,j] hinge_s[i,j]
cost_im[i,j] = wrong[i,j] [gap_im>0][i,j] hinge_im[i,j]";
/// (KH-1): rank is the number of harder ones, or of as hard ones before; `before[k,j]` is 1 for k < j.
pub(super) const MOST_HARDEST: &str = "
ahead_s[i,j,k] = cost_s[i,k] - cost_s[i,j]
rank_s[i,j] = [ahead_s>0][i,j,k] + before[k,j] [ahead_s≥0][i,j,k] - before[k,j] [ahead_s>0][i,j,k]
room_s[i,j] = most[] - rank_s[i,j]
ahead_im[i,j,k] = cost_im[k,j] - cost_im[i,j]
rank_im[i,j] = [ahead_im>0][i,j,k] + before[k,i] [ahead_im≥0][i,j,k] - before[k,i] [ahead_im>0][i,j,k]
room_im[i,j] = most[] - rank_im[i,j]
active_s[i,j] = [room_s>0][i,j] [cost_s>0][i,j]
active_im[i,j] = [room_im>0][i,j] [cost_im>0][i,j]";
/// (LSE-1), (LSE-1′): active is the weight. Less the greatest, so that no exponential overflows.
pub(super) const LOG_SUM_EXP: &str = "
raw_s[i,j] = margin[] + s[i,j] - s[i,i]
raw_im[i,j] = margin[] + s[i,j] - s[j,j]
cost_s[i,j] = wrong[i,j] relu(raw_s)[i,j]
cost_im[i,j] = wrong[i,j] relu(raw_im)[i,j]
scaled_s[i,j] = raw_s[i,j] 1/temperature[]
scaled_im[i,j] = raw_im[i,j] 1/temperature[]
first_j[i] = argmax(wrong[i,j] scaled_s[i,j])
first_i[j] = argmax(wrong[i,j] scaled_im[i,j])
top_s[i,first_j(i)] = 1
top_im[first_i(j),j] = 1
most_s[i] = top_s[i,j] scaled_s[i,j]
most_im[j] = top_im[i,j] scaled_im[i,j]
shifted_s[i,j] = scaled_s[i,j] - most_s[i]
shifted_im[i,j] = scaled_im[i,j] - most_im[j]
sum_s[i] = wrong[i,j] exp(shifted_s)[i,j]
sum_im[j] = wrong[i,j] exp(shifted_im)[i,j]
log_s[i] = ln(sum_s)[i] + most_s[i]
log_im[j] = ln(sum_im)[j] + most_im[j]
value_s[i] = relu(temperature[] log_s[i])
value_im[j] = relu(temperature[] log_im[j])
active_s[i,j] = [value_s>0][i] wrong[i,j] exp(shifted_s)[i,j] [sum_s≠0]/sum_s[i]
active_im[i,j] = [value_im>0][j] wrong[i,j] exp(shifted_im)[i,j] [sum_im≠0]/sum_im[j]
loss[] = value_s[i] + value_im[j]";
/// (SH-1)
pub(super) const ALL_COUNT: &str = "
active_s[i,j] = [cost_s>0][i,j]
active_im[i,j] = [cost_im>0][i,j]";
pub(super) const LOSS: &str = "loss[] = cost_s[i,j] active_s[i,j] + cost_im[i,j] active_im[i,j]";
pub(super) const LOSS_BACK: &str =
    "d.s[i,j] = active_s[i,j] + active_im[i,j] - eye[i,j] active_s[i,k] - eye[i,j] active_im[k,j]";

/// (CLIP-1), (CLIP-2): `all` are the elements of all parameters' gradients.
pub(super) const GLOBAL_NORM: &str = "norms[s] = √(all[s,x] all[s,x])";
pub(super) const CLIP: &str = "
ratio[s] = limit[] 1/(norms+1e-6)[s]
clip[s] = min1(ratio[s])";
pub(super) const NO_CLIP: &str = "clip[s] = ones[s]";
/// (ADAM-1) to (ADAM-3); `m_all` and `v_all` are m and v after every step.
pub(super) const ADAM: &str = "
m_all[u,x] = beta1[] m_all[u-1,x] + (1-beta1)[] clip[u] g[u,x]
v_all[u,x] = beta2[] v_all[u-1,x] + (1-beta2)[] clip[u] clip[u] g[u,x] g[u,x]
m[x] = final[u] m_all[u,x]
v[x] = final[u] v_all[u,x]
v_hat[u,x] = v_all[u,x] correct_v[u]
root[u,x] = √ε(v_hat[u,x])
p[x] = p0[x] - rate[] m_all[u,x] correct_m[u] 1/root[u,x]";

// Pictures. (p, q) is a place of a layer's result, (h, w) one of its input, (u, v) one of a kernel; row(p,u) is the row
// of x that row u of the kernel meets at p.

/// (CONV-1); the bias is 0 where there is none.
pub(super) const CONV: &str = "y[n,o,p,q] = x[n,c,row(p,u),column(q,v)] W[o,c,u,v] + bias[o]";
pub(super) const CONV_BACK: &str = "
d.W[o,c,u,v] = d.y[n,o,p,q] x[n,c,row(p,u),column(q,v)]
d.bias[o] = d.y[n,o,p,q]
d.x[n,c,row(p,u),column(q,v)] = d.y[n,o,p,q] W[o,c,u,v]";

/// (BN-1), (BN-3): the statistics of a batch.
pub(super) const STATISTICS: &str = "
mean[c] = per_number[] x[n,c,h,w]
centred[n,c,h,w] = x[n,c,h,w] - mean[c]
var[c] = per_number[] centred[n,c,h,w] centred[n,c,h,w]
running_mean[c] = 0.9 old_mean[c] + 0.1 mean[c]
running_var[c] = 0.9 old_var[c] + 0.1 unbiased[] var[c]";
pub(super) const STATISTICS_BACK: &str = "d.x[n,c,h,w] = weight[c] 1/deviation[c] d.y[n,c,h,w] \
    - weight[c] 1/deviation[c] per_number[] d.bias[c] \
    - weight[c] 1/deviation[c] per_number[] hat[n,c,h,w] d.weight[c]";
/// The running statistics: mean and variance are given.
pub(super) const FROZEN: &str = "centred[n,c,h,w] = x[n,c,h,w] - mean[c]";
pub(super) const FROZEN_BACK: &str = "d.x[n,c,h,w] = weight[c] 1/deviation[c] d.y[n,c,h,w]";
/// (BN-2)
pub(super) const BATCH_NORM: &str = "
deviation[c] = √(var[c] + 1e-5)
hat[n,c,h,w] = centred[n,c,h,w] 1/deviation[c]
y[n,c,h,w] = weight[c] hat[n,c,h,w] + bias[c]";
pub(super) const BATCH_NORM_BACK: &str = "
d.weight[c] = d.y[n,c,h,w] hat[n,c,h,w]
d.bias[c] = d.y[n,c,h,w]";

/// (RELU-1)
pub(super) const RELU: &str = "y[n,c,h,w] = relu(x[n,c,h,w])";
pub(super) const RELU_BACK: &str = "d.x[n,c,h,w] = d.y[n,c,h,w] [x>0][n,c,h,w]";

/// (MAXPOOL-1): place k of a window is pixel(p,q,k) of the picture, −1 outside.
pub(super) const MAX_POOL: &str = "
largest[n,c,p,q] = argmax([pixel≥0][p,q,k] x[n,c,pixel(p,q,k)])
chosen[n,c,p,q,largest(n,c,p,q)] = 1
index[n,c,p,q] = chosen[n,c,p,q,k] pixel[p,q,k]
y[n,c,p,q] = chosen[n,c,p,q,k] x[n,c,pixel(p,q,k)]";
pub(super) const MAX_POOL_BACK: &str = "d.x[n,c,index(n,c,p,q)] = d.y[n,c,p,q]";

/// (AVGPOOL-1)
pub(super) const AVG_POOL: &str = "
cell[n,c,p,q] = rows[p,h] x[n,c,h,w] columns[q,w]
y[n,c,p,q] = cell[n,c,p,q] 1/pixels[p,q]";
pub(super) const AVG_POOL_BACK: &str = "d.x[n,c,h,w] = rows[p,h] columns[q,w] d.y[n,c,p,q] 1/pixels[p,q]";

/// (BLOCK-2) with a projected shortcut, or one without parameters.
pub(super) const PROJECTED: &str = "sum[n,o,p,q] = r[n,o,p,q] + shortcut[n,o,p,q]";
pub(super) const PROJECTED_BACK: &str = "
d.r[n,o,p,q] = d.sum[n,o,p,q]
d.shortcut[n,o,p,q] = d.sum[n,o,p,q]";
pub(super) const IDENTITY: &str = "sum[n,o,p,q] = r[n,o,p,q] + x[n,channel(o),row(p),column(q)]";
pub(super) const IDENTITY_BACK: &str = "
d.r[n,o,p,q] = d.sum[n,o,p,q]
d.side[n,c,h,w] = d.sum[n,output(c),output_row(h),output_column(w)]";
pub(super) const BLOCK: &str = "y[n,o,p,q] = relu(sum[n,o,p,q])";
pub(super) const BLOCK_BACK: &str = "d.sum[n,o,p,q] = d.y[n,o,p,q] [sum>0][n,o,p,q]";
/// d.main and d.side are the gradients through the convolutions and through the shortcut.
pub(super) const BLOCK_INPUT_BACK: &str = "d.x[n,c,h,w] = d.main[n,c,h,w] + d.side[n,c,h,w]";
