/* Reads and writes safetensors files: one header, C99 and C++17, nothing but the standard library.
 *
 *     st_file file;
 *     char error[ST_ERROR];
 *     if (!st_read("in.safetensors", &file, error)) return fprintf(stderr, "%s\n", error), 1;
 *     const st_tensor *x = st_find(&file, "in.x");
 *     if (x && x->rank == 2 && strcmp(x->dtype, "F32") == 0) …   x->shape[0], st_number(x, k), x->data
 *     st_free(&file);
 *
 *     float y[6] = {0};
 *     st_tensor out = st_array("out.y", "F32", y, 2, 2, 3);      rank 2, shape [2, 3]
 *     if (!st_write("out.safetensors", &out, 1, NULL, 0, error)) …
 *
 * A file is: the header's length (8 bytes, little-endian), the header (JSON), the numbers. The offsets count
 * from the header's end:
 *
 *     {"__metadata__": {"key": "text"}, "in.x": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, …}
 *
 * Nothing in a file is trusted. A header that is no such JSON, a name that occurs twice, a shape, offsets and a
 * length of the file that do not fit, bytes that belong to no tensor or to two: each is an error that names the file
 * and the reason, and no memory is asked for that the file does not have. Every function is `static`, so that
 * the header can be included wherever it is needed.
 */
#ifndef VSEPP_SAFETENSORS_H
#define VSEPP_SAFETENSORS_H

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__GNUC__)
#define ST_API __attribute__((unused)) static
#else
#define ST_API static
#endif

/* The longest error, the most axes of a tensor, the longest header in bytes (that of the Rust library). */
enum { ST_ERROR = 512, ST_RANK = 8, ST_HEADER = 100000000 };

/* A tensor in C order. The numbers are those of this machine. In a file that was read they may lie at any
 * address, so read them with `st_number`, `st_integer` or `memcpy`. */
typedef struct {
    const char *name, *dtype; /* dtype: F64, F32, F16, BF16, I64, I32, I16, I8, U64, U32, U16, U8 or BOOL */
    int rank;
    size_t shape[ST_RANK];
    size_t count; /* the product of the shape */
    const void *data;
} st_tensor;

/* A text of the metadata. */
typedef struct {
    const char *key, *text;
} st_pair;

typedef struct {
    st_tensor *tensors;
    size_t count;
    st_pair *metadata;
    size_t metadata_count;
    unsigned char *bytes; /* the file, and the names in it */
    char *names;
} st_file;

/* == Types and numbers =========================================================================== */

static const char *const st_dtypes[] = {"F64", "F32", "F16", "BF16", "I64",  "I32", "I16",
                                        "I8",  "U64", "U32", "U16",  "U8", "BOOL"};
static const size_t st_sizes[] = {8, 4, 2, 2, 8, 4, 2, 1, 8, 4, 2, 1, 1};

/* The place of a type in these lists, or -1. */
ST_API int st_place(const char *dtype) {
    for (size_t i = 0; i < sizeof st_sizes / sizeof *st_sizes; i++)
        if (strcmp(st_dtypes[i], dtype) == 0) return (int)i;
    return -1;
}

/* Bytes per number of a type; 0 if the type is unknown. */
ST_API size_t st_size(const char *dtype) { return st_place(dtype) < 0 ? 0 : st_sizes[st_place(dtype)]; }

/* An integer of 1 to 8 bytes as it lies in memory, without its sign. */
ST_API uint64_t st_bits(const st_tensor *tensor, size_t k) {
    const unsigned char *at = (const unsigned char *)tensor->data + k * st_size(tensor->dtype);
    uint64_t wide;
    uint32_t four;
    uint16_t two;
    switch (st_size(tensor->dtype)) {
    case 8: return memcpy(&wide, at, 8), wide;
    case 4: return memcpy(&four, at, 4), four;
    case 2: return memcpy(&two, at, 2), two;
    default: return *at;
    }
}

