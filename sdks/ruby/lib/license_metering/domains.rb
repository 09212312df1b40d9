# frozen_string_literal: true

require "ipaddr"
require "set"

module LicenseMetering
  # A name in lower case and ASCII without port and trailing dot, or an address.
  DomainName = Struct.new(:text, :address) do
    alias_method :address?, :address

    # +localhost+, names below +.localhost+ and +.test+, loopback addresses: no license holds there.
    def local?
      return text.match?(/(?:\A|\.)(?:localhost|test)\z/) unless address?

      text.match?(/\A(?:127\.|0:0:0:0:0:0:0:1\z|0:0:0:0:0:ffff:7f[0-9a-f]{2}:)/)
    end
  end

  # Domain names in the one spelling that is compared, and which names a license covers.
  module Domains
    LABEL = /\A[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\z/
    QUAD = /\A(?:0|[1-9][0-9]{0,2})(?:\.(?:0|[1-9][0-9]{0,2})){3}\z/

    class << self
      # Converts a name of another script by UTS #46, non-transitional; nil where it has no ASCII form. Ruby has no such
      # function of its own: without one, such names are refused and have to be given as xn--….
      attr_accessor :to_ascii
    end

    module_function

    # The name or address that a Host header means; nil where it is neither.
    def normalize(text)
      text = text.to_s.dup.force_encoding(Encoding::UTF_8)
      return nil if !text.valid_encoding? || !text.bytesize.between?(1, 1024)

      address = read_address(text)
      return DomainName.new(address, true).freeze if address

      name = without_port(text).delete_suffix(".").tr("A-Z", "a-z")
      if Domains.to_ascii && (!name.ascii_only? || name.match?(/(?:\A|\.)xn--/))
        name = Domains.to_ascii.call(name)&.delete_suffix(".")
      end
      name?(name) ? DomainName.new(name, false).freeze : nil
    end

    # Whether a license that is bound to these domains holds there: +example.com+ covers itself, +*.example.com+ every
    # name below it. Public suffixes and local names are never covered.
    def covers?(bound, domain)
      return false if domain.nil? || domain.local?

      bound.any? do |pattern|
        wildcard = pattern.start_with?("*.")
        name = normalize(wildcard ? pattern[2..] : pattern)
        next false if name.nil? || (name.address? && wildcard)
        next false if !name.address? && public_suffix?(name.text)
        next domain.text == name.text unless wildcard

        suffix = ".#{name.text}"
        !domain.address? && domain.text.length > suffix.length && domain.text.end_with?(suffix)
      end
    end

    # Whether anybody may register below the name, by the Public Suffix List that the gem brings.
    def public_suffix?(name)
      parent = name.partition(".")[2]
      return true unless name.include?(".")
      return false if rules.include?("!#{name}")

      # Where anybody may have any name below a name, that name is nobody's own either.
      rules.include?(name) || rules.include?("*.#{name}") || rules.include?("*.#{parent}")
    end

    def rules
      @rules ||= File.readlines(File.join(__dir__, "data", "public_suffixes.txt"), chomp: true, encoding: "UTF-8")
                     .reject { |line| line.empty? || line.start_with?("//") }.to_set.freeze
    end

    def without_port(text)
      name, colon, port = text.partition(":")
      port?(colon + port) ? name : text
    end

    # Nothing, or a colon and a port's digits, or none.
    def port?(text)
      text.empty? || (text.match?(/\A:[0-9]*\z/) && text[1..].to_i <= 65_535)
    end

    def read_address(text)
      if text.start_with?("[")
        inner, bracket, port = text[1..].partition("]")
        return !bracket.empty? && port?(port) ? read_v6(inner) : nil
      end
      read_v6(text) || read_v4(text) || read_v4(without_port(text))
    end

    def read_v4(text)
      text if text.match?(QUAD) && text.split(".").all? { |part| part.to_i <= 255 }
    end

    def read_v6(text)
      return nil if text.length > 45 || !text.include?(":")

      halves = text.split("::", -1)
      return nil if halves.length > 2

      head = read_groups(halves[0], halves.length == 1) or return nil
      return head.length == 8 ? spell(head) : nil if halves.length == 1

      tail = read_groups(halves[1], true) or return nil
      return nil if head.length + tail.length > 7

      spell(head + ([0] * (8 - head.length - tail.length)) + tail)
    end

    def read_groups(text, last)
      parts = text.split(":", -1)
      groups = parts.each_with_index.flat_map do |part, index|
        if part.include?(".")
          return nil unless last && index == parts.length - 1 && read_v4(part)

          a, b, c, d = part.split(".").map(&:to_i)
          [(a * 256) + b, (c * 256) + d]
        else
          return nil unless part.match?(/\A[0-9A-Fa-f]{1,4}\z/)

          [part.hex]
        end
      end
      groups if groups.length <= 8
    end

    def spell(groups)
      groups.map { |group| group.to_s(16) }.join(":")
    end

    def name?(name)
      return false unless name&.length&.between?(1, 253)

      labels = name.split(".", -1)
      # Some readers would take a name that ends in a number for an address.
      labels.all? { |label| label.match?(LABEL) } && !labels.last.match?(/\A(?:[0-9]+|0x[0-9a-f]*)\z/)
    end
  end
end
