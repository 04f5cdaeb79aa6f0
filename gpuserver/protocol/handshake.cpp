#include "handshake.h"

#include <sys/random.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "protocol_ops.h"
#include "wire.h"

namespace gpuferry {
namespace {

Digest prove(std::span<const uint8_t> secret, const char* label, const ClientHello& client, const ServerHello& server) {
    std::vector<uint8_t> message(label, label + std::strlen(label));
    const auto* said = reinterpret_cast<const uint8_t*>(&client);
    message.insert(message.end(), said, said + sizeof client);
    said = reinterpret_cast<const uint8_t*>(&server);
    message.insert(message.end(), said, said + offsetof(ServerHello, proof));
    return hmac_sha256(secret, message);
}

Nonce fresh_nonce() {
    Nonce nonce;
    if (getrandom(nonce.data(), nonce.size(), 0) != static_cast<ssize_t>(nonce.size())) {
        throw HandshakeError("no random numbers from the operating system");
    }
    return nonce;
}

std::string version_text(uint32_t version, uint64_t specification) {
    char text[48];
    std::snprintf(text, sizeof text, "%u/%016llx", version, static_cast<unsigned long long>(specification));
    return text;
}

std::string explain(const std::string& server, const ServerHello& answer) {
    switch (answer.refusal) {
        case Refusal::version:
            return "GPU server " + server + " speaks protocol " + version_text(answer.version, answer.specification) +
                   ", this client " + version_text(protocol_version, specification_digest) +
                   ": install the same gpuferry release on both";
        case Refusal::unknown_lease:
            return "GPU server " + server + " does not know this lease: it has expired or belongs to another server";
        case Refusal::no_room:
            return "GPU server " + server + " has not as much GPU memory left as asked for: ask for less, or wait";
        case Refusal::no_worker:
            return "GPU server " + server + " could not start a worker: its log says why";
        case Refusal::unknown_session:
            return "GPU server " + server + " does not know this session any more";
        default:
            return "GPU server " + server + " refused the connection (reason " +
                   std::to_string(static_cast<unsigned>(answer.refusal)) + ")";
    }
}

}  // namespace

SessionId introduce(Connection& connection, const std::string& server, std::span<const uint8_t> secret,
                    ClientHello& hello) {
    hello.version = protocol_version;
    hello.specification = specification_digest;
    hello.nonce = fresh_nonce();
    hello.process = static_cast<uint32_t>(getpid());
    std::strncpy(hello.program.data(), program_invocation_short_name, hello.program.size() - 1);
    connection.send(&hello, sizeof hello);

    ServerHello answer;
    if (!connection.receive(&answer, sizeof answer)) {
        throw HandshakeError("GPU server " + server +
                             " closed the connection without a word: is it a gpuferry server?");
    }
    if (answer.magic != hello.magic) throw HandshakeError(server + " is not a gpuferry GPU server");
    if (answer.refusal != Refusal::none) throw HandshakeError(explain(server, answer));
    if (!equal_digests(answer.proof, prove(secret, "gpuferry server", hello, answer))) {
        throw HandshakeError("GPU server " + server +
                             " does not know this session's secret: wrong secret, or not the server of this lease");
    }
    const Digest proof = prove(secret, "gpuferry client", hello, answer);
    connection.send(proof.data(), proof.size());
    return answer.session;
}

}  // namespace gpuferry
