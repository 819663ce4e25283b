/* The places, and launcher.tar -> <root>\launcher-<hash>\, once, whoever else is doing the same at the same time.
 *
 *   <root>\launcher-<hash>.lock               held while unpacking; the system deletes it when its holder ends
 *   <root>\launcher-<hash>.work-<pid>-<n>\    unfinished, or on its way out; a later start removes it
 *   <root>\launcher-<hash>\                   whole: it appears by one rename
 *   <root>\launcher-<hash>\.complete          the full hash and the size and name of every file
 *
 * ../unpack.c does the same for Linux, runtime/paths.py has the same places.
 */
#include "shared.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOCK_WAIT_SECONDS = 60, MOVE_WAIT_SECONDS = 5, STALE_SECONDS = 24 * 3600, INDEX_SIZE = 256 * 1024 };

/* An absolute path as an extended one with a last backslash. 0 when there is none, or no room for what goes below. */
static int extended(const wchar_t *path, wchar_t out[MAX_PATH_LENGTH]) {
    static wchar_t whole[MAX_PATH_LENGTH];
    DWORD length = path && *path ? GetFullPathNameW(path, MAX_PATH_LENGTH, whole, NULL) : 0;
    if (!length || length >= MAX_PATH_LENGTH - 1024)
        return 0;
    if (wcsncmp(whole, L"\\\\?\\", 4) == 0 || wcsncmp(whole, L"\\\\.\\", 4) == 0)
        wcscpy(out, whole);
    else if (wcsncmp(whole, L"\\\\", 2) == 0)
        wcscpy(out, L"\\\\?\\UNC"), wcscat(out, whole + 1);
    else
        wcscpy(out, L"\\\\?\\"), wcscat(out, whole);
    if (out[wcslen(out) - 1] != L'\\')
        wcscat(out, L"\\");
    return 1;
}

/* The variable's value with `behind` after it; empty if there is no such variable. */
static const wchar_t *variable(const wchar_t *name, const wchar_t *behind) {
    static wchar_t value[MAX_PATH_LENGTH];
    DWORD length = GetEnvironmentVariableW(name, value, MAX_PATH_LENGTH - 64);
    if (!length || length >= MAX_PATH_LENGTH - 64)
        return L"";
    return wcscat(value, behind);
}

size_t cache_places(wchar_t places[MAX_PLACES][MAX_PATH_LENGTH]) {
    size_t count = 0;
    count += (size_t)extended(variable(L"QWENFILE_CACHE", L""), places[count]);
    count += (size_t)extended(variable(L"LOCALAPPDATA", L"\\qwenfile"), places[count]);
    count += (size_t)extended(variable(L"USERPROFILE", L"\\AppData\\Local\\qwenfile"), places[count]);
    count += (size_t)extended(variable(L"TEMP", L"\\qwenfile"), places[count]);
    return count;
}

static enum result failed(void) { return fail(UNUSABLE, "%s", error_text(GetLastError())); }

/* mkdir -p. What cannot be made is told by whoever uses it. */
static void make_folders(const wchar_t *folder) {
    static wchar_t path[MAX_PATH_LENGTH];
    wcscpy(path, folder);
    for (wchar_t *at = wcschr(path + 4, L'\\'); at; at = wcschr(at + 1, L'\\')) {
        *at = 0;
        CreateDirectoryW(path, NULL);
        *at = L'\\';
    }
}

static void remove_tree(const wchar_t *path) {
    wchar_t *inside = malloc(MAX_PATH_LENGTH * sizeof *inside);
    WIN32_FIND_DATAW entry;
    if (inside) {
        _snwprintf(inside, MAX_PATH_LENGTH, L"%ls\\*", path);
        HANDLE search = FindFirstFileW(inside, &entry);
        for (BOOL more = search != INVALID_HANDLE_VALUE; more; more = FindNextFileW(search, &entry)) {
            if (wcscmp(entry.cFileName, L".") == 0 || wcscmp(entry.cFileName, L"..") == 0)
                continue;
            _snwprintf(inside, MAX_PATH_LENGTH, L"%ls\\%ls", path, entry.cFileName);
            if (!(entry.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY))
                DeleteFileW(inside);
            else if (entry.dwFileAttributes & FILE_ATTRIBUTE_REPARSE_POINT)
                RemoveDirectoryW(inside); /* the link, not what it leads to */
            else
                remove_tree(inside);
        }
        if (search != INVALID_HANDLE_VALUE)
            FindClose(search);
        free(inside);
    }
    RemoveDirectoryW(path);
}

