// Module scope: directives, variables, function headers.
#include "ptx/parser.h"

#include <algorithm>

#include "ptx/parsing.h"

namespace softgpu::ptx {

namespace {
constexpr uint64_t largest_variable = uint64_t{1} << 32;
constexpr int newest_major = 20;  // PTX is backward compatible; text of a later version is tried all the same
}  // namespace

std::unique_ptr<Module> parse(std::string source_name, std::string_view text) {
    auto module = std::make_unique<Module>();
    module->source_name = source_name.empty() ? "<ptx>" : std::move(source_name);
    module->text.assign(text.substr(0, text.find('\0')));
    Parsing(*module, module->text).module();
    return module;
}

void Parsing::fail_expected(std::string_view what) const {
    std::string found = token_.kind == Token::Kind::end ? "the end of the text" : "'" + std::string(token_.text) + "'";
    fail("expected " + std::string(what) + ", found " + found);
}

void Parsing::expect(char c, std::string_view where) {
    if (!token_.is(c)) fail_expected(std::string("'") + c + "' " + std::string(where));
    advance();
}

std::string_view Parsing::identifier(std::string_view what) {
    if (token_.kind != Token::Kind::identifier) fail_expected(what);
    std::string_view text = token_.text;
    advance();
    return text;
}

uint32_t Parsing::small_number(std::string_view what, uint64_t limit) {
    Constant c = constant();
    if (c.kind != Constant::Kind::integer || c.bits > limit)
        fail(std::string(what) + " must be an integer from 0 to " + std::to_string(limit));
    return static_cast<uint32_t>(c.bits);
}

void Parsing::module() {
    if (!token_.is(".version")) fail_expected(".version at the start of the text");
    version();
    while (token_.kind != Token::Kind::end) {
        Linkage linkage = Linkage::internal;
        for (;; advance()) {
            if (token_.is(".extern"))
                linkage = Linkage::external;
            else if (token_.is(".visible"))
                linkage = Linkage::visible;
            else if (token_.is(".weak"))
                linkage = Linkage::weak;
            else if (token_.is(".common"))
                linkage = Linkage::common;
            else
                break;
        }
        if (token_.is(".version")) {
            version();
        } else if (token_.is(".target")) {
            target();
        } else if (accept(".address_size")) {
            if (small_number(".address_size", 64) != 64) fail(".address_size must be 64");
        } else if (accept(".entry")) {
            function(linkage, true);
        } else if (accept(".func")) {
            function(linkage, false);
        } else if (token_.is(".global")) {
            variables(linkage, Space::global);
        } else if (token_.is(".const")) {
            variables(linkage, Space::constant);
        } else if (token_.is(".shared") || token_.is(".shared::cta")) {
            variables(linkage, Space::shared);
        } else if (token_.is(".local")) {
            variables(linkage, Space::local);
        } else if (token_.is(".param")) {
            variables(linkage, Space::param);
        } else if (token_.is(".tex")) {
            variables(linkage, Space::global);
        } else if (accept(".alias")) {
            alias();
        } else if (token_.is(".file") || token_.is(".loc") || token_.is(".pragma")) {
            skip_line_directive();
        } else if (token_.is(".section")) {
            section();
        } else if (token_.kind == Token::Kind::directive && token_.text.starts_with(".debug_")) {
            section();
        } else if (token_.is("@@DWARF") || accept('@')) {
            // Old text form of debug data: @@DWARF ... to the end of the line.
            int line = token_.line;
            while (token_.kind != Token::Kind::end && token_.line == line) advance();
        } else if (accept(';')) {
            continue;
        } else {
            fail_expected("a directive such as .entry, .func or .global");
        }
    }
    if (module_.target == 0) fail("no .target");
}

void Parsing::version() {
    advance();
    // 9.0 is read as a real literal; take its digits from the text.
    std::string text(token_.text);
    size_t dot = text.find('.');
    if (token_.kind != Token::Kind::real || dot == std::string::npos || text.size() > 6)
        fail_expected("a version such as 9.0");
    int major = std::atoi(text.c_str());
    int minor = std::atoi(text.c_str() + dot + 1);
    if (major < 1 || major > newest_major)
        throw CompileError(
            CompileError::Reason::unsupported_version, module_.source_name, token_.line,
            module_.source_name + ":" + std::to_string(token_.line) + ": PTX version " + text + " is not known");
    module_.version = major * 10 + minor;
    advance();
}

void Parsing::target() {
    do {
        advance();
        std::string_view name = identifier("a target such as sm_75");
        if (name.starts_with("sm_") || name.starts_with("compute_")) {
            int number = 0;
            for (char c : name.substr(name.find('_') + 1)) {
                if (c < '0' || c > '9') break;
                number = std::min(number * 10 + (c - '0'), 100000);
            }
            module_.target = number;
        } else if (module_.target == 0) {
            module_.target = 30;
        }
    } while (token_.is(','));
    if (module_.target == 0) fail("expected a target such as sm_75");
}

// .file, .loc and .pragma say nothing that execution needs.
void Parsing::skip_line_directive() {
    if (accept(".pragma")) {
        while (!token_.is(';')) {
            if (token_.kind != Token::Kind::string && !token_.is(',')) fail_expected("a string in .pragma");
            advance();
        }
        advance();
        return;
    }
    int line = token_.line;
    advance();
    // .loc may carry `, function_name label, inlined_at ...`, all on one line.
    while (token_.kind != Token::Kind::end && token_.line == line) advance();
}

void Parsing::section() {
    while (token_.kind != Token::Kind::end && !token_.is('{')) advance();
    if (token_.kind == Token::Kind::end) fail_expected("'{' of a section");
    lexer_.skip_braces();
    advance();
}

void Parsing::alias() {
    std::string_view name = identifier("the name of the alias");
    expect(',', "in .alias");
    std::string_view target = identifier("the name that the alias stands for");
    expect(';', "after .alias");
    module_.aliases[name] = target;
}

void Parsing::skip_attributes(Variable* variable) {
    if (!accept(".attribute")) return;
    expect('(', "after .attribute");
    while (!token_.is(')')) {
        if (token_.kind == Token::Kind::end) fail_expected("')' of .attribute");
        if (token_.is(".managed") && variable) variable->managed = true;
        advance();
    }
    advance();
}

// One declaration after its state space: type, alignment, name, dimensions. The token after it is current.
Variable Parsing::declaration(Linkage linkage, Space space) {
    Variable v;
    v.linkage = linkage;
    v.space = space;
    v.line = token_.line;
    uint32_t vector = 1, align = 0;
    for (;;) {
        if (token_.is(".align")) {
            advance();
            align = small_number(".align", 1 << 16);
            if (align == 0 || (align & (align - 1)) != 0) fail(".align must be a power of two");
        } else if (token_.is(".attribute")) {
            skip_attributes(&v);
        } else if (token_.is(".v2") || token_.is(".v4") || token_.is(".v8")) {
            vector = static_cast<uint32_t>(token_.text[2] - '0');
            advance();
        } else if (token_.is(".ptr")) {
            // .param .u64 .ptr .global .align 4 name: a hint about what is pointed to.
            advance();
            while (token_.kind == Token::Kind::directive) {
                bool alignment = token_.is(".align");
                advance();
                if (alignment) small_number(".align", 1 << 30);
            }
        } else if (Type type = type_of(token_.text); token_.kind == Token::Kind::directive && type != Type::none) {
            v.type = type;
            advance();
        } else {
            break;
        }
    }
    v.name = identifier("the name of a variable");
    uint32_t element = bytes_of(v.type);
    if (v.type == Type::pred && space != Space::reg) fail(".pred belongs in .reg");
    v.size = uint64_t{element} * vector;
    v.align = align ? align : static_cast<uint32_t>(v.size ? v.size : 1);
    array_dimensions(v);
    return v;
}

void Parsing::array_dimensions(Variable& v) {
    bool open = false;
    while (accept('[')) {
        if (accept(']')) {
            open = true;
            continue;
        }
        Constant c = constant();
        if (c.kind != Constant::Kind::integer || c.bits > largest_variable) fail("array length out of range");
        v.size *= c.bits;
        if (v.size > largest_variable) fail("variable " + std::string(v.name) + " is too large");
        expect(']', "after an array length");
    }
    if (open) v.size = 0;
}

void Parsing::variables(Linkage linkage, Space space) {
    advance();
    if (space == Space::constant && token_.is('[')) {  // .const[bank], of old versions
        advance();
        small_number("constant bank", 15);
        expect(']', "after the constant bank");
    }
    Variable first = declaration(linkage, space);
    for (;;) {
        Variable shape = first;
        if (accept('=')) initial_value(first);
        add_variable(std::move(first));
        if (!accept(',')) break;
        first = shape;
        first.initial.clear();
        first.relocations.clear();
        first.name = identifier("the name of a variable");
        first.size = bytes_of(first.type);
        array_dimensions(first);
    }
    expect(';', "after a variable");
}

void Parsing::add_variable(Variable v) {
    auto [found, inserted] = module_.variable_index.try_emplace(v.name, module_.variables.size());
    if (inserted) {
        if (module_.function_index.contains(v.name)) fail("'" + std::string(v.name) + "' is already a function");
        module_.variables.push_back(std::move(v));
        return;
    }
    Variable& known = module_.variables[found->second];
    if (known.linkage == Linkage::external && v.space == known.space) {
        known = std::move(v);
    } else if (!(v.linkage == Linkage::external && v.space == known.space)) {
        throw CompileError(CompileError::Reason::duplicate_symbol, module_.source_name, v.line,
                           module_.source_name + ":" + std::to_string(v.line) + ": variable '" + std::string(v.name) +
                               "' is defined twice");
    }
}

std::vector<Variable> Parsing::formals(std::string_view what) {
    std::vector<Variable> list;
    expect('(', std::string("of ") + std::string(what));
    if (accept(')')) return list;
    do {
        Space space = Space::param;
        if (token_.is(".reg"))
            space = Space::reg;
        else if (!token_.is(".param"))
            fail_expected(".param or .reg");
        advance();
        Variable v = declaration(Linkage::internal, space);
        v.is_register = space == Space::reg;
        if (v.is_register && v.type == Type::pred) fail("a predicate cannot be passed");
        list.push_back(std::move(v));
        if (list.size() > 4096) fail("too many parameters");
    } while (accept(','));
    expect(')', std::string("or , in ") + std::string(what));
    return list;
}

void Parsing::performance_directives(Function& f) {
    auto dimensions = [&](std::array<uint32_t, 3>& out) {
        advance();
        out = {1, 1, 1};
        if (token_.kind != Token::Kind::integer) return;
        for (size_t i = 0; i < 3; ++i) {
            out[i] = small_number("a dimension", 0x7fffffff);
            if (i == 2 || !accept(',')) break;
        }
    };
    for (;;) {
        if (token_.is(".maxntid")) {
            dimensions(f.max_threads);
        } else if (token_.is(".reqntid")) {
            dimensions(f.required_threads);
        } else if (token_.is(".reqnctapercluster")) {
            dimensions(f.required_cluster);
        } else if (token_.is(".maxnreg")) {
            advance();
            f.max_registers = small_number("a number of registers", 0x7fffffff);
        } else if (token_.is(".minnctapersm") || token_.is(".maxnctapersm") || token_.is(".maxclusterrank") ||
                   token_.is(".abi_preserve") || token_.is(".abi_preserve_control")) {
            advance();
            constant();
        } else if (token_.is(".explicitcluster") || token_.is(".noreturn") || token_.is(".blocksareclusters") ||
                   token_.is(".unique")) {
            advance();
        } else if (token_.is(".pragma")) {
            skip_line_directive();
        } else if (token_.is(".attribute")) {
            skip_attributes(nullptr);
        } else {
            return;
        }
    }
}

void Parsing::function(Linkage linkage, bool kernel) {
    auto f = std::make_unique<Function>();
    f->kernel = kernel;
    f->linkage = linkage;
    skip_attributes(nullptr);
    std::vector<Variable> returns;
    if (token_.is('(')) {
        if (kernel) fail_expected("the name of the kernel");
        returns = formals("the returned values");
    }
    f->line = token_.line;
    f->name = identifier(kernel ? "the name of the kernel" : "the name of the function");
    std::vector<Variable> parameters;
    if (token_.is('(')) parameters = formals("the parameters");
    f->parameter_count = static_cast<uint32_t>(parameters.size());
    f->return_count = static_cast<uint32_t>(returns.size());
    f->variables = std::move(parameters);
    for (Variable& v : returns) f->variables.push_back(std::move(v));
    performance_directives(*f);

    if (module_.variable_index.contains(f->name)) fail("'" + std::string(f->name) + "' is already a variable");
    auto [found, inserted] = module_.function_index.try_emplace(f->name, module_.functions.size());
    Function* known = inserted ? nullptr : module_.functions[found->second].get();
    if (accept(';')) {
        if (!known) module_.functions.push_back(std::move(f));
        return;
    }
    if (!token_.is('{')) fail_expected("'{' or ';' after the head of a function");
    if (known && known->defined)
        throw CompileError(CompileError::Reason::duplicate_symbol, module_.source_name, f->line,
                           module_.source_name + ":" + std::to_string(f->line) + ": function '" + std::string(f->name) +
                               "' is defined twice");
    f->defined = true;
    Function* current = f.get();
    // A function may call itself: it must be known before its body is read.
    if (known)
        module_.functions[found->second] = std::move(f);
    else
        module_.functions.push_back(std::move(f));
    body(*current);
}

}  // namespace softgpu::ptx
