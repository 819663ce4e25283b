/* Prints the server's options as the engine tells them; run while the engine is built, under an emulator if need be. */
#include "engine.h"

#include <stdio.h>
#include <stdlib.h>

int main(void) {
    size_t size = (size_t)engine_flags(NULL, 0) + 1;
    char *text = malloc(size);
    if (!text || engine_flags(text, size) < 0)
        return 1;
    return fputs(text, stdout) < 0;
}
