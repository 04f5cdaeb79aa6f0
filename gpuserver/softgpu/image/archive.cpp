#include "image/archive.h"

#include <elf.h>

#include <charconv>
#include <cstring>
#include <string_view>

#include "image/fatbin.h"

namespace softgpu {
namespace {

constexpr std::string_view archive_magic = "!<arch>\n";

[[noreturn]] void refuse(const std::string& what) {
    throw ImageError(CUDA_ERROR_INVALID_IMAGE, what);
}

// Fatbins lie one behind the other in the sections that nvcc puts them into.
void append_section(std::vector<std::string>& texts, ImageBytes section, int target) {
    while (section.size() >= sizeof(FatbinHeader)) {
        auto header = section.read<FatbinHeader>(0);
        if (!header || header->magic != fatbin_magic) return;
        uint64_t total = header->header_size + header->payload_size;
        if (total < header->payload_size || total > section.size()) refuse("object file: a fatbin is truncated");
        try {
            Image image = read_image(section.first(total), target);
            for (auto& text : image.ptx) texts.push_back(std::move(text));
        } catch (const ImageError& error) {
            if (error.code != CUDA_ERROR_NO_BINARY_FOR_GPU) throw;
        }
        section = section.from((total + 7) / 8 * 8);
    }
}

void append_object(std::vector<std::string>& texts, const ImageBytes& object, int target) {
    auto header = object.read<Elf64_Ehdr>(0);
    if (!header || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 || header->e_ident[EI_CLASS] != ELFCLASS64) {
        refuse("not a 64-bit object file");
    }
    auto section_at = [&](unsigned index) {
        auto section = object.read<Elf64_Shdr>(header->e_shoff + uint64_t{index} * sizeof(Elf64_Shdr));
        if (!section || header->e_shentsize != sizeof(Elf64_Shdr)) refuse("object file: its sections are truncated");
        return *section;
    };
    if (header->e_shnum == 0 || header->e_shstrndx >= header->e_shnum) return;
    Elf64_Shdr names = section_at(header->e_shstrndx);
    for (unsigned i = 0; i < header->e_shnum; ++i) {
        Elf64_Shdr section = section_at(i);
        auto name = object.from(names.sh_offset).first(names.sh_size).from(section.sh_name).first(64).text(64);
        if (!name || (*name != ".nv_fatbin" && *name != "__nv_relfatbin")) continue;
        append_section(texts, object.from(section.sh_offset).first(section.sh_size), target);
    }
}

}  // namespace

std::vector<std::string> read_device_code(const ImageBytes& bytes, int target) {
    std::vector<std::string> texts;
    char magic[8];
    if (!bytes.copy(0, magic, sizeof magic)) refuse("neither an object file nor an archive");
    if (std::string_view(magic, sizeof magic) != archive_magic) {
        append_object(texts, bytes, target);
        return texts;
    }
    // ar(5): members of a 60-byte header each, at even offsets.
    constexpr uint64_t header_size = 60;
    uint64_t offset = sizeof magic;
    char header[header_size];
    while (bytes.copy(offset, header, header_size)) {
        std::string_view digits(header + 48, 10);
        digits = digits.substr(0, digits.find(' '));
        uint64_t size = 0;
        auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), size);
        if (error != std::errc() || end != digits.data() + digits.size()) refuse("archive: a member has no size");
        if (std::string_view(header + 58, 2) != "`\n") refuse("archive: a member's header is damaged");
        ImageBytes member = bytes.from(offset + header_size).first(size);
        if (member.size() < size) refuse("archive: truncated");
        char start[SELFMAG];
        if (member.copy(0, start, sizeof start) && !std::memcmp(start, ELFMAG, SELFMAG)) {
            append_object(texts, member, target);
        }
        offset += header_size + size + size % 2;
    }
    return texts;
}

}  // namespace softgpu
