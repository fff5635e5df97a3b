/* A backend for the golden suite in plain C11: the programs `gru_cell` and `loss`, forward and
 * backward, using only libc, libm and safetensors.h beside it. It is a model for ports to other languages and
 * for kernels: every loop is written out, and the code is plain.
 *
 *     cc -O2 -std=c11 -Wall -Wextra -Werror c_backend.c -lm -o c_backend
 *     ./c_backend SUITE OUT                    every case of the two programs in the folder SUITE
 *     ./c_backend SUITE OUT gru-cell-1 …       only these cases
 *     vsepp golden check OUT --profile f32     then judges OUT/<id>.safetensors
 *
 * Numbers are `float`; with -DREAL=double they are `double`, and the profile is f64.
 *
 * Exit code: 0 all done, 1 a file could not be read or written, 2 wrong usage. A file that is
 * malformed is named with the reason and the others are still run. A case whose input cannot be
 * computed (a shape that does not fit, a number that is not finite) is refused: its file then holds
 * the one tensor `out.rejected` = [1].
 *
 * Reading order: 1 a case's inputs, 2 its outputs, 3 gru_cell, 4 loss, 5 main.
 * To port a program, take 3 or 4; they use only `size_of`, `matrix`, `vector`, `ids`, `setting`, `new_*`.
 */
#define _POSIX_C_SOURCE 200809L /* readdir, mkdir and fstat; all else is C11 */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <tgmath.h> /* exp, log, tanh and fabs of the type they are given */

#include "safetensors.h"

#ifndef REAL
#define REAL float
#endif
typedef REAL real;
static_assert(sizeof(real) == 4 || sizeof(real) == 8, "REAL must be float or double");

/* What went wrong with the present case. The first problem is kept; everything that is asked for
 * after it gives NULL or 0, so a program loads all its inputs and looks at `trouble` once. */
static enum { NONE, MALFORMED, REFUSED } trouble;
static char reason[ST_ERROR];

static bool fail(int kind, const char *format, ...) {
    if (trouble == NONE) {
        va_list values;
        va_start(values, format);
        vsnprintf(reason, sizeof reason, format, values);
        va_end(values);
        for (char *at = reason; *at; at++) /* names out of a damaged file may hold anything */
            if (*at < ' ' || *at > '~') *at = '?';
        trouble = kind;
    }
    return false;
}

/* Memory of the present case, all of it freed when the case is done. */
static void *blocks[256];
static int block_count;

static void *memory(size_t count, size_t size) {
    void *block = block_count < 256 ? calloc(count ? count : 1, size) : NULL;
    if (!block) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return blocks[block_count++] = block;
}

/* == 1. A case's inputs ========================================================================== */

static st_file file; /* of the present case */

static const st_tensor *need(const char *name, int rank) {
    const st_tensor *tensor = st_find(&file, name);
    if (!tensor) fail(MALFORMED, "there is no %s", name);
    else if (tensor->rank != rank) fail(REFUSED, "%s: expected rank %d, found %d", name, rank, tensor->rank);
    return trouble ? NULL : tensor;
}

/* One size of an input, to compare others with. None may be 0. */
static size_t size_of(const char *name, int rank, int axis) {
    const st_tensor *tensor = need(name, rank);
    if (tensor && !tensor->shape[axis]) fail(REFUSED, "%s is empty", name);
    return trouble ? 0 : tensor->shape[axis];
}

/* The numbers of an input in C order, after its shape and every number were looked at. */
static real *numbers(const char *name, int rank, size_t rows, size_t columns) {
    const st_tensor *tensor = need(name, rank);
    if (!tensor) return NULL;
    if (tensor->shape[0] != rows || (rank == 2 && tensor->shape[1] != columns)) {
        const size_t *found = tensor->shape;
        if (rank == 1) fail(REFUSED, "%s: expected [%zu], found [%zu]", name, rows, found[0]);
        else fail(REFUSED, "%s: expected [%zu, %zu], found [%zu, %zu]", name, rows, columns, found[0], found[1]);
        return NULL;
    }
    if (strcmp(tensor->dtype, "F32") != 0 && strcmp(tensor->dtype, "F64") != 0) {
        fail(MALFORMED, "%s: expected F32 or F64, found %s", name, tensor->dtype);
        return NULL;
    }
    real *values = memory(tensor->count, sizeof(real));
    for (size_t i = 0; i < tensor->count; i++) {
        values[i] = (real)st_number(tensor, i);
        if (!isfinite(values[i])) {
            fail(REFUSED, "%s: number %zu is not finite", name, i);
            return NULL;
        }
    }
    return values;
}

