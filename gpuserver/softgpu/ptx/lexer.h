// Cuts a PTX text into tokens.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace softgpu::ptx {

struct Token {
    enum class Kind : uint8_t {
        end,
        identifier,  // abc, %r1, $L__BB0_1
        directive,   // .reg, .shared::cta (with its dots)
        integer,     // value; `is_unsigned` for a U suffix
        single,      // 0f3F800000: value holds the bits
        real,        // 0d..., 1.5: value holds the bits of the double
        string,
        punctuation,  // one character, or && || == != <= >= << >>
    };
    Kind kind = Kind::end;
    bool adjacent = false;  // nothing between this token and the one before
    bool is_unsigned = false;
    std::string_view text;
    uint64_t value = 0;
    int line = 1;

    [[nodiscard]] bool is(char c) const {
        return kind == Kind::punctuation && text.size() == 1 && text[0] == c;
    }
    [[nodiscard]] bool is(std::string_view word) const { return kind != Kind::string && text == word; }
};

class Lexer {
  public:
    Lexer(std::string_view source_name, std::string_view text) : source_(source_name), text_(text) {}
    // Throws CompileError for a character or literal that is not PTX.
    Token next();
    [[noreturn]] void fail(int line, const std::string& message) const;
    // Skip to the brace that closes an already opened one, reading nothing inside (debug sections).
    void skip_braces();

  private:
    bool skip_blanks();
    Token number();
    [[nodiscard]] char at(size_t position) const { return position < text_.size() ? text_[position] : '\0'; }

    std::string_view source_;
    std::string_view text_;
    size_t position_ = 0;
    int line_ = 1;
};

}  // namespace softgpu::ptx