/* Number k of a tensor of integers. */
ST_API int64_t st_integer(const st_tensor *tensor, size_t k) {
    uint64_t bits = st_bits(tensor, k);
    size_t size = st_size(tensor->dtype);
    if (tensor->dtype[0] == 'I' && size < 8 && bits >> (8 * size - 1)) bits |= UINT64_MAX << 8 * size; /* negative */
    int64_t value;
    memcpy(&value, &bits, 8);
    return value;
}

/* Number k of a tensor of any type. Integers above 2^53 are rounded. */
ST_API double st_number(const st_tensor *tensor, size_t k) {
    uint64_t bits = st_bits(tensor, k);
    uint32_t single = (uint32_t)bits;
    float value;
    double wide;
    switch (st_place(tensor->dtype)) {
    case 0: return memcpy(&wide, &bits, 8), wide;
    case 1: return memcpy(&value, &single, 4), (double)value;
    case 2: /* half precision: sign, 5 bits of exponent, 10 of fraction; the exponent's offset is 15, not 127 */
        single = (uint32_t)(bits >> 15) << 31 | (uint32_t)(bits & 0x7fff) << 13;
        if ((bits & 0x7c00) == 0x7c00) single |= 0x7f800000; /* infinity, NaN */
        memcpy(&value, &single, 4);
        return (double)value * ((bits & 0x7c00) == 0x7c00 ? 1 : 5192296858534827628530496329220096.0); /* 2^112 */
    case 3: return single <<= 16, memcpy(&value, &single, 4), (double)value;
    case 8: return (double)bits; /* U64 */
    default: return (double)st_integer(tensor, k);
    }
}

/* == Errors and memory =========================================================================== */

/* Writes "path: reason"; always false. What comes out of a damaged file may hold anything. */
ST_API bool st_fail(char *error, const char *path, const char *format, ...) {
    int length = snprintf(error, ST_ERROR, "%.200s: ", path);
    va_list values;
    va_start(values, format);
    vsnprintf(error + length, (size_t)(ST_ERROR - length), format, values);
    va_end(values);
    for (unsigned char *at = (unsigned char *)error; *at; at++)
        if (*at < ' ' || *at == 127) *at = '?';
    return false;
}

/* A list with room for one more element; NULL if there is no memory, and the list is as it was. */
ST_API void *st_more(void *list, size_t count, size_t size) {
    if (count & (count - 1)) return list; /* it grows at 0, 1, 2, 4, 8, … */
    size_t room = count ? 2 * count : 1;
    return room > SIZE_MAX / size ? NULL : realloc(list, room * size);
}

ST_API bool st_is_little(void) {
    const uint16_t one = 1;
    return *(const unsigned char *)&one == 1;
}

ST_API void st_free(st_file *file) {
    free(file->tensors);
    free(file->metadata);
    free(file->bytes);
    free(file->names);
    memset(file, 0, sizeof *file);
}

/* == Reading ===================================================================================== */

/* The place in a header, and where the next name goes. The header ends with a 0 that is not part of it. */
typedef struct {
    const char *at;
    char *names;
    const char *path;
    char *error;
} st_reader;

/* The next character after white space, if it is this one. */
ST_API bool st_take(st_reader *r, char wanted) {
    r->at += strspn(r->at, " \t\r\n");
    return *r->at == wanted ? (++r->at, true) : false;
}

/* Four hexadecimal digits, or -1. */
ST_API long st_hex(const char *at) {
    long value = 0;
    for (int i = 0; i < 4; i++) {
        const char *digits = "0123456789abcdef0123456789ABCDEF", *digit = at[i] ? strchr(digits, at[i]) : NULL;
        if (!digit) return -1;
        value = 16 * value + (digit - digits) % 16;
    }
    return value;
}

/* The character after a backslash, in UTF-8. */
ST_API bool st_escape(st_reader *r) {
    const char *plain = "\"\\/bfnrt", *meant = "\"\\/\b\f\n\r\t", *at = *r->at ? strchr(plain, *r->at) : NULL;
    if (at) return *r->names++ = meant[at - plain], r->at++, true;
    long code = *r->at == 'u' ? st_hex(r->at + 1) : -1;
    if (code <= 0) return false; /* \u0000 would end the name */
    r->at += 5;
    if (code >= 0xd800 && code < 0xdc00 && r->at[0] == '\\' && r->at[1] == 'u') { /* the first half of a pair */
        long low = st_hex(r->at + 2);
        if (low < 0xdc00 || low > 0xdfff) return false;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        r->at += 6;
    }
    if (code >= 0xd800 && code < 0xe000) return false; /* half a pair alone */
    int more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const int first[] = {0, 0xc0, 0xe0, 0xf0};
    *r->names++ = (char)(first[more] | code >> 6 * more);
    while (more-- > 0) *r->names++ = (char)(0x80 | (code >> 6 * more & 0x3f));
    return true;
}

