// In libggml-vulkan: what the Vulkan loader finds on this machine, whether ggml uses it or not, and by which driver.
//
// Asks the loader itself, so that it can tell why ggml found nothing: no driver, software only, or all filtered out.
#include <vulkan/vulkan.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

namespace {

const char * type_of(VkPhysicalDeviceType type) {
    switch (type) {
        case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:   return "discrete";
        case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU: return "integrated";
        case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:    return "virtual";
        case VK_PHYSICAL_DEVICE_TYPE_CPU:            return "software";
        default:                                     return "other";
    }
}

std::string line_of(VkPhysicalDevice device) {
    VkPhysicalDeviceDriverProperties driver = {};
    driver.sType                            = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES;
    VkPhysicalDeviceProperties2 facts       = {};
    facts.sType                             = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2;
    facts.pNext                             = &driver;
    vkGetPhysicalDeviceProperties2(device, &facts);
    return std::string(type_of(facts.properties.deviceType)) + "\t" + facts.properties.deviceName + "\t" +
           driver.driverName + "\t" + driver.driverInfo + "\n";
}

// A line per device: type, name, driver, its version, with tabs between. Before them "VkResult" and its number if the
// loader refuses, which is -9 (VK_ERROR_INCOMPATIBLE_DRIVER) where it has no driver.
std::string survey() {
    VkApplicationInfo application = {};
    application.sType             = VK_STRUCTURE_TYPE_APPLICATION_INFO;
    application.apiVersion        = VK_API_VERSION_1_2;
    VkInstanceCreateInfo wanted   = {};
    wanted.sType                  = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO;
    wanted.pApplicationInfo       = &application;

    VkInstance     instance = VK_NULL_HANDLE;
    const VkResult result   = vkCreateInstance(&wanted, nullptr, &instance);
    if (result != VK_SUCCESS) {
        return "VkResult\t" + std::to_string(static_cast<int>(result)) + "\n";
    }
    uint32_t count = 0;
    vkEnumeratePhysicalDevices(instance, &count, nullptr);
    std::vector<VkPhysicalDevice> devices(count);
    vkEnumeratePhysicalDevices(instance, &count, devices.data());
    std::string lines;
    for (uint32_t i = 0; i < count; ++i) {
        lines += line_of(devices[i]);
    }
    vkDestroyInstance(instance, nullptr);
    return lines;
}

} // namespace

#if defined(_WIN32)
#    define EXPORTED __declspec(dllexport)
#else
#    define EXPORTED __attribute__((visibility("default")))
#endif

// Fills the buffer, cut to its size and ended with 0; returns the length of the whole text.
extern "C" EXPORTED int engine_gpu_survey(char * text, size_t size) {
    const std::string lines = survey();
    if (size > 0) {
        const size_t length = std::min(lines.size(), size - 1);
        memcpy(text, lines.data(), length);
        text[length] = '\0';
    }
    return static_cast<int>(lines.size());
}
