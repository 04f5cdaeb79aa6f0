#include "exports/traced_call.h"

namespace softgpu {

CUresult TracedCall::end(CUresult result) {
    if (line_.back() == ' ') line_.resize(line_.size() - 2);
    log_line(LogLevel::trace, line_ + ") = " + std::to_string(static_cast<int>(result)));
    return result;
}

void TracedCall::add_number(const char* name, const char* format, unsigned long long value) {
    char text[32];
    std::snprintf(text, sizeof text, format, value);
    add_text(name, text);
}

void TracedCall::add_real(const char* name, double value) {
    add_text(name, std::to_string(value).c_str());
}

void TracedCall::add_text(const char* name, const char* text) {
    line_ += name;
    line_ += '=';
    line_ += text;
    line_ += ", ";
}

}  // namespace softgpu