/* A JSON string, decoded, or NULL. It is never longer than in the header. */
ST_API const char *st_string(st_reader *r) {
    const char *text = r->names;
    if (!st_take(r, '"')) return NULL;
    for (; *r->at != '"'; ) {
        if ((unsigned char)*r->at < ' ') return NULL; /* also the header's end */
        if (*r->at != '\\') *r->names++ = *r->at++;
        else if (r->at++, !st_escape(r)) return NULL;
    }
    *r->names++ = 0;
    return r->at++, text;
}

/* A list of whole numbers, such as [2, 3]: how many, or -1. */
ST_API int st_list(st_reader *r, size_t *list, int room) {
    int count = 0;
    if (!st_take(r, '[')) return -1;
    for (; !st_take(r, ']'); count++) {
        if (count == room || (count > 0 && !st_take(r, ','))) return -1;
        r->at += strspn(r->at, " \t\r\n");
        if (*r->at < '0' || *r->at > '9') return -1;
        for (list[count] = 0; *r->at >= '0' && *r->at <= '9'; r->at++) {
            size_t digit = (size_t)(*r->at - '0');
            if (list[count] > (SIZE_MAX - digit) / 10) return -1;
            list[count] = 10 * list[count] + digit;
        }
    }
    return count;
}

/* {"dtype": …, "shape": …, "data_offsets": …} in any order, after a tensor's name. `data`: the file's numbers. */
ST_API bool st_entry(st_reader *r, const char *name, unsigned char *data, size_t data_size, st_tensor *tensor) {
    size_t ends[2] = {0, 0};
    bool offsets = false, good = st_take(r, '{');
    memset(tensor, 0, sizeof *tensor);
    tensor->name = name;
    tensor->rank = -1;
    do {
        const char *key = good ? st_string(r) : NULL;
        if (!key || !st_take(r, ':')) good = false;
        else if (strcmp(key, "dtype") == 0 && !tensor->dtype) good = (tensor->dtype = st_string(r)) != NULL;
        else if (strcmp(key, "shape") == 0 && tensor->rank < 0)
            good = (tensor->rank = st_list(r, tensor->shape, ST_RANK)) >= 0;
        else if (strcmp(key, "data_offsets") == 0 && !offsets) good = offsets = st_list(r, ends, 2) == 2;
        else good = false;
    } while (good && st_take(r, ','));
    if (!good || !st_take(r, '}') || !tensor->dtype || tensor->rank < 0 || !offsets)
        return st_fail(r->error, r->path, "%.100s: expected dtype, shape (at most %d axes) and data_offsets", name,
                       (int)ST_RANK);
    size_t size = st_size(tensor->dtype);
    if (size == 0) return st_fail(r->error, r->path, "%.100s: the type %.20s is not known", name, tensor->dtype);
    if (ends[0] > ends[1] || ends[1] > data_size)
        return st_fail(r->error, r->path, "%.100s: expected data_offsets within %zu bytes, found [%zu, %zu]", name,
                       data_size, ends[0], ends[1]);
    tensor->count = 1;
    bool empty = false;
    for (int i = 0; i < tensor->rank; i++) empty = empty || tensor->shape[i] == 0;
    if (empty) tensor->count = 0;
    for (int i = 0; i < tensor->rank && !empty; i++) /* stops growing before it can overflow */
        tensor->count =
            tensor->count > data_size / tensor->shape[i] ? data_size + 1 : tensor->count * tensor->shape[i];
    if (tensor->count > data_size / size || tensor->count * size != ends[1] - ends[0])
        return st_fail(r->error, r->path, "%.100s: its shape does not take the %zu bytes of its data_offsets", name,
                       ends[1] - ends[0]);
    tensor->data = data + ends[0];
    return true;
}

