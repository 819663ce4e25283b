/* Stands in for the Vulkan loader while libggml-vulkan is linked: its name and the functions that are called by theirs.
   The loader itself is the driver's, on the machine that runs the bundle. Built for every target, so that none needs
   Vulkan's libraries in its sysroot. */
#if defined(_WIN32)
#    define LOADER(name) __declspec(dllexport) void name(void) {}
#else
#    define LOADER(name) void name(void) {}
#endif

/* clang-format off */
LOADER(vkCmdCopyBuffer)
LOADER(vkCreateInstance)
LOADER(vkDestroyInstance)
LOADER(vkEnumeratePhysicalDevices)
LOADER(vkGetDeviceProcAddr)
LOADER(vkGetInstanceProcAddr)
LOADER(vkGetPhysicalDeviceProperties2)
