// What `gpuferry run` says to the libraries through the environment, and the way to the GPU server that it names.
#pragma once

#include <string>
#include <vector>

#include "handshake.h"

namespace gpuferry {

// An environment variable; empty when it is not set.
std::string setting(const char* name);

// One line on stderr: `gpuferry: …`.
void say(const std::string& line);

// One GPU server of the lease: GPUFERRY_SERVER, GPUFERRY_SECRET_FILE and GPUFERRY_DEVICES name one each, or as many as
// there are servers, with commas between them.
struct ServerSettings {
    std::string address, secret_file;
    uint32_t devices = 0;  // GPUs to ask a server without an appliance for, 0 for one
};

// The lease's servers, in the order in which the program numbers their GPUs. Raises HandshakeError where the
// environment does not name them.
std::vector<ServerSettings> server_settings();

// GPUs of two servers often have one PCI address, by which programs tell GPUs apart: those of each server beyond the
// first get domains of their own.
uint32_t pci_domain_offset(size_t server);
// `domain:bus:device.function`, with the domain in as many digits as it came with.
std::string program_bus_id(const std::string& bus_id, size_t server);

// A connection to one of the lease's GPU servers, both sides proved. Raises HandshakeError, TransportError; `what()`
// names the server, what is wrong and what to do.
int dial(const ServerSettings& server, ConnectionPurpose purpose);

}  // namespace gpuferry
