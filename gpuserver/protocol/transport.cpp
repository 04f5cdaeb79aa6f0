#include "transport.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#ifdef __SANITIZE_THREAD__
extern "C" void __tsan_acquire(void* tag);
extern "C" void __tsan_release(void* tag);
#endif

namespace gpuferry {
namespace {

// What arrives may answer what was sent: so one thread's work is over before another's begins. ThreadSanitizer cannot
// know, where the connection was inherited.
void note_sent([[maybe_unused]] void* connection) {
#ifdef __SANITIZE_THREAD__
    __tsan_release(connection);
#endif
}
void note_received([[maybe_unused]] void* connection) {
#ifdef __SANITIZE_THREAD__
    __tsan_acquire(connection);
#endif
}

std::string reason() {
    return std::strerror(errno);
}

// Waits for a connection that is being made. Leaves errno saying why where it fails.
bool finish_connecting(int descriptor, int timeout_ms) {
    pollfd waiting{descriptor, POLLOUT, 0};
    const int ready = poll(&waiting, 1, timeout_ms);
    if (ready == 0) errno = ETIMEDOUT;
    if (ready <= 0) return false;
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &size);
    errno = error;
    return error == 0;
}

int connect_socket(int family, const sockaddr* address, socklen_t size, int timeout_ms) {
    const int descriptor = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (descriptor < 0) return -1;
    if ((connect(descriptor, address, size) == 0 || errno == EINPROGRESS) &&
        finish_connecting(descriptor, timeout_ms)) {
        fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) & ~O_NONBLOCK);
        const int on = 1;  // fails on a UNIX socket, which has no Nagle algorithm to turn off
        setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        notice_silence(descriptor);
        return descriptor;
    }
    const int error = errno;
    close(descriptor);
    errno = error;
    return -1;
}

int connect_unix(const std::string& path, int timeout_ms) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) throw TransportError("unix:" + path + ": the path is too long");
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    const int descriptor =
        connect_socket(AF_UNIX, reinterpret_cast<const sockaddr*>(&address), sizeof address, timeout_ms);
    if (descriptor < 0) throw TransportError("unix:" + path + ": " + reason());
    return descriptor;
}

int connect_tcp(const std::string& address, int timeout_ms) {
    const size_t colon = address.rfind(':');
    if (colon == std::string::npos) throw TransportError(address + ": not of the form host:port");
    std::string host = address.substr(0, colon);
    const std::string port = address.substr(colon + 1);
    if (host.size() > 1 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    if (const int error = getaddrinfo(host.c_str(), port.c_str(), &hints, &found)) {
        throw TransportError(address + ": " + gai_strerror(error));
    }
    const std::unique_ptr<addrinfo, void (*)(addrinfo*)> all(found, freeaddrinfo);
    for (const addrinfo* one = found; one; one = one->ai_next) {
        const int descriptor = connect_socket(one->ai_family, one->ai_addr, one->ai_addrlen, timeout_ms);
        if (descriptor >= 0) return descriptor;
    }
    throw TransportError(address + ": " + reason());
}

}  // namespace

void notice_silence(int descriptor) {
    const int on = 1, idle_s = 10, between_s = 5, probes = 4;
    const unsigned unacknowledged_ms = 30'000;
    setsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPINTVL, &between_s, sizeof between_s);
    setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
    setsockopt(descriptor, IPPROTO_TCP, TCP_USER_TIMEOUT, &unacknowledged_ms, sizeof unacknowledged_ms);
}

Connection::~Connection() {
    close(descriptor_);
}

void Connection::send(const void* data, size_t size) {
    iovec part{const_cast<void*>(data), size};
    send(&part, 1);
}

void Connection::send(iovec* parts, int count) {
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = static_cast<size_t>(count);
    note_sent(this);
    while (message.msg_iovlen) {
        const ssize_t sent = sendmsg(descriptor_, &message, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0) throw TransportError("sending failed: " + reason());
        auto left = static_cast<size_t>(sent);
        while (message.msg_iovlen && left >= message.msg_iov->iov_len) {
            left -= message.msg_iov->iov_len;
            ++message.msg_iov;
            --message.msg_iovlen;
        }
        if (message.msg_iovlen) {
            message.msg_iov->iov_base = static_cast<char*>(message.msg_iov->iov_base) + left;
            message.msg_iov->iov_len -= left;
        }
    }
}

size_t Connection::receive_some(void* data, size_t size) {
    while (true) {
        const ssize_t received = recv(descriptor_, data, size, 0);
        if (received >= 0) {
            note_received(this);
            return static_cast<size_t>(received);
        }
        if (errno != EINTR) throw TransportError("receiving failed: " + reason());
    }
}

bool Connection::receive(void* data, size_t size) {
    auto* next = static_cast<char*>(data);
    for (size_t done = 0; done < size;) {
        const size_t received = receive_some(next + done, size - done);
        if (received == 0) {
            if (done == 0) return false;
            throw TransportError("the peer closed the connection in the middle of a frame");
        }
        done += received;
    }
    return true;
}

bool Connection::readable() const {
    pollfd waiting{descriptor_, POLLIN, 0};
    return poll(&waiting, 1, 0) > 0;
}

int connect_to(const std::string& address, int timeout_ms) {
    if (address.starts_with("unix:")) return connect_unix(address.substr(5), timeout_ms);
    return connect_tcp(address, timeout_ms);
}

}  // namespace gpuferry