/* Reads a whole small file; its size, or -1. */
static long read_small(const wchar_t *path, char *data, DWORD size) {
    DWORD n = 0;
    HANDLE file = CreateFileW(path, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_DELETE, NULL, OPEN_EXISTING, 0, NULL);
    if (file == INVALID_HANDLE_VALUE)
        return -1;
    BOOL ok = ReadFile(file, data, size, &n, NULL);
    CloseHandle(file);
    return ok ? (long)n : -1;
}

/* <root><launcher->folder> and `end` behind it; in a buffer that the next call takes. */
static wchar_t *launcher_path(const wchar_t *root, const struct launcher *launcher, const char *end) {
    static wchar_t path[MAX_PATH_LENGTH];
    _snwprintf(path, MAX_PATH_LENGTH, L"%ls%hs%hs", root, launcher->folder, end);
    return path;
}

/* Whether root holds this launcher with all its files in their full sizes. */
static int complete(const wchar_t *root, const struct launcher *launcher) {
    static char index[INDEX_SIZE];
    long size = read_small(launcher_path(root, launcher, "\\.complete"), index, sizeof index - 1);
    if (size <= 65 || memcmp(index, launcher->hash, 64) != 0 || index[64] != '\n' || index[size - 1] != '\n')
        return 0;
    const wchar_t *folder = launcher_path(root, launcher, "\\");
    index[size] = 0;
    for (char *line = index + 65, *end; *line; line = end + 1) {
        WIN32_FILE_ATTRIBUTE_DATA facts;
        unsigned long long length = strtoull(line, &line, 10);
        end = strchr(line, '\n');
        *end = 0;
        const wchar_t *path = *line == ' ' ? file_path(folder, line + 1) : NULL;
        if (!path || !GetFileAttributesExW(path, GetFileExInfoStandard, &facts)
            || facts.dwFileAttributes & (FILE_ATTRIBUTE_DIRECTORY | FILE_ATTRIBUTE_REPARSE_POINT)
            || ((unsigned long long)facts.nFileSizeHigh << 32 | facts.nFileSizeLow) != length)
            return 0;
    }
    return 1;
}

/* The handle of the held lock, or INVALID_HANDLE_VALUE where there can be none: then the rename decides. */
static HANDLE take_lock(const wchar_t *path) {
    for (int tries = 0; tries < LOCK_WAIT_SECONDS * 100 && !interrupted; tries++) {
        HANDLE lock = CreateFileW(path, GENERIC_WRITE | DELETE, 0, NULL, OPEN_ALWAYS, FILE_FLAG_DELETE_ON_CLOSE, NULL);
        /* denied: its holder has closed it, and it is not gone yet */
        if (lock != INVALID_HANDLE_VALUE
            || (GetLastError() != ERROR_SHARING_VIOLATION && GetLastError() != ERROR_ACCESS_DENIED))
            return lock;
        Sleep(10);
    }
    return INVALID_HANDLE_VALUE;
}

/* Takes away what killed processes left: ours for certain if we hold the lock, others' when they are old. */
static void sweep(const wchar_t *root, const struct launcher *launcher, int locked) {
    static wchar_t path[MAX_PATH_LENGTH];
    WIN32_FIND_DATAW entry;
    FILETIME now;
    GetSystemTimeAsFileTime(&now);
    uint64_t then = ((uint64_t)now.dwHighDateTime << 32 | now.dwLowDateTime) - STALE_SECONDS * 10000000ull;
    _snwprintf(path, MAX_PATH_LENGTH, L"%lslauncher-*.work-*", root);
    HANDLE search = FindFirstFileW(path, &entry);
    for (BOOL more = search != INVALID_HANDLE_VALUE; more; more = FindNextFileW(search, &entry)) {
        uint64_t made = (uint64_t)entry.ftLastWriteTime.dwHighDateTime << 32 | entry.ftLastWriteTime.dwLowDateTime;
        int ours = strncmp(utf8(entry.cFileName), launcher->folder, strlen(launcher->folder)) == 0;
        if ((ours && locked) || made < then) {
            _snwprintf(path, MAX_PATH_LENGTH, L"%ls%ls", root, entry.cFileName);
            remove_tree(path);
        }
    }
    if (search != INVALID_HANDLE_VALUE)
        FindClose(search);
}

