# frozen_string_literal: true

require "minitest/autorun"
require "timeout"
require_relative "../lib/license_metering"
require_relative "../lib/license_metering/testing"

# What the conformance runner does not reach: the double, a fork, threads, arguments.
class LicenseMeteringTest < Minitest::Test
  def queue(sent, lock = Mutex.new)
    send = lambda do |events, _timeout|
      lock.synchronize { sent.concat(events) }
      0
    end
    LicenseMetering::UsageQueue.new(send, 100_000, ->(_problem) {})
  end

  def test_an_application_is_tested_without_a_service
    fake = LicenseMetering::FakeClient.new(features: ["analytics"])
    app = ->(env) { [200, {}, [env[LicenseMetering::Rack::KEY].features.has?("analytics").to_s]] }
    status, _headers, body = LicenseMetering::Rack.new(app, client: fake).call("HTTP_HOST" => "shop.example")
    assert_equal [200, ["true"], ["shop.example"]], [status, body, fake.asked]
    fake.record("exports", 3, feature: "pdf")
    assert_equal [{ meter: "exports", quantity: 3, feature: "pdf" }], fake.recorded
  end

  def test_a_child_process_sends_what_is_its_own_alone
    sent = []
    usage = queue(sent)
    usage.record("lic_1", "exports", 1, 0)
    read, write = IO.pipe
    child = fork do
      usage.record("lic_1", "exports", 2, 0)
      usage.flush
      write.write(sent.map { |event| event[:data][:quantity] }.inspect)
      exit!(0)
    end
    write.close
    Process.wait(child)
    assert_equal "[2]", read.read
    assert usage.flush
    assert_equal([1], sent.map { |event| event[:data][:quantity] })
  end

  def test_many_threads_lose_nothing
    sent = []
    usage = queue(sent)
    Array.new(8) { Thread.new { 500.times { usage.record("lic_1", "exports", 1, 0) } } }.each(&:join)
    assert usage.flush(10)
    assert_equal [4000, 4000], [sent.length, sent.map { |event| event[:id] }.uniq.length]
    assert_equal 4000, usage.statistics[:sent]
  end

  def test_a_license_key_is_asked_for_by_its_text_alone
    client = LicenseMetering::Client.new("http://127.0.0.1:9", keys: '{"keys":[]}')
    [nil, "", "a\nb", 5, "x" * 8193].each do |key|
      assert_raises(ArgumentError) { client.validate("example.com", key) }
    end
    assert_raises(ArgumentError) { LicenseMetering::Client.new("http://127.0.0.1:9", fresh: 5) }
  end

  def test_no_text_is_a_name_that_raises
    ["\xff.example", "\0", "xn--#{"9" * 300}", "ü" * 2000, "." * 1000, nil, 5].each do |text|
      assert_nil LicenseMetering::Domains.normalize(text)
    end
  end
end
