// Function bodies: declarations, labels, instructions.
#include <algorithm>

#include "ptx/parsing.h"

namespace softgpu::ptx {

namespace {
constexpr uint32_t most_registers = 1 << 20;
constexpr int deepest_block = 64;
constexpr uint32_t pending_symbol = 0x80000000U;
}  // namespace

void Parsing::body(Function& f) {
    function_ = &f;
    scopes_.clear();
    label_names_.clear();
    label_index_.clear();
    symbol_index_.clear();
    symbol_lines_.clear();
    target_lists_.clear();
    prototypes_.clear();
    Scope outer;
    for (uint32_t i = 0; i < f.variables.size(); ++i) {
        Variable& v = f.variables[i];
        if (v.is_register) {
            v.register_index = static_cast<uint32_t>(f.registers.size());
            f.registers.push_back(v.type);
            outer.registers[v.name] = v.register_index;
        } else {
            outer.variables[v.name] = i;
        }
    }
    scopes_.push_back(std::move(outer));
    block(0);
    scopes_.clear();
    resolve_names();
    function_ = nullptr;
}

void Parsing::block(int depth) {
    if (depth > deepest_block) fail("blocks nested too deeply");
    int opened = token_.line;
    expect('{', "of a block");
    scopes_.emplace_back();
    const size_t first = function_->pool.size();
    while (!token_.is('}')) {
        if (token_.kind == Token::Kind::end) lexer_.fail(opened, "{ without }");
        statement(depth);
    }
    resolve_labels(first);
    scopes_.pop_back();
    advance();
}

void Parsing::statement(int depth) {
    if (token_.is('{')) {
        block(depth + 1);
        return;
    }
    if (accept(';')) return;
    if (token_.kind == Token::Kind::directive) {
        if (accept(".reg")) return registers();
        if (token_.is(".param")) return body_variables(Space::param);
        if (token_.is(".local")) return body_variables(Space::local);
        if (token_.is(".shared") || token_.is(".shared::cta")) return body_variables(Space::shared);
        if (token_.is(".global")) return body_variables(Space::global);
        if (token_.is(".const")) return body_variables(Space::constant);
        if (token_.is(".loc") || token_.is(".file") || token_.is(".pragma")) return skip_line_directive();
        if (token_.is(".section")) return section();
        fail_expected("an instruction, a label or a declaration");
    }
    if (token_.kind == Token::Kind::identifier) {
        Token name = token_;
        advance();
        if (token_.is(':')) {
            advance();
            label(name.text, name.line);
            return;
        }
        pushed_ = token_;
        token_ = name;
        if (pushed_.kind == Token::Kind::end) fail("expected an instruction, found the end of the text");
    } else if (!token_.is('@')) {
        fail_expected("an instruction, a label or a declaration");
    }
    instruction();
}

void Parsing::registers() {
    Function& f = *function_;
    Scope& scope = scopes_.back();
    uint32_t vector = 1;
    Type type = Type::none;
    while (token_.kind == Token::Kind::directive) {
        if (token_.is(".v2") || token_.is(".v4")) {
            vector = static_cast<uint32_t>(token_.text[2] - '0');
        } else if (token_.is(".align")) {
            advance();
            small_number(".align", 1 << 16);
            continue;
        } else {
            type = type_of(token_.text);
            if (type == Type::none || type == Type::other) fail_expected("the type of a register");
        }
        advance();
    }
    if (type == Type::none) fail_expected("the type of a register");
    do {
        std::string_view name = identifier("the name of a register");
        uint32_t count = 1;
        auto first = static_cast<uint32_t>(f.registers.size());
        if (accept('<')) {
            // Not an expression: the > that follows closes the count.
            if (token_.kind != Token::Kind::integer || token_.value > most_registers)
                fail_expected("the number of registers");
            count = static_cast<uint32_t>(token_.value);
            advance();
            expect('>', "after the number of registers");
            scope.numbered.push_back({name, first, count});
        } else if (vector > 1) {
            // The components of a vector register: name.x, name.y ... kept as name, name+1 ...
            scope.registers[name] = first;
            count = vector;
        } else {
            scope.registers[name] = first;
        }
        if (f.registers.size() + count > most_registers) fail("too many registers");
        f.registers.resize(f.registers.size() + count, type);
    } while (accept(','));
    expect(';', "after registers");
}

void Parsing::body_variables(Space space) {
    Function& f = *function_;
    advance();
    Variable v = declaration(Linkage::internal, space);
    for (;;) {
        Variable shape = v;
        if (accept('=')) initial_value(v);
        scopes_.back().variables[v.name] = static_cast<uint32_t>(f.variables.size());
        f.variables.push_back(std::move(v));
        if (!accept(',')) break;
        v = shape;
        v.name = identifier("the name of a variable");
        v.size = bytes_of(v.type);
        array_dimensions(v);
    }
    expect(';', "after a variable");
}

void Parsing::label(std::string_view name, int line) {
    Function& f = *function_;
    if (accept(".branchtargets") || accept(".calltargets")) {
        std::vector<uint32_t> list;
        do {
            if (token_.kind != Token::Kind::identifier) fail_expected("a label");
            list.push_back(label_index(token_.text, token_.line));
            advance();
        } while (accept(','));
        expect(';', "after the list of targets");
        target_lists_[name] = static_cast<uint32_t>(f.branch_targets.size());
        f.branch_targets.push_back(std::move(list));
        return;
    }
    if (accept(".callprototype")) {
        Prototype p;
        p.name = name;
        if (token_.is('(')) p.returns = formals("the returned values");
        identifier("_ in .callprototype");
        if (token_.is('(')) p.parameters = formals("the parameters");
        while (token_.kind == Token::Kind::directive) {  // .noreturn, .abi_preserve n
            advance();
            if (token_.kind == Token::Kind::integer) advance();
        }
        expect(';', "after .callprototype");
        prototypes_[name] = static_cast<uint32_t>(f.prototypes.size());
        f.prototypes.push_back(std::move(p));
        return;
    }
    Scope& scope = scopes_.back();
    if (scope.labels.contains(name)) lexer_.fail(line, "label '" + std::string(name) + "' is defined twice");
    const uint32_t index = pending_label(name, line);
    scope.labels[name] = index;
    label_names_[index].defined = true;
    f.labels[index] = static_cast<uint32_t>(f.code.size());
}

// A label that has been named and not defined so far; one of an inner block that has ended is another.
uint32_t Parsing::pending_label(std::string_view name, int line) {
    auto [found, inserted] = label_index_.try_emplace(name, 0);
    if (inserted || label_names_[found->second].defined) {
        found->second = static_cast<uint32_t>(label_names_.size());
        label_names_.push_back({name, line, false});
        function_->labels.push_back(0);
    }
    return found->second;
}

uint32_t Parsing::label_index(std::string_view name, int line) {
    for (size_t s = scopes_.size(); s-- > 0;)
        if (auto found = scopes_[s].labels.find(name); found != scopes_[s].labels.end()) return found->second;
    return pending_label(name, line);
}

// Labels belong to the block that defines them: what it names from `first` on in the pool is meant so.
void Parsing::resolve_labels(size_t first) {
    Function& f = *function_;
    const auto& labels = scopes_.back().labels;
    if (labels.empty()) return;
    for (size_t at = first; at < f.pool.size(); ++at) {
        Operand& o = f.pool[at];
        if (o.kind != Operand::Kind::symbol) continue;
        const auto found = labels.find(f.symbols[o.index]);
        if (found == labels.end()) continue;
        o.kind = Operand::Kind::label;
        o.index = found->second;
    }
}

uint32_t Parsing::symbol_index(std::string_view name) {
    auto [found, inserted] = symbol_index_.try_emplace(name, static_cast<uint32_t>(function_->symbols.size()));
    if (inserted) {
        function_->symbols.push_back(name);
        symbol_lines_[name] = token_.line;
    }
    return found->second;
}

int32_t Parsing::find_register(std::string_view name) const {
    for (size_t s = scopes_.size(); s-- > 0;) {
        const Scope& scope = scopes_[s];
        if (!scope.registers.empty())
            if (auto found = scope.registers.find(name); found != scope.registers.end())
                return static_cast<int32_t>(found->second);
        for (const Scope::Numbered& n : scope.numbered) {
            if (!name.starts_with(n.prefix)) continue;
            std::string_view digits = name.substr(n.prefix.size());
            if (digits.empty() || digits.size() > 7 || (digits.size() > 1 && digits[0] == '0')) continue;
            uint32_t number = 0;
            bool good = true;
            for (char c : digits) {
                good = good && c >= '0' && c <= '9';
                number = number * 10 + static_cast<uint32_t>(c - '0');
            }
            if (good && number < n.count) return static_cast<int32_t>(n.first + number);
        }
    }
    return -1;
}

int32_t Parsing::find_variable(std::string_view name) const {
    for (size_t s = scopes_.size(); s-- > 0;)
        if (auto found = scopes_[s].variables.find(name); found != scopes_[s].variables.end())
            return static_cast<int32_t>(found->second);
    return -1;
}

uint32_t Parsing::push_pool(const std::vector<Operand>& list) {
    auto first = static_cast<uint32_t>(function_->pool.size());
    function_->pool.insert(function_->pool.end(), list.begin(), list.end());
    return first;
}

void Parsing::instruction() {
    Function& f = *function_;
    Instruction i;
    if (accept('@')) {
        i.guard_negated = accept('!');
        std::string_view name = identifier("a predicate");
        i.guard = find_register(name);
        if (i.guard < 0) fail("'" + std::string(name) + "' is no register");
        if (f.registers[static_cast<uint32_t>(i.guard)] != Type::pred)
            fail("'" + std::string(name) + "' is no predicate");
    }
    i.line = token_.line;
    if (token_.kind != Token::Kind::identifier) fail_expected("an instruction");
    auto opcode = opcode_of(token_.text);
    if (!opcode) fail("unknown instruction '" + std::string(token_.text) + "'");
    i.opcode = *opcode;
    advance();
    i.first_modifier = static_cast<uint32_t>(f.modifiers.size());
    while (token_.kind == Token::Kind::directive) {
        f.modifiers.push_back(token_.text);
        if (++i.modifier_count == 32) fail("too many modifiers");
        advance();
    }
    std::vector<Operand> list;
    if (i.opcode == Opcode::call) {
        call_operands(i, list);
    } else if (!token_.is(';')) {
        do {
            list.push_back(operand());
            if (list.size() > 32) fail("too many operands");
        } while (accept(','));
    }
    if (!token_.is(';')) fail_expected("';' or ',' after an operand");
    advance();
    i.first_operand = push_pool(list);
    i.operand_count = static_cast<uint8_t>(list.size());
    f.code.push_back(i);
    if (f.code.size() > 1 << 26) fail("function too long");
}

// call (returned), target, (arguments), prototype-or-targets
void Parsing::call_operands(Instruction& i, std::vector<Operand>& list) {
    (void)i;
    Operand none;
    none.kind = Operand::Kind::vector;
    Operand returned = none, arguments = none;
    if (token_.is('(')) {
        returned = parenthesized();
        expect(',', "after the returned values");
    }
    Operand target = operand();
    if (accept(',')) {
        if (token_.is('(')) {
            arguments = parenthesized();
            if (accept(',')) {
                list = {returned, target, arguments, operand()};
                return;
            }
        } else {
            list = {returned, target, arguments, operand()};
            return;
        }
    }
    list = {returned, target, arguments};
}

Operand Parsing::parenthesized() {
    expect('(', "of a list of arguments");
    std::vector<Operand> list;
    if (!token_.is(')')) {
        do {
            list.push_back(operand());
            if (list.size() > 4096) fail("too many arguments");
        } while (accept(','));
    }
    expect(')', "or , in a list of arguments");
    Operand o;
    o.kind = Operand::Kind::vector;
    o.count = static_cast<uint32_t>(list.size());
    o.index = push_pool(list);
    return o;
}

Operand Parsing::vector_operand() {
    expect('{', "of a vector");
    std::vector<Operand> list;
    do {
        if (token_.is('{')) fail("a vector within a vector");
        list.push_back(operand());
        if (list.size() > 256) fail("vector too long");
    } while (accept(','));
    expect('}', "or , in a vector");
    Operand o;
    o.kind = Operand::Kind::vector;
    o.count = static_cast<uint32_t>(list.size());
    o.index = push_pool(list);
    return o;
}

// .h10, .b7654: the halves or bytes of a register that a video instruction takes.
static bool is_selector(std::string_view text) {
    return text.size() > 2 && text.size() <= 6 && (text[1] == 'h' || text[1] == 'b') &&
           text.find_first_not_of("01234567", 2) == std::string_view::npos;
}

Operand Parsing::named(std::string_view name, int line) {
    Operand o;
    if (name == "_") return o;
    if (int32_t r = find_register(name); r >= 0) {
        o.kind = Operand::Kind::reg;
        o.index = static_cast<uint32_t>(r);
        if (token_.kind == Token::Kind::directive && token_.adjacent && token_.text.size() == 2) {
            size_t which = std::string_view("xyzw").find(token_.text[1]);
            if (which != std::string_view::npos && o.index + which < function_->registers.size()) {
                o.index += static_cast<uint32_t>(which);
                advance();
            }
        }
        if (token_.kind == Token::Kind::directive && token_.adjacent && is_selector(token_.text)) {
            o.selector = token_.text;
            advance();
        }
        return o;
    }
    if (name[0] == '%') {
        if (auto special = special_of(name)) {
            o.kind = Operand::Kind::special;
            o.index = static_cast<uint32_t>(special->special);
            o.count = special->component;
            if (special->vector) {
                static constexpr std::string_view components = "xyzwrgba";
                size_t which = token_.kind == Token::Kind::directive && token_.text.size() == 2
                                   ? components.find(token_.text[1])
                                   : std::string_view::npos;
                if (which == std::string_view::npos)
                    o.count = 4;  // the whole vector, for mov.v4 only
                else {
                    o.count = static_cast<uint32_t>(which % 4);
                    advance();
                }
            }
            return o;
        }
    }
    if (int32_t v = find_variable(name); v >= 0) {
        o.kind = Operand::Kind::variable;
        o.index = static_cast<uint32_t>(v);
        return o;
    }
    // A label further down, or a name of module scope: resolve_names() decides.
    (void)line;
    o.kind = Operand::Kind::symbol;
    o.index = symbol_index(name);
    return o;
}

Operand Parsing::operand() {
    Operand o;
    if (token_.is('{')) {
        o = vector_operand();
    } else if (token_.is('[')) {
        return bracketed();
    } else if (token_.is('(')) {
        // Constant in parentheses; lists of arguments are read elsewhere.
        Constant c = constant();
        o.kind = Operand::Kind::integer;
        o.value = static_cast<int64_t>(c.bits);
        if (c.kind != Constant::Kind::integer)
            o.kind = Operand::Kind::real, o.single = c.kind == Constant::Kind::single;
        return o;
    } else if (token_.kind == Token::Kind::identifier && !token_.is("WARP_SZ")) {
        Token name = token_;
        advance();
        o = named(name.text, name.line);
        if ((o.kind == Operand::Kind::variable || o.kind == Operand::Kind::symbol) &&
            (token_.is('+') || token_.is('-'))) {
            bool minus = token_.is('-');
            advance();
            auto value = static_cast<int64_t>(constant().bits);
            o.value = minus ? static_cast<int64_t>(0 - static_cast<uint64_t>(value)) : value;
        }
    } else if (token_.is('!')) {
        advance();
        Token name = token_;
        if (name.kind == Token::Kind::identifier) {
            advance();
            o = named(name.text, name.line);
            if (o.kind != Operand::Kind::reg) lexer_.fail(name.line, "expected a predicate after '!'");
            o.negated = true;
        } else {
            Constant c = constant();
            o.kind = Operand::Kind::integer;
            o.value = c.bits == 0;
        }
        return o;
    } else {
        Constant c = constant();
        o.value = static_cast<int64_t>(c.bits);
        o.kind = c.kind == Constant::Kind::integer ? Operand::Kind::integer : Operand::Kind::real;
        o.single = c.kind == Constant::Kind::single;
        return o;
    }
    if (token_.is('|')) {  // p|q
        advance();
        Token name = token_;
        if (name.kind != Token::Kind::identifier) fail_expected("a register after '|'");
        advance();
        Operand q = named(name.text, name.line);
        if (q.kind == Operand::Kind::sink)
            o.second = Operand::sink_second;
        else if (q.kind == Operand::Kind::reg)
            o.second = static_cast<int32_t>(q.index);
        else
            lexer_.fail(name.line, "expected a register after '|'");
    }
    return o;
}

// [reg], [reg+5], [variable+8], [8]; and the lists of tensor and texture instructions.
Operand Parsing::bracketed() {
    expect('[', "of an address");
    Operand o;
    o.kind = Operand::Kind::address;
    if (token_.kind == Token::Kind::identifier && !token_.is("WARP_SZ")) {
        Token name = token_;
        advance();
        Operand base = named(name.text, name.line);
        o.index = push_pool({base});
        o.count = 1;
        if (token_.is('+') || token_.is('-')) {
            bool minus = token_.is('-');
            advance();
            Constant c = constant();
            if (c.kind != Constant::Kind::integer) fail("an offset must be an integer");
            o.value = static_cast<int64_t>(minus ? 0 - c.bits : c.bits);
        }
    } else {
        Constant c = constant();
        if (c.kind != Constant::Kind::integer) fail("an address must be an integer");
        o.value = static_cast<int64_t>(c.bits);
    }
    if (accept(',')) {
        std::vector<Operand> items;
        if (o.count) items.push_back(function_->pool[o.index]);
        do items.push_back(operand());
        while (accept(','));
        o.kind = Operand::Kind::other;
        o.index = push_pool(items);
        o.count = static_cast<uint32_t>(items.size());
    }
    expect(']', "after an address");
    accept(".unified");
    return o;
}

void Parsing::resolve_names() {
    Function& f = *function_;
    auto is_module_name = [&](std::string_view name) {
        return module_.variable_index.contains(name) || module_.function_index.contains(name) ||
               module_.aliases.contains(name);
    };
    // What each symbol turns out to be.
    std::vector<uint32_t> as_label(f.symbols.size(), pending_symbol);
    for (uint32_t s = 0; s < f.symbols.size(); ++s) {
        std::string_view name = f.symbols[s];
        if (auto label = label_index_.find(name); label != label_index_.end() && label_names_[label->second].defined)
            as_label[s] = label->second;
        else if (auto list = target_lists_.find(name); list != target_lists_.end())
            as_label[s] = list->second;
        else if (auto prototype = prototypes_.find(name); prototype != prototypes_.end())
            as_label[s] = prototype->second;
        else if (!is_module_name(name))
            lexer_.fail(symbol_lines_[name], "'" + std::string(name) + "' is not declared");
        if (as_label[s] != pending_symbol) f.symbols[s] = {};  // nothing for the linker
    }
    for (Operand& o : f.pool) {
        if (o.kind != Operand::Kind::symbol || as_label[o.index] == pending_symbol) continue;
        o.kind = Operand::Kind::label;
        o.index = as_label[o.index];
    }
    f.code.shrink_to_fit();
    f.pool.shrink_to_fit();
    f.modifiers.shrink_to_fit();
    for (const PendingLabel& l : label_names_)
        if (!l.defined && !is_module_name(l.name))
            lexer_.fail(l.line, "label '" + std::string(l.name) + "' is not defined");
}

}  // namespace softgpu::ptx
