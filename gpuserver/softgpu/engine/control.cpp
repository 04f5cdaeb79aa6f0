// Traps, fences, and the functions that the device runtime provides: printf, assert, malloc, free.
#include <atomic>
#include <cstdio>

#include "engine/grid.h"
#include "engine/handlers.h"

namespace softgpu {

namespace {

std::byte* argument(const Context& c, const CallSite& site, uint32_t lane, size_t index) {
    return c.local + lane * c.local_stride + c.frame_local + site.arguments[index].from;
}

template <typename T>
T argument_value(const Context& c, const CallSite& site, uint32_t lane, size_t index) {
    T value{};
    std::memcpy(&value, argument(c, site, lane, index), sizeof value);
    return value;
}

template <typename T>
void put_result(const Context& c, const CallSite& site, uint32_t lane, T value) {
    if (site.results.empty()) return;
    std::byte* at = c.local + lane * c.local_stride + c.frame_local + site.results[0].to;
    std::memcpy(at, &value, std::min<size_t>(sizeof value, site.results[0].size));
}

// A device string; faults when it leaves accessible memory.
std::string read_string(Context& c, const Inst& i, uint32_t lane, uint64_t address) {
    constexpr size_t longest = 1 << 20;
    std::string text;
    for (; text.size() < longest; ++address) {
        if (!accessible(c, i, address, 1, false)) fault_address(c, i, lane, address, 1, "global");
        char byte;
        std::memcpy(&byte, reinterpret_cast<const void*>(address), 1);
        if (byte == '\0') break;
        text += byte;
    }
    return text;
}

// Reads printf's arguments from its buffer, each aligned to its size.
class Arguments {
  public:
    Arguments(Context& c, const Inst& i, uint32_t lane, uint64_t address) : c_(c), i_(i), lane_(lane), address_(address) {}
    template <typename T>
    T next() {
        address_ = (address_ + sizeof(T) - 1) / sizeof(T) * sizeof(T);
        if (!accessible(c_, i_, address_, sizeof(T), false)) fault_address(c_, i_, lane_, address_, sizeof(T), "local");
        T value;
        std::memcpy(&value, reinterpret_cast<const void*>(address_), sizeof value);
        address_ += sizeof(T);
        ++count;
        return value;
    }
    int count = 0;

