/* The first bytes of a bundle: finds the launcher in its own file, unpacks it once into a cache folder, runs it.
 *
 *   header.c  what the builder wrote into this file, and the messages
 *   ustar.c   the tar reader, strict
 *   sha256.c  FIPS 180-4
 *
 * are the same for every system, and have the rest of it behind the functions of "the system" below. On Linux
 * and macOS:
 *
 *   stub.c    what a bundle's start is: the loop over the places, exec
 *   cache.c   which folders may serve as the cache, and whether one is usable
 *   unpack.c  launcher.tar -> <root>/launcher-<hash>/, once, whoever else is doing the same
 *   files.c   the system
 *
 * windows/ holds the same for Windows. Single-threaded, static. The order of the places and the checks are the same
 * as in runtime/paths.py.
 */
#ifndef QWENFILE_STUB_H
#define QWENFILE_STUB_H

#include <limits.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>

#ifdef _WIN32
typedef void *file_t;             /* a HANDLE */
typedef const wchar_t *folder_t;  /* a path with its last backslash */
#else
#include <sys/types.h>
typedef int file_t, folder_t;
#endif

enum { EXIT_FAILED = 1, EXIT_DAMAGED = 3, EXIT_NO_CACHE = 126 };

enum result {
    DONE,
    DAMAGED,     /* the bundle is broken: no other place will help */
    UNUSABLE,    /* this place cannot serve: try the next */
    INTERRUPTED, /* Ctrl-C, or being told to end */
};

/* What the builder writes into the stub; runtime/bundle.py holds the other description of the same 88 bytes. */
struct bundle_header {
    char magic[16];
    uint32_t version;
    uint32_t flags;
    uint64_t launcher_offset, launcher_size;
    uint8_t launcher_sha256[32];
    uint64_t manifest_offset, manifest_size;
};

/* The launcher.tar inside this bundle. */
struct launcher {
    file_t file;            /* the bundle, open for reading */
    uint64_t offset, size;  /* of launcher.tar, in bytes */
    uint8_t sha256[32];
    char hash[65];          /* the same in hexadecimal */
    char folder[32];        /* "launcher-" and the first 16 digits */
};

/* Why the last function that did not return DONE failed; one phrase, for the message. */
extern char reason[512];
enum result fail(enum result result, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* One line on stderr: what happened, and what to do next; returns `code`. `program`: how messages call the bundle. */
extern const char *program;
int complain(int code, const char *what, const char *remedy);
int damaged(const char *what);

/* Reads the header; 0, or the exit code after a message. `size`: of the whole file. */
int find_launcher(file_t file, uint64_t size, struct launcher *launcher);

/* Set by what interrupts (signals, a console's events) while unpacking, so that nothing is left behind. */
extern volatile sig_atomic_t interrupted;

/* Writes the files into `folder`; appends "<size> <name>\n" for each to `index`. Checks the hash of the whole. */
enum result ustar_unpack(const struct launcher *launcher, folder_t folder, char *index, size_t index_size);

/* The system. Names are UTF-8, relative to `folder`, with "/" between their parts. */
void write_line(const char *line);                                                 /* to stderr */
enum result file_read(file_t file, void *data, size_t size, uint64_t offset);      /* all of it */
enum result file_create(folder_t folder, const char *name, int executable, file_t *file);
enum result file_write(file_t file, const char *data, size_t size);                /* all of it */
enum result file_close(file_t file, enum result result); /* flushed to the disk if the result until now is DONE */
enum result folder_make(folder_t folder, const char *name);                        /* or it is there */

#ifndef _WIN32
/* A candidate for the cache. */
struct place {
    char path[PATH_MAX];
    int temporary;  /* in a folder of the system: it must exist, and a link in place of ours is refused */
    uid_t owner;    /* of the home folder it lies in, or ours */
};

enum { MAX_PLACES = 8 };

size_t cache_places(struct place places[MAX_PLACES]);
int cache_open(const struct place *place); /* a folder descriptor, or -1 and a reason */

enum result provide(int root, const struct launcher *launcher, int replace);
#endif

struct sha256 {
    uint32_t state[8];
    uint64_t length; /* bytes so far */
    uint8_t block[64];
};
void sha256_start(struct sha256 *hash);
void sha256_add(struct sha256 *hash, const void *data, size_t size);
void sha256_end(struct sha256 *hash, uint8_t digest[32]);

#endif