static real *matrix(const char *name, size_t rows, size_t columns) { return numbers(name, 2, rows, columns); }

static real *vector(const char *name, size_t length) { return numbers(name, 1, length, 0); }

static int64_t *ids(const char *name, size_t length) {
    const st_tensor *tensor = need(name, 1);
    if (!tensor) return NULL;
    if (strcmp(tensor->dtype, "I64") != 0) return fail(MALFORMED, "%s: expected I64", name), NULL;
    if (tensor->shape[0] != length)
        return fail(REFUSED, "%s: expected [%zu], found [%zu]", name, length, tensor->shape[0]), NULL;
    int64_t *values = memory(length, sizeof *values);
    for (size_t i = 0; i < length; i++) values[i] = st_integer(tensor, i);
    return values;
}

/* The value after `"key":` in the case's JSON, or NULL. A key inside a text has escaped quotes and is not
 * found. */
static const char *setting(const char *key) {
    size_t length = strlen(key);
    const char *metadata = st_text(&file, "vsepp");
    for (const char *at = metadata; at && (at = strstr(at, key)); at += length)
        if (at > metadata && at[-1] == '"' && at[length] == '"') {
            const char *value = at + length + 1;
            value += strspn(value, " \t\r\n");
            if (*value == ':') return value + 1 + strspn(value + 1, " \t\r\n");
        }
    return NULL;
}

static bool is_on(const char *key) {
    const char *value = setting(key);
    return value && strncmp(value, "true", 4) == 0;
}

/* == 2. A case's outputs ========================================================================= */

static st_tensor outputs[32];
static int output_count;

/* A tensor of zeros [rows, columns] that will be written under this name; columns = 0: a vector. */
static void *new_output(const char *name, const char *dtype, size_t rows, size_t columns) {
    size_t count = rows * (columns ? columns : 1);
    void *data = memory(count, st_size(dtype));
    assert(output_count < 32);
    outputs[output_count++] = (st_tensor){name, dtype, columns ? 2 : 1, {rows, columns}, count, data};
    return data;
}

static real *new_matrix(const char *name, size_t rows, size_t columns) {
    return new_output(name, sizeof(real) == 4 ? "F32" : "F64", rows, columns);
}

static real *new_vector(const char *name, size_t length) { return new_matrix(name, length, 0); }

/* == 3. gru_cell ================================================================================= *
 *
 *     a = W_ih x + b_ih,  c = W_hh h + b_hh        [B, 3H]; the columns hold r, z, n, H each
 *     r = σ(a_r + c_r),   z = σ(a_z + c_z)
 *     n = tanh(a_n + r ∘ c_n)                      the reset acts after the product
 *     h' = (1 − z) ∘ n + z ∘ h
 *     loss = Σ in.d_h_next ∘ h'
 */
static real sigmoid(real x) {
    real t = exp(-fabs(x)); /* never overflows */
    return (x < 0 ? t : (real)1) / ((real)1 + t);
}

/* y [rows, out] = x [rows, in] Wᵀ + b; W [out, in], as PyTorch stores it. */
static void affine(real *y, const real *x, const real *w, const real *b, size_t rows, size_t in, size_t out) {
    for (size_t i = 0; i < rows; i++)
        for (size_t o = 0; o < out; o++) {
            real sum = 0;
            for (size_t k = 0; k < in; k++) sum += x[i * in + k] * w[o * in + k];
            y[i * out + o] = sum + b[o];
        }
}

/* The gradients of `affine`, from dy [rows, out]; adds to dx, dw and db. */
static void affine_backward(const real *dy, const real *x, const real *w, real *dx, real *dw, real *db,
                            size_t rows, size_t in, size_t out) {
    for (size_t i = 0; i < rows; i++)
        for (size_t o = 0; o < out; o++) {
            real d = dy[i * out + o];
            for (size_t k = 0; k < in; k++) {
                dx[i * in + k] += d * w[o * in + k];
                dw[o * in + k] += d * x[i * in + k];
            }
            db[o] += d;
        }
}

