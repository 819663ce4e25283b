/* What the parts of the stub for Windows share. Paths are UTF-16; those below a cache are extended ("\\?\C:\..."), so
 * that their length is no matter.
 *
 *   start.c   main: our own file, the loop over the places, the launcher in a job, the console
 *   cache.c   the places, and launcher.tar -> <root>\launcher-<hash>\, once, whoever else is doing the same
 *   files.c   the system, for the parts that every system shares
 */
#ifndef QWENFILE_SHARED_H
#define QWENFILE_SHARED_H

#include "../stub.h"

#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>

enum { MAX_PATH_LENGTH = 32768, MAX_PLACES = 4 };

/* UTF-8 of a path, for messages; in one of four buffers that take turns. */
const char *utf8(const wchar_t *text);

/* What the system says about an error. */
const char *error_text(DWORD error);

/* folder + name, with backslashes; in one of two buffers that take turns. NULL and a reason if `name` is none that may
 * be in an archive. */
wchar_t *file_path(folder_t folder, const char *name);

/* The candidates for the cache, best first; each ends with a backslash. Returns their number. */
size_t cache_places(wchar_t places[MAX_PLACES][MAX_PATH_LENGTH]);

/* Makes <root>\<launcher->folder> whole. `replace`: even if it looks whole, since it would not run. */
enum result provide(const wchar_t *root, const struct launcher *launcher, int replace);

#endif
