// cuLink*: the driver links what the client sends.
#include "jit_options.h"
#include "session.h"

namespace gpuferry::worker {
namespace {

// The log buffers must live as long as the link state.
struct LinkDetail : Detail {
    explicit LinkDetail(JitOptions given) : options(std::move(given)) {}
    ~LinkDetail() override {
        if (state) driver.cuLinkDestroy(state);
    }
    JitOptions options;
    CUlinkState state = nullptr;
};

}  // namespace

void serve_create_link(Request& in, Answer& out) {
    const Handle name = in.name(Kind::link_state);
    auto detail = std::make_unique<LinkDetail>(JitOptions(in));
    if (!in.good()) return out.refuse(in);
    JitOptions& options = detail->options;
    out.result = driver.cuLinkCreate_v2(options.count(), options.names.data(), options.values.data(), &detail->state);
    in.bind(name, out.result, detail->state, in.context());
    if (!out.result) in.session.objects.find(Kind::link_state, name)->detail = std::move(detail);
}

void serve_add_to_link(Request& in, Answer& out) {
    const auto state = in.handle<CUlinkState>(Kind::link_state);
    const auto type = static_cast<CUjitInputType>(in.value<int64_t>());
    const char* const name = in.text();
    JitOptions options(in);
    const std::string data(in.fields().take_text());
    if (!in.good() || !state || data.empty()) return out.refuse(in);
    out.result = driver.cuLinkAddData_v2(state, type, const_cast<char*>(data.c_str()), data.size(), name,
                                         options.count(), options.names.data(), options.values.data());
}

void serve_complete_link(Request& in, Answer& out) {
    const auto state = in.handle<CUlinkState>(Kind::link_state);
    if (!in.good() || !state) return out.refuse(in);
    void* image = nullptr;
    size_t size = 0;
    out.result = driver.cuLinkComplete(state, &image, &size);
    const Object* object = in.session.objects.find(Kind::link_state, in.last(Kind::link_state));
    Encoder answer(out.payload);
    static_cast<LinkDetail*>(object->detail.get())->options.put_results(answer);
    if (!out.result) answer.put_text({static_cast<const char*>(image), size});
}

void serve_destroy_link(Request& in, Answer& out) {
    const auto state = in.handle<CUlinkState>(Kind::link_state);
    if (!in.good() || !state) return out.refuse(in);
    in.forget(Kind::link_state);  // and the detail destroys it
}

}  // namespace gpuferry::worker
