/* A bundle's start on Windows: find our own file, provide the launcher in the first usable place, run it in a job. */
#include "shared.h"

#include <stdio.h>
#include <string.h>

enum { EXIT_INTERRUPTED = 130, CLEANUP_MILLISECONDS = 4500 };

static HANDLE running; /* the launcher's process, once it runs */

/* Ctrl-C and Ctrl-Break reach the launcher, too, which decides; while there is none they end the unpacking. When the
 * console is closed the system ends us as soon as this returns: the launcher, or the cleaning up, gets its time. */
static BOOL WINAPI on_event(DWORD event) {
    interrupted = 1;
    if (event != CTRL_C_EVENT && event != CTRL_BREAK_EVENT) {
        if (running)
            WaitForSingleObject(running, CLEANUP_MILLISECONDS);
        else
            Sleep(CLEANUP_MILLISECONDS);
    }
    return TRUE;
}

/* Opened by a double-click, the console goes away with us, and the message with it. */
static void keep_window(void) {
    DWORD others[2], mode, done;
    wchar_t key = 0;
    HANDLE in = GetStdHandle(STD_INPUT_HANDLE);
    if (GetConsoleProcessList(others, 2) != 1 || !GetConsoleMode(in, &mode))
        return;
    write_line("\nPress Enter to close this window.");
    FlushConsoleInputBuffer(in);
    SetConsoleMode(in, ENABLE_PROCESSED_INPUT); /* key by key */
    while (key != L'\r' && key != L'\n' && ReadConsoleW(in, &key, 1, &done, NULL) && done)
        continue;
}

static int finish(int code) {
    if (code != 0 && code != EXIT_INTERRUPTED && (DWORD)code != STATUS_CONTROL_C_EXIT)
        keep_window();
    return code;
}

/* Opens this executable; its path and its size. */
static HANDLE open_self(wchar_t path[MAX_PATH_LENGTH], uint64_t *size) {
    LARGE_INTEGER found;
    DWORD length = GetModuleFileNameW(NULL, path, MAX_PATH_LENGTH);
    if (!length || length >= MAX_PATH_LENGTH)
        return INVALID_HANDLE_VALUE;
    if (wcsncmp(path, L"UNC\\", 4) == 0) { /* on a share, as wine tells it: \\server\share without its beginning */
        path[2] = L'\\';
        memmove(path, path + 2, (length - 1) * sizeof *path);
    }
    HANDLE file = CreateFileW(path, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_DELETE, NULL, OPEN_EXISTING, 0, NULL);
    if (file != INVALID_HANDLE_VALUE && GetFileSizeEx(file, &found))
        *size = (uint64_t)found.QuadPart;
    return file;
}

/* A job that ends its processes when its last handle is closed, which is ours: no launcher outlives us, however we end.
 * What the launcher starts (a browser, an editor) is no part of it. */
static HANDLE make_job(void) {
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION limits = {
        .BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE | JOB_OBJECT_LIMIT_SILENT_BREAKAWAY_OK};
    HANDLE job = CreateJobObjectW(NULL, NULL);
    if (job)
        SetInformationJobObject(job, JobObjectExtendedLimitInformation, &limits, sizeof limits);
    return job;
}

/* The path as other programs understand it, if it is short enough for them. */
static const wchar_t *plain(const wchar_t *path) {
    static wchar_t share[MAX_PATH + 8];
    if (wcslen(path) >= MAX_PATH + 4 || wcsncmp(path, L"\\\\?\\", 4) != 0)
        return path;
    if (wcsncmp(path + 4, L"UNC\\", 4) == 0) {
        _snwprintf(share, MAX_PATH + 8, L"\\%ls", path + 7);
        return share;
    }
    return path[5] == L':' ? path + 4 : path;
}

/* Runs the launcher with our command line, streams and environment, and waits. Returns only if it cannot be started:
 * DAMAGED when the copy in the cache is to blame. */
