/* A strict reader of POSIX ustar: regular files and directories, nothing that could lead out of the folder.
 *
 * The folder is fresh and nobody else's, and no links are ever made in it: relative names without ".." stay inside.
 * The bytes are hashed as they are read; the caller publishes nothing before the hash is right.
 */
#include "stub.h"

#include <stdio.h>
#include <string.h>

enum { BLOCK = 512, CHUNK = 256 * 1024 };

struct header { /* POSIX.1-1988, section 10.1.1 */
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100];
    char magic[6], version[2], user[32], group[32], major[8], minor[8], prefix[155], rest[12];
};
_Static_assert(sizeof(struct header) == BLOCK, "a ustar header is one block");

struct input {
    file_t file;
    uint64_t offset, left; /* bytes of launcher.tar */
    struct sha256 hash;
};

static enum result take(struct input *in, void *data, size_t size) {
    if (size > in->left)
        return fail(DAMAGED, "its launcher ends too early");
    enum result result = file_read(in->file, data, size, in->offset);
    if (result != DONE)
        return result;
    sha256_add(&in->hash, data, size);
    in->offset += size, in->left -= size;
    return DONE;
}

/* Octal digits up to a space or NUL; -1 for anything else (GNU's binary sizes too). */
static int64_t octal(const char *field, size_t size) {
    int64_t value = 0;
    size_t i = 0;
    while (i < size && field[i] >= '0' && field[i] <= '7')
        value = value * 8 + (field[i++] - '0');
    return i && (i == size || field[i] == 0 || field[i] == ' ') ? value : -1;
}

static int checksum_right(const struct header *header) {
    const unsigned char *bytes = (const unsigned char *)header;
    size_t from = offsetof(struct header, checksum), to = from + sizeof header->checksum;
    int64_t sum = 0;
    for (size_t i = 0; i < BLOCK; i++)
        sum += i >= from && i < to ? ' ' : bytes[i];
    return octal(header->checksum, sizeof header->checksum) == sum;
}

/* prefix "/" name, without the slash that ends a folder's name; DAMAGED when it could lead anywhere but inside. */
static enum result entry_name(const struct header *header, char name[300]) {
    int length = snprintf(name, 300, "%.155s%s%.100s", header->prefix, header->prefix[0] ? "/" : "", header->name);
    if (length > 0 && header->type == '5' && name[length - 1] == '/')
        name[length - 1] = 0;
    for (const char *part = name;;) {
        size_t size = strcspn(part, "/");
        if (size == 0 || (size == 1 && part[0] == '.') || (size == 2 && part[0] == '.' && part[1] == '.'))
            return fail(DAMAGED, "its launcher holds an entry with the forbidden name '%s'", name);
        if (!part[size])
            return DONE;
        part += size + 1;
    }
}

static enum result make_parents(folder_t folder, char *name) {
    enum result result = DONE;
    for (char *at = strchr(name, '/'); at && result == DONE; at = strchr(at + 1, '/')) {
        *at = 0;
        result = folder_make(folder, name);
        *at = '/';
    }
    return result;
}

static enum result copy(struct input *in, file_t file, uint64_t size) {
    static char chunk[CHUNK];
    while (size) {
        size_t part = size < CHUNK ? (size_t)size : CHUNK;
        size_t padded = (part + BLOCK - 1) / BLOCK * BLOCK; /* CHUNK is a multiple of BLOCK: only the last is padded */
        enum result result = take(in, chunk, padded);
        if (result == DONE)
            result = file_write(file, chunk, part);
        if (result != DONE)
            return result;
        size -= part;
    }
    return DONE;
}

static enum result unpack_file(struct input *in, folder_t folder, char *name, const struct header *header) {
    int64_t size = octal(header->size, sizeof header->size), mode = octal(header->mode, sizeof header->mode);
    file_t file;
    if (size < 0 || mode < 0)
        return fail(DAMAGED, "its launcher holds '%s' with an unreadable size", name);
    enum result result = make_parents(folder, name);
    if (result == DONE)
        result = file_create(folder, name, (mode & 0100) != 0, &file);
    return result == DONE ? file_close(file, copy(in, file, (uint64_t)size)) : result;
}

static enum result unpack_entry(struct input *in, folder_t folder, const struct header *header, char **index, char *end) {
    char name[300];
    if (memcmp(header->magic, "ustar\0" "00", 8) != 0 || !checksum_right(header))
        return fail(DAMAGED, "its launcher is not a readable archive");
    enum result result = entry_name(header, name);
    if (result != DONE)
        return result;
    if (header->type == '5') {
        result = make_parents(folder, name);
        return result == DONE ? folder_make(folder, name) : result;
    }
    if (header->type != '0' && header->type != 0)
        return fail(DAMAGED, "its launcher holds '%s', neither a file nor a folder", name);
    *index += snprintf(*index, (size_t)(end - *index), "%lld %s\n",
                       (long long)octal(header->size, sizeof header->size), name);
    if (*index >= end)
        return fail(DAMAGED, "its launcher holds too many files");
    return unpack_file(in, folder, name, header);
}

static enum result finish(struct input *in, const struct launcher *launcher) {
    uint8_t digest[32];
    char rest[BLOCK];
    while (in->left) {
        enum result result = take(in, rest, in->left < BLOCK ? (size_t)in->left : BLOCK);
        if (result != DONE)
            return result;
    }
    sha256_end(&in->hash, digest);
    return memcmp(digest, launcher->sha256, sizeof digest) == 0
               ? DONE
               : fail(DAMAGED, "the SHA-256 of its launcher is not the one the builder wrote down");
}

enum result ustar_unpack(const struct launcher *launcher, folder_t folder, char *index, size_t index_size) {
    struct input in = {.file = launcher->file, .offset = launcher->offset, .left = launcher->size};
    struct header header;
    char *end = index + index_size;
    index += strlen(index);
    sha256_start(&in.hash);
    for (;;) {
        enum result result = take(&in, &header, BLOCK);
        if (result == DONE && header.name[0] == 0)
            return finish(&in, launcher); /* the archive ends with empty blocks */
        if (result == DONE)
            result = unpack_entry(&in, folder, &header, &index, end);
        if (result != DONE)
            return result;
    }
}