static void gru_cell(void) {
    size_t B = size_of("in.x", 2, 0), E = size_of("in.x", 2, 1), H = size_of("in.h", 2, 1);
    const real *x = matrix("in.x", B, E), *h = matrix("in.h", B, H), *d_next = matrix("in.d_h_next", B, H);
    const real *w_ih = matrix("param.txt_enc.rnn.weight_ih_l0", 3 * H, E);
    const real *w_hh = matrix("param.txt_enc.rnn.weight_hh_l0", 3 * H, H);
    const real *b_ih = vector("param.txt_enc.rnn.bias_ih_l0", 3 * H);
    const real *b_hh = vector("param.txt_enc.rnn.bias_hh_l0", 3 * H);
    if (trouble) return;

    /* Forward. */
    real *a = new_matrix("mid.a", B, 3 * H), *c = new_matrix("mid.c", B, 3 * H);
    real *r = new_matrix("mid.r", B, H), *z = new_matrix("mid.z", B, H), *n = new_matrix("mid.n", B, H);
    real *next = new_matrix("out.h_next", B, H);
    affine(a, x, w_ih, b_ih, B, E, 3 * H);
    affine(c, h, w_hh, b_hh, B, H, 3 * H);
    for (size_t i = 0; i < B; i++)
        for (size_t k = 0; k < H; k++) {
            size_t at = i * H + k;                                         /* in a [B, H] */
            size_t at_r = i * 3 * H + k, at_z = at_r + H, at_n = at_z + H; /* in a [B, 3H] */
            r[at] = sigmoid(a[at_r] + c[at_r]);
            z[at] = sigmoid(a[at_z] + c[at_z]);
            n[at] = tanh(a[at_n] + r[at] * c[at_n]);
            next[at] = (1 - z[at]) * n[at] + z[at] * h[at];
        }

    /* Backward: the same lines in reverse. */
    real *dn = new_matrix("grad.mid.n", B, H), *dz = new_matrix("grad.mid.z", B, H);
    real *dr = new_matrix("grad.mid.r", B, H);
    real *da = new_matrix("grad.mid.a", B, 3 * H), *dc = new_matrix("grad.mid.c", B, 3 * H);
    real *dx = new_matrix("grad.in.x", B, E), *dh = new_matrix("grad.in.h", B, H);
    for (size_t i = 0; i < B; i++)
        for (size_t k = 0; k < H; k++) {
            size_t at = i * H + k;
            size_t at_r = i * 3 * H + k, at_z = at_r + H, at_n = at_z + H;
            dn[at] = d_next[at] * (1 - z[at]);
            dz[at] = d_next[at] * (h[at] - n[at]);
            dh[at] = d_next[at] * z[at]; /* the direct part; the part through c is added below */
            da[at_n] = dn[at] * (1 - n[at] * n[at]);
            dr[at] = da[at_n] * c[at_n];
            dc[at_n] = da[at_n] * r[at]; /* only here do a and c differ */
            da[at_z] = dc[at_z] = dz[at] * z[at] * (1 - z[at]);
            da[at_r] = dc[at_r] = dr[at] * r[at] * (1 - r[at]);
        }
    affine_backward(da, x, w_ih, dx, new_matrix("grad.txt_enc.rnn.weight_ih_l0", 3 * H, E),
                    new_vector("grad.txt_enc.rnn.bias_ih_l0", 3 * H), B, E, 3 * H);
    affine_backward(dc, h, w_hh, dh, new_matrix("grad.txt_enc.rnn.weight_hh_l0", 3 * H, H),
                    new_vector("grad.txt_enc.rnn.bias_hh_l0", 3 * H), B, H, 3 * H);
}

/* == 4. loss ===================================================================================== *
 *
 *     cost_s[i, j]  = max(0, α + S_ij − S_ii)     image i looks for its caption: along the row
 *     cost_im[i, j] = max(0, α + S_ij − S_jj)     caption j looks for its image: along the column
 *
 * i ≠ j; where `mask_same_image` is on, also not where both are of one image; with `semi_hard` only
 * where S_ij scores below the right pair. The loss is the sum of all costs, or with `max_violation` the
 * sum of each row's greatest cost_s and each column's greatest cost_im, with `hardest` = k of the k
 * greatest; a sum, not a mean. A term counts if it is > 0 (at exactly 0 there is no gradient), and of
 * equals the first. With a `temperature` every negative of a query counts by its weight.
 */

/* The index of the greatest of `count` costs, `step` apart, that do not count yet; -1 if none is > 0. */
static int64_t hardest(const real *cost, const uint8_t *active, size_t count, size_t step) {
    int64_t place = -1;
    real greatest = 0;
    for (size_t k = 0; k < count; k++)
        if (!active[k * step] && cost[k * step] > greatest) { /* strictly: among equals the first stays */
            greatest = cost[k * step];
            place = (int64_t)k;
        }
    return place;
}