static enum result run(const wchar_t *root, const struct launcher *launcher, int *code) {
    static wchar_t path[MAX_PATH_LENGTH];
    STARTUPINFOW start = {.cb = sizeof start, .dwFlags = STARTF_USESTDHANDLES};
    PROCESS_INFORMATION process;
    DWORD result;
    _snwprintf(path, MAX_PATH_LENGTH, L"%ls%hs\\launcher.exe", root, launcher->folder);
    start.hStdInput = GetStdHandle(STD_INPUT_HANDLE);
    start.hStdOutput = GetStdHandle(STD_OUTPUT_HANDLE);
    start.hStdError = GetStdHandle(STD_ERROR_HANDLE);
    for (int i = 0; i < 3; i++) /* they may have been given to us alone */
        SetHandleInformation((HANDLE[]){start.hStdInput, start.hStdOutput, start.hStdError}[i], HANDLE_FLAG_INHERIT,
                             HANDLE_FLAG_INHERIT);
    HANDLE job = make_job();
    if (!CreateProcessW(plain(path), GetCommandLineW(), NULL, NULL, TRUE, CREATE_SUSPENDED, NULL, NULL, &start, &process)) {
        DWORD error = GetLastError();
        int broken = error == ERROR_FILE_NOT_FOUND || error == ERROR_PATH_NOT_FOUND || error == ERROR_BAD_EXE_FORMAT;
        return fail(broken ? DAMAGED : UNUSABLE, "cannot execute: %s", error_text(error));
    }
    running = process.hProcess;
    if (job)
        AssignProcessToJobObject(job, process.hProcess);
    ResumeThread(process.hThread);
    WaitForSingleObject(process.hProcess, INFINITE);
    GetExitCodeProcess(process.hProcess, &result);
    *code = (int)result;
    return DONE;
}

static enum result try_place(const wchar_t *root, const struct launcher *launcher, int *code) {
    enum result result = DONE;
    for (int replace = 0; replace < 2; replace++) {
        result = provide(root, launcher, replace);
        if (interrupted && result != DAMAGED)
            return INTERRUPTED;
        if (result != DONE)
            return result;
        result = run(root, launcher, code);
        if (result != DAMAGED)
            break;
    }
    return result == DAMAGED ? UNUSABLE : result;
}

/* The bundle's name without its folder, for messages. */
static const char *name_of(const wchar_t *path) {
    static char name[3 * MAX_PATH];
    const wchar_t *slash = wcsrchr(path, L'\\');
    snprintf(name, sizeof name, "%s", utf8(slash ? slash + 1 : path));
    return name;
}

int main(void) {
    static wchar_t path[MAX_PATH_LENGTH], places[MAX_PLACES][MAX_PATH_LENGTH];
    static char tried[64 * 1024];
    struct launcher launcher;
    uint64_t size = 0;
    int code = EXIT_FAILED;
    SetConsoleCtrlHandler(on_event, TRUE);
    HANDLE file = open_self(path, &size);
    program = name_of(path);
    if (file == INVALID_HANDLE_VALUE)
        return finish(complain(EXIT_FAILED, "cannot read its own file", "is it readable for you, and not deleted?"));
    code = find_launcher(file, size, &launcher);
    if (code)
        return finish(code);
    SetEnvironmentVariableW(L"QWENFILE_BUNDLE", path);

    size_t count = cache_places(places), used = (size_t)snprintf(tried, sizeof tried, "no usable cache folder; tried ");
    for (size_t i = 0; i < count; i++) {
        enum result result = try_place(places[i], &launcher, &code);
        if (result == DONE)
            return finish(code);
        if (result == DAMAGED)
            return finish(damaged(reason));
        if (result == INTERRUPTED)
            return EXIT_INTERRUPTED;
        if (used < sizeof tried)
            used += (size_t)snprintf(tried + used, sizeof tried - used, "%s%s: %s", i ? "; " : "",
                                     utf8(plain(places[i])), reason);
    }
    return finish(complain(EXIT_NO_CACHE, tried, "set QWENFILE_CACHE to a folder of your own"));
}
