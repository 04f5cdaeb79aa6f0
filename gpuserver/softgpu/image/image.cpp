#include "image/image.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "image/fatbin.h"

namespace softgpu {
namespace {

constexpr uint32_t elf_magic = 0x464c457f;
constexpr uint64_t archive_magic = 0x0a3e686372613c21;  // "!<arch>\n"

// The architecture of `.target sm_90a`: 90, and whether a suffix ties it to that architecture alone.
struct PtxTarget {
    int target = 0;
    bool tied = false;
};

PtxTarget target_of(std::string_view ptx) {
    auto at = ptx.find(".target");
    if (at == ptx.npos) return {};
    auto number = ptx.find("sm_", at);
    if (number == ptx.npos) return {};
    PtxTarget found;
    number += 3;
    while (number < ptx.size() && ptx[number] >= '0' && ptx[number] <= '9' && found.target < 10'000) {
        found.target = found.target * 10 + (ptx[number++] - '0');
    }
    found.tied = number < ptx.size() && (ptx[number] == 'a' || ptx[number] == 'f');
    return found;
}

// Whether a text is PTX: its first directive is .version.
bool looks_like_ptx(std::string_view text) {
    while (!text.empty()) {
        if (text.starts_with("//")) {
            auto end = text.find('\n');
            text = end == text.npos ? std::string_view{} : text.substr(end);
        } else if (text.starts_with("/*")) {
            auto end = text.find("*/", 2);
            text = end == text.npos ? std::string_view{} : text.substr(end + 2);
        } else if (text[0] == ' ' || (text[0] >= '\t' && text[0] <= '\r')) {
            text.remove_prefix(1);
        } else {
            break;
        }
    }
    return text.starts_with(".version");
}

// The PTX of the newest target that the device can run; appends nothing when there is none.
void append_fatbin(Image& image, const ImageBytes& bytes, int target) {
    std::vector<FatbinEntry> candidates;
    for (auto& entry : read_fatbin(bytes)) {
        if (entry.header.kind != FatbinEntryHeader::kind_ptx) continue;
        if (entry.header.flags & FatbinEntryHeader::flag_linked) {
            image.ptx.push_back(read_ptx_entry(entry));
            image.linked = true;
            image.max_registers = entry.header.max_registers;
        } else if (entry.header.target <= static_cast<uint32_t>(target)) {
            candidates.push_back(entry);
        }
    }
    std::ranges::stable_sort(candidates, std::greater{}, [](const FatbinEntry& entry) { return entry.header.target; });
    std::string tied;
    for (const auto& entry : candidates) {
        std::string text = read_ptx_entry(entry);
        if (!target_of(text).tied) {
            image.ptx.push_back(std::move(text));
            return;
        }
        if (tied.empty()) tied = std::move(text);
    }
    // PTX for one architecture only (sm_90a): nothing else is there, and what it uses beyond the common instructions
    // is reported when it is reached.
    if (!tied.empty()) image.ptx.push_back(std::move(tied));
}

void append_wrapper(Image& image, const ImageBytes& bytes, int target) {
    auto wrapper = bytes.read<FatbinWrapper>(0);
    if (!wrapper || !wrapper->fatbin) throw ImageError(CUDA_ERROR_INVALID_IMAGE, "fatbin wrapper: no fatbin in it");
    append_fatbin(image, ImageBytes::at(wrapper->fatbin), target);
    if (wrapper->version < 2 || !wrapper->prelinked) return;
    auto list = ImageBytes::at(wrapper->prelinked);
    for (uint64_t i = 0;; ++i) {
        constexpr uint64_t max_prelinked = 1 << 16;
        auto fatbin = list.read<const void*>(i * sizeof(void*));
        if (!fatbin || i == max_prelinked) {
            throw ImageError(CUDA_ERROR_INVALID_IMAGE, "fatbin wrapper: its list of linked fatbins does not end");
        }
        if (!*fatbin) return;
        append_fatbin(image, ImageBytes::at(*fatbin), target);
    }
}

}  // namespace

Image read_image(const ImageBytes& bytes, int target) {
    Image image;
    auto magic = bytes.read<uint32_t>(0);
    if (magic == wrapper_magic || magic == fatbin_magic) {
        if (magic == wrapper_magic) {
            append_wrapper(image, bytes, target);
        } else {
            append_fatbin(image, bytes, target);
        }
        if (image.ptx.empty()) {
            throw ImageError(CUDA_ERROR_NO_BINARY_FOR_GPU,
                             "the fatbin holds no PTX that a device of compute capability " +
                                 std::to_string(target / 10) + "." + std::to_string(target % 10) + " can run");
        }
        return image;
    }
    if (magic == elf_magic) {
        throw ImageError(CUDA_ERROR_NO_BINARY_FOR_GPU,
                         "the image is machine code (a cubin): the software GPU executes PTX only");
    }
    if (bytes.read<uint64_t>(0) == archive_magic) {
        throw ImageError(CUDA_ERROR_INVALID_IMAGE, "the image is an archive: link it with cuLinkAddFile");
    }
    auto text = bytes.text(max_image_bytes);
    if (!text) throw ImageError(CUDA_ERROR_INVALID_IMAGE, "the image is text that does not end");
    if (!looks_like_ptx(*text)) {
        throw ImageError(CUDA_ERROR_INVALID_IMAGE,
                         "the image is neither a fatbin nor PTX (which starts with .version)");
    }
    if (auto wanted = target_of(*text); wanted.target > target) {
        throw ImageError(CUDA_ERROR_NO_BINARY_FOR_GPU,
                         "the PTX is for sm_" + std::to_string(wanted.target) + ", newer than this device");
    }
    image.ptx.push_back(std::move(*text));
    return image;
}

std::vector<std::byte> write_linked_image(std::span<const std::string> ptx, uint32_t max_registers) {
    std::vector<std::byte> image;
    auto append = [&image](const void* bytes, size_t size) {
        size_t before = image.size();
        image.resize(before + size);
        std::memcpy(image.data() + before, bytes, size);
    };
    FatbinHeader header{fatbin_magic, 1, sizeof header, 0};
    append(&header, sizeof header);
    for (const auto& text : ptx) {
        FatbinEntryHeader entry{};
        entry.kind = FatbinEntryHeader::kind_ptx;
        entry.version = 0x101;
        entry.header_size = sizeof entry;
        entry.payload_size = (text.size() + 1 + 7) / 8 * 8;
        entry.target = static_cast<uint32_t>(target_of(text).target);
        entry.max_registers = max_registers;
        entry.flags = FatbinEntryHeader::flag_64_bit | FatbinEntryHeader::flag_linux | FatbinEntryHeader::flag_linked;
        append(&entry, sizeof entry);
        append(text.data(), text.size());
        image.resize(image.size() + entry.payload_size - text.size());
    }
    header.payload_size = image.size() - sizeof header;
    std::memcpy(image.data(), &header, sizeof header);
    return image;
}

}  // namespace softgpu
