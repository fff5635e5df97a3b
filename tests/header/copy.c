/* Prints the tensors and the metadata of a safetensors file, and writes them again. C99 and C++17.
 *
 *     cc -I examples/backends tests/header/copy.c -o copy && ./copy IN OUT
 */
#include "safetensors.h"

int main(int argc, char **argv) {
    st_file file;
    char error[ST_ERROR];
    if (argc != 3) return 2;
    if (!st_read(argv[1], &file, error)) return printf("%s\n", error), 1;
    for (size_t i = 0; i < file.metadata_count; i++) printf("%s = %s\n", file.metadata[i].key, file.metadata[i].text);
    for (size_t i = 0; i < file.count; i++) {
        const st_tensor *tensor = st_find(&file, file.tensors[i].name);
        printf("%s %s [", tensor->name, tensor->dtype);
        for (int axis = 0; axis < tensor->rank; axis++) printf("%s%zu", axis ? ", " : "", tensor->shape[axis]);
        printf("]:");
        for (size_t k = 0; k < tensor->count; k++) printf(" %.9g", st_number(tensor, k));
        printf("\n");
    }
    bool good = st_write(argv[2], file.tensors, file.count, file.metadata, file.metadata_count, error);
    if (!good) printf("%s\n", error);
    st_free(&file);
    return good ? 0 : 1;
}
