# frozen_string_literal: true

require_relative "client"

module LicenseMetering
  # Stands in for Client in tests: no network, no clock. It answers what it is told, and remembers what it was asked.
  class FakeClient
    attr_reader :asked, :recorded

    # FakeClient.new(features: ["analytics"]) says yes; FakeClient.new(valid: false, code: "expired") says no.
    def initialize(**answer)
      @asked = []
      @recorded = []
      set(**answer)
    end

    # Changes the answer: members of Result, features an array.
    def set(valid: true, code: nil, features: [], source: "online", **members)
      @result = Result.new(valid:, code: code || (valid ? "valid" : "not_found"), source:,
                           features: Features.new(features), **members)
    end

    def validate(domain, _license_key = nil)
      @asked << domain
      @result
    end
    alias validate_offline validate

    def record(meter, quantity = 1, **details)
      @recorded << { meter:, quantity:, **details }
      true
    end

    def close(_timeout = 5); end
  end
end
