#include "images.h"

#include <elf.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace gpuferry {
namespace {

constexpr uint32_t wrapper_magic = 0x466243b1, fatbin_magic = 0xba55ed50;

struct Wrapper {
    uint32_t magic, version;
    const char* data;
    const char* const* linked;  // from version 2 on: NULL-terminated
};
constexpr size_t most_linked = 1u << 16;

uint64_t elf_size(const char* image) {
    Elf64_Ehdr head;
    std::memcpy(&head, image, sizeof head);
    uint64_t end = std::max<uint64_t>(head.e_phoff + uint64_t{head.e_phnum} * head.e_phentsize,
                                      head.e_shoff + uint64_t{head.e_shnum} * head.e_shentsize);
    for (unsigned i = 0; i < head.e_shnum; ++i) {
        Elf64_Shdr section;
        std::memcpy(&section, image + head.e_shoff + uint64_t{i} * head.e_shentsize, sizeof section);
        if (section.sh_type != SHT_NOBITS) end = std::max(end, section.sh_offset + section.sh_size);
    }
    return end;
}

// PTX begins with a comment or a directive; anything else is no image.
bool looks_like_text(const char* image) {
    for (int i = 0; i < 64 && image[i]; ++i) {
        const auto c = static_cast<unsigned char>(image[i]);
        if (c < 0x20 && c != '\n' && c != '\r' && c != '\t') return false;
    }
    return *image != 0;
}

// A fatbin, a cubin or a text; empty when it is none of these.
std::span<const char> bytes_of(const char* bytes) {
    if (*bytes == 0) return {};
    if (looks_like_text(bytes)) return {bytes, std::strlen(bytes) + 1};
    uint32_t magic = 0;
    std::memcpy(&magic, bytes, sizeof magic);
    if (magic == fatbin_magic) {
        uint16_t head = 0;
        uint64_t size = 0;
        std::memcpy(&head, bytes + 6, sizeof head);
        std::memcpy(&size, bytes + 8, sizeof size);
        return {bytes, head + size};
    }
    if (std::memcmp(bytes, ELFMAG, SELFMAG) == 0) return {bytes, elf_size(bytes)};
    return {};
}

}  // namespace

CodeImage read_code_image(const void* image) {
    const auto* bytes = static_cast<const char*>(image);
    CodeImage found;
    const auto add = [&found](const char* part) {
        const std::span<const char> content = bytes_of(part);
        if (!content.empty()) found.parts.push_back(content);
        return !content.empty();
    };
    if (*bytes == 0) return {};
    uint32_t magic = 0;
    if (!looks_like_text(bytes)) std::memcpy(&magic, bytes, sizeof magic);
    if (magic != wrapper_magic) {
        add(bytes);
        return found;
    }
    Wrapper wrapper;
    std::memcpy(&wrapper, bytes, sizeof wrapper);
    if (!wrapper.data || !add(wrapper.data) || wrapper.version < 2 || !wrapper.linked) return found;
    found.linked = true;
    for (size_t i = 0; wrapper.linked[i]; ++i) {
        if (i == most_linked || !add(wrapper.linked[i])) return {};
    }
    return found;
}

}  // namespace gpuferry