/* {"key": "text", …} */
ST_API bool st_texts(st_reader *r, st_file *file) {
    if (!st_take(r, '{')) return false;
    if (st_take(r, '}')) return true;
    do {
        st_pair *more = (st_pair *)st_more(file->metadata, file->metadata_count, sizeof *more), *pair;
        if (!more) return false;
        pair = (file->metadata = more) + file->metadata_count;
        if (!(pair->key = st_string(r)) || !st_take(r, ':') || !(pair->text = st_string(r))) return false;
        file->metadata_count++;
    } while (st_take(r, ','));
    return st_take(r, '}');
}

ST_API int st_by_name(const void *left, const void *right) {
    return strcmp((*(const st_tensor *const *)left)->name, (*(const st_tensor *const *)right)->name);
}

ST_API int st_by_place(const void *left, const void *right) {
    const st_tensor *l = *(const st_tensor *const *)left, *r = *(const st_tensor *const *)right;
    if (l->data != r->data) return (const unsigned char *)l->data < (const unsigned char *)r->data ? -1 : 1;
    return (l->count > 0) - (r->count > 0); /* what has no numbers, before what begins there */
}

/* Every name occurs once, and the tensors fill the file's numbers without a gap. */
ST_API bool st_whole(const st_file *file, const unsigned char *data, size_t data_size, const char *path, char *error) {
    const st_tensor **sorted = (const st_tensor **)malloc((file->count + 1) * sizeof *sorted);
    if (!sorted) return st_fail(error, path, "no memory");
    for (size_t i = 0; i < file->count; i++) sorted[i] = &file->tensors[i];
    if (file->count) qsort(sorted, file->count, sizeof *sorted, st_by_name);
    const char *twice = NULL;
    for (size_t i = 1; i < file->count; i++)
        if (strcmp(sorted[i - 1]->name, sorted[i]->name) == 0) twice = sorted[i]->name;
    if (file->count) qsort(sorted, file->count, sizeof *sorted, st_by_place);
    size_t end = 0;
    bool gap = false;
    for (size_t i = 0; i < file->count && !gap; i++) {
        gap = (size_t)((const unsigned char *)sorted[i]->data - data) != end;
        end += sorted[i]->count * st_size(sorted[i]->dtype);
    }
    free(sorted);
    if (twice) return st_fail(error, path, "%.100s occurs twice", twice);
    return (!gap && end == data_size) ||
           st_fail(error, path, "some of its %zu bytes of numbers belong to no tensor, or to two", data_size);
}

/* The header of a file whose bytes are all read. */
ST_API bool st_header(st_file *file, size_t size, const char *path, char *error) {
    uint64_t length = 0;
    for (int i = 7; i >= 0 && size >= 8; i--) length = length << 8 | file->bytes[i];
    if (size < 8 || length > size - 8) return st_fail(error, path, "its %zu bytes end before its header does", size);
    if (length > ST_HEADER) return st_fail(error, path, "its header has more than %d bytes", (int)ST_HEADER);
    size_t room = (size_t)length, data_size = size - 8 - room;
    unsigned char *data = file->bytes + 8 + room;
    /* A copy that ends with a 0, and behind it the names, which take no more. */
    char *copy = file->names = (char *)malloc(2 * (room + 1));
    if (!copy) return st_fail(error, path, "no memory for its header of %zu bytes", room);
    memcpy(copy, file->bytes + 8, room);
    copy[room] = 0;
    st_reader r = {copy, copy + room + 1, path, error};
    bool good = st_take(&r, '{'), about = false;
    if (good && !st_take(&r, '}')) {
        do {
            const char *name = st_string(&r);
            if (!name || !st_take(&r, ':')) good = false;
            else if (strcmp(name, "__metadata__") == 0) good = !about && (about = true) && st_texts(&r, file);
            else {
                st_tensor *more = (st_tensor *)st_more(file->tensors, file->count, sizeof *more);
                if (!more) return st_fail(error, path, "no memory for its tensors");
                file->tensors = more;
                if (!st_entry(&r, name, data, data_size, &more[file->count])) return false;
                file->count++;
            }
        } while (good && st_take(&r, ','));
        good = good && st_take(&r, '}');
    }
    size_t after = good ? strspn(r.at, " \t\r\n") : 0;
    if (!good || r.at + after != copy + room)
        return st_fail(error, path, "its header is no JSON object of tensors and texts, from byte %zu on",
                       8 + (size_t)(r.at - copy));
    return st_whole(file, data, data_size, path, error);
}

