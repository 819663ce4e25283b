// Put before ggml-vulkan.cpp: what it uses of VK_EXT_layer_settings, which Vulkan-Hpp before 1.3.258 does not declare
// (Debian 12 has 1.3.239). Upstream fills these only when a build turns the validation layers on.
#pragma once

#include <vulkan/vulkan_core.h>

#include <cstdint>
#include <vector>

#if !defined(VK_EXT_layer_settings)
namespace vk {

enum class LayerSettingTypeEXT { eBool32 = 0 };

struct LayerSettingEXT {
    const char *        pLayerName;
    const char *        pSettingName;
    LayerSettingTypeEXT type;
    uint32_t            valueCount;
    const void *        pValues;
};

struct LayerSettingsCreateInfoEXT {
    VkStructureType         sType = static_cast<VkStructureType>(1000496000);
    const void *            pNext = nullptr;
    uint32_t                settingCount;
    const LayerSettingEXT * pSettings;

    explicit LayerSettingsCreateInfoEXT(const std::vector<LayerSettingEXT> & settings)
        : settingCount(static_cast<uint32_t>(settings.size())), pSettings(settings.data()) {}
};

} // namespace vk
#endif
