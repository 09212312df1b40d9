# frozen_string_literal: true

require "base64"
require "json"
require "openssl"
require_relative "strict_json"

module LicenseMetering
  # A token that is not believed. +code+ names the rule, +claim+ the claim of +bad_claims+.
  class TokenRefused < StandardError
    attr_reader :code, :claim

    def initialize(code, claim = nil)
      super(claim ? "#{code}: #{claim}" : code)
      @code = code
      @claim = claim
    end
  end

  # A key set that is malformed. The message names the key and the member, never a value.
  class InvalidKeySet < ArgumentError; end

  # Base64url without padding, in its one spelling.
  module Base64URL
    module_function

    # nil for any other spelling.
    def decode(text)
      return nil if !text.match?(/\A[A-Za-z0-9_-]*\z/) || text.length % 4 == 1

      bytes = Base64.urlsafe_decode64(text)
      bytes if encode(bytes) == text
    rescue ArgumentError
      nil
    end

    def encode(bytes)
      Base64.urlsafe_encode64(bytes, padding: false)
    end
  end

  # A public key of a set. The algorithm is the key's, never the token's.
  Key = Struct.new(:key_id, :algorithm, :purpose, :material, :signature_bytes, :thumbprint, keyword_init: true) do
    # Whether the signature fits.
    def verifies?(signature, data)
      return false unless signature.bytesize == signature_bytes

      case algorithm
      when "EdDSA" then material.verify(nil, signature, data)
      when "ES256" then material.verify("SHA256", Keys.der_signature(signature), data)
      else material.verify("SHA256", signature, data)
      end
    rescue OpenSSL::PKey::PKeyError
      false # What is no signature is not valid, for whichever reason.
    end
  end

  # The keys of GET /.well-known/jwks.json.
  class KeySet
    MAXIMUM_BYTES = 1 << 20
    MAXIMUM_KEYS = 100

    attr_reader :keys, :source

    # +source+ is a JSON Web Key Set (RFC 7517), a String or a Hash. Raises InvalidKeySet.
    def initialize(source)
      source = JSON.generate(source) if source.is_a?(Hash)
      raise InvalidKeySet, "more than 1 MiB" if source.bytesize > MAXIMUM_BYTES

      @source = source
      @keys = []
      elements(source).each.with_index(1) do |element, number|
        raise InvalidKeySet, "key #{number}: not an object" unless element.is_a?(StrictJSON::Members)
        next unless Keys.of_use?(element)

        begin
          add(Keys.read(element))
        rescue InvalidKeySet => e
          raise InvalidKeySet, "key #{number}: #{e.message}"
        end
      end
    end

    # The keys of a purpose: +license+ or +verdict+.
    def for_purpose(purpose)
      keys.select { |key| key.purpose == purpose }
    end

    private

    def elements(source)
      members = StrictJSON.parse(source)
      good = members.is_a?(StrictJSON::Members) && !members.repeated && members["keys"].is_a?(Array)
      raise InvalidKeySet, "not a JSON Web Key Set" unless good
      raise InvalidKeySet, "more than 100 keys" if members["keys"].length > MAXIMUM_KEYS

      members["keys"]
    rescue StrictJSON::Invalid
      raise InvalidKeySet, "not a JSON Web Key Set"
    end

    def add(key)
      same = keys.find do |other|
        [other.key_id, other.purpose, other.algorithm] == [key.key_id, key.purpose, key.algorithm]
      end
      raise InvalidKeySet, "kid stands twice" if same && same.thumbprint != key.thumbprint

      keys << key unless same
    end
  end

  # Reads the keys of a set.
  module Keys
    ALGORITHMS = { "EdDSA" => "EdDSA", "Ed25519" => "EdDSA", "ES256" => "ES256", "RS256" => "RS256" }.freeze

    module_function

    # Keys of other kinds, curves, uses and algorithms are left out, as RFC 7517 asks; what is malformed stays.
    def of_use?(members)
      get = ->(name) { StrictJSON.text(members[name]) }
      curve = { "OKP" => "Ed25519", "EC" => "P-256", "RSA" => get.call("crv") }
      return true if get.call("kty").nil?
      return false unless curve.key?(get.call("kty"))
      return false if get.call("crv") && get.call("crv") != curve[get.call("kty")]
      return false if get.call("use") && get.call("use") != "sig"

      operations = members["key_ops"]
      return false if operations.is_a?(Array) && (operations & %w[verify sign]).empty?
      return false if get.call("alg") && !ALGORITHMS.key?(get.call("alg"))

      get.call("purpose").nil? || %w[license verdict].include?(get.call("purpose"))
    end

    def read(members)
      check(members)
      key_id = StrictJSON.text(members["kid"], 256, 1)
      raise InvalidKeySet, "kid must be a text of 1 to 256 bytes" if members.key?("kid") && key_id.nil?

      algorithm, material, signature_bytes, required = material(members)
      raise InvalidKeySet, "alg does not fit the key" if members.key?("alg") && ALGORITHMS[members["alg"]] != algorithm

      thumbprint = Base64URL.encode(OpenSSL::Digest::SHA256.digest(JSON.generate(required)))
      Key.new(key_id: key_id || thumbprint, algorithm:, purpose: members.fetch("purpose", "license"),
              material:, signature_bytes:, thumbprint:)
    end

    # +r || s+ as OpenSSL takes it.
    def der_signature(signature)
      numbers = [signature[0, 32], signature[32, 32]].map { |bytes| OpenSSL::ASN1::Integer(OpenSSL::BN.new(bytes, 2)) }
      OpenSSL::ASN1::Sequence(numbers).to_der
    end

    def check(members)
      raise InvalidKeySet, "a member stands twice" if members.repeated
      raise InvalidKeySet, "use must be sig" if members.key?("use") && members["use"] != "sig"

      operations = members.fetch("key_ops", [])
      unless operations.is_a?(Array) && operations.all? { |operation| StrictJSON.text(operation) }
        raise InvalidKeySet, "key_ops must be an array of texts"
      end
      return if %w[license verdict].include?(members.fetch("purpose", "license"))

      raise InvalidKeySet, "purpose must be license or verdict"
    end

    def material(members)
      case [members["kty"], members["crv"]]
      in ["OKP", "Ed25519"]
        x = bytes(members, "x", 32)
        ["EdDSA", public_key(["ED25519"], x), 64, { crv: "Ed25519", kty: "OKP", x: members["x"] }]
      in ["EC", "P-256"]
        point = "\x04".b + bytes(members, "x", 32) + bytes(members, "y", 32)
        required = { crv: "P-256", kty: "EC", x: members["x"], y: members["y"] }
        ["ES256", public_key(%w[id-ecPublicKey prime256v1], point), 64, required]
      in ["RSA", _]
        rsa(members)
      else
        raise InvalidKeySet, "kty and crv must be OKP with Ed25519, EC with P-256, or RSA"
      end
    end

    def rsa(members)
      n = bytes(members, "n")
      e = bytes(members, "e")
      bits = OpenSSL::BN.new(n, 2).num_bits
      if n.getbyte(0).zero? || !bits.between?(2048, 8192) || !e.bytesize.between?(1, 8)
        raise InvalidKeySet, "n and e are no RSA key of 2,048 to 8,192 bits"
      end

      numbers = [n, e].map { |number| OpenSSL::ASN1::Integer(OpenSSL::BN.new(number, 2)) }
      key = public_key(["rsaEncryption", nil], OpenSSL::ASN1::Sequence(numbers).to_der)
      ["RS256", key, n.bytesize, { e: members["e"], kty: "RSA", n: members["n"] }]
    end

    # By its SubjectPublicKeyInfo.
    def public_key(algorithm, bits)
      identifiers = algorithm.map { |name| name ? OpenSSL::ASN1::ObjectId(name) : OpenSSL::ASN1::Null(nil) }
      info = OpenSSL::ASN1::Sequence([OpenSSL::ASN1::Sequence(identifiers), OpenSSL::ASN1::BitString(bits)])
      OpenSSL::PKey.read(info.to_der)
    rescue OpenSSL::PKey::PKeyError
      raise InvalidKeySet, "the members are no key"
    end

    def bytes(members, name, count = nil)
      text = StrictJSON.text(members[name], 2048)
      decoded = text && Base64URL.decode(text)
      return decoded if decoded && !decoded.empty? && (count.nil? || decoded.bytesize == count)

      raise InvalidKeySet, "#{name} must be base64url#{" of #{count} bytes" if count}"
    end
  end

  # Compact JWS (RFC 7515).
  module Tokens
    MAXIMUM_BYTES = 8192

    module_function

    # The payload that one of the keys signed. +types+ is what +typ+ may be, in lower case and without application/; nil
    # stands for an absent one. Raises TokenRefused.
    def verify(token, keys, types)
      raise TokenRefused, "too_large" if token.bytesize > MAXIMUM_BYTES

      parts = token.b.split(".", -1)
      decoded = parts.length == 3 ? parts.map { |part| Base64URL.decode(part) } : [nil]
      raise TokenRefused, "not_compact" if decoded.include?(nil)

      algorithm, key_id, type = read_header(decoded[0])
      raise TokenRefused, "wrong_type" unless types.include?(type)

      key = find(keys, algorithm, key_id)
      raise TokenRefused, "bad_signature" unless key.verifies?(decoded[2], "#{parts[0]}.#{parts[1]}")

      decoded[1]
    end

    def find(keys, algorithm, key_id)
      named = key_id ? keys.select { |key| key.key_id == key_id } : keys
      raise TokenRefused, "unknown_key" if named.empty?

      fitting = named.select { |key| key.algorithm == algorithm }
      raise TokenRefused, "algorithm_mismatch" if fitting.empty?
      raise TokenRefused, "unknown_key" if fitting.length > 1

      fitting.first
    end

    def read_header(bytes)
      members = StrictJSON.parse(bytes)
      name = members.is_a?(StrictJSON::Members) && !members.repeated ? StrictJSON.text(members["alg"]) : nil
      raise TokenRefused, "bad_header" unless name

      algorithm = Keys::ALGORITHMS[name] or raise TokenRefused, "unsupported_algorithm"
      raise TokenRefused, "critical" if members.key?("crit") || members.key?("b64")

      key_id = read_text(members, "kid", 256)
      type = read_text(members, "typ", 1 << 20)&.downcase&.delete_prefix("application/")
      [algorithm, key_id, type]
    rescue StrictJSON::Invalid
      raise TokenRefused, "bad_header"
    end

    def read_text(members, name, maximum)
      return nil unless members.key?(name)

      StrictJSON.text(members[name], maximum) or raise TokenRefused, "bad_header"
    end
  end
end
