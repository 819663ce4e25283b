/* A bundle's start: find our own file, provide the launcher in the first usable place, become the launcher. */
#include "stub.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __APPLE__
#include <mach-o/dyld.h>
#else
#include <sys/auxv.h>
#endif

/* Opens this executable. Its path is made absolute for the launcher, which reads the rest of the bundle. */
static int open_self(char path[PATH_MAX], char *argv0) {
#ifdef __APPLE__
    char started[PATH_MAX];
    uint32_t length = sizeof started;
    if (!realpath(_NSGetExecutablePath(started, &length) == 0 ? started : argv0, path))
        return -1;
#else
    const char *started = (const char *)getauxval(AT_EXECFN);
    ssize_t size = readlink("/proc/self/exe", path, PATH_MAX - 1);
    if (size > 0)
        path[size] = 0;
    else if (!realpath(started ? started : argv0, path)) /* no /proc */
        return -1;
#endif
    return open(path, O_RDONLY | O_CLOEXEC);
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
    struct stat facts;
    if (argc > 0)
        program = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
    int file = open_self(path, argc > 0 ? argv[0] : "");
    if (file < 0)
        return complain(EXIT_FAILED, "cannot read its own file", "is it readable for you, and not deleted?");
    if (fstat(file, &facts) != 0)
        return damaged(strerror(errno));
    int code = find_launcher(file, (uint64_t)facts.st_size, &launcher);
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
