// The parser's state, shared by its three files: module scope, function bodies, constant expressions.
#pragma once

#include <unordered_map>
#include <vector>

#include "engine/engine.h"
#include "ptx/ast.h"
#include "ptx/lexer.h"

namespace softgpu::ptx {

// The value of a constant expression.
struct Constant {
    uint64_t bits = 0;
    bool is_unsigned = false;
    enum class Kind : uint8_t { integer, single, real } kind = Kind::integer;
};

class Parsing {
  public:
    Parsing(Module& module, std::string_view text)
        : module_(module), lexer_(module.source_name, text), token_(lexer_.next()) {}
    void module();

  private:
    // --- tokens
    void advance() {
        if (pushed_.kind != Token::Kind::end) {
            token_ = pushed_;
            pushed_ = Token{};
        } else {
            token_ = lexer_.next();
        }
    }
    [[noreturn]] void fail(const std::string& message) const { lexer_.fail(token_.line, message); }
    [[noreturn]] void fail_expected(std::string_view what) const;
    bool accept(char c) {
        if (!token_.is(c)) return false;
        advance();
        return true;
    }
    bool accept(std::string_view word) {
        if (!token_.is(word)) return false;
        advance();
        return true;
    }
    void expect(char c, std::string_view where);
    std::string_view identifier(std::string_view what);
    uint32_t small_number(std::string_view what, uint64_t limit);

    // --- module scope (parser.cpp)
    void version();
    void target();
    void section();
    void variables(Linkage linkage, Space space);
    Variable declaration(Linkage linkage, Space space);
    void array_dimensions(Variable& variable);
    void add_variable(Variable variable);
    void alias();
    void function(Linkage linkage, bool kernel);
    void performance_directives(Function& f);
    std::vector<Variable> formals(std::string_view what);
    void skip_line_directive();
    void skip_attributes(Variable* variable);

    // --- bodies (body.cpp)
    void body(Function& f);
    void block(int depth);
    void statement(int depth);
    void registers();
    void body_variables(Space space);
    void label(std::string_view name, int line);
    void instruction();
    void call_operands(Instruction& i, std::vector<Operand>& list);
    Operand operand();
    Operand bracketed();
    Operand named(std::string_view name, int line);
    Operand vector_operand();
    Operand parenthesized();
    int32_t find_register(std::string_view name) const;
    int32_t find_variable(std::string_view name) const;
    uint32_t symbol_index(std::string_view name);
    uint32_t label_index(std::string_view name, int line);
    uint32_t pending_label(std::string_view name, int line);
    void resolve_labels(size_t first);
    void resolve_names();
    uint32_t push_pool(const std::vector<Operand>& list);

    // --- constants (constants.cpp)
    Constant constant() { return conditional(0); }
    Constant conditional(int depth);
    Constant binary(int minimum, int depth);
    Constant unary(int depth);
    void initial_value(Variable& variable);
    void initial_list(Variable& variable, uint64_t& offset, int depth);
    void initial_element(Variable& variable, uint64_t& offset);

    Module& module_;
    Lexer lexer_;
    Token token_;
    Token pushed_;

    // State of the function being read.
    struct Scope {
        std::unordered_map<std::string_view, uint32_t> registers;
        struct Numbered {
            std::string_view prefix;
            uint32_t first, count;
        };
        std::vector<Numbered> numbered;
        std::unordered_map<std::string_view, uint32_t> variables, labels;
    };
    Function* function_ = nullptr;
    std::vector<Scope> scopes_;
    struct PendingLabel {
        std::string_view name;
        int line;
        bool defined;
    };
    std::vector<PendingLabel> label_names_;
    std::unordered_map<std::string_view, uint32_t> label_index_, symbol_index_, target_lists_, prototypes_;
    std::unordered_map<std::string_view, int> symbol_lines_;
};

}  // namespace softgpu::ptx
