# frozen_string_literal: true

require "monitor"
require "securerandom"
require_relative "strict_json"
require_relative "transport"

module LicenseMetering
  # Usage on its way to the service: a bounded queue that never makes its caller wait. It sends events in batches; a retry
  # has the same ids, so that each counts once.
  class UsageQueue
    BATCH = 500
    INTERVAL = 1.0
    MAXIMUM_DELAY = 60.0
    METER = /\A[a-z][a-z0-9_]{0,63}\z/
    # The service will never take such a batch, however often it comes.
    FOR_GOOD = %w[http_400 http_404 http_413 http_415 http_422].freeze

    # +send+ gives the number of events that the service refused for good, and raises NoAnswer.
    def initialize(send, maximum, report)
      @send = send
      @maximum = maximum
      @report = report
      @lock = Monitor.new
      @changed = @lock.new_cond
      @counts = { accepted: 0, sent: 0, rejected: 0, dropped: 0 }
      @closed = false
      begin_process
    end

    # What became of the events so far.
    def statistics
      @lock.synchronize { @counts.merge(pending: @events.length) }
    end

    # Queues an event. False: it was dropped, and counted.
    def record(subject, meter, quantity, now, domain: nil, feature: nil)
      good = good?(subject, meter, quantity, [domain, feature])
      @lock.synchronize do
        # After a fork, what is queued is the parent's to send.
        begin_process if @process != Process.pid
        if !good || @closed || @events.length >= @maximum
          @counts[:dropped] += 1
          @report.call(good ? "usage_dropped" : "usage_invalid")
          return false
        end
        @events << event(subject, meter, quantity, now, { domain:, feature: }.compact)
        @counts[:accepted] += 1
        start
        @changed.broadcast if @events.length == BATCH
      end
      true
    end

    # Sends what is queued now. Whether all of it went out in time (seconds).
    def flush(timeout = 5)
      deadline = Transport.now + timeout
      until statistics[:pending].zero? || Transport.now >= deadline
        next if deliver(deadline)

        sleep([0.2, deadline - Transport.now].min.clamp(0, 0.2))
      end
      statistics[:pending].zero?
    end

    # Flushes, and takes nothing more. What is left is dropped, counted and reported.
    def close(timeout = 5)
      return if @closed

      flush(timeout)
      @lock.synchronize do
        @closed = true
        unless @events.empty?
          @counts[:dropped] += @events.length
          @events = []
          @report.call("usage_dropped")
        end
        @changed.broadcast
      end
    end

    private

    def begin_process
      @process = Process.pid
      @events = []
      @failures = 0
      @sending = false
      @thread = nil
      @source = "sdk/ruby/#{SecureRandom.hex(8)}"
    end

    def start
      return if @thread

      @thread = Thread.new { run }
      at_exit { close if @process == Process.pid }
    end

    def good?(subject, meter, quantity, texts)
      !StrictJSON.plain_text(subject, 512).nil? && meter.is_a?(String) && meter.match?(METER) &&
        quantity.is_a?(Integer) && quantity.between?(0, 1_000_000_000) &&
        texts.compact.all? { |text| StrictJSON.text(text, 1024) && !text.include?("\0") }
    end

    def event(subject, meter, quantity, now, details)
      {
        specversion: "1.0", id: SecureRandom.uuid, source: @source, type: "license.usage.recorded", subject:,
        time: Time.at(now / 1000, now % 1000, :millisecond).utc.strftime("%Y-%m-%dT%H:%M:%S.%LZ"),
        data: { meter:, quantity:, **details }
      }
    end

    def run
      until @closed
        wait
        deliver(Float::INFINITY) unless @closed
      end
    end

    def wait
      @lock.synchronize do
        return if @failures.zero? && @events.length >= BATCH

        @changed.wait(@failures.zero? ? INTERVAL : [INTERVAL * (2**@failures), MAXIMUM_DELAY].min)
      end
    end

    # Sends one batch, whose events stay in the queue until it is known what became of them. One at a time; whether that
    # is known.
    def deliver(deadline)
      batch = @lock.synchronize do
        return false if @sending
        return true if @events.empty?

        @sending = true
        @events.first(BATCH)
      end
      problem, rejected = attempt(batch, deadline)
      @lock.synchronize do
        @sending = false
        settle(batch.length, rejected, problem)
      end
    end

    def attempt(batch, deadline)
      [nil, @send.call(batch, [deadline - Transport.now, 0.1].max)]
    rescue NoAnswer => e
      [e.problem, 0]
    rescue StandardError
      ["usage_failed", 0]
    end

    def settle(count, rejected, problem)
      if problem && !FOR_GOOD.include?(problem)
        @failures = [@failures + 1, 6].min
        @report.call(problem)
        return false
      end
      @failures = 0
      return true if @closed # It was counted as dropped, and may count all the same.

      @events.shift(count)
      if problem
        @counts[:dropped] += count
        @report.call("usage_dropped")
      else
        @counts[:sent] += count - rejected
        @counts[:rejected] += rejected
        @report.call("usage_rejected") if rejected.positive?
      end
      true
    end
  end
end