/* Marks the `most` greatest of a query's costs; gives the index of the first, -1 if none is > 0. */
static int64_t mark(const real *cost, uint8_t *active, size_t count, size_t step, size_t most) {
    int64_t first = hardest(cost, active, count, step);
    for (int64_t k = first; k >= 0 && most > 0; most--) {
        active[(size_t)k * step] = 1;
        k = hardest(cost, active, count, step);
    }
    return first;
}

/* [τ ln Σ exp((α + S − d) / τ)]₊ of query q, whose scores begin at `s`, `step` apart, and its weights. */
static real log_sum_exp(const real *s, const int64_t *image, size_t B, size_t q, size_t step, real margin, real tau,
                        real *weight) {
    real greatest = -INFINITY, sum = 0;
    for (size_t k = 0; k < B; k++) {
        real cost = margin + s[k * step] - s[q * step];
        if (k != q && !(image && image[k] == image[q]) && cost > greatest) greatest = cost;
    }
    for (size_t k = 0; k < B; k++)
        if (k != q && !(image && image[k] == image[q])) /* less the greatest: no exponential overflows */
            sum += weight[k * step] = exp((margin + s[k * step] - s[q * step] - greatest) / tau);
    real value = sum > 0 ? greatest + tau * log(sum) : 0;
    for (size_t k = 0; k < B; k++) weight[k * step] = value > 0 ? weight[k * step] / sum : 0;
    return value > 0 ? value : 0;
}

static void loss(void) {
    size_t B = size_of("in.scores", 2, 0);
    const real *s = matrix("in.scores", B, B);
    const int64_t *image = is_on("mask_same_image") ? ids("in.image_ids", B) : NULL;
    const char *margin_text = setting("margin"), *most_text = setting("hardest"), *tau_text = setting("temperature");
    char *end = NULL;
    real margin = margin_text ? (real)strtod(margin_text, &end) : 0;
    if (!margin_text || end == margin_text) fail(MALFORMED, "the case's config has no margin");
    else if (!isfinite(margin)) fail(REFUSED, "the margin is not finite");
    bool max_violation = is_on("max_violation"), semi_hard = is_on("semi_hard");
    real tau = tau_text ? (real)strtod(tau_text, NULL) : 0;
    size_t most = max_violation ? 1 : B;
    /* The case's margins come after its config and may have a key of this name too. */
    const char *margins = setting("margins");
    bool k_hardest = most_text && (!margins || most_text < margins);
    if (k_hardest) most = (size_t)strtoull(most_text, NULL, 10);
    if (trouble) return;

    /* Forward: the costs, 0 on the diagonal and where masked. */
    real *cost_s = new_matrix("mid.cost_s", B, B), *cost_im = new_matrix("mid.cost_im", B, B);
    for (size_t i = 0; i < B; i++)
        for (size_t j = 0; j < B; j++) {
            if (i == j || (image && image[i] == image[j])) continue;
            real score = s[i * B + j], by_row = margin + score - s[i * B + i], by_column = margin + score - s[j * B + j];
            if (by_row > 0 && !(semi_hard && score >= s[i * B + i])) cost_s[i * B + j] = by_row;
            if (by_column > 0 && !(semi_hard && score >= s[j * B + j])) cost_im[i * B + j] = by_column;
        }

    /* The terms that count, and the loss. */
    real *total = new_vector("out.loss", 1), *ds = new_matrix("grad.in.scores", B, B), *weight_s, *weight_im;
    if (tau > 0) {
        weight_s = new_matrix("mid.weight_s", B, B), weight_im = new_matrix("mid.weight_im", B, B);
        for (size_t q = 0; q < B; q++) {
            *total += log_sum_exp(s + q * B, image, B, q, 1, margin, tau, weight_s + q * B); /* row q */
            *total += log_sum_exp(s + q, image, B, q, B, margin, tau, weight_im + q);        /* column q */
        }
    } else {
        uint8_t *active_s = new_output("mid.active_s", "U8", B, B);
        uint8_t *active_im = new_output("mid.active_im", "U8", B, B);
        bool one = max_violation && !k_hardest;
        int64_t *hardest_s = one ? new_output("mid.hardest_s", "I64", B, 0) : NULL;
        int64_t *hardest_im = one ? new_output("mid.hardest_im", "I64", B, 0) : NULL;
        for (size_t q = 0; q < B; q++) {
            int64_t row = mark(cost_s + q * B, active_s + q * B, B, 1, most);
            int64_t column = mark(cost_im + q, active_im + q, B, B, most);
            if (one) hardest_s[q] = row, hardest_im[q] = column;
        }
        weight_s = memory(B * B, sizeof(real)), weight_im = memory(B * B, sizeof(real));
        for (size_t k = 0; k < B * B; k++) {
            weight_s[k] = active_s[k], weight_im[k] = active_im[k];
            *total += weight_s[k] * cost_s[k] + weight_im[k] * cost_im[k];
        }
    }

    /* The gradient: every term adds its weight at its own place and takes it from the right pair that it
     * is compared with. */
    for (size_t i = 0; i < B; i++)
        for (size_t j = 0; j < B; j++) {
            ds[i * B + j] += weight_s[i * B + j] + weight_im[i * B + j];
            ds[i * B + i] -= weight_s[i * B + j];
            ds[j * B + j] -= weight_im[i * B + j];
        }
}

