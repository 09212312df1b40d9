# frozen_string_literal: true

require_relative "tokens"

module LicenseMetering
  # What the service has signed. Times are milliseconds since 1970.
  Verdict = Struct.new(
    :valid, :code, :timestamp, :license_id, :plan, :features, :limits, :expires_at, :grace, :over_limit, :error,
    keyword_init: true
  )

  # Signed answers of the validation service.
  module Verdicts
    TOLERANCE_MILLISECONDS = 300_000
    TIMESTAMP = /\A(\d{4})-(\d{2})-(\d{2})T(\d{2}):(\d{2}):(\d{2})\.(\d{3})Z\z/

    module_function

    # The verdict of a signature, where it answers this very question. Raises TokenRefused. +nonce+ and +now+ are nil for
    # an answer that was verified when it came and is read back from a cache.
    def verify(signature, keys, license_key:, domain:, nonce:, now:)
      members = read(signature, keys)
      raise TokenRefused, "other_nonce" if members.nil? || members.repeated
      raise TokenRefused, "other_nonce" if nonce && !equal?(members["nonce"], nonce)
      raise TokenRefused, "other_question" unless equal?(members["licenseKeyHash"], license_key_hash(license_key))
      raise TokenRefused, "other_question" unless members.key?("domain") && members["domain"] == domain&.text

      timestamp = milliseconds(members["timestamp"])
      raise TokenRefused, "stale" if timestamp.nil? || (now && (now - timestamp).abs > TOLERANCE_MILLISECONDS)

      build(members, timestamp)
    end

    # When the service signed a verdict, whatever it answers; 0 where it is none of the service's.
    def signed_time(signature, keys)
      members = read(signature, keys)
      (members && milliseconds(members["timestamp"])) || 0
    rescue TokenRefused
      0
    end

    # SHA-256 of the key's bytes, in base64url without padding.
    def license_key_hash(license_key)
      Base64URL.encode(OpenSSL::Digest::SHA256.digest(license_key))
    end

    # Of +2026-11-23T18:40:00.123Z+; nil for any other spelling.
    def milliseconds(value)
      match = TIMESTAMP.match(StrictJSON.text(value).to_s) or return nil
      year, month, day, hour, minute, second, fraction = match.captures.map(&:to_i)
      time = Time.utc(year, month, day, hour, minute, second)
      return nil unless [time.month, time.day, time.hour, time.min, time.sec] == [month, day, hour, minute, second]

      (time.to_i * 1000) + fraction
    rescue ArgumentError
      nil
    end

    def read(signature, keys)
      members = StrictJSON.parse(Tokens.verify(signature, keys.for_purpose("verdict"), ["verdict+jwt"]))
      members if members.is_a?(StrictJSON::Members)
    rescue StrictJSON::Invalid
      nil
    end

    def equal?(value, expected)
      text = StrictJSON.text(value)
      !text.nil? && text.bytesize == expected.bytesize && OpenSSL.fixed_length_secure_compare(text, expected)
    end

    def build(members, timestamp)
      valid = members["valid"]
      code = StrictJSON.text(members["code"])
      features = members.fetch("features", [])
      raise TokenRefused.new("bad_claims", "verdict") unless [true, false].include?(valid) && code && features.is_a?(Array)

      limits = members["limits"].is_a?(Hash) ? members["limits"] : {}
      Verdict.new(
        valid:, code:, timestamp:,
        license_id: StrictJSON.text(members["licenseId"]), plan: StrictJSON.text(members["plan"]),
        features: features.select { |feature| StrictJSON.text(feature) },
        limits: limits.select { |_, value| value.is_a?(StrictJSON::Number) }.transform_values(&:integer).compact.to_h,
        expires_at: milliseconds(members["expiresAt"]), grace: members["grace"] == true,
        over_limit: members["overLimit"] == true, error: StrictJSON.text(members["error"])
      ).freeze
    end
  end
end
