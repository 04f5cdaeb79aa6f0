// One connection between two processes: TCP, or a UNIX socket on one machine, chosen by the form of the address.
// Other fabrics (RDMA through rsockets, TLS) become siblings behind the same few calls.
#pragma once

#include <sys/uio.h>
#include <cstddef>
#include <stdexcept>
#include <string>

namespace gpuferry {

// The connection cannot be made, or is gone; `what()` says which peer and why.
struct TransportError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

class Connection {
  public:
    explicit Connection(int descriptor) : descriptor_(descriptor) {}
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;
    ~Connection();

    // Sends everything. Raises TransportError.
    void send(const void* data, size_t size);
    void send(iovec* parts, int count);
    // At least one byte and at most `size`; 0 when the peer has closed. Raises TransportError.
    size_t receive_some(void* data, size_t size);
    // Exactly `size` bytes; false when the peer closed before the first. Raises TransportError.
    bool receive(void* data, size_t size);
    // Whether bytes wait to be read (or the peer has closed), without blocking.
    [[nodiscard]] bool readable() const;
    [[nodiscard]] int descriptor() const { return descriptor_; }

  private:
    int descriptor_;
};

// Makes the operating system end a connection whose other end no longer answers, within about half a minute: a link
// that is cut says nothing. No effect on a UNIX socket.
void notice_silence(int descriptor);

// `host:port`, `[v6 address]:port` or `unix:/path`; waits at most `timeout_ms` for the connection. Raises
// TransportError.
int connect_to(const std::string& address, int timeout_ms);

}  // namespace gpuferry
