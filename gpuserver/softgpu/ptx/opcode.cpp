// Names of opcodes, types and special registers.
#include "ptx/opcode.h"

#include <unordered_map>

#include "ptx/ast.h"

namespace softgpu::ptx {

std::optional<Opcode> opcode_of(std::string_view name) {
    static const std::unordered_map<std::string_view, Opcode> table = {
#define X(name) {#name, Opcode::name},
#define Y(identifier, name) {name, Opcode::identifier},
        SOFTGPU_PTX_OPCODES(X, Y)
#undef X
#undef Y
    };
    auto found = table.find(name);
    if (found == table.end()) return std::nullopt;
    return found->second;
}

const char* name_of(Opcode opcode) {
    switch (opcode) {
#define X(name)        \
    case Opcode::name: \
        return #name;
#define Y(identifier, name)  \
    case Opcode::identifier: \
        return name;
        SOFTGPU_PTX_OPCODES(X, Y)
#undef X
#undef Y
    }
    return "?";
}

std::optional<SpecialName> special_of(std::string_view name) {
    static const std::unordered_map<std::string_view, SpecialName> table = {
        {"%tid", {Special::tid, 0, true, false}},
        {"%ntid", {Special::ntid, 0, true, false}},
        {"%laneid", {Special::laneid, 0, false, false}},
        {"%warpid", {Special::warpid, 0, false, false}},
        {"%nwarpid", {Special::nwarpid, 0, false, false}},
        {"%ctaid", {Special::ctaid, 0, true, false}},
        {"%nctaid", {Special::nctaid, 0, true, false}},
        {"%smid", {Special::smid, 0, false, false}},
        {"%nsmid", {Special::nsmid, 0, false, false}},
        {"%gridid", {Special::gridid, 0, false, true}},
        {"%is_explicit_cluster", {Special::is_explicit_cluster, 0, false, false}},
        {"%clusterid", {Special::clusterid, 0, true, false}},
        {"%nclusterid", {Special::nclusterid, 0, true, false}},
        {"%cluster_ctaid", {Special::cluster_ctaid, 0, true, false}},
        {"%cluster_nctaid", {Special::cluster_nctaid, 0, true, false}},
        {"%cluster_ctarank", {Special::cluster_ctarank, 0, false, false}},
        {"%cluster_nctarank", {Special::cluster_nctarank, 0, false, false}},
        {"%lanemask_eq", {Special::lanemask_eq, 0, false, false}},
        {"%lanemask_le", {Special::lanemask_le, 0, false, false}},
        {"%lanemask_lt", {Special::lanemask_lt, 0, false, false}},
        {"%lanemask_ge", {Special::lanemask_ge, 0, false, false}},
        {"%lanemask_gt", {Special::lanemask_gt, 0, false, false}},
        {"%clock", {Special::clock, 0, false, false}},
        {"%clock_hi", {Special::clock_hi, 0, false, false}},
        {"%clock64", {Special::clock64, 0, false, true}},
        {"%globaltimer", {Special::globaltimer, 0, false, true}},
        {"%globaltimer_lo", {Special::globaltimer_lo, 0, false, false}},
        {"%globaltimer_hi", {Special::globaltimer_hi, 0, false, false}},
        {"%reserved_smem_offset_begin", {Special::reserved_smem_offset, 0, false, false}},
        {"%reserved_smem_offset_end", {Special::reserved_smem_offset, 1, false, false}},
        {"%reserved_smem_offset_cap", {Special::reserved_smem_offset, 2, false, false}},
        {"%reserved_smem_offset_0", {Special::reserved_smem_offset, 3, false, false}},
        {"%reserved_smem_offset_1", {Special::reserved_smem_offset, 4, false, false}},
        {"%total_smem_size", {Special::total_smem_size, 0, false, false}},
        {"%aggr_smem_size", {Special::aggr_smem_size, 0, false, false}},
        {"%dynamic_smem_size", {Special::dynamic_smem_size, 0, false, false}},
        {"%current_graph_exec", {Special::current_graph_exec, 0, false, true}},
    };
    if (auto found = table.find(name); found != table.end()) return found->second;
    auto numbered = [&](std::string_view prefix, uint32_t limit) -> std::optional<uint32_t> {
        if (!name.starts_with(prefix)) return std::nullopt;
        std::string_view digits = name.substr(prefix.size());
        if (digits.empty() || digits.size() > 2) return std::nullopt;
        uint32_t number = 0;
        for (char c : digits) {
            if (c < '0' || c > '9') return std::nullopt;
            number = number * 10 + static_cast<uint32_t>(c - '0');
        }
        if (number >= limit) return std::nullopt;
        return number;
    };
    if (auto n = numbered("%envreg", 32)) return SpecialName{Special::envreg, *n, false, false};
    if (auto n = numbered("%pm", 8)) return SpecialName{Special::pm, *n, false, false};
    if (name.size() == 7 && name.starts_with("%pm") && name.ends_with("_64") && name[3] >= '0' && name[3] < '8')
        return SpecialName{Special::pm64, static_cast<uint32_t>(name[3] - '0'), false, true};
    return std::nullopt;
}

namespace {
struct TypeRow {
    const char* name;
    Type type;
    uint8_t bytes;
    bool is_signed, is_float;
};
constexpr TypeRow type_rows[] = {
    {"none", Type::none, 0, false, false},       {"pred", Type::pred, 1, false, false},
    {"b8", Type::b8, 1, false, false},           {"u8", Type::u8, 1, false, false},
    {"s8", Type::s8, 1, true, false},            {"b16", Type::b16, 2, false, false},
    {"u16", Type::u16, 2, false, false},         {"s16", Type::s16, 2, true, false},
    {"f16", Type::f16, 2, true, true},           {"bf16", Type::bf16, 2, true, true},
    {"b32", Type::b32, 4, false, false},         {"u32", Type::u32, 4, false, false},
    {"s32", Type::s32, 4, true, false},          {"f32", Type::f32, 4, true, true},
    {"f16x2", Type::f16x2, 4, true, true},       {"bf16x2", Type::bf16x2, 4, true, true},
    {"tf32", Type::tf32, 4, true, true},         {"u16x2", Type::u16x2, 4, false, false},
    {"s16x2", Type::s16x2, 4, true, false},      {"b64", Type::b64, 8, false, false},
    {"u64", Type::u64, 8, false, false},         {"s64", Type::s64, 8, true, false},
    {"f64", Type::f64, 8, true, true},           {"f32x2", Type::f32x2, 8, true, true},
    {"b128", Type::b128, 16, false, false},      {"e4m3", Type::e4m3, 1, true, true},
    {"e5m2", Type::e5m2, 1, true, true},         {"e4m3x2", Type::e4m3x2, 2, true, true},
    {"e5m2x2", Type::e5m2x2, 2, true, true},     {"e2m1x2", Type::e2m1x2, 1, true, true},
    {"e2m3x2", Type::e2m3x2, 2, true, true},     {"e3m2x2", Type::e3m2x2, 2, true, true},
    {"ue8m0x2", Type::ue8m0x2, 2, false, true},  {"texref", Type::other, 8, false, false},
    {"samplerref", Type::other, 8, false, false}, {"surfref", Type::other, 8, false, false},
};
const TypeRow& row_of(Type type) {
    for (const TypeRow& row : type_rows)
        if (row.type == type) return row;
    return type_rows[0];
}
}  // namespace

Type type_of(std::string_view modifier) {
    if (modifier.size() < 3 || modifier[0] != '.') return Type::none;
    std::string_view name = modifier.substr(1);
    for (const TypeRow& row : type_rows)
        if (name == row.name) return row.type == Type::none ? Type::none : row.type;
    return Type::none;
}

const char* name_of(Type type) { return row_of(type).name; }
uint32_t bytes_of(Type type) { return row_of(type).bytes; }
bool is_signed(Type type) { return row_of(type).is_signed; }
bool is_float(Type type) { return row_of(type).is_float; }

}  // namespace softgpu::ptx
