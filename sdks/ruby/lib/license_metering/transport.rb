# frozen_string_literal: true

require "base64"
require "ipaddr"
require "net/http"
require "openssl"
require "timeout"
require "uri"

module LicenseMetering
  # The service gave no answer that can be believed. +problem+ is +timeout+, +connection+, +tls+, +pin_mismatch+,
  # +too_large+, +http_503+ (or another status) or +untrusted+; +temporary?+ says whether asking again may help.
  class NoAnswer < StandardError
    attr_reader :problem, :retry_after

    def initialize(problem, temporary: false, retry_after: 0)
      super(problem)
      @problem = problem
      @temporary = temporary
      @retry_after = retry_after
    end

    def temporary?
      @temporary
    end
  end

  # One bounded HTTPS request: no redirect is followed, no body exceeds its limit, no answer takes longer than its deadline.
  class Transport
    Answer = Struct.new(:status, :retry_after, :body)
    # Raised in the thread that waits, and by nothing else.
    class Late < StandardError; end

    def initialize(url:, connect_timeout:, pins:, pin_mode:, ca_file:, report:)
      @uri = parse(url)
      raise ArgumentError, "pin_mode must be enforce or report" unless %w[enforce report].include?(pin_mode)

      @pins = read_pins(pins)
      raise ArgumentError, "pins need https" if @pins.any? && @uri.scheme != "https"

      @connect_timeout = connect_timeout
      @pin_mode = pin_mode
      @ca_file = ca_file
      @report = report
    end

    # +deadline+ is a time of the monotonic clock. Raises NoAnswer.
    def request(method, path, headers:, deadline:, limit:, body: nil)
      left = deadline - self.class.now
      raise NoAnswer.new("timeout", temporary: true) if left <= 0

      # Timeouts of the socket count from each byte; this one counts for the whole.
      Timeout.timeout(left, Late) { exchange(method, path, headers, limit, body, left) }
    rescue Late, Timeout::Error
      raise NoAnswer.new("timeout", temporary: true)
    rescue OpenSSL::SSL::SSLError => e
      raise NoAnswer, "tls" if e.message.match?(/certificate verify failed|does not match/)

      raise NoAnswer.new("connection", temporary: true)
    rescue SystemCallError, SocketError, IOError, Net::ProtocolError, Net::HTTPBadResponse, Net::HTTPHeaderSyntaxError
      raise NoAnswer.new("connection", temporary: true)
    end

    def self.now
      Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end

    private

    def parse(url)
      uri = URI.parse(url.to_s)
      good = uri.is_a?(URI::HTTP) && uri.host && !uri.host.empty? && !uri.query && !uri.fragment && !uri.userinfo
      raise ArgumentError, "url must be https://host[:port][/path]" unless good
      return uri if uri.scheme == "https" || loopback?(uri.hostname)

      raise ArgumentError, "url must be https: license keys and tokens are secrets (http is for loopback addresses)"
    rescue URI::InvalidURIError
      raise ArgumentError, "url must be https://host[:port][/path]"
    end

    def loopback?(host)
      host == "localhost" || IPAddr.new(host).loopback?
    rescue IPAddr::Error
      false
    end

    def exchange(method, path, headers, limit, body, left)
      http = connection(left)
      http.start
      check_pins(http.peer_cert) if @pins.any?
      # Without it the library would ask for compression, and blow up what comes.
      request = Net::HTTPGenericRequest.new(method, !body.nil?, true, @uri.path.chomp("/") + path,
                                            { "Accept-Encoding" => "identity", "Connection" => "close" }.merge(headers))
      request.body = body if body
      read(http, request, limit)
    ensure
      http.finish if http&.started?
    end

    def connection(left)
      # The nil keeps a proxy of the environment out.
      http = Net::HTTP.new(@uri.hostname, @uri.port, nil)
      http.max_retries = 0
      http.open_timeout = [@connect_timeout, left].min
      http.read_timeout = http.write_timeout = left
      http.use_ssl = @uri.scheme == "https"
      return http unless http.use_ssl?

      http.ssl_timeout = http.open_timeout
      http.verify_mode = OpenSSL::SSL::VERIFY_PEER
      http.min_version = OpenSSL::SSL::TLS1_2_VERSION
      http.ca_file = @ca_file if @ca_file
      http
    end

    def read(http, request, limit)
      data = +"".b
      response = http.request(request) do |incoming|
        incoming.read_body do |chunk|
          data << chunk
          raise NoAnswer, "too_large" if data.bytesize > limit
        end
      end
      expected = response["Content-Length"]
      raise EOFError, "cut off" if expected && data.bytesize < expected.to_i

      seconds = response["Retry-After"].to_s
      Answer.new(response.code.to_i, seconds.match?(/\A[0-9]{1,6}\z/) ? seconds.to_i : 0, data)
    end

    # After the normal checks, never in their place; nothing was sent yet.
    def check_pins(certificate)
      found = OpenSSL::Digest::SHA256.digest(public_key(certificate))
      return if @pins.any? { |pin| OpenSSL.fixed_length_secure_compare(pin, found) }

      @report.call("pin_mismatch")
      raise NoAnswer, "pin_mismatch" if @pin_mode == "enforce"
    end

    def public_key(certificate)
      key = certificate.public_key
      key.respond_to?(:public_to_der) ? key.public_to_der : key.to_der
    end

    def read_pins(pins)
      decoded = pins.map do |pin|
        match = %r{\Asha256/([A-Za-z0-9+/]{43}=)\z}.match(pin)
        raise ArgumentError, "a pin must be sha256/ and the base64 of the SHA-256 of a public key (SPKI)" unless match

        Base64.decode64(match[1])
      end
      return decoded if decoded.empty? || decoded.uniq.length > 1

      raise ArgumentError, "pins must be at least two: without a spare one, a new key of the service locks every client out"
    end
  end
end
