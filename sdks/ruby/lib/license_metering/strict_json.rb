# frozen_string_literal: true

require "strscan"

module LicenseMetering
  # JSON by RFC 8259, strictly: repeated names are noticed, and numbers stay as they are spelled.
  module StrictJSON
    # What is no JSON.
    class Invalid < StandardError; end

    # An object; +repeated+ where a name stands more than once.
    class Members < Hash
      attr_accessor :repeated
    end

    # A number's own characters, such as +1.9e9+.
    class Number
      PATTERN = /\A(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?\z/
      MAXIMUM_EXPONENT = 1_000_000
      MAXIMUM_INTEGER = (2**63) - 1

      def initialize(text)
        sign, whole, fraction, power = PATTERN.match(text).captures
        @negative = sign == "-"
        digits = (whole + fraction.to_s).sub(/\A0+/, "")
        @digits = digits.sub(/0+\z/, "")
        limited = power.to_s.to_i.clamp(-MAXIMUM_EXPONENT, MAXIMUM_EXPONENT)
        @exponent = @digits.empty? ? 0 : limited - fraction.to_s.length + digits.length - @digits.length
      end

      # The number times 10**decimals, rounded down; nil beyond 64 bits.
      def scaled(decimals)
        shift = @exponent + decimals
        kept = shift >= 0 ? @digits : @digits[0, [0, @digits.length + shift].max]
        zeros = kept.empty? ? 0 : [shift, 0].max
        return nil if kept.length + zeros > 19

        value = (kept + ("0" * zeros)).to_i
        return nil if value > MAXIMUM_INTEGER
        return value unless @negative

        @digits.empty? || shift >= 0 ? -value : -value - 1
      end

      # The number where it is whole, however it is spelled.
      def integer
        @digits.empty? || @exponent >= 0 ? scaled(0) : nil
      end
    end

    MAXIMUM_DEPTH = 512
    NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/
    PLAIN = /[^"\\\x00-\x1f]+/
    BLANK = /[ \t\n\r]*/
    ESCAPES = { '"' => '"', "\\" => "\\", "/" => "/", "b" => "\b", "f" => "\f", "n" => "\n", "r" => "\r", "t" => "\t" }.freeze
    # A lone surrogate is grammatical, and no text: it is kept as bytes that are no UTF-8.
    BROKEN = "\xFF".b.freeze

    module_function

    # One JSON text from bytes. Raises Invalid.
    def parse(bytes)
      text = bytes.dup.force_encoding(Encoding::UTF_8)
      raise Invalid, "not UTF-8" unless text.valid_encoding?

      scanner = StringScanner.new(text)
      value = read(scanner, 1)
      scanner.skip(BLANK)
      raise Invalid, "more behind the value" unless scanner.eos?

      value
    end

    # A string without lone surrogates and of so many bytes; else nil.
    def text(value, maximum = 1 << 20, minimum = 0)
      return nil unless value.is_a?(String) && value.encoding == Encoding::UTF_8 && value.valid_encoding?

      value if value.bytesize.between?(minimum, maximum)
    end

    # As text, not empty and without control characters.
    def plain_text(value, maximum)
      plain = text(value, maximum, 1)
      plain unless plain.nil? || plain.match?(/[\u0000-\u001f\u007f]/)
    end

    def read(scanner, depth)
      raise Invalid, "nested too deep" if depth > MAXIMUM_DEPTH

      scanner.skip(BLANK)
      case scanner.peek(1)
      when "{" then read_object(scanner, depth)
      when "[" then read_array(scanner, depth)
      when '"' then read_string(scanner)
      else read_word(scanner)
      end
    end

    def read_word(scanner)
      return true if scanner.skip(/true/)
      return false if scanner.skip(/false/)
      return nil if scanner.skip(/null/)

      number = scanner.scan(NUMBER) or raise Invalid, "no value"
      Number.new(number)
    end

    def read_object(scanner, depth)
      members = Members.new
      scanner.getch
      return members if take(scanner, "}")

      loop do
        scanner.skip(BLANK)
        raise Invalid, "no name" unless scanner.peek(1) == '"'

        name = read_string(scanner)
        raise Invalid, "no colon" unless take(scanner, ":")

        members.repeated = true if members.key?(name)
        members[name] = read(scanner, depth + 1)
        break unless take(scanner, ",")
      end
      raise Invalid, "not closed" unless take(scanner, "}")

      members
    end

    def read_array(scanner, depth)
      elements = []
      scanner.getch
      return elements if take(scanner, "]")

      loop do
        elements << read(scanner, depth + 1)
        break unless take(scanner, ",")
      end
      raise Invalid, "not closed" unless take(scanner, "]")

      elements
    end

    def read_string(scanner)
      result = +""
      scanner.getch
      loop do
        plain = scanner.scan(PLAIN)
        result << plain if plain
        case scanner.getch
        when '"' then return result
        when "\\" then append_escape(scanner, result)
        else raise Invalid, "a string is not closed"
        end
      end
    end

    def append_escape(scanner, result)
      letter = scanner.getch
      if letter == "u"
        code = read_hex(scanner)
        if code.between?(0xD800, 0xDBFF) && scanner.match?(/\\u[dD][c-fC-F]/)
          scanner.pos += 2
          code = 0x10000 + ((code - 0xD800) << 10) + (read_hex(scanner) - 0xDC00)
        end
        if code.between?(0xD800, 0xDFFF)
          result.force_encoding(Encoding::BINARY)
          result << BROKEN << code.to_s.b
          result.force_encoding(Encoding::UTF_8)
        else
          result << [code].pack("U")
        end
      else
        result << (ESCAPES[letter] or raise Invalid, "no such escape")
      end
    end

    def read_hex(scanner)
      (scanner.scan(/[0-9A-Fa-f]{4}/) or raise Invalid, "no such escape").hex
    end

    def take(scanner, letter)
      scanner.skip(BLANK)
      return false unless scanner.peek(1) == letter

      scanner.getch
      true
    end
  end
end
