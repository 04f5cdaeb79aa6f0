#include "settings.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <vector>

#include "handle.h"

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

std::vector<uint8_t> read_secret(const std::string& path) {
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

std::vector<std::string> split(const std::string& list) {
    std::vector<std::string> parts;
    size_t start = 0;
    for (size_t comma = list.find(','); comma != std::string::npos; comma = list.find(',', start)) {
        parts.push_back(list.substr(start, comma - start));
        start = comma + 1;
    }
    parts.push_back(list.substr(start));
    return parts;
}

}  // namespace

std::string setting(const char* name) {
    const char* value = std::getenv(name);
    return value ? value : "";
}

void say(const std::string& line) {
    std::fprintf(stderr, "gpuferry: %s\n", line.c_str());
}

std::vector<ServerSettings> server_settings() {
    const std::string servers = setting("GPUFERRY_SERVER");
    if (servers.empty()) {
        throw HandshakeError(
            "GPUFERRY_SERVER is not set: start the program with `gpuferry run --server HOST:PORT -- …`");
    }
    const std::vector<std::string> addresses = split(servers);
    if (addresses.size() > most_servers) {
        throw HandshakeError("GPUFERRY_SERVER names " + std::to_string(addresses.size()) +
                             " servers: one program can use " + std::to_string(most_servers));
    }
    // One of these stands for all servers; a file's name may hold a comma.
    const auto for_each = [&](const char* name) {
        const std::string given = setting(name);
        std::vector<std::string> parts = addresses.size() == 1 ? std::vector{given} : split(given);
        if (parts.size() == 1) parts.resize(addresses.size(), parts.front());
        if (parts.size() != addresses.size()) {
            throw HandshakeError(std::string(name) + " has " + std::to_string(parts.size()) + " parts for the " +
                                 std::to_string(addresses.size()) + " servers of GPUFERRY_SERVER");
        }
        return parts;
    };
    const std::vector<std::string> files = for_each("GPUFERRY_SECRET_FILE"), devices = for_each("GPUFERRY_DEVICES");
    std::vector<ServerSettings> all;
    for (size_t i = 0; i < addresses.size(); ++i) {
        all.push_back({addresses[i], files[i], static_cast<uint32_t>(std::strtoul(devices[i].c_str(), nullptr, 10))});
    }
    return all;
}

uint32_t pci_domain_offset(size_t server) {
    return static_cast<uint32_t>(server) << 8;
}

std::string program_bus_id(const std::string& bus_id, size_t server) {
    const size_t digits = bus_id.find(':');
    if (!server || digits == std::string::npos) return bus_id;
    const unsigned long domain = std::strtoul(bus_id.c_str(), nullptr, 16) + pci_domain_offset(server);
    char text[24];
    std::snprintf(text, sizeof text, "%0*lx", static_cast<int>(std::min<size_t>(digits, 16)), domain);
    return text + bus_id.substr(digits);
}

int dial(const ServerSettings& wanted, ConnectionPurpose purpose) {
    const std::string& server = wanted.address;
    ClientHello hello;
    hello.purpose = purpose;
    hello.lease = read_lease();
    hello.wanted_devices = wanted.devices;
    hello.wanted_memory_mib = std::strtoull(setting("GPUFERRY_MEMORY_MIB").c_str(), nullptr, 10);
    const std::vector<uint8_t> secret = read_secret(wanted.secret_file);
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