  private:
    Context& c_;
    const Inst& i_;
    uint32_t lane_;
    uint64_t address_;
};

template <typename T>
void format_piece(std::string& out, const std::string& specification, T value) {
    char small[256];
    const int size = std::snprintf(small, sizeof small, specification.c_str(), value);
    if (size < 0) return;
    if (static_cast<size_t>(size) < sizeof small) {
        out.append(small, static_cast<size_t>(size));
        return;
    }
    std::string large(static_cast<size_t>(size) + 1, '\0');
    std::snprintf(large.data(), large.size(), specification.c_str(), value);
    large.pop_back();
    out += large;
}

// The device's printf: the host's format, 4-byte ints, 8-byte longs, pointers and doubles.
std::string format(Context& c, const Inst& i, uint32_t lane, const std::string& text, Arguments& arguments) {
    std::string out;
    for (size_t k = 0; k < text.size(); ++k) {
        if (text[k] != '%') {
            out += text[k];
            continue;
        }
        std::string piece = "%";
        size_t next = k + 1;
        auto is = [&](std::string_view set) { return next < text.size() && set.find(text[next]) != std::string_view::npos; };
        while (is("-+ #0")) piece += text[next++];
        auto number = [&] {
            if (is("*")) {
                int value = arguments.next<int>();
                value = value > 4096 ? 4096 : value < -4096 ? -4096 : value;
                piece += std::to_string(value);
                ++next;
            } else {
                size_t digits = 0;
                while (is("0123456789")) {
                    if (++digits <= 4) piece += text[next];
                    ++next;
                }
            }
        };
        number();
        if (is(".")) {
            piece += text[next++];
            number();
        }
        int longs = 0, shorts = 0;
        while (is("hlLqjzt")) {
            const char modifier = text[next++];
            if (modifier == 'h')
                ++shorts;
            else
                longs += modifier == 'l' ? 1 : 2;
        }
        if (next >= text.size()) {
            out += text.substr(k);
            break;
        }
        const char kind = text[next];
        switch (kind) {
            case 'd':
            case 'i':
                piece += longs ? std::string("ll") + kind : std::string(1, kind);
                if (longs)
                    format_piece(out, piece, arguments.next<long long>());
                else {
                    int value = arguments.next<int>();
                    if (shorts == 1) value = static_cast<short>(value);
                    if (shorts >= 2) value = static_cast<signed char>(value);
                    format_piece(out, piece, value);
                }
                break;
            case 'o':
            case 'u':
            case 'x':
            case 'X':
                piece += longs ? std::string("ll") + kind : std::string(1, kind);
                if (longs)
                    format_piece(out, piece, arguments.next<unsigned long long>());
                else {
                    unsigned value = arguments.next<unsigned>();
                    if (shorts == 1) value = static_cast<unsigned short>(value);
                    if (shorts >= 2) value = static_cast<unsigned char>(value);
                    format_piece(out, piece, value);
                }
                break;
            case 'c':
                format_piece(out, piece + kind, arguments.next<int>());
                break;
            case 'e':
            case 'E':
            case 'f':
            case 'F':
            case 'g':
            case 'G':
            case 'a':
            case 'A':
                format_piece(out, piece + kind, arguments.next<double>());
                break;
            case 'p':
                format_piece(out, piece + kind, reinterpret_cast<const void*>(arguments.next<uint64_t>()));
                break;
            case 's': {
                const uint64_t address = arguments.next<uint64_t>();
                const std::string value = address ? read_string(c, i, lane, address) : "(null)";
                format_piece(out, piece + kind, value.c_str());
                break;
            }
            case '%':
                out += '%';
                break;
            default:
                out += text.substr(k, next - k + 1);
                break;
        }
        k = next;
    }
    return out;
}

void device_printf(Context& c, const Inst& i, uint32_t mask) {
    const CallSite& site = c.code->calls[i.target];
    for_lanes(mask, [&](uint32_t l) {
        const std::string text = read_string(c, i, l, argument_value<uint64_t>(c, site, l, 0));
        Arguments arguments(c, i, l, argument_value<uint64_t>(c, site, l, 1));
        const std::string line = format(c, i, l, text, arguments);
        if (c.grid->launch.services.print) c.grid->launch.services.print(line);
        put_result(c, site, l, arguments.count);
    });
}

void device_assert(Context& c, const Inst& i, uint32_t mask) {
    const CallSite& site = c.code->calls[i.target];
    if (site.arguments.size() < 4) fault(c, i, Fault::Kind::trap, 0, "__assertfail with too few arguments");
    const Dim3& b = c.block->index();
    std::string message;
    for_lanes(mask, [&](uint32_t l) {
        const std::string what = read_string(c, i, l, argument_value<uint64_t>(c, site, l, 0));
        const std::string file = read_string(c, i, l, argument_value<uint64_t>(c, site, l, 1));
        const auto line = argument_value<uint32_t>(c, site, l, 2);
        const std::string function = read_string(c, i, l, argument_value<uint64_t>(c, site, l, 3));
        char where[160];
        std::snprintf(where, sizeof where, "block: [%u,%u,%u], thread: [%u,%u,%u] Assertion `", b.x, b.y, b.z,
                      c.warp->tid[0][l], c.warp->tid[1][l], c.warp->tid[2][l]);
        if (!message.empty()) message += '\n';
        message += file + ":" + std::to_string(line) + ": " + function + ": " + where + what + "` failed.";
    });
    throw KernelFault{Fault::Kind::assertion, std::move(message)};
}

void device_malloc(Context& c, const Inst& i, uint32_t mask) {
    const CallSite& site = c.code->calls[i.target];
    for_lanes(mask, [&](uint32_t l) {
        const auto size = argument_value<uint64_t>(c, site, l, 0);
        const auto& allocate = c.grid->launch.services.heap_allocate;
        put_result(c, site, l, allocate && size ? allocate(size) : uint64_t{0});
    });
}

void device_free(Context& c, const Inst& i, uint32_t mask) {
    const CallSite& site = c.code->calls[i.target];
    for_lanes(mask, [&](uint32_t l) {
        const auto address = argument_value<uint64_t>(c, site, l, 0);
        if (address && c.grid->launch.services.heap_free) c.grid->launch.services.heap_free(address);
    });
    // Ranges of freed memory are gone.
    c.ranges->refresh();
}

}  // namespace

Handler find_builtin(ptx::Builtin builtin) {
    switch (builtin) {
        case ptx::Builtin::vprintf:
            return &device_printf;
        case ptx::Builtin::malloc:
            return &device_malloc;
        case ptx::Builtin::free:
            return &device_free;
        case ptx::Builtin::assertfail:
            return &device_assert;
    }
    return nullptr;
}

void unsupported(Context& c, const Inst& i, uint32_t mask) {
    fault(c, i, Fault::Kind::illegal_instruction, static_cast<uint32_t>(__builtin_ctz(mask)),
          std::string("the software GPU does not execute the instruction '") +
              ptx::name_of(static_cast<ptx::Opcode>(i.imm)) + "'");
}

void trap(Context& c, const Inst& i, uint32_t mask) {
    fault(c, i, Fault::Kind::trap, static_cast<uint32_t>(__builtin_ctz(mask)), "trap");
}

void no_operation(Context&, const Inst&, uint32_t) {}

void fence(Context&, const Inst& i, uint32_t) {
    switch (i.kind) {
        case static_cast<uint8_t>(Ordering::acquire):
            std::atomic_thread_fence(std::memory_order_acquire);
            break;
        case static_cast<uint8_t>(Ordering::release):
            std::atomic_thread_fence(std::memory_order_release);
            break;
        default:
            std::atomic_thread_fence(std::memory_order_seq_cst);
            break;
    }
}

// The time is an upper bound: giving up the turn is enough.
void nanosleep(Context&, const Inst&, uint32_t) {}

}  // namespace softgpu
