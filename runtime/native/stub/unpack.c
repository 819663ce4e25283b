/* launcher.tar -> <root>/launcher-<hash>/, once, whoever else is doing the same at the same time.
 *
 *   <root>/launcher-<hash>.lock               held while unpacking; gone afterwards
 *   <root>/launcher-<hash>.work-<pid>-<n>/    unfinished, or on its way out; a later start removes it
 *   <root>/launcher-<hash>/                   whole: it appears by one rename
 *   <root>/launcher-<hash>/.complete          the full hash and the size and name of every file
 *
 * The list makes a cache with missing or cut files visible at the price of one stat per file: what cleans /tmp by
 * age removes single files. A killed process leaves a work folder and an unlocked lock file; the next one to unpack
 * takes both away.
 */
#include "stub.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

enum { LOCK_WAIT_SECONDS = 60, STALE_SECONDS = 24 * 3600, INDEX_SIZE = 256 * 1024 };

/* Deletes a folder and what is in it, never following a link. */
static void remove_tree(int parent, const char *name) {
    int folder = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *entries = folder >= 0 ? fdopendir(folder) : NULL;
    if (!entries) {
        if (folder >= 0)
            close(folder);
        return;
    }
    for (struct dirent *entry; (entry = readdir(entries));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (unlinkat(folder, entry->d_name, 0) != 0)
            remove_tree(folder, entry->d_name);
    }
    closedir(entries);
    unlinkat(parent, name, AT_REMOVEDIR);
}

