# frozen_string_literal: true

require "json"
require "securerandom"
require "set"
require_relative "cache"
require_relative "licenses"
require_relative "transport"
require_relative "usage_queue"
require_relative "verdicts"
require_relative "version"

module LicenseMetering
  # What a license unlocks: +features.has?("analytics")+.
  class Features < Set
    alias has? include?
  end

  # Whether the application may run, why, and how this is known.
  #
  # +source+ is +online+, +cache+, +grace+ (remembered while the service gives no answer), +offline+ (judged from the
  # license token itself) or +none+. +age+ is in seconds. +problem+ says why the service gave no answer. +code+ is one of
  # the service's, or +clock_rolled_back+ or +unreachable+. Times are milliseconds since 1970.
  Result = Struct.new(
    :valid, :code, :source, :age, :license_id, :plan, :features, :limits, :expires_at, :grace, :over_limit, :explanation,
    :problem, keyword_init: true
  ) do
    alias_method :valid?, :valid

    def initialize(valid: false, source: "none", age: 0, features: Features.new, limits: {}, grace: false,
                   over_limit: false, **members)
      super
    end
  end

  # A client of one validation service, for all threads of a process.
  class Client
    MAXIMUM_ANSWER_BYTES = 65_536
    MAXIMUM_KEYS_BYTES = 1 << 20
    TRIES = 3
    KEYS_PAUSE = 60
    NO_IS_FRESH = 60_000
    EXPLANATIONS = {
      "domain_mismatch" => "The license is not valid for this domain.",
      "expired" => "The license has expired.",
      "not_yet_valid" => "The license is not valid yet.",
      "invalid_signature" => "The license key is not accepted: it was not signed by its vendor, or was changed since.",
      "clock_rolled_back" => "The clock is behind a time that the license service has signed.",
      "unreachable" => "The license service gave no valid answer, and nothing is known about the license."
    }.freeze
    # A question that is on its way.
    Flight = Struct.new(:thread, :entry, :error)
    DEFAULTS = {
      license_key: nil, token: nil, keys: nil, pins: [], pin_mode: "enforce", ca_file: nil, cache_dir: nil,
      fresh_for: 300, grace_for: Licenses::GRACE_MILLISECONDS / 1000, on_unknown: "graceThenDeny",
      offline_fallback: false, connect_timeout: 2, total_timeout: 5, pause_after_failure: 10, max_usage_queue: 10_000,
      on_problem: ->(_problem) {}, clock: -> { (Time.now.to_r * 1000).floor }
    }.freeze

    # The queue of usage: +flush+, +statistics+.
    attr_reader :usage

    # url:: https://licenses.example.com; plain http is for loopback addresses.
    # license_key:: a license's id or its token.
    # token:: an API token, needed for +record+ (scope usage:write).
    # keys:: the service's key set, compiled in. Without it, it is fetched from the service over TLS.
    # pins:: sha256/… of the service's public key (SPKI), at least two; +pin_mode+ is enforce or report.
    # cache_dir:: keeps verdicts over a restart.
    # fresh_for:: seconds for which a verdict is used without asking: 60 to 3,600.
    # grace_for:: seconds for which a verified "yes" is used while the service gives no answer, at most seven days.
    # on_unknown:: graceThenDeny, allow or deny (which uses no grace).
    # offline_fallback:: judge a license token itself where nothing is known and the service gives no answer.
    # on_problem:: called with the name of each problem, from any thread; must not raise.
    def initialize(url, **options)
      unknown = options.keys - DEFAULTS.keys
      raise ArgumentError, "no such option: #{unknown.join(", ")}" unless unknown.empty?

      @options = DEFAULTS.merge(options).freeze
      check_options
      @transport = Transport.new(url:, report: @options[:on_problem],
                                 **@options.slice(:connect_timeout, :pins, :pin_mode, :ca_file))
      @compiled = !@options[:keys].nil?
      @keys = @options[:keys].is_a?(KeySet) || !@compiled ? @options[:keys] : KeySet.new(@options[:keys])
      @cache = Cache.new(@options[:cache_dir], method(:saved), method(:saved_time))
      @keys ||= saved_keys
      @lock = Mutex.new
      @flights = {}
      @keys_asked = @paused_until = -Float::INFINITY
      @problem = "connection"
      @usage = UsageQueue.new(method(:send_usage), @options[:max_usage_queue], @options[:on_problem])
    end

    # Whether the license holds for a domain. Raises for wrong arguments alone, never for a "no".
    def validate(domain, license_key = @options[:license_key])
      check_key(license_key)
      name = Domains.normalize(domain) or return denied("domain_mismatch", "offline")
      remembered = remembered(license_key, name)
      return remembered if remembered

      problem = @problem
      unless paused?
        flight = ask(license_key, name)
        flight.thread.join
        return result(flight.entry, "online") if flight.entry

        problem = flight.error.is_a?(NoAnswer) ? flight.error.problem : raise(flight.error)
      end
      without_answer(license_key, name, problem)
    end

    # The verdict on a license token, by its signature alone. Needs keys, compiled in or fetched before.
    def validate_offline(domain, license_key = @options[:license_key])
      check_key(license_key)
      return denied("clock_rolled_back", "offline") if rolled_back?
      return denied("unreachable", "offline", "no_keys") if @keys.nil?

      claims = Licenses.verify(license_key, @keys)
      offline_result(claims, Licenses.judge(claims, domain, @options[:clock].call))
    rescue TokenRefused => e
      denied("invalid_signature", "offline", e.code)
    end

    # Queues usage, without waiting. False where it was dropped: the queue is full, or an argument is wrong.
    def record(meter, quantity = 1, license_id: nil, domain: nil, feature: nil)
      own = @options[:license_key]
      subject = license_id || (own unless own.nil? || own.include?("."))
      usage.record(subject, meter, quantity, @options[:clock].call, domain:, feature:)
    end

    # Sends what is queued, for at most so many seconds.
    def close(timeout = 5)
      usage.close(timeout)
    end

    private

    def check_options
      fresh, grace = @options.values_at(:fresh_for, :grace_for)
      raise ArgumentError, "fresh_for must be 60 to 3,600 seconds" unless fresh.between?(60, 3600)
      unless grace.between?(0, Licenses::GRACE_MILLISECONDS / 1000)
        raise ArgumentError, "grace_for must be 0 to 604,800 seconds: seven days"
      end
      return if %w[graceThenDeny allow deny].include?(@options[:on_unknown])

      raise ArgumentError, "on_unknown must be graceThenDeny, allow or deny"
    end

    def check_key(license_key)
      return if StrictJSON.plain_text(license_key, 8192)

      raise ArgumentError, "license_key must be a text of 1 to 8,192 bytes without control characters"
    end

    # --- What is remembered -------------------------------------------------------------------------------------------

    def remembered(license_key, name)
      return denied("clock_rolled_back", "none") if rolled_back?

      entry = @cache.get(license_key, name)
      entry = @cache.load(license_key, name) if entry.nil? || age(entry) >= freshness(entry)
      return nil if entry.nil? || over?(entry)
      return result(entry, "cache") if age(entry) < freshness(entry)
      return nil if !entry.verdict.valid || age(entry) >= 2 * @options[:fresh_for] * 1000

      ask(license_key, name) unless paused?
      result(entry, "cache")
    end

    def without_answer(license_key, name, problem)
      return denied("clock_rolled_back", "none", problem) if rolled_back?

      entry = @cache.load(license_key, name)
      return result(entry, "cache", problem) if entry && !entry.verdict.valid

      if entry && @options[:on_unknown] != "deny"
        now = @options[:clock].call
        ends = entry.verdict.expires_at
        return denied("expired", "cache", problem) if ends && now >= ends + Licenses::GRACE_MILLISECONDS
        return result(entry, "grace", problem) if now - entry.verdict.timestamp <= @options[:grace_for] * 1000
      end
      if @options[:offline_fallback] && @keys
        offline = validate_offline(name.text, license_key)
        return offline if offline.problem.nil?
      end
      unknown = denied("unreachable", "none", problem)
      unknown.valid = @options[:on_unknown] == "allow"
      unknown
    end

    def rolled_back?
      @options[:clock].call < @cache.highest - Verdicts::TOLERANCE_MILLISECONDS
    end

    def age(entry)
      [0, @options[:clock].call - entry.received].max
    end

    def freshness(entry)
      fresh = @options[:fresh_for] * 1000
      entry.verdict.valid ? fresh : [fresh, NO_IS_FRESH].min
    end

    # Whether the license has reached an end since: it is asked about then.
    def over?(entry)
      ends = entry.verdict.expires_at
      return false if ends.nil? || !entry.verdict.valid

      @options[:clock].call >= ends + (entry.verdict.grace ? Licenses::GRACE_MILLISECONDS : 0)
    end

    def result(entry, source, problem = nil)
      verdict = entry.verdict
      now = @options[:clock].call
      grace = verdict.grace || (verdict.valid && !verdict.expires_at.nil? && now >= verdict.expires_at)
      Result.new(
        valid: verdict.valid, code: grace && verdict.code == "valid" ? "grace" : verdict.code, source:,
        age: source == "online" ? 0 : [0, now - verdict.timestamp].max / 1000.0,
        license_id: verdict.license_id, plan: verdict.plan,
        features: Features.new(verdict.valid ? verdict.features : []), limits: verdict.limits.dup,
        expires_at: verdict.expires_at, grace:, over_limit: verdict.over_limit, explanation: verdict.error,
        problem:
      )
    end

    def denied(code, source, problem = nil)
      Result.new(code:, source:, explanation: EXPLANATIONS[code], problem:)
    end

    def offline_result(claims, code)
      valid = %w[valid grace].include?(code)
      Result.new(
        valid:, code:, source: "offline", license_id: claims.license_id, plan: claims.plan,
        features: Features.new(valid ? claims.features : []), limits: claims.limits.dup, expires_at: claims.expires_at,
        grace: code == "grace", explanation: valid ? nil : EXPLANATIONS[code]
      )
    end

    # --- Asking -------------------------------------------------------------------------------------------------------

    def paused?
      Transport.now < @paused_until
    end

    # Equal questions that are on their way are one.
    def ask(license_key, name)
      key = [license_key, name.text]
      @lock.synchronize do
        known = @flights[key]
        # A thread does not outlive a fork.
        return known if known&.thread&.alive?

        flight = @flights[key] = Flight.new
        flight.thread = Thread.new { fly(flight, key, name) }
        flight.thread.report_on_exception = false
        flight
      end
    end

    def fly(flight, key, name)
      entry = answer(key.first, name)
      @cache.put(key.first, name, entry)
      flight.entry = entry
    rescue NoAnswer => e
      flight.error = e
      @problem = e.problem
      @paused_until = Transport.now + [@options[:pause_after_failure], [e.retry_after, 300].min].max
      @options[:on_problem].call(e.problem)
    rescue StandardError => e
      flight.error = e
    ensure
      @lock.synchronize { @flights.delete(key) if @flights[key].equal?(flight) }
    end

    def answer(license_key, name)
      deadline = Transport.now + @options[:total_timeout]
      nonce = SecureRandom.hex(16)
      headers = headers("application/json").merge("Idempotency-Key" => SecureRandom.hex(16))
      body = JSON.generate(licenseKey: license_key, domain: name.text, nonce:)
      data = retrying("POST", "/v1/licenses/validate", headers:, deadline:,
                                                       limit: MAXIMUM_ANSWER_BYTES, body:)
      signature = signature_of(data) or raise NoAnswer, "untrusted"
      verdict = verified(signature, license_key, name, nonce, deadline)
      Cache::Entry.new(verdict, signature, @options[:clock].call)
    end

    def signature_of(data)
      members = StrictJSON.parse(data)
      StrictJSON.text(members["signature"]) if members.is_a?(StrictJSON::Members)
    rescue StrictJSON::Invalid
      nil
    end

    def verified(signature, license_key, name, nonce, deadline)
      last = @compiled
      keys = @keys || fetch_keys(deadline)
      begin
        Verdicts.verify(signature, keys, license_key:, domain: name, nonce:,
                                         now: @options[:clock].call)
      rescue TokenRefused => e
        # The service may have a new key; it is asked at most once a minute.
        raise NoAnswer, "untrusted" if e.code != "unknown_key" || last || Transport.now < @keys_asked + KEYS_PAUSE

        last = true
        keys = fetch_keys(deadline)
        retry
      end
    end

    def fetch_keys(deadline)
      @keys_asked = Transport.now
      data = retrying("GET", "/.well-known/jwks.json", headers:, deadline:, limit: MAXIMUM_KEYS_BYTES)
      @keys = KeySet.new(data.force_encoding(Encoding::UTF_8))
      @cache.save_keys(data)
      @keys
    rescue InvalidKeySet
      raise NoAnswer, "untrusted"
    end

    def retrying(method, path, **request)
      retries = 0
      begin
        answer = @transport.request(method, path, **request)
        raise refusal(answer) unless answer.status == 200

        answer.body
      rescue NoAnswer => e
        delay = [(0.5 + (rand / 2)) * 0.1 * (2**retries), e.retry_after].max
        retries += 1
        raise if !e.temporary? || retries == TRIES || Transport.now + delay >= request[:deadline]

        sleep(delay)
        retry
      end
    end

    def refusal(answer)
      temporary = [408, 429].include?(answer.status) || answer.status >= 500
      NoAnswer.new("http_#{answer.status}", temporary:, retry_after: temporary ? answer.retry_after : 0)
    end

    def headers(content_type = nil)
      headers = { "Accept" => "application/json", "User-Agent" => "license-metering-ruby/#{VERSION}" }
      headers["Content-Type"] = content_type if content_type
      headers["Authorization"] = "Bearer #{@options[:token]}" if @options[:token]
      headers
    end

    def send_usage(events, timeout)
      deadline = Transport.now + [timeout, @options[:total_timeout]].min
      answer = @transport.request("POST", "/v1/events", headers: headers("application/cloudevents-batch+json"),
                                                        deadline:, limit: MAXIMUM_KEYS_BYTES,
                                                        body: JSON.generate(events))
      raise refusal(answer) unless answer.status == 202

      JSON.parse(answer.body).fetch("rejected").map { |event| event.fetch("index") }.uniq.length
    rescue JSON::ParserError, KeyError, TypeError, NoMethodError
      raise NoAnswer.new("untrusted", temporary: true)
    end

    def saved(signature, license_key, domain)
      return nil if @keys.nil? || !signature.is_a?(String)

      Verdicts.verify(signature, @keys, license_key:, domain:, nonce: nil, now: nil)
    rescue TokenRefused
      nil # What was changed is not known.
    end

    def saved_time(signature)
      @keys.nil? || !signature.is_a?(String) ? 0 : Verdicts.signed_time(signature, @keys)
    end

    def saved_keys
      keys = @cache.saved_keys
      keys && KeySet.new(keys)
    rescue InvalidKeySet
      nil # Keys that cannot be read are fetched.
    end
  end
end