/* Reads a file. After an error there is nothing to free. */
ST_API bool st_read(const char *path, st_file *file, char *error) {
    memset(file, 0, sizeof *file);
    FILE *stream = fopen(path, "rb");
    if (!stream) return st_fail(error, path, "cannot open it: %s", strerror(errno));
    long length = fgetc(stream) != EOF && fseek(stream, 0, SEEK_END) == 0 ? ftell(stream) : ferror(stream) ? -1 : 0;
    size_t size = length < 0 ? 0 : (size_t)length;
    bool good = length >= 0 && fseek(stream, 0, SEEK_SET) == 0;
    if (!good) st_fail(error, path, "cannot read it: %s", strerror(errno));
    if (good && !(file->bytes = (unsigned char *)malloc(size ? size : 1)))
        good = st_fail(error, path, "no memory for its %zu bytes", size);
    if (good && fread(file->bytes, 1, size, stream) != size)
        good = st_fail(error, path, "cannot read its %zu bytes", size);
    fclose(stream);
    good = good && st_header(file, size, path, error);
    for (size_t i = 0; i < file->count && good && !st_is_little(); i++) { /* to this machine's order */
        size_t item = st_size(file->tensors[i].dtype);
        unsigned char *at = (unsigned char *)(uintptr_t)file->tensors[i].data;
        for (size_t k = 0; k < file->tensors[i].count; k++, at += item)
            for (size_t b = 0; b < item / 2; b++) {
                unsigned char byte = at[b];
                at[b] = at[item - 1 - b];
                at[item - 1 - b] = byte;
            }
    }
    if (!good) st_free(file);
    return good;
}

ST_API const st_tensor *st_find(const st_file *file, const char *name) {
    for (size_t i = 0; i < file->count; i++)
        if (strcmp(file->tensors[i].name, name) == 0) return &file->tensors[i];
    return NULL;
}

/* The metadata's text under a key, or NULL. */
ST_API const char *st_text(const st_file *file, const char *key) {
    for (size_t i = 0; i < file->metadata_count; i++)
        if (strcmp(file->metadata[i].key, key) == 0) return file->metadata[i].text;
    return NULL;
}

/* == Writing ===================================================================================== */

/* A tensor to write, with `rank` axes; they follow as values of type int: st_array("y", "F32", y, 2, 4, 3). */
ST_API st_tensor st_array(const char *name, const char *dtype, const void *data, int rank, ...) {
    st_tensor tensor;
    memset(&tensor, 0, sizeof tensor);
    tensor.name = name;
    tensor.dtype = dtype;
    tensor.data = data;
    tensor.rank = rank;
    tensor.count = 1;
    va_list axes;
    va_start(axes, rank);
    for (int i = 0; i < rank && i < ST_RANK; i++) {
        tensor.shape[i] = (size_t)va_arg(axes, int);
        tensor.count *= tensor.shape[i];
    }
    va_end(axes);
    return tensor;
}

/* Text that grows. After the first failure it stays as it is. */
typedef struct {
    char *text;
    size_t length, room;
    bool failed;
} st_buffer;

ST_API void st_put(st_buffer *buffer, char c) {
    if (buffer->length == buffer->room && !buffer->failed) {
        size_t room = buffer->room ? 2 * buffer->room : 1024;
        char *more = (char *)realloc(buffer->text, room);
        if (more) buffer->text = more, buffer->room = room;
        else buffer->failed = true;
    }
    if (!buffer->failed) buffer->text[buffer->length++] = c;
}

