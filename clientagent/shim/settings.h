// What `gpuferry run` says to the libraries through the environment, and the way to the GPU server that it names.
#pragma once

#include <string>

#include "handshake.h"

namespace gpuferry {

// An environment variable; empty when it is not set.
std::string setting(const char* name);

// One line on stderr: `gpuferry: …`.
void say(const std::string& line);

// A connection to the lease's GPU server, both sides proved. Raises HandshakeError, TransportError; `what()` names the
// server, what is wrong and what to do.
int dial(ConnectionPurpose purpose);

}  // namespace gpuferry
