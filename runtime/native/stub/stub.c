/* A bundle's start: find our own file, provide the launcher in the first usable place, become the launcher. */
#include "stub.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

/* The builder finds it by its magic, which stands nowhere else in this file. Volatile: the values change after
 * compilation. Until then all but magic and version is zero. */
__attribute__((used, aligned(16))) static const volatile struct bundle_header HEADER = {
    .magic = "\x89QWENFILE\r\n\x1a\n\0\0",
    .version = 1,
};
_Static_assert(sizeof(struct bundle_header) == 88, "runtime/bundle.py writes 88 bytes");

char reason[512];
volatile sig_atomic_t interrupted;
static const char *self = "qwenfile"; /* how messages call the bundle */

enum result fail(enum result result, const char *format, ...) {
    va_list values;
    va_start(values, format);
    vsnprintf(reason, sizeof reason, format, values);
    va_end(values);
    return result;
}

/* One line on stderr: what happened, and what to do next. */
static int complain(int code, const char *what, const char *remedy) {
    const char *name = strrchr(self, '/');
    dprintf(STDERR_FILENO, "%s: %s (%s)\n", name ? name + 1 : self, what, remedy);
    return code;
}

static int damaged(const char *what) {
    char message[640];
    snprintf(message, sizeof message, "this file is damaged: %s", what);
    return complain(EXIT_DAMAGED, message, "copy or download it again");
}

/* Opens this executable. Its path is made absolute for the launcher, which reads the rest of the bundle. */
static int open_self(char path[PATH_MAX], char *argv0) {
    const char *started = (const char *)getauxval(AT_EXECFN);
    ssize_t size = readlink("/proc/self/exe", path, PATH_MAX - 1);
    if (size > 0)
        path[size] = 0;
    else if (!realpath(started ? started : argv0, path)) /* no /proc */
        return -1;
    return open(path, O_RDONLY | O_CLOEXEC);
}

/* Reads the header; 0, or the exit code after a message. */
static int find_launcher(int file, struct launcher *launcher) {
    const volatile struct bundle_header *header = &HEADER;
    uint64_t end = header->launcher_offset + header->launcher_size;
    uint64_t manifest_end = header->manifest_offset + header->manifest_size;
    struct stat facts;
    char message[160];
    if (header->launcher_size == 0)
        return complain(EXIT_DAMAGED, "this is only the first part of a bundle, without a launcher",
                        "make a bundle with 'qwenfile build MODEL.gguf'");
    if (fstat(file, &facts) != 0)
        return damaged(strerror(errno));
    if (end < manifest_end)
        end = manifest_end;
    if (header->version != 1 || end < header->launcher_size || end < header->manifest_size)
        return damaged("its header makes no sense");
    if (end > (uint64_t)facts.st_size) {
        snprintf(message, sizeof message, "it is cut off: %llu bytes of at least %llu",
                 (unsigned long long)facts.st_size, (unsigned long long)end);
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

static void interrupt(int signal) { interrupted = signal; }

/* While unpacking, signals that end a process let it clean up first; afterwards the launcher gets the defaults. */
static void catch_signals(int catch) {
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    static struct sigaction before[3];
    const struct sigaction ours = {.sa_handler = interrupt};
    for (int i = 0; i < 3; i++) {
        if (!catch)
            sigaction(signals[i], &before[i], NULL);
        else if (sigaction(signals[i], NULL, &before[i]) == 0 && before[i].sa_handler != SIG_IGN)
            sigaction(signals[i], &ours, NULL);
    }
}

/* Ctrl-C waits from here until the launcher's first lines (bundler/freeze.py): an interpreter that is interrupted while
 * it sets itself up shows a traceback. */
static void hold_interrupt(int how) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigprocmask(how, &set, NULL);
}

/* Becomes the launcher. Returns only if that fails: DAMAGED when the copy in the cache is to blame. */
static enum result run(int root, const struct place *place, const struct launcher *launcher, char **argv) {
    char path[PATH_MAX];
    struct stat facts;
    snprintf(path, sizeof path, "%s/%s/launcher", place->path, launcher->folder);
    if (access("/proc/self/exe", F_OK) != 0)
        argv[0] = path; /* without /proc this is how the launcher finds its own folder */
    hold_interrupt(SIG_BLOCK);
    execv(path, argv);
    int error = errno;
    hold_interrupt(SIG_UNBLOCK);
    snprintf(path, sizeof path, "%s/launcher", launcher->folder);
    if (error == ENOENT && fstatat(root, path, &facts, 0) == 0) {
        complain(EXIT_FAILED, "this bundle needs a Linux system with glibc; its program loader is missing here",
                 "on Alpine and other musl systems run it in a Debian or Fedora container");
        exit(EXIT_FAILED);
    }
    return fail(error == ENOENT || error == ENOEXEC ? DAMAGED : UNUSABLE, "cannot execute: %s", strerror(error));
}

static enum result try_place(const struct place *place, const struct launcher *launcher, char **argv) {
    int root = cache_open(place);
    if (root < 0)
        return UNUSABLE;
    enum result result = DONE;
    for (int replace = 0; replace < 2; replace++) {
        catch_signals(1);
        result = provide(root, launcher, replace);
        catch_signals(0);
        if (interrupted && result != INTERRUPTED)
            result = INTERRUPTED;
        if (result != DONE || run(root, place, launcher, argv) != DAMAGED)
            break;
    }
    close(root);
    return result == DONE ? UNUSABLE : result;
}

int main(int argc, char **argv) {
    static struct place places[MAX_PLACES];
    static char path[PATH_MAX], tried[MAX_PLACES * (PATH_MAX + sizeof reason)];
    struct launcher launcher;
    if (argc > 0)
        self = argv[0];
    int file = open_self(path, argc > 0 ? argv[0] : "");
    if (file < 0)
        return complain(EXIT_FAILED, "cannot read its own file", "is it readable for you, and not deleted?");
    int code = find_launcher(file, &launcher);
    if (code)
        return code;
    setenv("QWENFILE_BUNDLE", path, 1);

    size_t count = cache_places(places), used = (size_t)snprintf(tried, sizeof tried, "no usable cache folder; tried ");
    for (size_t i = 0; i < count; i++) {
        enum result result = try_place(&places[i], &launcher, argv);
        if (result == DAMAGED)
            return damaged(reason);
        if (result == INTERRUPTED)
            raise(interrupted); /* with its default action again: who started us sees the true reason */
        used += (size_t)snprintf(tried + used, sizeof tried - used, "%s%s: %s", i ? "; " : "", places[i].path, reason);
    }
    return complain(EXIT_NO_CACHE, tried, "set QWENFILE_CACHE to a folder of your own that allows execution");
}
