#include "settings.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <vector>

namespace gpuferry {
namespace {

constexpr int connect_timeout_ms = 10'000;
constexpr time_t handshake_timeout_s = 20;  // longer than the server's own patience

int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

std::vector<uint8_t> from_hex(const std::string& text, const std::string& what) {
    std::vector<uint8_t> bytes;
    for (size_t i = 0; i + 1 < text.size(); i += 2) {
        const int high = hex_digit(text[i]), low = hex_digit(text[i + 1]);
        if (high < 0 || low < 0) throw HandshakeError(what + " is not hexadecimal");
        bytes.push_back(static_cast<uint8_t>(high << 4 | low));
    }
    if (text.size() % 2) throw HandshakeError(what + " has an odd number of hexadecimal digits");
    return bytes;
}

std::vector<uint8_t> read_secret() {
    const std::string path = setting("GPUFERRY_SECRET_FILE");
    if (path.empty()) throw HandshakeError("GPUFERRY_SECRET_FILE is not set: start the program with `gpuferry run`");
    std::ifstream file(path);
    std::string line;
    if (!std::getline(file, line)) throw HandshakeError("cannot read the session's secret from " + path);
    return from_hex(line, "the secret in " + path);
}

LeaseId read_lease() {
    const auto bytes = from_hex(setting("GPUFERRY_LEASE"), "GPUFERRY_LEASE");
    LeaseId lease{};
    if (bytes.size() != lease.size()) throw HandshakeError("GPUFERRY_LEASE is not 32 hexadecimal digits");
    std::memcpy(lease.data(), bytes.data(), lease.size());
    return lease;
}

}  // namespace

std::string setting(const char* name) {
    const char* value = std::getenv(name);
    return value ? value : "";
}

void say(const std::string& line) {
    std::fprintf(stderr, "gpuferry: %s\n", line.c_str());
}

int dial(ConnectionPurpose purpose) {
    const std::string server = setting("GPUFERRY_SERVER");
    if (server.empty()) {
        throw HandshakeError(
            "GPUFERRY_SERVER is not set: start the program with `gpuferry run --server HOST:PORT -- …`");
    }
    ClientHello hello;
    hello.purpose = purpose;
    hello.lease = read_lease();
    hello.wanted_devices = static_cast<uint32_t>(std::strtoul(setting("GPUFERRY_DEVICES").c_str(), nullptr, 10));
    hello.wanted_memory_mib = std::strtoull(setting("GPUFERRY_MEMORY_MIB").c_str(), nullptr, 10);
    const std::vector<uint8_t> secret = read_secret();
    int descriptor = -1;
    try {
        descriptor = connect_to(server, connect_timeout_ms);
    } catch (const TransportError& error) {
        throw HandshakeError(std::string("cannot reach the GPU server ") + error.what() +
                             ": is `gpuferry gpuserver serve` running there, and the port open?");
    }
    try {
        const timeval patience{handshake_timeout_s, 0};
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        Connection connection(dup(descriptor));  // closed at the end of the handshake; the caller keeps its own
        introduce(connection, server, secret, hello);
        const timeval for_ever{};
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &for_ever, sizeof for_ever);
    } catch (const TransportError& error) {
        close(descriptor);
        throw HandshakeError("GPU server " + server + " does not finish the handshake (" + error.what() +
                             "): is it a gpuferry server, and is it alive?");
    } catch (...) {
        close(descriptor);
        throw;
    }
    return descriptor;
}

}  // namespace gpuferry
