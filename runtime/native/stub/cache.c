/* Which folders may serve as the cache, best first, and whether one is usable; runtime/paths.py does the same. */
#include "stub.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __APPLE__
#include <sys/mount.h>
#else
#include <sys/statvfs.h>
#endif

static void add(struct place *places, size_t *count, int temporary, uid_t owner, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

static void add(struct place *places, size_t *count, int temporary, uid_t owner, const char *format, ...) {
    struct place *place = &places[*count];
    va_list values;
    va_start(values, format);
    int length = vsnprintf(place->path, sizeof place->path, format, values);
    va_end(values);
    /* Names of work folders and of the launcher's files are put behind it. */
    if (length <= 0 || length >= PATH_MAX - 512)
        return;
    for (size_t i = 0; i < *count; i++)
        if (strcmp(places[i].path, place->path) == 0)
            return;
    place->temporary = temporary;
    place->owner = owner;
    ++*count;
}

/* The variable's value if it is an absolute path; the XDG specification asks to ignore others. */
static const char *absolute(const char *name) {
    const char *value = getenv(name);
    return value && value[0] == '/' ? value : NULL;
}

/* Where files of the user go. With sudo it may be somebody else's home: what root makes there would lock them out. */
static uid_t owner_of(const char *folder) {
    struct stat facts;
    return stat(folder, &facts) == 0 ? facts.st_uid : geteuid();
}

size_t cache_places(struct place places[MAX_PLACES]) {
    size_t count = 0;
    uid_t me = geteuid();
    const char *value = getenv("QWENFILE_CACHE");
    char here[PATH_MAX];
    if (value && value[0] == '/')
        add(places, &count, 0, me, "%s", value);
    else if (value && value[0] && getcwd(here, sizeof here))
        add(places, &count, 0, me, "%s/%s", here, value);

    const char *home = absolute("HOME");
    if (!home) { /* an empty environment: ask for the account's */
        const struct passwd *account = getpwuid(me);
        home = account && account->pw_dir[0] == '/' ? account->pw_dir : NULL;
    }
#ifdef __APPLE__
    if (home)
        add(places, &count, 0, owner_of(home), "%s/Library/Caches/qwenfile", home);
#else
    if ((value = absolute("XDG_CACHE_HOME")))
        add(places, &count, 0, owner_of(value), "%s/qwenfile", value);
    else if (home)
        add(places, &count, 0, owner_of(home), "%s/.cache/qwenfile", home);
#endif

    if ((value = absolute("XDG_RUNTIME_DIR")))
        add(places, &count, 1, me, "%s/qwenfile", value);
    if ((value = absolute("TMPDIR")))
        add(places, &count, 1, me, "%s/qwenfile-%u", value, me);
    add(places, &count, 1, me, "/var/tmp/qwenfile-%u", me);
    add(places, &count, 1, me, "/tmp/qwenfile-%u", me);
    return count;
}

static int forbids_execution(int folder) {
#ifdef __APPLE__
    struct statfs facts;
    return fstatfs(folder, &facts) == 0 && facts.f_flags & MNT_NOEXEC;
#else
    struct statvfs facts;
    return fstatvfs(folder, &facts) == 0 && facts.f_flag & ST_NOEXEC;
#endif
}

/* mkdir -p, 0700 for what it makes; for a temporary place only the last level. */
static void make(const struct place *place) {
    char path[PATH_MAX];
    strcpy(path, place->path);
    for (char *at = strchr(path + 1, '/'); at && !place->temporary; at = strchr(at + 1, '/')) {
        *at = 0;
        mkdir(path, 0700); /* mostly there; opening it tells what went wrong */
        *at = '/';
    }
    mkdir(path, 0700);
}

static int refuse(int folder, const char *why) {
    fail(UNUSABLE, "%s", why);
    if (folder >= 0)
        close(folder);
    return -1;
}

/* A folder with a known name in a folder where anybody may rename it is not ours, whoever owns it now. */
static int parent_safe(int folder) {
    struct stat facts;
    return fstatat(folder, "..", &facts, 0) == 0 && (!(facts.st_mode & S_IWOTH) || facts.st_mode & S_ISVTX);
}

int cache_open(const struct place *place) {
    struct stat facts;
    char why[80];
    int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | (place->temporary ? O_NOFOLLOW : 0);
    if (place->owner != geteuid()) {
        snprintf(why, sizeof why, "the home folder belongs to user %u", place->owner);
        return refuse(-1, why);
    }
    int folder = open(place->path, flags);
    if (folder < 0 && errno == ENOENT) {
        make(place);
        folder = open(place->path, flags);
    }
    if (folder < 0) {
        int error = errno;
        int link = lstat(place->path, &facts) == 0 && S_ISLNK(facts.st_mode) && place->temporary;
        return refuse(-1, link ? "is a link" : strerror(error));
    }
    if (fstat(folder, &facts) != 0)
        return refuse(folder, strerror(errno));
    if (facts.st_uid != geteuid()) {
        snprintf(why, sizeof why, "belongs to user %u", facts.st_uid);
        return refuse(folder, why);
    }
    if (facts.st_mode & (S_IWGRP | S_IWOTH)) {
        snprintf(why, sizeof why, "others may write to it (mode %04o)", facts.st_mode & 07777);
        return refuse(folder, why);
    }
    if (place->temporary && !parent_safe(folder))
        return refuse(folder, "anybody may rename entries of the folder above");
    if (forbids_execution(folder))
        return refuse(folder, "the filesystem does not allow execution");
    if (faccessat(folder, ".", W_OK | X_OK, AT_EACCESS) != 0)
        return refuse(folder, errno == EACCES ? "not writable" : strerror(errno));
    return folder;
}
