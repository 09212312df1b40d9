# frozen_string_literal: true

require_relative "domains"
require_relative "tokens"

module LicenseMetering
  # What a verified token says. Times are milliseconds since 1970.
  LicenseClaims = Struct.new(
    :license_id, :domains, :plan, :features, :limits, :issued_at, :expires_at, :not_before, :trial, keyword_init: true
  )

  # License tokens: what a license says of itself, and whether it holds, without the service.
  module Licenses
    GRACE_MILLISECONDS = 7 * 86_400_000
    MAXIMUM_MILLISECONDS = 253_402_300_799_999
    MAXIMUM_ITEMS = 100

    module_function

    # The claims of a token that a license key of the set has signed. Raises TokenRefused; asks no clock.
    def verify(token, keys)
      members = read_members(Tokens.verify(token, keys.for_purpose("license"), [nil, "jwt", "license+jwt"]))
      short = ->(value) { StrictJSON.plain_text(value, 256) }
      claims = LicenseClaims.new
      claims.license_id = StrictJSON.plain_text(members["sub"], 512) or raise TokenRefused.new("bad_claims", "sub")
      claims.plan = read(members, "plan", short) || ""
      claims.features = read(members, "features", method(:read_texts)) || []
      single = read(members, "domain", short)
      several = read(members, "domains", method(:read_texts)) || []
      claims.domains = ([single].compact + several).uniq
      claims.limits = read(members, "limits", method(:read_limits)) || {}
      claims.trial = read(members, "trial", ->(value) { [true, false].include?(value) ? value : nil }) || false
      claims.not_before = read(members, "nbf", method(:read_time))
      claims.issued_at = read(members, "iat", method(:read_time)) or raise TokenRefused.new("bad_claims", "iat")
      claims.expires_at = read(members, "exp", method(:read_time))
      raise TokenRefused.new("bad_claims", "exp") unless claims.expires_at && claims.expires_at > claims.issued_at

      claims.freeze
    end

    # +not_yet_valid+, +expired+, +domain_mismatch+, +grace+ or +valid+; the last two hold.
    def judge(claims, domain, now = (Time.now.to_r * 1000).floor)
      return "not_yet_valid" if claims.not_before && now < claims.not_before

      expired = now >= claims.expires_at
      return "expired" if expired && (claims.trial || now >= claims.expires_at + GRACE_MILLISECONDS)
      return "domain_mismatch" unless Domains.covers?(claims.domains, Domains.normalize(domain))

      expired ? "grace" : "valid"
    end

    def read_members(payload)
      members = StrictJSON.parse(payload)
      raise TokenRefused.new("bad_claims", "claims") unless members.is_a?(StrictJSON::Members)
      raise TokenRefused.new("bad_claims", "repeated claim") if members.repeated

      members
    rescue StrictJSON::Invalid
      raise TokenRefused.new("bad_claims", "claims")
    end

    def read(members, claim, reader)
      return nil unless members.key?(claim)

      value = reader.call(members[claim])
      raise TokenRefused.new("bad_claims", claim) if value.nil?

      value
    end

    def read_texts(value)
      return nil unless value.is_a?(Array) && value.length <= MAXIMUM_ITEMS

      texts = value.map { |element| StrictJSON.plain_text(element, 256) }
      texts unless texts.include?(nil)
    end

    def read_limits(value)
      return nil if !value.is_a?(StrictJSON::Members) || value.repeated || value.length > MAXIMUM_ITEMS

      value.compact.to_h do |name, quantity|
        number = quantity.is_a?(StrictJSON::Number) ? quantity.integer : nil
        return nil if StrictJSON.plain_text(name, 64).nil? || number.nil? || number.negative?

        [name, number]
      end
    end

    def read_time(value)
      milliseconds = value.is_a?(StrictJSON::Number) ? value.scaled(3) : nil
      milliseconds if milliseconds&.between?(0, MAXIMUM_MILLISECONDS)
    end
  end
end
