"""Build time: a GGUF and a base become one executable. Never imports `launcher`."""
