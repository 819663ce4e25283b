/* What the builder wrote into this file, and the messages. */
#include "stub.h"

#include <stdarg.h>
#include <stdio.h>

/* The builder finds it by its magic, which stands nowhere else in this file. Volatile: the values change after
 * compilation. Until then all but magic and version is zero. */
__attribute__((used, aligned(16))) static const volatile struct bundle_header HEADER = {
    .magic = "\x89QWENFILE\r\n\x1a\n\0\0",
    .version = 1,
};
_Static_assert(sizeof(struct bundle_header) == 88, "runtime/bundle.py writes 88 bytes");

char reason[512];
volatile sig_atomic_t interrupted;
const char *program = "qwenfile";

enum result fail(enum result result, const char *format, ...) {
    va_list values;
    va_start(values, format);
    vsnprintf(reason, sizeof reason, format, values);
    va_end(values);
    return result;
}

int complain(int code, const char *what, const char *remedy) {
    static char line[128 * 1024]; /* a reason for every place that was tried */
    snprintf(line, sizeof line, "%s: %s (%s)\n", program, what, remedy);
    write_line(line);
    return code;
}

int damaged(const char *what) {
    char message[640];
    snprintf(message, sizeof message, "this file is damaged: %s", what);
    return complain(EXIT_DAMAGED, message, "copy or download it again");
}

int find_launcher(file_t file, uint64_t size, struct launcher *launcher) {
    const volatile struct bundle_header *header = &HEADER;
    uint64_t end = header->launcher_offset + header->launcher_size;
    uint64_t manifest_end = header->manifest_offset + header->manifest_size;
    char message[160];
    if (header->launcher_size == 0)
        return complain(EXIT_DAMAGED, "this is only the first part of a bundle, without a launcher",
                        "make a bundle with 'qwenfile build MODEL.gguf'");
    if (end < manifest_end)
        end = manifest_end;
    if (header->version != 1 || end < header->launcher_size || end < header->manifest_size)
        return damaged("its header makes no sense");
    if (end > size) {
        snprintf(message, sizeof message, "it is cut off: %llu bytes of at least %llu",
                 (unsigned long long)size, (unsigned long long)end);
        return damaged(message);
    }
    *launcher = (struct launcher){.file = file, .offset = header->launcher_offset, .size = header->launcher_size};
    for (int i = 0; i < 32; i++) {
        launcher->sha256[i] = header->launcher_sha256[i];
        snprintf(launcher->hash + 2 * i, 3, "%02x", launcher->sha256[i]);
    }
    snprintf(launcher->folder, sizeof launcher->folder, "launcher-%.16s", launcher->hash);
    return 0;
}
