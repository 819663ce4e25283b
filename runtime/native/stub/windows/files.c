/* The system, for the parts that every system shares: Windows. */
#include "shared.h"

#include <stdio.h>
#include <string.h>

const char *utf8(const wchar_t *text) {
    static char buffers[4][3 * MAX_PATH_LENGTH];
    static int turn;
    char *buffer = buffers[turn = (turn + 1) % 4];
    if (!WideCharToMultiByte(CP_UTF8, 0, text, -1, buffer, sizeof buffers[0], NULL, NULL))
        buffer[0] = 0;
    return buffer;
}

const char *error_text(DWORD error) {
    static wchar_t text[256];
    DWORD length = FormatMessageW(FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS, NULL, error, 0, text,
                                  sizeof text / sizeof *text, NULL);
    while (length && (text[length - 1] <= ' ' || text[length - 1] == '.'))
        length--;
    if (!length)
        return "error of an unknown kind";
    text[length] = 0;
    return utf8(text);
}

void write_line(const char *line) {
    static wchar_t wide[128 * 1024];
    HANDLE out = GetStdHandle(STD_ERROR_HANDLE);
    DWORD mode, done;
    int length = (int)strlen(line);
    if (GetConsoleMode(out, &mode)) /* a console takes UTF-16, whatever its code page is */
        WriteConsoleW(out, wide, (DWORD)MultiByteToWideChar(CP_UTF8, 0, line, length, wide, sizeof wide / sizeof *wide),
                      &done, NULL);
    else
        WriteFile(out, line, (DWORD)length, &done, NULL);
}

wchar_t *file_path(folder_t folder, const char *name) {
    static wchar_t buffers[2][MAX_PATH_LENGTH];
    static int turn;
    wchar_t *path = buffers[turn = !turn];
    size_t used = wcslen(folder);
    /* A colon would name a stream, a backslash a folder that ustar.c has not looked at. */
    if (strpbrk(name, "\\:*?\"<>|") || used + strlen(name) >= MAX_PATH_LENGTH) {
        fail(DAMAGED, "its launcher holds an entry with the forbidden name '%s'", name);
        return NULL;
    }
    wcscpy(path, folder);
    if (!MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, name, -1, path + used, (int)(MAX_PATH_LENGTH - used))) {
        fail(DAMAGED, "its launcher holds an entry whose name is no text");
        return NULL;
    }
    for (wchar_t *at = path + used; *at; at++)
        if (*at == L'/')
            *at = L'\\';
    return path;
}

enum result file_read(HANDLE file, void *data, size_t size, uint64_t offset) {
    for (size_t done = 0; done < size;) {
        uint64_t at = offset + done;
        OVERLAPPED place = {.Offset = (DWORD)at, .OffsetHigh = (DWORD)(at >> 32)};
        DWORD n = 0;
        BOOL ok = ReadFile(file, (char *)data + done, (DWORD)(size - done), &n, &place);
        if (interrupted)
            return INTERRUPTED;
        if (!ok || !n)
            return fail(DAMAGED, "cannot be read: %s",
                        ok || GetLastError() == ERROR_HANDLE_EOF ? "the file ends too early" : error_text(GetLastError()));
        done += n;
    }
    return DONE;
}

enum result file_create(folder_t folder, const char *name, int executable, HANDLE *file) {
    (void)executable; /* on Windows every file is */
    const wchar_t *path = file_path(folder, name);
    if (!path)
        return DAMAGED;
    *file = CreateFileW(path, GENERIC_WRITE, 0, NULL, CREATE_NEW, FILE_ATTRIBUTE_NORMAL, NULL);
    if (*file != INVALID_HANDLE_VALUE)
        return DONE;
    if (GetLastError() == ERROR_FILE_EXISTS)
        return fail(DAMAGED, "its launcher holds '%s' twice", name);
    return fail(UNUSABLE, "%s", error_text(GetLastError()));
}

enum result file_write(HANDLE file, const char *data, size_t size) {
    while (size) {
        DWORD n = 0;
        BOOL ok = WriteFile(file, data, (DWORD)size, &n, NULL);
        if (interrupted)
            return INTERRUPTED;
        if (!ok)
            return fail(UNUSABLE, "%s", error_text(GetLastError()));
        data += n, size -= n;
    }
    return DONE;
}

enum result file_close(HANDLE file, enum result result) {
    if (result == DONE && !FlushFileBuffers(file))
        result = fail(UNUSABLE, "%s", error_text(GetLastError()));
    CloseHandle(file);
    return result;
}

enum result folder_make(folder_t folder, const char *name) {
    const wchar_t *path = file_path(folder, name);
    if (!path)
        return DAMAGED;
    if (CreateDirectoryW(path, NULL) || GetLastError() == ERROR_ALREADY_EXISTS)
        return DONE;
    return fail(UNUSABLE, "%s", error_text(GetLastError()));
}
