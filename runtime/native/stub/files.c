/* The system, for the parts that every system shares: POSIX. */
#include "stub.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void write_line(const char *line) { dprintf(STDERR_FILENO, "%s", line); }

enum result file_read(int file, void *data, size_t size, uint64_t offset) {
    for (size_t done = 0; done < size;) {
        ssize_t n = pread(file, (char *)data + done, size - done, (off_t)(offset + done));
        if (interrupted)
            return INTERRUPTED;
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return fail(DAMAGED, "cannot be read: %s", n ? strerror(errno) : "the file ends too early");
        done += (size_t)n;
    }
    return DONE;
}

enum result file_create(int folder, const char *name, int executable, int *file) {
    *file = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, executable ? 0700 : 0600);
    if (*file < 0 && errno == EEXIST)
        return fail(DAMAGED, "its launcher holds '%s' twice", name);
    return *file < 0 ? fail(UNUSABLE, "%s", strerror(errno)) : DONE;
}

enum result file_write(int file, const char *data, size_t size) {
    while (size) {
        ssize_t n = write(file, data, size);
        if (interrupted)
            return INTERRUPTED;
        if (n < 0 && errno != EINTR)
            return fail(UNUSABLE, "%s", strerror(errno));
        if (n > 0)
            data += n, size -= (size_t)n;
    }
    return DONE;
}

enum result file_close(int file, enum result result) {
    if (result == DONE && fsync(file) != 0)
        result = fail(UNUSABLE, "%s", strerror(errno));
    if (close(file) != 0 && result == DONE)
        result = fail(UNUSABLE, "%s", strerror(errno));
    return result;
}

enum result folder_make(int folder, const char *name) {
    return mkdirat(folder, name, 0700) == 0 || errno == EEXIST ? DONE : fail(UNUSABLE, "%s", strerror(errno));
}
