// CUDA_VISIBLE_DEVICES, as NVIDIA's driver reads it: which devices a program sees, in which order.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

namespace gpuferry {

// The numbers of the devices that are left, in the order of the list: numbers, or beginnings of UUIDs ("GPU-6e5b") that
// fit one device only. The list ends before the first entry that names no device; where one is named twice there is
// none. Numbers are read as strtol does: blanks before them and anything behind them are passed over.
inline std::vector<size_t> visible_devices(const std::string& wanted, const std::vector<std::string>& uuids) {
    constexpr std::string_view prefix = "GPU-";
    constexpr size_t none = ~size_t{0};
    const auto find_uuid = [&](std::string_view beginning) {
        size_t found = none;
        for (size_t i = 0; i < uuids.size(); ++i) {
            if (!uuids[i].starts_with(beginning)) continue;
            if (found != none) return none;
            found = i;
        }
        return found;
    };
    const auto find = [&](std::string entry) {
        const size_t first = entry.find_first_not_of(" \t");
        entry.erase(0, std::min(first, entry.size()));
        if (entry.starts_with(prefix)) {
            entry.erase(entry.find_last_not_of(" \t") + 1);
            return entry.size() > prefix.size() ? find_uuid(entry) : none;
        }
        char* end = nullptr;
        const long number = std::strtol(entry.c_str(), &end, 10);
        const bool fits = end != entry.c_str() && number >= 0 && static_cast<size_t>(number) < uuids.size();
        return fits ? static_cast<size_t>(number) : none;
    };
    std::vector<size_t> visible;
    for (size_t start = 0, comma = 0; comma != std::string::npos; start = comma + 1) {
        comma = wanted.find(',', start);
        const size_t device = find(wanted.substr(start, comma == std::string::npos ? comma : comma - start));
        if (device == none) break;
        if (std::find(visible.begin(), visible.end(), device) != visible.end()) return {};
        visible.push_back(device);
    }
    return visible;
}

}  // namespace gpuferry
