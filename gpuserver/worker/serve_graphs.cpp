// Whole graphs: what of them is more than plain values.
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>

#include "session.h"

namespace gpuferry::worker {

void serve_update_graph(Request& in, Answer& out) {
    const auto exec = in.handle<CUgraphExec>(Kind::graph_exec);
    const auto graph = in.handle<CUgraph>(Kind::graph);
    if (!in.good() || !exec || !graph) return out.refuse(in);
    CUgraphExecUpdateResultInfo told{};
    out.result = driver.cuGraphExecUpdate_v2(exec, graph, &told);
    // A refused update still tells why.
    Encoder(out.payload).put<int64_t>(told.result);
    out.put_handle(in, Kind::graph_node, told.errorNode, in.last(Kind::graph));
    out.put_handle(in, Kind::graph_node, told.errorFromNode, in.last(Kind::graph));
}

void serve_instantiate_graph(Request& in, Answer& out) {
    const auto graph = in.handle<CUgraph>(Kind::graph);
    CUDA_GRAPH_INSTANTIATE_PARAMS parameters{};
    parameters.flags = in.value<uint64_t>();
    parameters.hUploadStream = in.handle<CUstream>(Kind::stream);
    if (!in.good() || !graph) return out.refuse(in);
    CUgraphExec exec = nullptr;
    out.result = driver.cuGraphInstantiateWithParams(&exec, graph, &parameters);
    out.put_handle(in, Kind::graph_exec, exec, in.context());
    out.put_handle(in, Kind::graph_node, parameters.hErrNode_out, in.last(Kind::graph));
    Encoder(out.payload).put<int64_t>(parameters.result_out);
}

// The driver writes a file; its text goes to the client.
void serve_print_graph(Request& in, Answer& out) {
    const auto graph = in.handle<CUgraph>(Kind::graph);
    const auto flags = in.value<uint32_t>();
    if (!in.good() || !graph) return out.refuse(in);
    char path[] = "/tmp/gpuferry-graph-XXXXXX";
    const int file = mkstemp(path);
    if (file < 0) {
        out.result = CUDA_ERROR_OPERATING_SYSTEM;
        return;
    }
    close(file);
    out.result = driver.cuGraphDebugDotPrint(graph, path, flags);
    std::ifstream written(path, std::ios::binary);
    const std::string text((std::istreambuf_iterator<char>(written)), std::istreambuf_iterator<char>());
    unlink(path);
    if (!out.result) Encoder(out.payload).put_text(text);
}

}  // namespace gpuferry::worker
