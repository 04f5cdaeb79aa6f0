#include "required_blocks.h"

#include <elf.h>

#include <cstdlib>
#include <cstring>
#include <string_view>

namespace gpuferry {
namespace {

using Shapes = std::map<std::string, BlockShape>;

// Nothing where the structure is not within the image.
template <class T>
bool take(std::span<const char> image, uint64_t offset, T& value) {
    if (offset > image.size() || image.size() - offset < sizeof value) return false;
    std::memcpy(&value, image.data() + offset, sizeof value);
    return true;
}

std::string without_comments(std::string_view text) {
    std::string code;
    for (size_t at = 0; at < text.size();) {
        const bool line = text.substr(at, 2) == "//", block = text.substr(at, 2) == "/*";
        if (!line && !block) {
            code += text[at++];
            continue;
        }
        const size_t end = text.find(line ? "\n" : "*/", at + 2);
        if (end == std::string_view::npos) break;
        at = line ? end : end + 2;
        code += ' ';
    }
    return code;
}

// `.entry NAME ( … ) … .reqntid X, Y, Z … {`
void read_text(std::string_view text, Shapes& shapes) {
    constexpr std::string_view entry = ".entry", required = ".reqntid", space = " \t\r\n";
    if (text.find(required) == std::string_view::npos) return;
    const std::string code = without_comments(text);
    for (size_t at = code.find(entry); at != std::string::npos; at = code.find(entry, at + 1)) {
        const size_t name = code.find_first_not_of(space, at + entry.size());
        const size_t end = name == std::string::npos ? name : code.find_first_of(" \t\r\n({;", name);
        const size_t body = end == std::string::npos ? end : code.find_first_of("{;", end);
        const size_t found = end == std::string::npos ? end : code.find(required, end);
        if (body == std::string::npos || found == std::string::npos || found > body) continue;
        BlockShape shape{1, 1, 1};
        const char* next = code.c_str() + found + required.size();
        for (uint32_t& side : shape) {
            char* behind = nullptr;
            side = static_cast<uint32_t>(std::strtoul(next, &behind, 10));
            next = behind + std::strspn(behind, space.data());
            if (*next++ != ',') break;
        }
        shapes[code.substr(name, end - name)] = shape;
    }
}

// The attributes of one kernel: a format, a name, and a value or the length of one.
void read_attributes(std::span<const char> section, const std::string& kernel, Shapes& shapes) {
    constexpr uint8_t sized = 4, required_block = 0x10;
    struct Head {
        uint8_t format, name;
        uint16_t value;
    } head;
    for (uint64_t at = 0; take(section, at, head);) {
        at += sizeof head;
        BlockShape shape;
        if (head.format == sized && head.name == required_block && head.value >= sizeof shape &&
            take(section, at, shape)) {
            shapes[kernel] = shape;
        }
        if (head.format == sized) at += (head.value + 3u) & ~3u;
    }
}

// A cubin keeps each kernel's attributes in a section `.nv.info.NAME`.
void read_cubin(std::span<const char> image, Shapes& shapes) {
    constexpr std::string_view prefix = ".nv.info.";
    Elf64_Ehdr head;
    Elf64_Shdr names, section;
    if (!take(image, 0, head)) return;
    if (!take(image, head.e_shoff + uint64_t{head.e_shstrndx} * head.e_shentsize, names)) return;
    for (unsigned i = 0; i < head.e_shnum; ++i) {
        if (!take(image, head.e_shoff + uint64_t{i} * head.e_shentsize, section)) return;
        const uint64_t place = names.sh_offset + section.sh_name;
        if (place >= image.size()) continue;
        const char* text = image.data() + place;
        const std::string_view name(text, strnlen(text, image.size() - place));
        if (!name.starts_with(prefix) || section.sh_offset > image.size() ||
            section.sh_size > image.size() - section.sh_offset) {
            continue;
        }
        read_attributes(image.subspan(section.sh_offset, section.sh_size), std::string(name.substr(prefix.size())),
                        shapes);
    }
}

void read_image(std::span<const char> image, Shapes& shapes);

// A fatbin: a head, then entries with heads of their own.
void read_fatbin(std::span<const char> image, Shapes& shapes) {
    struct Head {
        uint32_t magic;
        uint16_t version, bytes;
        uint64_t size;
    } head;
    struct Entry {
        uint16_t kind, version;
        uint32_t head_bytes;
        uint64_t size;
        uint32_t compressed_size;
    } entry;
    if (!take(image, 0, head)) return;
    for (uint64_t at = head.bytes; take(image, at, entry) && entry.head_bytes >= sizeof entry;) {
        const uint64_t start = at + entry.head_bytes;
        if (start > image.size() || entry.size > image.size() - start) return;
        if (!entry.compressed_size) read_image(image.subspan(start, entry.size), shapes);
        at = start + entry.size;
    }
}

void read_image(std::span<const char> image, Shapes& shapes) {
    constexpr uint32_t fatbin_magic = 0xba55ed50;
    uint32_t magic = 0;
    if (!take(image, 0, magic)) return;
    if (std::memcmp(&magic, ELFMAG, SELFMAG) == 0) return read_cubin(image, shapes);
    if (magic == fatbin_magic) return read_fatbin(image, shapes);
    read_text({image.data(), strnlen(image.data(), image.size())}, shapes);
}

}  // namespace

std::map<std::string, BlockShape> required_blocks(std::span<const char> image) {
    Shapes shapes;
    read_image(image, shapes);
    return shapes;
}

}  // namespace gpuferry
