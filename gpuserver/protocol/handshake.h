// The first bytes of a connection: versions, the lease, and a mutual proof of the session's secret.
//
//   client → ClientHello      who I am, which protocol, a fresh nonce
//   server → ServerHello      its versions, a fresh nonce, and proof that it knows the secret
//   client → ClientProof      proof that the client knows it; the first requests may follow at once
//
// Each proof is an HMAC-SHA256 under the secret over a label and everything both have said, so neither can be replayed.
// `features` leaves room for what later protocol steps switch on (TLS with the secret as pre-shared key, resume).
// The server's half is `gpuserver/protocol/handshake.py`: no code that parses strangers' bytes in C++ before the proof.
#pragma once

#include <cstdint>
#include <string>

#include "sha256.h"
#include "transport.h"

namespace gpuferry {

using LeaseId = std::array<uint8_t, 16>;
using SessionId = std::array<uint8_t, 16>;
using Nonce = std::array<uint8_t, 32>;

enum class ConnectionPurpose : uint32_t { session = 0, attach = 1, inventory = 2, nvml = 3 };

// Why a server refuses; the numbers are part of the protocol.
enum class Refusal : uint32_t {
    none = 0,
    version = 1,        // another protocol version, or another API specification
    unknown_lease = 2,  // not (or no longer) a lease of this server
    bad_proof = 3,      // the client does not know the lease's secret
    no_worker = 4,      // the worker could not be started
    unknown_session = 5,
    no_room = 6,  // a static server has not as much GPU memory left as the client asks for
};

struct ClientHello {
    std::array<char, 8> magic = {'g', 'p', 'u', 'f', 'e', 'r', 'r', 'y'};
    uint32_t version = 0;
    ConnectionPurpose purpose = ConnectionPurpose::session;
    uint64_t specification = 0;
    LeaseId lease{};
    SessionId session{};
    Nonce nonce{};
    uint32_t features = 0;
    uint32_t process = 0;
    std::array<char, 40> program{};  // for the server's lists; not trusted
    uint32_t wanted_devices = 0;     // what a server without an appliance gives: GPUs, and MiB of each; 0 for any, all
    uint32_t reserved = 0;
    uint64_t wanted_memory_mib = 0;
};
static_assert(sizeof(ClientHello) == 152);

struct ServerHello {
    std::array<char, 8> magic = {'g', 'p', 'u', 'f', 'e', 'r', 'r', 'y'};
    uint32_t version = 0;
    Refusal refusal = Refusal::none;
    uint64_t specification = 0;
    SessionId session{};
    Nonce nonce{};
    uint32_t features = 0;
    uint32_t reserved = 0;
    Digest proof{};
};
static_assert(sizeof(ServerHello) == 112);

// The client may go no further; `what()` names the server, what is wrong and what to do.
struct HandshakeError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Runs the client's half. Raises HandshakeError, TransportError. Returns the session's id.
// `hello` says purpose, lease, session and wishes; the rest is filled in.
SessionId introduce(Connection& connection, const std::string& server, std::span<const uint8_t> secret,
                    ClientHello& hello);

}  // namespace gpuferry
