// SPDX-License-Identifier: LGPL-2.1-or-later
// A main() for fuzz targets without libFuzzer: runs LLVMFuzzerTestOneInput over every file of the
// directories named on the command line, so that ctest replays each corpus with any compiler.
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void replay_file(const char *path)
{
    FILE *file = fopen(path, "rbe");
    if (!file) {
        perror(path);
        exit(1);
    }
    uint8_t *data = malloc(2 << 20);
    size_t size = fread(data, 1, 2 << 20, file);
    uint8_t *exact =
        malloc(size ? size : 1); // exact size, so that ASan sees the first byte too far
    memcpy(exact, data, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    free(data);
    fclose(file);
}

int main(int argc, char **argv)
{
    unsigned n_files = 0;
    for (int i = 1; i < argc; i++) {
        struct dirent **entries = NULL;
        int n = scandir(argv[i], &entries, NULL, alphasort);
        for (int k = 0; k < n; k++) {
            if (entries[k]->d_name[0] != '.') {
                char path[4096];
                snprintf(path, sizeof(path), "%s/%s", argv[i], entries[k]->d_name);
                replay_file(path);
                n_files++;
            }
            free(entries[k]);
        }
        free(entries);
    }
    printf("%u files replayed\n", n_files);
    return n_files > 0 ? 0 : 1;
}