/* == 5. main ===================================================================================== */

/* Runs one case. `named`: the user asked for it, so a program that is not known is an error. */
static bool run(const char *suite, const char *out, const char *id, bool named) {
    char in_path[4096], out_path[4096], error[ST_ERROR];
    trouble = NONE;
    output_count = 0;
    int in_length = snprintf(in_path, sizeof in_path, "%s/%s.safetensors", suite, id);
    int out_length = snprintf(out_path, sizeof out_path, "%s/%s.safetensors", out, id);
    if (in_length >= (int)sizeof in_path || out_length >= (int)sizeof out_path)
        return fprintf(stderr, "%s: its path is too long\n", id), false;
    if (!st_read(in_path, &file, error)) return fprintf(stderr, "%s\n", error), false;
    const char *program = setting("program");
    bool mine = true;
    if (!program) fail(MALFORMED, "its metadata name no program (key \"vsepp\")");
    else if (strncmp(program, "\"gru_cell\"", 10) == 0) gru_cell();
    else if (strncmp(program, "\"loss\"", 6) == 0) loss();
    else if (named) fail(MALFORMED, "its program is neither gru_cell nor loss");
    else mine = false;
    bool good = trouble != MALFORMED;
    if (!good) fprintf(stderr, "%s: %s\n", in_path, reason);
    if (good && mine) {
        if (trouble == REFUSED) { /* what was computed until then is not written */
            output_count = 0;
            *(uint8_t *)new_output("out.rejected", "U8", 1, 0) = 1;
        }
        good = st_write(out_path, outputs, (size_t)output_count, NULL, 0, error);
        if (!good) fprintf(stderr, "%s\n", error);
        else if (trouble == REFUSED) printf("%s: refused: %s\n", id, reason);
        else printf("%s: %d tensors\n", id, output_count);
    }
    st_free(&file);
    while (block_count > 0) free(blocks[--block_count]);
    return good;
}

static int by_name(const void *left, const void *right) {
    return strcmp(*(char *const *)left, *(char *const *)right);
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: %s SUITE OUT [CASE...]\n", argv[0]);
        return 2;
    }
    const char *suite = argv[1], *out = argv[2];
    if (mkdir(out, 0777) != 0 && errno != EEXIST) {
        fprintf(stderr, "%s: cannot make the folder: %s\n", out, strerror(errno));
        return 1;
    }
    bool good = true;
    for (int i = 3; i < argc; i++) good = run(suite, out, argv[i], true) && good;
    if (argc > 3) return good ? 0 : 1;

    /* Every NAME.safetensors of the folder, in the order of the names. */
    DIR *folder = opendir(suite);
    if (!folder) {
        fprintf(stderr, "%s: cannot open the folder: %s\n", suite, strerror(errno));
        return 1;
    }
    char **names = NULL;
    size_t count = 0;
    for (struct dirent *entry; (entry = readdir(folder));) {
        char *ending = strrchr(entry->d_name, '.');
        if (!ending || strcmp(ending, ".safetensors") != 0) continue;
        size_t length = (size_t)(ending - entry->d_name);
        char **more = realloc(names, (count + 1) * sizeof *names);
        char *name = malloc(length + 1);
        if (!more || !name) {
            fprintf(stderr, "out of memory\n");
            return 1;
        }
        memcpy(name, entry->d_name, length);
        name[length] = 0;
        names = more;
        names[count++] = name;
    }
    closedir(folder);
    if (count == 0) {
        fprintf(stderr, "%s: there is no .safetensors file in it\n", suite);
        good = false;
    } else {
        qsort(names, count, sizeof *names, by_name);
    }
    for (size_t i = 0; i < count; i++) {
        good = run(suite, out, names[i], false) && good;
        free(names[i]);
    }
    free(names);
    return good ? 0 : 1;
}
