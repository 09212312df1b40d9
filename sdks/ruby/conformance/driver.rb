#!/usr/bin/env ruby
# frozen_string_literal: true

# Lets the conformance runner try this SDK: a JSON object a line in, one a line out.

require "json"
require_relative "../lib/license_metering"
require_relative "../lib/license_metering/testing"

# One answer for each kind of line.
class Driver
  NAMES = {
    "licenseKey" => :license_key, "token" => :token, "keys" => :keys, "pins" => :pins, "pinMode" => :pin_mode,
    "caFile" => :ca_file, "cacheDir" => :cache_dir, "freshFor" => :fresh_for, "graceFor" => :grace_for,
    "onUnknown" => :on_unknown, "offlineFallback" => :offline_fallback, "connectTimeout" => :connect_timeout,
    "totalTimeout" => :total_timeout, "pauseAfterFailure" => :pause_after_failure, "maxUsageQueue" => :max_usage_queue
  }.freeze

  def initialize
    @offset = 0
    @problems = []
  end

  def answer(request)
    public_send("op_#{request["op"]}", request)
  end

  def op_hello(_request)
    { idna: false, frameworks: ["rack"] }
  end

  def op_keyset(request)
    { keys: LicenseMetering::KeySet.new(request["set"]).keys.map { |k| "#{k.key_id} #{k.algorithm} #{k.purpose}" } }
  rescue LicenseMetering::InvalidKeySet
    { invalid: true }
  end

  def op_license(request)
    claims = LicenseMetering::Licenses.verify(request["token"], LicenseMetering::KeySet.new(request["keys"]))
    members = {
      licenseId: claims.license_id, domains: claims.domains, plan: claims.plan, features: claims.features,
      limits: claims.limits, issuedAt: claims.issued_at, expiresAt: claims.expires_at, trial: claims.trial,
      notBefore: claims.not_before
    }
    { claims: members.compact }
  rescue LicenseMetering::TokenRefused => e
    { refusal: e.code, claim: e.claim }.compact
  end

  def op_verdict(request)
    LicenseMetering::Verdicts.verify(
      request["token"], LicenseMetering::KeySet.new(request["keys"]), license_key: request["licenseKey"],
                                                                      domain: normalize(request["domain"]),
                                                                      nonce: request["nonce"], now: request["now"]
    )
    {}
  rescue LicenseMetering::TokenRefused => e
    { refusal: e.code }
  end

  def op_domain(request)
    name = normalize(request["text"])
    { name: name&.text, local: name ? name.local? : false }
  end

  def op_covers(request)
    { covers: LicenseMetering::Domains.covers?(request["bound"], normalize(request["domain"])) }
  end

  def op_offline(request)
    claims = LicenseMetering::Licenses.verify(request["token"], LicenseMetering::KeySet.new(request["keys"]))
    code = LicenseMetering::Licenses.judge(claims, request["domain"], request["now"])
    { code:, valid: %w[valid grace].include?(code) }
  rescue LicenseMetering::TokenRefused
    { code: "invalid_signature", valid: false }
  end

  def op_open(request)
    @offset = 0
    @problems = problems = []
    options = request["options"].except("url").transform_keys { |name| NAMES.fetch(name) }
    @client = LicenseMetering::Client.new(
      request["options"]["url"], **options, on_problem: ->(problem) { problems << problem },
                                            clock: -> { (Time.now.to_r * 1000).floor + @offset }
    )
    {}
  rescue ArgumentError => e
    { error: e.message }
  end

  def op_validate(request)
    shown(@client.validate(request["domain"], *request["licenseKey"]))
  end

  def op_validateOffline(request)
    shown(@client.validate_offline(request["domain"], *request["licenseKey"]))
  end

  def op_validateMany(request)
    threads = Array.new(request["count"]) { Thread.new { shown(@client.validate(request["domain"])) } }
    { results: threads.map(&:value) }
  end

  def op_clock(request)
    @offset = request["offset"]
    {}
  end

  def op_record(request)
    taken = Array.new(request.fetch("count", 1)) { @client.record(request["meter"], request.fetch("quantity", 1)) }
    { accepted: taken.count(true) }
  end

  def op_flush(request)
    { flushed: @client.usage.flush(request.fetch("timeout", 5)), statistics: @client.usage.statistics }
  end

  def op_statistics(_request)
    { statistics: @client.usage.statistics }
  end

  def op_problems(_request)
    { problems: @problems.slice!(0..) }
  end

  def op_close(request)
    @client.close(request.fetch("timeout", 5))
    op_statistics(request)
  end

  def op_middleware(request)
    fake = LicenseMetering::FakeClient.new(valid: request["valid"], code: request["code"],
                                           features: request.fetch("features", []))
    feature = nil
    app = lambda do |env|
      feature = env[LicenseMetering::Rack::KEY].features.has?("analytics")
      [200, {}, []]
    end
    middleware = LicenseMetering::Rack.new(app, client: fake, domain: request["domain"],
                                                trusted_proxies: request["trusted"])
    env = { "REMOTE_ADDR" => request["peer"], "HTTP_HOST" => request["host"],
            "HTTP_X_FORWARDED_HOST" => request["forwarded"] }
    status, _headers, body = middleware.call(env.compact)
    { status:, asked: fake.asked.first, feature:, code: body.empty? ? nil : JSON.parse(body.first)["code"] }
  end

  private

  def normalize(text)
    LicenseMetering::Domains.normalize(text)
  end

  def shown(result)
    {
      valid: result.valid, code: result.code, source: result.source, age: result.age.floor,
      features: result.features.sort, grace: result.grace, problem: result.problem
    }
  end
end

driver = Driver.new
$stdin.each_line do |line|
  $stdout.puts(JSON.generate(driver.answer(JSON.parse(line))))
  $stdout.flush
end
