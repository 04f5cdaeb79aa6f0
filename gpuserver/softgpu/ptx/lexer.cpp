// Tokens of PTX ISA 9, section "Syntax": identifiers, directives, literals, comments.
#include "ptx/lexer.h"

#include <bit>
#include <charconv>
#include <cstdlib>

#include "engine/engine.h"

namespace softgpu::ptx {

namespace {
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_word(char c) { return is_letter(c) || is_digit(c) || c == '_' || c == '$'; }
int hex_value(char c) {
    if (is_digit(c)) return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}
// A character as a message may show it.
std::string shown(char c) {
    if (c >= 32 && c < 127) return std::string("'") + c + "'";
    char buffer[16];
    std::snprintf(buffer, sizeof buffer, "byte 0x%02x", static_cast<unsigned char>(c));
    return buffer;
}
}  // namespace

void Lexer::fail(int line, const std::string& message) const {
    throw CompileError(CompileError::Reason::invalid_ptx, std::string(source_), line,
                       std::string(source_) + ":" + std::to_string(line) + ": " + message);
}

// Returns whether anything was skipped.
bool Lexer::skip_blanks() {
    size_t start = position_;
    while (position_ < text_.size()) {
        char c = text_[position_];
        if (c == '\n') {
            ++line_;
            ++position_;
        } else if (c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v') {
            ++position_;
        } else if (c == '/' && at(position_ + 1) == '/') {
            while (position_ < text_.size() && text_[position_] != '\n') ++position_;
        } else if (c == '/' && at(position_ + 1) == '*') {
            int opened = line_;
            position_ += 2;
            while (position_ < text_.size() && !(text_[position_] == '*' && at(position_ + 1) == '/')) {
                if (text_[position_] == '\n') ++line_;
                ++position_;
            }
            if (position_ >= text_.size()) fail(opened, "comment without */");
            position_ += 2;
        } else {
            break;
        }
    }
    return position_ != start;
}

Token Lexer::next() {
    Token token;
    token.adjacent = !skip_blanks();
    token.line = line_;
    if (position_ >= text_.size() || text_[position_] == '\0') return token;
    size_t start = position_;
    char c = text_[start];
    auto take = [&](Token::Kind kind) {
        token.kind = kind;
        token.text = text_.substr(start, position_ - start);
        return token;
    };
    if (is_letter(c) || c == '_' || c == '$' || c == '%') {
        if (c == '%' && !is_word(at(position_ + 1))) {
            ++position_;
            return take(Token::Kind::punctuation);
        }
        ++position_;
        while (is_word(at(position_))) ++position_;
        return take(Token::Kind::identifier);
    }
    if (is_digit(c)) {
        bool adjacent = token.adjacent;
        token = number();
        token.adjacent = adjacent;
        return token;
    }
    if (c == '.' && is_word(at(position_ + 1))) {
        ++position_;
        while (is_word(at(position_))) ++position_;
        while (at(position_) == ':' && at(position_ + 1) == ':' && is_word(at(position_ + 2))) {
            position_ += 2;
            while (is_word(at(position_))) ++position_;
        }
        return take(Token::Kind::directive);
    }
    if (c == '"') {
        ++position_;
        while (position_ < text_.size() && text_[position_] != '"') {
            if (text_[position_] == '\n') fail(token.line, "string without closing quote");
            position_ += text_[position_] == '\\' ? 2 : 1;
        }
        if (position_ >= text_.size()) fail(token.line, "string without closing quote");
        ++position_;
        token.kind = Token::Kind::string;
        token.text = text_.substr(start + 1, position_ - start - 2);
        return token;
    }
    static constexpr std::string_view doubled[] = {"&&", "||", "==", "!=", "<=", ">=", "<<", ">>"};
    for (std::string_view pair : doubled) {
        if (text_.substr(start, 2) == pair) {
            position_ += 2;
            return take(Token::Kind::punctuation);
        }
    }
    static constexpr std::string_view single = "{}()[]<>,;:=+-*/!~&|^?@.#";
    if (single.find(c) == std::string_view::npos) fail(line_, shown(c) + " is not PTX");
    ++position_;
    return take(Token::Kind::punctuation);
}

Token Lexer::number() {
    Token token;
    token.line = line_;
    size_t start = position_;
    auto hexadecimal = [&](int digits) {
        uint64_t value = 0;
        position_ += 2;
        for (int i = 0; i < digits; ++i) {
            int digit = hex_value(at(position_));
            if (digit < 0) fail(line_, "expected " + std::to_string(digits) + " hexadecimal digits in a literal");
            value = value << 4 | static_cast<uint64_t>(digit);
            ++position_;
        }
        return value;
    };
    char second = at(start + 1);
    if (at(start) == '0' && (second == 'f' || second == 'F')) {
        token.kind = Token::Kind::single;
        token.value = hexadecimal(8);
    } else if (at(start) == '0' && (second == 'd' || second == 'D')) {
        token.kind = Token::Kind::real;
        token.value = hexadecimal(16);
    } else {
        unsigned base = 10;
        if (at(start) == '0' && (second == 'x' || second == 'X')) {
            base = 16;
            position_ += 2;
        } else if (at(start) == '0' && (second == 'b' || second == 'B')) {
            base = 2;
            position_ += 2;
        }
        size_t digits = position_;
        while (hex_value(at(position_)) >= 0 && static_cast<unsigned>(hex_value(at(position_))) < base) ++position_;
        bool fraction = base == 10 && at(position_) == '.' && (is_digit(at(position_ + 1)) || !is_word(at(position_ + 1)));
        bool exponent = base == 10 && (at(position_) == 'e' || at(position_) == 'E');
        if (fraction || exponent) {
            if (fraction) {
                ++position_;
                while (is_digit(at(position_))) ++position_;
            }
            if (at(position_) == 'e' || at(position_) == 'E') {
                ++position_;
                if (at(position_) == '+' || at(position_) == '-') ++position_;
                if (!is_digit(at(position_))) fail(line_, "expected digits of the exponent");
                while (is_digit(at(position_))) ++position_;
            }
            std::string copy(text_.substr(start, position_ - start));
            token.kind = Token::Kind::real;
            token.value = std::bit_cast<uint64_t>(std::strtod(copy.c_str(), nullptr));
        } else {
            if (base == 10 && at(start) == '0') base = 8;
            token.kind = Token::Kind::integer;
            if (position_ == digits) fail(line_, "expected digits after 0x or 0b");
            const char* end = text_.data() + position_;
            auto result = std::from_chars(text_.data() + digits, end, token.value, static_cast<int>(base));
            if (result.ec == std::errc::result_out_of_range) fail(line_, "integer literal over 64 bits");
            if (result.ptr != end) fail(line_, "8 or 9 in an octal literal");
            if (at(position_) == 'U') {
                token.is_unsigned = true;
                ++position_;
            }
        }
    }
    token.text = text_.substr(start, position_ - start);
    return token;
}

void Lexer::skip_braces() {
    int opened = line_;
    int depth = 1;
    while (position_ < text_.size()) {
        char c = text_[position_++];
        if (c == '\n') ++line_;
        if (c == '{') ++depth;
        if (c == '}' && --depth == 0) return;
    }
    fail(opened, "{ without }");
}

}  // namespace softgpu::ptx