/* Unpacks into `work` and writes the list of files, which is what makes the folder count as whole. */
static enum result fill(const wchar_t *work, const struct launcher *launcher) {
    static char index[INDEX_SIZE];
    static wchar_t folder[MAX_PATH_LENGTH];
    HANDLE file;
    _snwprintf(folder, MAX_PATH_LENGTH, L"%ls\\", work);
    snprintf(index, sizeof index, "%s\n", launcher->hash);
    enum result result = ustar_unpack(launcher, folder, index, sizeof index);
    if (result == DONE)
        result = file_create(folder, ".complete", 0, &file);
    return result == DONE ? file_close(file, file_write(file, index, strlen(index))) : result;
}

/* Gives a folder another name. Virus scanners look into what is new, and nothing they hold open can be moved. */
static int move(const wchar_t *from, const wchar_t *to) {
    for (int tries = 0; tries < MOVE_WAIT_SECONDS * 50; tries++) {
        if (MoveFileExW(from, to, 0))
            return 1;
        DWORD error = GetLastError();
        if ((error != ERROR_ACCESS_DENIED && error != ERROR_SHARING_VIOLATION)
            || GetFileAttributesW(to) != INVALID_FILE_ATTRIBUTES)
            break;
        Sleep(20);
    }
    return 0;
}

/* Gives the work folder its final name. What stands there already is used if it is whole, else moved away. */
static enum result publish(const wchar_t *root, const wchar_t *work, const struct launcher *launcher, int replace) {
    static wchar_t final[MAX_PATH_LENGTH], old[MAX_PATH_LENGTH];
    wcscpy(final, launcher_path(root, launcher, ""));
    for (int tries = 0; tries < 3; tries++) {
        if (move(work, final))
            return DONE;
        if (GetFileAttributesW(final) == INVALID_FILE_ATTRIBUTES)
            break;
        if (!replace && complete(root, launcher)) { /* another process was faster */
            remove_tree(work);
            return DONE;
        }
        _snwprintf(old, MAX_PATH_LENGTH, L"%ls-old-%d", work, tries);
        if (!move(final, old))
            break;
        DeleteFileW(old);
        remove_tree(old);
    }
    return failed();
}

static enum result unpack(const wchar_t *root, const struct launcher *launcher, int replace) {
    static wchar_t work[MAX_PATH_LENGTH];
    ULARGE_INTEGER room;
    char end[64];
    if (GetDiskFreeSpaceExW(root, &room, NULL, NULL) && room.QuadPart < launcher->size)
        return fail(UNUSABLE, "%llu MB free, %llu MB needed", room.QuadPart / 1000000, launcher->size / 1000000 + 1);
    for (int n = 0;; n++) {
        snprintf(end, sizeof end, ".work-%lu-%d", GetCurrentProcessId(), n);
        wcscpy(work, launcher_path(root, launcher, end));
        if (CreateDirectoryW(work, NULL))
            break;
        if (GetLastError() != ERROR_ALREADY_EXISTS || n == 1000)
            return failed();
    }
    enum result result = fill(work, launcher);
    if (result == DONE)
        result = publish(root, work, launcher, replace);
    if (result != DONE)
        remove_tree(work);
    return result;
}

enum result provide(const wchar_t *root, const struct launcher *launcher, int replace) {
    if (!replace && complete(root, launcher))
        return DONE;
    make_folders(root);
    HANDLE lock = take_lock(launcher_path(root, launcher, ".lock"));
    enum result result = interrupted ? INTERRUPTED : DONE;
    if (result == DONE && (replace || !complete(root, launcher))) {
        sweep(root, launcher, lock != INVALID_HANDLE_VALUE);
        result = unpack(root, launcher, replace);
    }
    if (lock != INVALID_HANDLE_VALUE)
        CloseHandle(lock);
    return result;
}