ST_API void st_puts(st_buffer *buffer, const char *text) {
    while (*text) st_put(buffer, *text++);
}

ST_API void st_put_size(st_buffer *buffer, size_t number) {
    char digits[24];
    snprintf(digits, sizeof digits, "%zu", number);
    st_puts(buffer, digits);
}

/* A JSON string. */
ST_API void st_quote(st_buffer *buffer, const char *text) {
    st_put(buffer, '"');
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        char code[8];
        if (c == '"' || c == '\\') st_put(buffer, '\\');
        if (c >= ' ') st_put(buffer, *text);
        else snprintf(code, sizeof code, "\\u%04x", (unsigned)c), st_puts(buffer, code);
    }
    st_put(buffer, '"');
}

/* Writes tensors in the given order, and metadata if there are any. Two calls with the same values write the same
 * bytes. After an error the file is gone. */
ST_API bool st_write(const char *path, const st_tensor *tensors, size_t count, const st_pair *metadata,
                     size_t metadata_count, char *error) {
    st_buffer header = {NULL, 0, 0, false};
    size_t offset = 0;
    st_put(&header, '{');
    for (size_t i = 0; i < metadata_count; i++) {
        st_puts(&header, i ? "," : "\"__metadata__\":{");
        st_quote(&header, metadata[i].key);
        st_put(&header, ':');
        st_quote(&header, metadata[i].text);
    }
    if (metadata_count) st_puts(&header, count ? "}," : "}");
    for (size_t i = 0; i < count; i++) {
        const st_tensor *tensor = &tensors[i];
        size_t item = st_size(tensor->dtype), product = 1;
        if (item == 0 || tensor->rank < 0 || tensor->rank > ST_RANK)
            return free(header.text), st_fail(error, path, "%.100s: expected a known type and at most %d axes",
                                              tensor->name, (int)ST_RANK);
        for (int axis = 0; axis < tensor->rank; axis++) product *= tensor->shape[axis];
        if (product != tensor->count || product > (SIZE_MAX - offset) / item)
            return free(header.text), st_fail(error, path, "%.100s: its count is not the product of its shape",
                                              tensor->name);
        for (size_t other = 0; other < i; other++)
            if (strcmp(tensors[other].name, tensor->name) == 0)
                return free(header.text), st_fail(error, path, "%.100s occurs twice", tensor->name);
        if (i) st_put(&header, ',');
        st_quote(&header, tensor->name);
        st_puts(&header, ":{\"dtype\":");
        st_quote(&header, tensor->dtype);
        st_puts(&header, ",\"shape\":[");
        for (int axis = 0; axis < tensor->rank; axis++) {
            if (axis) st_put(&header, ',');
            st_put_size(&header, tensor->shape[axis]);
        }
        st_puts(&header, "],\"data_offsets\":[");
        st_put_size(&header, offset);
        st_put(&header, ',');
        st_put_size(&header, offset += item * product);
        st_puts(&header, "]}");
    }
    st_put(&header, '}');
    while (header.length % 8 && !header.failed) st_put(&header, ' '); /* so that the numbers are aligned */
    if (header.failed) return free(header.text), st_fail(error, path, "no memory for the header");

    FILE *stream = fopen(path, "wb");
    if (!stream) return free(header.text), st_fail(error, path, "cannot write it: %s", strerror(errno));
    for (int i = 0; i < 8; i++) fputc((int)((uint64_t)header.length >> 8 * i & 255), stream);
    fwrite(header.text, 1, header.length, stream);
    free(header.text);
    for (size_t i = 0; i < count; i++) {
        size_t item = st_size(tensors[i].dtype);
        const unsigned char *at = (const unsigned char *)tensors[i].data;
        if (st_is_little() && tensors[i].count) fwrite(at, item, tensors[i].count, stream);
        for (size_t k = 0; k < tensors[i].count && !st_is_little(); k++, at += item)
            for (size_t b = item; b-- > 0;) fputc(at[b], stream);
    }
    bool bad = ferror(stream) != 0;
    if (fclose(stream) == 0 && !bad) return true;
    st_fail(error, path, "cannot write it: %s", strerror(errno));
    remove(path);
    return false;
}

#endif
