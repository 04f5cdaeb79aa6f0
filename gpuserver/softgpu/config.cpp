#include "config.h"

#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <set>
#include <sstream>
#include <thread>

#include "log.h"
#include "visible_devices.h"

extern char** environ;

namespace softgpu {
namespace {

constexpr int max_devices = 64;
constexpr std::string_view prefix = "GPUFERRY_SOFTGPU_";

std::string_view trimmed(std::string_view text) {
    constexpr std::string_view blanks = " \t\r\n";
    auto first = text.find_first_not_of(blanks);
    if (first == text.npos) return {};
    return text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

[[noreturn]] void refuse(const std::string& where, std::string_view key, std::string_view value, const char* wanted) {
    throw ConfigError(where + ": " + std::string(key) + " = " + std::string(value) + ": " + wanted);
}

int64_t number(const std::string& where, std::string_view key, std::string_view text, int64_t low, int64_t high) {
    int64_t value = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value < low || value > high) {
        std::string wanted = "must be a whole number from " + std::to_string(low) + " to " + std::to_string(high);
        refuse(where, key, text, wanted.c_str());
    }
    return value;
}

std::array<uint8_t, 16> parse_uuid(const std::string& where, std::string_view text) {
    std::array<uint8_t, 16> uuid{};
    std::string digits;
    for (char c : text.starts_with("GPU-") ? text.substr(4) : text) {
        if (c != '-') digits += c;
    }
    bool good = digits.size() == 32;
    for (size_t i = 0; good && i < uuid.size(); ++i) {
        auto [end, error] = std::from_chars(&digits[2 * i], &digits[2 * i] + 2, uuid[i], 16);
        good = error == std::errc() && end == &digits[2 * i] + 2;
    }
    if (!good) refuse(where, "uuid", text, "must look like GPU-01234567-89ab-cdef-0123-456789abcdef");
    return uuid;
}

void parse_pci(DeviceConfig& device, const std::string& where, std::string_view text) {
    unsigned domain = 0, bus = 0, slot = 0;
    int used = 0;
    std::string copy(text);
    bool good = std::sscanf(copy.c_str(), "%x:%x:%x%n", &domain, &bus, &slot, &used) == 3;
    std::string rest = good ? copy.substr(used) : "";
    if (!good || domain > 0xffff || bus > 0xff || slot > 0x1f || (rest != "" && rest != ".0")) {
        refuse(where, "pci", text, "must look like 0000:41:00");
    }
    device.pci_domain = static_cast<int>(domain);
    device.pci_bus = static_cast<int>(bus);
    device.pci_device = static_cast<int>(slot);
}

void parse_capability(DeviceConfig& device, const std::string& where, std::string_view key, std::string_view text) {
    auto dot = text.find('.');
    if (dot == text.npos) refuse(where, key, text, "must look like 9.0");
    const int major = static_cast<int>(number(where, key, text.substr(0, dot), 1, 999));
    const int minor = static_cast<int>(number(where, key, text.substr(dot + 1), 0, 9));
    const bool runtime = key == "runtime_compute_capability";
    if (!runtime) {
        device.capability_major = major;
        device.capability_minor = minor;
    }
    if (runtime || !device.runtime_capability_set) {
        device.runtime_capability_major = major;
        device.runtime_capability_minor = minor;
        device.runtime_capability_set |= runtime;
    }
}

void set_device_key(DeviceConfig& device, const std::string& where, std::string_view key, std::string_view value) {
    if (key == "name") {
        if (value.empty() || value.size() > 255) refuse(where, key, value, "must have 1 to 255 bytes");
        device.name = value;
    } else if (key == "uuid") {
        device.uuid = parse_uuid(where, value);
    } else if (key == "serial") {
        if (value.size() > 29) refuse(where, key, value, "must have at most 29 bytes");
        device.serial = value;
    } else if (key == "memory_mib") {
        device.memory_bytes = static_cast<uint64_t>(number(where, key, value, 16, 64 << 20)) << 20;
    } else if (key == "multiprocessors") {
        device.multiprocessors = static_cast<int>(number(where, key, value, 1, 1024));
    } else if (key == "clock_mhz") {
        device.clock_khz = static_cast<int>(number(where, key, value, 1, 100'000)) * 1000;
    } else if (key == "memory_clock_mhz") {
        device.memory_clock_khz = static_cast<int>(number(where, key, value, 1, 100'000)) * 1000;
    } else if (key == "pci") {
        parse_pci(device, where, value);
    } else if (key == "compute_capability" || key == "runtime_compute_capability") {
        parse_capability(device, where, key, value);
    } else {
        throw ConfigError(where + ": a device has no setting " + std::string(key));
    }
}

// One `key = value`, and where it stands.
struct Setting {
    std::string where, key, value;
};

// Settings by section: "driver", "device", "device 0", …
using Sections = std::map<std::string, std::vector<Setting>, std::less<>>;

Sections parse_sections(std::string_view text, const std::string& source) {
    Sections sections;
    std::string section = "driver";
    int line_number = 0;
    while (!text.empty()) {
        auto end = text.find('\n');
        std::string_view line = trimmed(text.substr(0, end));
        text = end == text.npos ? std::string_view{} : text.substr(end + 1);
        std::string where = source + ":" + std::to_string(++line_number);
        if (line.empty() || line[0] == '#' || line[0] == ';') continue;
        if (line.front() == '[' && line.back() == ']') {
            section = trimmed(line.substr(1, line.size() - 2));
            if (section != "driver" && section != "device" && !section.starts_with("device ")) {
                throw ConfigError(where + ": a section is [driver], [device] or [device N]");
            }
            if (section.starts_with("device ")) number(where, "device", section.substr(7), 0, max_devices - 1);
            continue;
        }
        auto equals = line.find('=');
        if (equals == line.npos) throw ConfigError(where + ": neither a [section] nor a setting (key = value)");
        sections[section].push_back(
            {where, std::string(trimmed(line.substr(0, equals))), std::string(trimmed(line.substr(equals + 1)))});
    }
    return sections;
}

constexpr std::string_view driver_keys[] = {"devices", "version", "release"};
constexpr std::string_view device_keys[] = {"name",
                                            "uuid",
                                            "serial",
                                            "memory_mib",
                                            "multiprocessors",
                                            "clock_mhz",
                                            "memory_clock_mhz",
                                            "pci",
                                            "compute_capability",
                                            "runtime_compute_capability"};

const std::string* find_variable(const Environment& environment, std::string_view key) {
    std::string name(prefix);
    for (char c : key) name += static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    auto found = environment.find(name);
    return found == environment.end() ? nullptr : &found->second;
}

std::vector<std::string> split(std::string_view text, char separator) {
    std::vector<std::string> parts;
    while (true) {
        auto end = text.find(separator);
        parts.emplace_back(trimmed(text.substr(0, end)));
        if (end == text.npos) return parts;
        text = text.substr(end + 1);
    }
}

// Different on different machines, the same at every start of one.
std::array<uint8_t, 16> default_uuid(int index) {
    std::string seed;
    std::ifstream("/etc/machine-id") >> seed;
    char host[256] = "";
    ::gethostname(host, sizeof host - 1);  // too, for copies of one machine often share its id
    seed = seed + "/" + host + "/gpuferry software gpu/" + std::to_string(index);
    std::array<uint8_t, 16> uuid{};
    uint64_t hash = 0xcbf29ce484222325;  // FNV-1a: these need to differ, not to be secret
    for (size_t half = 0; half < 2; ++half) {
        for (unsigned char c : seed) hash = (hash ^ c) * 0x100000001b3;
        for (size_t i = 0; i < 8; ++i) uuid[half * 8 + i] = static_cast<uint8_t>(hash >> (8 * i));
    }
    uuid[6] = (uuid[6] & 0x0f) | 0x80;  // version 8: vendor specific (RFC 9562)
    uuid[8] = (uuid[8] & 0x3f) | 0x80;
    return uuid;
}

DeviceConfig default_device(int index) {
    DeviceConfig device;
    device.index = index;
    device.uuid = default_uuid(index);
    device.serial = std::to_string(9900000000ll + index);
    device.pci_bus = 1 + index;
    device.multiprocessors = static_cast<int>(std::max(1u, std::min(1024u, std::thread::hardware_concurrency())));
    return device;
}

void set_from_environment(DeviceConfig& device, const Environment& environment, int devices) {
    for (auto key : device_keys) {
        const std::string* value = find_variable(environment, key);
        if (!value) continue;
        auto values = split(*value, ',');
        std::string where = "environment, " + std::string(key);
        if (values.size() != 1 && values.size() != static_cast<size_t>(devices)) {
            refuse(where, key, *value, "must be one value, or one for each device, separated by commas");
        }
        set_device_key(device, where, key, values[values.size() == 1 ? 0 : static_cast<size_t>(device.index)]);
    }
}

void refuse_duplicates(const std::vector<DeviceConfig>& devices) {
    std::set<std::string> seen;
    for (const auto& device : devices) {
        for (const auto& id : {format_uuid(device.uuid), format_pci_bus_id(device)}) {
            if (!seen.insert(id).second) throw ConfigError("two devices have the same id " + id);
        }
    }
}

Config read_config() {
    Environment environment;
    for (char** entry = environ; entry && *entry; ++entry) {
        std::string_view text(*entry);
        auto equals = text.find('=');
        if (equals != text.npos) environment.emplace(text.substr(0, equals), text.substr(equals + 1));
    }
    std::string source, content;
    if (auto file = environment.find(std::string(prefix) + "CONFIG"); file != environment.end()) {
        source = file->second;
        std::ifstream stream(source);
        if (!stream) throw ConfigError(source + ": cannot be read (named by GPUFERRY_SOFTGPU_CONFIG)");
        std::ostringstream text;
        text << stream.rdbuf();
        content = text.str();
    }
    return parse_config(content, source, environment);
}

}  // namespace

Config parse_config(std::string_view text, const std::string& source, const Environment& environment) {
    Sections sections = parse_sections(text, source);
    auto& driver = sections["driver"];
    for (auto key : driver_keys) {
        if (const std::string* value = find_variable(environment, key)) {
            driver.push_back({"environment", std::string(key), *value});
        }
    }
    Config config;
    int64_t devices = 1;
    for (const auto& [where, key, value] : driver) {
        if (key == "devices") {
            devices = number(where, key, value, 0, max_devices);
        } else if (key == "version") {
            config.driver_version = static_cast<int>(number(where, key, value, 11000, 99990));
        } else if (key == "release") {
            if (value.empty() || value.size() > 79) refuse(where, key, value, "must have 1 to 79 bytes");
            config.driver_release = value;
        } else {
            throw ConfigError(where + ": the driver has no setting " + key);
        }
    }
    for (int i = 0; i < devices; ++i) {
        DeviceConfig device = default_device(i);
        for (const auto& name : {std::string("device"), "device " + std::to_string(i)}) {
            for (const auto& [where, key, value] : sections[name]) set_device_key(device, where, key, value);
        }
        set_from_environment(device, environment, static_cast<int>(devices));
        config.devices.push_back(device);
    }
    refuse_duplicates(config.devices);
    return config;
}

const Config& config() {
    static const Config& read = *[] {
        try {
            return new Config(read_config());
        } catch (const std::exception& error) {
            log_line(LogLevel::error, std::string("configuration: ") + error.what() + "; there is no device");
            return new Config;
        }
    }();
    return read;
}

std::vector<DeviceConfig> select_visible(const std::vector<DeviceConfig>& all, const std::string* wanted) {
    if (!wanted) return all;
    std::vector<std::string> uuids;
    for (const auto& device : all) uuids.push_back(format_uuid(device.uuid));
    std::vector<DeviceConfig> visible;
    for (const size_t number : gpuferry::visible_devices(*wanted, uuids)) visible.push_back(all[number]);
    return visible;
}

const std::vector<DeviceConfig>& visible_devices() {
    static const auto& devices = *[] {
        const char* value = std::getenv("CUDA_VISIBLE_DEVICES");
        std::string wanted = value ? value : "";
        return new std::vector<DeviceConfig>(select_visible(config().devices, value ? &wanted : nullptr));
    }();
    return devices;
}

std::string format_uuid(const std::array<uint8_t, 16>& uuid) {
    std::string text = "GPU-";
    for (size_t i = 0; i < uuid.size(); ++i) {
        char digits[3];
        std::snprintf(digits, sizeof digits, "%02x", uuid[i]);
        if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
        text += digits;
    }
    return text;
}

std::string format_pci_bus_id(const DeviceConfig& device) {
    char text[32];
    std::snprintf(text, sizeof text, "%04x:%02x:%02x.0", device.pci_domain, device.pci_bus, device.pci_device);
    return text;
}

}  // namespace softgpu
