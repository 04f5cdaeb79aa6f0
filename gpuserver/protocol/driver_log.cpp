#include "driver_log.h"

#include <unistd.h>

#include <cstdio>
#include <ctime>
#include <vector>

namespace gpuferry {
namespace {

constexpr const char* truncation_notice = "[CUDA] earlier messages are no longer there\n";

std::string line_of(CUlogLevel level, const std::string& text) {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    tm parts{};
    localtime_r(&now.tv_sec, &parts);
    char head[64];
    std::snprintf(head, sizeof head, "[%02d:%02d:%02d.%03ld][%d][CUDA][%c] ", parts.tm_hour, parts.tm_min, parts.tm_sec,
                  now.tv_nsec / 1'000'000, static_cast<int>(getpid()), level == CU_LOG_LEVEL_ERROR ? 'E' : 'W');
    return head + text + "\n";
}

}  // namespace

void DriverLog::add(CUlogLevel level, const std::string& text) {
    std::string line = line_of(level, text);
    std::vector<Callback> told;
    {
        const std::lock_guard held(lock_);
        if (messages_.size() == most_messages) {
            messages_.pop_front();
            ++first_;
        }
        messages_.push_back(line);
        for (const auto& [number, callback] : callbacks_) told.push_back(callback);
    }
    for (const Callback& callback : told) callback.function(callback.data, level, line.data(), line.size());
}

CUresult DriverLog::register_callback(CUlogsCallback function, void* data, CUlogsCallbackHandle* handle) {
    if (!function) return CUDA_ERROR_INVALID_VALUE;
    const std::lock_guard held(lock_);
    callbacks_[++next_callback_] = {function, data};
    if (handle) *handle = reinterpret_cast<CUlogsCallbackHandle>(next_callback_);
    return CUDA_SUCCESS;
}

CUresult DriverLog::unregister_callback(CUlogsCallbackHandle handle) {
    const std::lock_guard held(lock_);
    return callbacks_.erase(reinterpret_cast<uint64_t>(handle)) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult DriverLog::current(CUlogIterator* iterator, unsigned flags) {
    if (!iterator || flags) return CUDA_ERROR_INVALID_VALUE;
    const std::lock_guard held(lock_);
    *iterator = first_ + static_cast<uint32_t>(messages_.size());
    return CUDA_SUCCESS;
}

std::deque<std::string> DriverLog::since(const CUlogIterator* iterator, bool& truncated) const {
    truncated = (iterator ? *iterator : 0) < first_;
    const uint32_t passed = iterator && *iterator > first_ ? *iterator - first_ : 0;
    if (passed >= messages_.size()) return {};
    return {messages_.begin() + passed, messages_.end()};
}

CUresult DriverLog::dump_to_file(CUlogIterator* iterator, const char* path, unsigned flags) {
    if (!path || flags) return CUDA_ERROR_INVALID_VALUE;
    const std::lock_guard held(lock_);
    bool truncated = false;
    const auto lines = since(iterator, truncated);
    std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path, "we"), std::fclose);
    if (!file) return CUDA_ERROR_INVALID_VALUE;
    if (truncated) std::fputs(truncation_notice, file.get());
    for (const std::string& line : lines) std::fputs(line.c_str(), file.get());
    if (iterator) *iterator = first_ + static_cast<uint32_t>(messages_.size());
    return CUDA_SUCCESS;
}

CUresult DriverLog::dump_to_memory(CUlogIterator* iterator, char* buffer, size_t* size, unsigned flags) {
    if (!buffer || !size || flags) return CUDA_ERROR_INVALID_VALUE;
    const std::lock_guard held(lock_);
    const size_t room = *size < most_bytes ? *size : most_bytes;
    bool truncated = false;
    auto lines = since(iterator, truncated);
    *size = 0;
    if (lines.empty()) {
        if (room) buffer[0] = 0;
        return CUDA_SUCCESS;
    }
    // The latest messages that fit, ahead of them the notice that there were others.
    size_t bytes = 1, kept = 0;
    const size_t notice = std::char_traits<char>::length(truncation_notice);
    while (kept < lines.size() && bytes + lines[lines.size() - 1 - kept].size() <= room) {
        bytes += lines[lines.size() - 1 - kept].size();
        ++kept;
    }
    truncated = truncated || kept < lines.size();
    while (truncated && kept && bytes + notice > room) bytes -= lines[lines.size() - kept--].size();
    if (!kept) return CUDA_ERROR_INVALID_VALUE;
    std::string text = truncated ? truncation_notice : "";
    for (size_t i = lines.size() - kept; i < lines.size(); ++i) text += lines[i];
    *size = text.copy(buffer, text.size());
    buffer[*size] = 0;
    if (iterator) *iterator = first_ + static_cast<uint32_t>(messages_.size());
    return CUDA_SUCCESS;
}

DriverLog& driver_log() {
    static auto& log = *new DriverLog;
    return log;
}

}  // namespace gpuferry
