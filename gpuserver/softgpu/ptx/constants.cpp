// Constant expressions and initial values (PTX ISA, "Constants" and "Initializers").
#include <bit>
#include <cstring>

#include "ptx/parsing.h"

namespace softgpu::ptx {

namespace {
constexpr int deepest = 200;  // nested parentheses or braces

int precedence(const Token& token) {
    if (token.kind != Token::Kind::punctuation) return 0;
    std::string_view t = token.text;
    if (t == "||") return 1;
    if (t == "&&") return 2;
    if (t == "|") return 3;
    if (t == "^") return 4;
    if (t == "&") return 5;
    if (t == "==" || t == "!=") return 6;
    if (t == "<" || t == ">" || t == "<=" || t == ">=") return 7;
    if (t == "<<" || t == ">>") return 8;
    if (t == "+" || t == "-") return 9;
    if (t == "*" || t == "/" || t == "%") return 10;
    return 0;
}

double real_of(const Constant& c) {
    if (c.kind == Constant::Kind::real) return std::bit_cast<double>(c.bits);
    if (c.kind == Constant::Kind::single) return std::bit_cast<float>(static_cast<uint32_t>(c.bits));
    return c.is_unsigned ? static_cast<double>(c.bits) : static_cast<double>(static_cast<int64_t>(c.bits));
}
}  // namespace

Constant Parsing::conditional(int depth) {
    if (depth > deepest) fail("constant expression nested too deeply");
    Constant condition = binary(1, depth);
    if (!accept('?')) return condition;
    Constant yes = conditional(depth + 1);
    expect(':', "in a constant expression");
    Constant no = conditional(depth + 1);
    return condition.bits ? yes : no;
}

Constant Parsing::binary(int minimum, int depth) {
    if (depth > deepest) fail("constant expression nested too deeply");
    Constant left = unary(depth);
    for (;;) {
        int rank = precedence(token_);
        if (rank == 0 || rank < minimum) return left;
        std::string_view op = token_.text;
        advance();
        Constant right = binary(rank + 1, depth + 1);
        if (left.kind != Constant::Kind::integer || right.kind != Constant::Kind::integer) {
            double a = real_of(left), b = real_of(right), r = 0;
            if (op == "+")
                r = a + b;
            else if (op == "-")
                r = a - b;
            else if (op == "*")
                r = a * b;
            else if (op == "/")
                r = a / b;
            else
                fail("operator " + std::string(op) + " needs integers");
            left = {std::bit_cast<uint64_t>(r), false, Constant::Kind::real};
            continue;
        }
        bool is_unsigned = left.is_unsigned || right.is_unsigned;
        uint64_t a = left.bits, b = right.bits, r = 0;
        auto sa = static_cast<int64_t>(a), sb = static_cast<int64_t>(b);
        if (op == "+")
            r = a + b;
        else if (op == "-")
            r = a - b;
        else if (op == "*")
            r = a * b;
        else if (op == "/" || op == "%") {
            if (b == 0) fail("division by zero in a constant expression");
            bool quotient = op == "/";
            if (is_unsigned)
                r = quotient ? a / b : a % b;
            else if (sb == -1)
                r = quotient ? 0 - a : 0;
            else
                r = static_cast<uint64_t>(quotient ? sa / sb : sa % sb);
        } else if (op == "<<")
            r = b < 64 ? a << b : 0;
        else if (op == ">>")
            r = left.is_unsigned ? (b < 64 ? a >> b : 0) : static_cast<uint64_t>(sa >> (b < 64 ? b : 63));
        else if (op == "&")
            r = a & b;
        else if (op == "|")
            r = a | b;
        else if (op == "^")
            r = a ^ b;
        else if (op == "&&")
            r = a && b;
        else if (op == "||")
            r = a || b;
        else if (op == "==")
            r = a == b;
        else if (op == "!=")
            r = a != b;
        else if (op == "<")
            r = is_unsigned ? a < b : sa < sb;
        else if (op == ">")
            r = is_unsigned ? a > b : sa > sb;
        else if (op == "<=")
            r = is_unsigned ? a <= b : sa <= sb;
        else
            r = is_unsigned ? a >= b : sa >= sb;
        if (op == "<<" || op == ">>") is_unsigned = left.is_unsigned;
        left = {r, is_unsigned, Constant::Kind::integer};
    }
}

Constant Parsing::unary(int depth) {
    if (depth > deepest) fail("constant expression nested too deeply");
    if (accept('-')) {
        Constant c = unary(depth + 1);
        if (c.kind == Constant::Kind::integer)
            c.bits = 0 - c.bits;
        else
            c.bits ^= c.kind == Constant::Kind::single ? 0x80000000U : 0x8000000000000000U;
        return c;
    }
    if (accept('+')) return unary(depth + 1);
    if (accept('~')) {
        Constant c = unary(depth + 1);
        if (c.kind != Constant::Kind::integer) fail("~ needs an integer");
        c.bits = ~c.bits;
        return c;
    }
    if (accept('!')) {
        Constant c = unary(depth + 1);
        return {c.bits == 0, false, Constant::Kind::integer};
    }
    if (accept('(')) {
        if (token_.is(".s64") || token_.is(".u64")) {
            bool is_unsigned = token_.is(".u64");
            advance();
            expect(')', "after a cast");
            Constant c = unary(depth + 1);
            c.is_unsigned = is_unsigned;
            return c;
        }
        Constant c = conditional(depth + 1);
        expect(')', "in a constant expression");
        return c;
    }
    Constant c;
    if (token_.kind == Token::Kind::integer) {
        c = {token_.value, token_.is_unsigned || token_.value >> 63 != 0, Constant::Kind::integer};
    } else if (token_.kind == Token::Kind::single) {
        c = {token_.value, false, Constant::Kind::single};
    } else if (token_.kind == Token::Kind::real) {
        c = {token_.value, false, Constant::Kind::real};
    } else if (token_.is("WARP_SZ")) {
        c = {32, false, Constant::Kind::integer};
    } else {
        fail_expected("a constant");
    }
    advance();
    return c;
}

namespace {
void put(Variable& variable, uint64_t offset, uint64_t bits, uint32_t size) {
    if (variable.initial.size() < offset + size) variable.initial.resize(offset + size);
    std::memcpy(variable.initial.data() + offset, &bits, size);
}
}  // namespace

void Parsing::initial_value(Variable& variable) {
    uint64_t offset = 0;
    uint64_t declared = variable.size;
    if (declared == 0) variable.size = uint64_t{1} << 32;  // the length comes from the list
    if (token_.is('{'))
        initial_list(variable, offset, 0);
    else
        initial_element(variable, offset);
    if (declared == 0) variable.size = offset;
}

void Parsing::initial_list(Variable& variable, uint64_t& offset, int depth) {
    if (depth > 16) fail("initial value nested too deeply");
    expect('{', "of an initial value");
    if (accept('}')) return;
    do {
        if (token_.is('{'))
            initial_list(variable, offset, depth + 1);
        else
            initial_element(variable, offset);
    } while (accept(','));
    expect('}', "or , in an initial value");
}

void Parsing::initial_element(Variable& variable, uint64_t& offset) {
    uint32_t size = bytes_of(variable.type);
    if (size == 0 || size > 8) fail(std::string("no initial value for type .") + name_of(variable.type));
    if (offset + size > variable.size) fail("more initial values than elements");
    int line = token_.line;
    auto relocate = [&](std::string_view name, uint32_t shift) {
        Relocation r{offset, size, name, 0, shift, line};
        if (accept('+'))
            r.addend = static_cast<int64_t>(constant().bits);
        else if (accept('-'))
            r.addend = -static_cast<int64_t>(constant().bits);
        put(variable, offset, 0, size);
        variable.relocations.push_back(r);
    };
    if (token_.kind == Token::Kind::identifier && !token_.is("WARP_SZ")) {
        std::string_view name = identifier("a name");
        if (name == "generic" && accept('(')) {
            name = identifier("the name of a variable");
            expect(')', "after generic(name");
        }
        relocate(name, 0);
    } else {
        Constant c = constant();
        if (c.kind == Constant::Kind::integer && token_.is('(')) {
            // mask(name): one byte of an address, for example 0xFF00(name).
            advance();
            std::string_view name = identifier("the name of a variable");
            if (name == "generic" && accept('(')) {
                name = identifier("the name of a variable");
                expect(')', "after generic(name");
            }
            Relocation r{offset, size, name, 0, c.bits ? static_cast<uint32_t>(std::countr_zero(c.bits)) : 0, line};
            if (accept('+'))
                r.addend = static_cast<int64_t>(constant().bits);
            else if (accept('-'))
                r.addend = -static_cast<int64_t>(constant().bits);
            expect(')', "after mask(name");
            put(variable, offset, 0, size);
            variable.relocations.push_back(r);
        } else if (is_float(variable.type)) {
            double value = real_of(c);
            if (size == 8)
                put(variable, offset, std::bit_cast<uint64_t>(value), 8);
            else if (size == 4)
                put(variable, offset,
                    c.kind == Constant::Kind::single ? c.bits : std::bit_cast<uint32_t>(static_cast<float>(value)), 4);
            else
                fail(std::string("no initial value for type .") + name_of(variable.type));
        } else {
            put(variable, offset, c.bits, size);
        }
    }
    offset += size;
}

}  // namespace softgpu::ptx