/* Whether root holds this launcher with all its files in their full sizes. */
static int complete(int root, const struct launcher *launcher) {
    static char index[INDEX_SIZE];
    struct stat facts;
    int whole = 0, folder = openat(root, launcher->folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (folder < 0)
        return 0;
    int file = openat(folder, ".complete", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    ssize_t size = file >= 0 ? read(file, index, sizeof index - 1) : -1;
    if (file >= 0)
        close(file);
    if (size > 65 && memcmp(index, launcher->hash, 64) == 0 && index[64] == '\n' && index[size - 1] == '\n') {
        whole = 1;
        index[size] = 0;
        for (char *line = index + 65, *end; whole && *line; line = end + 1) {
            long long length = strtoll(line, &line, 10);
            end = strchr(line, '\n');
            *end = 0;
            whole = *line == ' ' && fstatat(folder, line + 1, &facts, AT_SYMLINK_NOFOLLOW) == 0
                    && S_ISREG(facts.st_mode) && facts.st_size == length;
        }
    }
    close(folder);
    return whole;
}

/* The descriptor of the held lock, or -1 where there can be none: then the rename decides, and only that. */
static int take_lock(int root, const char *name) {
    const struct timespec moment = {.tv_nsec = 10 * 1000 * 1000};
    for (int tries = 0; tries < LOCK_WAIT_SECONDS * 100;) {
        struct stat facts;
        int file = openat(root, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (file < 0)
            return -1;
        while (flock(file, LOCK_EX | LOCK_NB) != 0) {
            if (errno != EWOULDBLOCK || interrupted || ++tries >= LOCK_WAIT_SECONDS * 100) {
                close(file);
                return -1;
            }
            nanosleep(&moment, NULL);
        }
        if (fstat(file, &facts) == 0 && facts.st_nlink > 0)
            return file;
        close(file); /* the one before us is through and took the name away */
    }
    return -1;
}

static void release_lock(int root, const char *name, int lock) {
    if (lock >= 0) {
        unlinkat(root, name, 0); /* while it is held: who waits for it looks again */
        close(lock);
    }
}

/* Takes away what killed processes left: ours for certain if we hold the lock, others' when they are old. */
static void sweep(int root, const struct launcher *launcher, int locked) {
    int copy = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *entries = copy >= 0 ? fdopendir(copy) : NULL;
    if (!entries) {
        if (copy >= 0)
            close(copy);
        return;
    }
    for (struct dirent *entry; (entry = readdir(entries));) {
        struct stat facts;
        if (strncmp(entry->d_name, "launcher-", 9) != 0 || !strstr(entry->d_name, ".work-"))
            continue;
        int ours = strncmp(entry->d_name, launcher->folder, strlen(launcher->folder)) == 0;
        if (fstatat(root, entry->d_name, &facts, AT_SYMLINK_NOFOLLOW) == 0
            && ((ours && locked) || time(NULL) - facts.st_mtime > STALE_SECONDS))
            remove_tree(root, entry->d_name);
    }
    closedir(entries);
}

/* A free name for a work folder; the folder itself too unless it is for moving something away. */
static int work_name(int root, const struct launcher *launcher, char name[80], int make) {
    for (int n = 0; n < 1000; n++) {
        struct stat facts;
        snprintf(name, 80, "%s.work-%d-%d", launcher->folder, (int)getpid(), n);
        if (make ? mkdirat(root, name, 0700) == 0 : fstatat(root, name, &facts, AT_SYMLINK_NOFOLLOW) != 0)
            return 1;
        if (make && errno != EEXIST)
            return 0;
    }
    return 0;
}

static enum result fill(int root, const char *work, const struct launcher *launcher) {
    static char index[INDEX_SIZE];
    int folder = openat(root, work, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (folder < 0)
        return fail(UNUSABLE, "%s", strerror(errno));
    snprintf(index, sizeof index, "%s\n", launcher->hash);
    enum result result = ustar_unpack(launcher, folder, index, sizeof index);
    if (result == DONE) {
        size_t size = strlen(index);
        int file = openat(folder, ".complete", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (file < 0 || write(file, index, size) != (ssize_t)size || fsync(file) != 0 || fsync(folder) != 0)
            result = fail(UNUSABLE, "%s", strerror(errno));
        if (file >= 0)
            close(file);
    }
    close(folder);
    return result;
}

/* Gives the work folder its final name. What stands there already is used if it is whole, else moved away. */
static enum result publish(int root, const char *work, const struct launcher *launcher, int replace) {
    char old[80];
    for (int tries = 0; tries < 3; tries++) {
        if (renameat(root, work, root, launcher->folder) == 0) {
            fsync(root);
            return DONE;
        }
        if (errno != EEXIST && errno != ENOTEMPTY && errno != ENOTDIR)
            break;
        if (!replace && complete(root, launcher)) { /* another process was faster */
            remove_tree(root, work);
            return DONE;
        }
        if (!work_name(root, launcher, old, 0) || renameat(root, launcher->folder, root, old) != 0)
            break;
        unlinkat(root, old, 0);
        remove_tree(root, old);
    }
    return fail(UNUSABLE, "%s", strerror(errno));
}

static enum result unpack(int root, const struct launcher *launcher, int replace) {
    struct statvfs room;
    char work[80];
    if (fstatvfs(root, &room) == 0 && (uint64_t)room.f_bavail * room.f_frsize < launcher->size)
        return fail(UNUSABLE, "%llu MB free, %llu MB needed",
                    (unsigned long long)room.f_bavail * room.f_frsize / 1000000,
                    (unsigned long long)launcher->size / 1000000 + 1);
    if (!work_name(root, launcher, work, 1))
        return fail(UNUSABLE, "%s", strerror(errno));
    enum result result = fill(root, work, launcher);
    if (result == DONE)
        result = publish(root, work, launcher, replace);
    if (result != DONE)
        remove_tree(root, work);
    return result;
}

/* Makes <root>/<launcher->folder> whole. `replace`: even if it looks whole, since it would not run. */
enum result provide(int root, const struct launcher *launcher, int replace) {
    char name[80];
    if (!replace && complete(root, launcher))
        return DONE;
    snprintf(name, sizeof name, "%s.lock", launcher->folder);
    int lock = take_lock(root, name);
    enum result result = interrupted ? INTERRUPTED : DONE;
    if (result == DONE && (replace || !complete(root, launcher))) {
        sweep(root, launcher, lock >= 0);
        result = unpack(root, launcher, replace);
    }
    release_lock(root, name, lock);
    return result;
}
